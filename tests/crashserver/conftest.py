"""What the tests with a crash server share: one server for all of them, made when the first asks."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import Namespace
from tests.crashserver import bugsink


def free_port() -> int:
    """A TCP port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def until(holds: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until it holds; what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.02)  # what is waited for is in another process, or in a thread that tells nobody
    return found


def need_crash_server() -> None:
    """Skip where the crash server is not installed; under CI=true that is a failure."""
    if bugsink.installed():
        return
    reason = "the crash server is not installed: scripts/bugsink.sh"
    if os.environ.get("CI") == "true":
        pytest.fail(f"under CI=true nothing may be skipped for the machine's sake: {reason}", pytrace=False)
    pytest.skip(reason)


class Watched(bugsink.Bugsink):
    """A server that knows which issues a test saw already."""

    seen: set[str]
    namespace: Namespace

    def new_issues(self) -> list[dict[str, Any]]:
        """The issues since the last call."""
        found = [issue for issue in self.issues() if issue["id"] not in self.seen]
        self.seen |= {issue["id"] for issue in found}
        return found


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    need_crash_server()
    with Watched(tmp_path_factory.mktemp("bugsink"), free_port()) as made:
        made.seen = set()
        yield made


@pytest.fixture
def crashserver(_server: Watched) -> Watched:
    """The server, with nothing new in it."""
    _server.new_issues()
    return _server
