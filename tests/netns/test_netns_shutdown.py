"""The end of a node takes less than a second, whoever of those that keep its records hangs.

alpha (10.7.0.1) --veth0-- beta (10.7.0.2)
"""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from netparty import connected, make_pair

from lab import Lab, ended, wait_for
from lab.nodes import ROOT, Node

pytestmark = pytest.mark.netns

_MOST = 1.0
_TRIES = 3
_PORT = 4318
_SETTINGS = {"telemetry": {"flush_interval": "200ms", "metrics_interval": "1s"}, "restart": {"hang_after": "30s"}}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        yield make_pair(lab, settings=_SETTINGS).nodes


def shortest_end(alpha: Node, beta: Node, obstacle: Callable[[], None]) -> float:
    """Seconds from SIGTERM to the end of the supervisor, with everybody else ended, after `obstacle`.

    The shortest of a few: the time is the node's, and this machine may have none for it meanwhile.
    """
    took: list[float] = []
    while not took or (min(took) >= _MOST and len(took) < _TRIES):
        if alpha.process is None:
            alpha.up()
            connected(alpha, beta)
        obstacle()
        pids = alpha.pids()
        took.append(alpha.down())
        wait_for("everybody to be gone", lambda: ended(pids))  # noqa: B023 - called at once
    print("ended after " + ", ".join(f"{each:.3f} s" for each in took))
    return min(took)


def test_beside_a_stopped_observer(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair

    def stop() -> None:
        wait_for("the observer to be told of", lambda: alpha.pids("observer"))
        pid = alpha.kill("observer", signal.SIGSTOP)
        wait_for(
            "it to stand still", lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        )

    assert shortest_end(alpha, beta, stop) < _MOST


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_beside_a_collector_that_never_answers(pair: tuple[Node, Node], tmp_path: Path, protocol: str) -> None:
    """It answered until then, so that the node has every reason to send its last records, too."""
    alpha, beta = pair
    dump = tmp_path / "dump"
    before = alpha.config.read_text()
    alpha.down()
    alpha.set({"telemetry": {"endpoint": f"http://127.0.0.1:{_PORT}", "protocol": protocol}})
    with collector(alpha, protocol, dump) as collecting:

        def hang() -> None:
            collecting.send_signal(signal.SIGUSR2)
            taken = count(dump)
            wait_for("records to be sent", lambda: count(dump) > taken + 1)  # the first one was answered
            unanswered = count(dump, "hang")
            collecting.send_signal(signal.SIGUSR1)
            wait_for("a request without an answer", lambda: count(dump, "hang") > unanswered)

        try:
            assert shortest_end(alpha, beta, hang) < _MOST
        finally:
            alpha.config.write_text(before)


@contextlib.contextmanager
def collector(node: Node, protocol: str, dump: Path) -> Iterator[subprocess.Popen[str]]:
    """An OTLP receiver in the node's namespace. SIGUSR1 makes it hang, SIGUSR2 answer again."""
    command = [sys.executable, "-m", "tests.otlp", "--port", str(_PORT), "--protocol", protocol, "--dump", str(dump)]
    process = node.namespace.popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def count(dump: Path, mode: str = "") -> int:
    """Requests that the receiver took, in any mode or in this one."""
    lines = dump.read_text().splitlines(keepends=True) if dump.exists() else []
    modes = [json.loads(line)["mode"] for line in lines if line.endswith("\n")]
    return modes.count(mode) if mode else len(modes)
