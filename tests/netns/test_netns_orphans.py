"""Children never outlive the supervisor, and never double: it is killed or stopped in every phase of its start.

One namespace with one node; moments are spread over the start, whose length depends on the machine.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from lab import Lab, wait_for
from lab.nodes import Node, make_node

pytestmark = pytest.mark.netns

_STEPS = 3


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Lab() as lab:
        yield make_node(lab, lab.namespace("a"), "alpha", ["10.7.0.1/24"], settings={"node": {"lanes": 2}})


@pytest.fixture(scope="module")
def start_seconds(node: Node) -> float:
    """From `pqvpn up` until everything, the observer and the spare included, is there."""
    began = time.monotonic()
    node.up()
    wait_for("the spare", lambda: node.pids("spare") and node.pids("observer"), 20.0)
    took = time.monotonic() - began
    node.down()
    return took


def _nobody(node: Node) -> bool:
    return not node.namespace.processes()


@pytest.mark.parametrize("step", range(_STEPS))
def test_killed_supervisor_takes_everybody_along(node: Node, start_seconds: float, step: int) -> None:
    node.start()
    assert node.process is not None
    time.sleep(start_seconds * (step + 0.5) / _STEPS)
    node.process.send_signal(signal.SIGKILL)
    node.process.wait(5.0)
    node.process = None
    wait_for("nobody to be left", lambda: _nobody(node), 5.0)


@pytest.mark.parametrize("step", range(_STEPS))
def test_stopped_supervisor_doubles_nobody(node: Node, start_seconds: float, step: int) -> None:
    node.start()
    assert node.process is not None
    time.sleep(start_seconds * (step + 0.5) / _STEPS)
    os.kill(node.process.pid, signal.SIGSTOP)
    time.sleep(1.5)  # more than what makes a child count as hung
    os.kill(node.process.pid, signal.SIGCONT)
    node.wait_running()
    wait_for("the spare", lambda: node.pids("spare") and node.pids("observer"), 20.0)
    processes = node.status()["processes"]
    assert Counter(p["component"] for p in processes) == Counter(
        ("supervisor", "control", "lane-0", "lane-1", "observer", "spare")
    )
    assert {p["restarts"] for p in processes} == {0}, "whoever stood still itself blames nobody"
    wait_for("nobody else", lambda: sorted(node.namespace.processes()) == sorted(p["pid"] for p in processes), 5.0)
    node.down()
    wait_for("nobody to be left", lambda: _nobody(node), 5.0)


def test_killed_while_stopped(node: Node) -> None:
    """A supervisor that hangs and is then killed: its children were going on, and end with it."""
    node.up()
    assert node.process is not None
    os.kill(node.process.pid, signal.SIGSTOP)
    time.sleep(0.3)
    os.kill(node.process.pid, signal.SIGKILL)
    node.process.wait(5.0)
    node.process = None
    wait_for("nobody to be left", lambda: _nobody(node), 5.0)
    node.cli("down")
