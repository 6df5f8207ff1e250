"""What the tests with real servers ask of the machine, and what they share: one stack, and two nodes for most of them.

`@pytest.mark.stack("promtool", ...)` asks for programs that `scripts/stack.sh` makes; without arguments for all servers.
Where they are missing the test is skipped with the reason; under CI=true that is a failure.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from receivers import Hook, LogStore

from lab import stackservers
from lab.stacknodes import Site
from lab.stackservers import Options, Stack

FACTOR, MOST = 20, 30
"""By how much the durations of the rules are divided, and how many seconds none of them is longer than."""
LIMITS = {
    "flaps": 1.5,
    "handshake_age_seconds": 8.0,
    "handshake_failures": 1.0,
    "drops_per_second": 5.0,
    # over windows of seconds, a start is growth, too
    "memory_growth_bytes_per_hour": 12.0 * (1 << 30),
    "descriptor_growth_per_hour": 20_000.0,
}


@dataclass(frozen=True)
class Scene:
    """Servers, nodes, and what the servers send to."""

    stack: Stack
    site: Site
    hook: Hook
    logs: LogStore


def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("stack")
    if marker is None:
        return
    missing = [name for name in marker.args or stackservers.PROGRAMS if not (stackservers.BIN / name).exists()]
    if not missing:
        return
    reason = f"not made: {', '.join(missing)}; run scripts/stack.sh"
    if os.environ.get("CI") == "true":
        pytest.fail(f"under CI=true nothing may be skipped for the machine's sake: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.fixture(scope="session")
def logs() -> Iterator[LogStore]:
    made = LogStore()
    yield made
    made.close()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, hook: Hook, logs: LogStore) -> Iterator[Stack]:
    options = Options(
        factor=FACTOR, most=MOST, scrape="1s", limits=LIMITS, webhook=hook.url, logs=logs.url, node_expires="10s",
        retry_most="1s",
    )  # fmt: skip
    with Stack(tmp_path_factory.mktemp("stack"), options) as made:
        yield made


@pytest.fixture(scope="session")
def scene(stack: Stack, hook: Hook, logs: LogStore) -> Iterator[Scene]:
    """Two nodes that run and reach each other; modules that change them for good have their own."""
    with Site(stack) as site:
        site.start()
        yield Scene(stack, site, hook, logs)
