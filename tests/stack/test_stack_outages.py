"""Collector, Jaeger or both killed under load: every span and every log record of the time arrives once they are back.

Compared are the identifiers in the nodes' own spools with those that the backends have. What arrives twice is counted:
delivery is at least once.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from conftest import Scene

from lab import wait_for
from lab.nodes import Node
from lab.stackservers import Server
from pqvpn.telemetry.store import Store

pytestmark = [pytest.mark.stack, pytest.mark.netns]

LIMIT = 120.0

STRETCH = 6.0
"""Seconds without the server."""


@dataclass(frozen=True)
class Recorded:
    """Identifiers of what was recorded: spans by trace and span, log records by time and event. `names`: of the spans."""

    spans: frozenset[tuple[str, str]]
    logs: frozenset[tuple[int, str]]
    names: Counter[str]


def recorded(nodes: Sequence[Node], since_ns: int, until_ns: int) -> Recorded:
    """What the nodes' spools hold of a time."""
    spans, logs, names = set(), set(), Counter[str]()
    for node in nodes:
        store = Store(node.folder / "state")
        found = [span for span in store.spans(since_ns=since_ns, limit=100_000) if span.end_ns < until_ns]
        spans |= {(span.trace_id, span.span_id) for span in found}
        names.update(span.name for span in found)
        logs |= {(log.time_ns, log.event) for log in store.logs(since_ns=since_ns, until_ns=until_ns, limit=100_000)}
    return Recorded(frozenset(spans), frozenset(logs), names)


def arrived_spans(scene: Scene, wanted: frozenset[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """How often Jaeger has each span of these traces."""
    found: Counter[tuple[str, str]] = Counter()
    for trace_id in {trace_id for trace_id, _ in wanted}:
        found.update((trace_id, span["spanId"]) for span in scene.stack.trace(trace_id))
    return found


def arrived_logs(scene: Scene) -> Counter[tuple[int, str]]:
    """How often the log store has each record."""
    return Counter((record.time_unix_nano, record.event_name) for record in scene.logs.records())


@contextlib.contextmanager
def without(servers: Sequence[Server]) -> Iterator[None]:
    """SIGKILL to the servers at once; they come back at the end, in the order given."""
    for server in servers:
        server.kill()
    try:
        yield
    finally:
        for server in servers:
            server.start()


def load(scene: Scene, seconds: float) -> int:
    """New sessions one after the other; how many."""
    made, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        scene.site.reconnect()
        made += 1
    return made


@pytest.mark.parametrize("which", ["collector", "jaeger", "both"])
def test_nothing_is_lost_in_an_outage(scene: Scene, which: str) -> None:
    stack = scene.stack
    servers = {"collector": [stack.collector], "jaeger": [stack.jaeger], "both": [stack.jaeger, stack.collector]}[which]
    began = time.time_ns()
    sessions = load(scene, 2)
    with without(servers):
        sessions += load(scene, STRETCH)
    sessions += load(scene, 1)
    ended = time.time_ns()
    nodes = (scene.site.alpha, scene.site.beta)

    def complete() -> Recorded | None:
        found = recorded(nodes, began, ended)
        return found if min(found.names["pqvpn.connect"], found.names["pqvpn.accept"]) >= sessions - 1 else None

    # attempts whose path was not validated are written five seconds after their end; the last may have ended later
    made = wait_for("all attempts to be written", complete, LIMIT, 1.0)
    assert len(made.spans) >= 6 * (sessions - 1)
    assert len(made.logs) >= 2 * sessions

    def missing() -> int:
        return len(made.spans - arrived_spans(scene, made.spans).keys()) + len(made.logs - arrived_logs(scene).keys())

    wait_for("everything to arrive", lambda: missing() == 0, LIMIT, 1.0)
    spans, logs = arrived_spans(scene, made.spans), arrived_logs(scene)
    twice = sum(spans[each] > 1 for each in made.spans), sum(logs[each] > 1 for each in made.logs)
    print(
        f"{which}: {sessions} sessions, {len(made.spans)} spans and {len(made.logs)} log records, 0 lost, "
        f"{twice[0]} spans and {twice[1]} log records arrived twice"
    )
