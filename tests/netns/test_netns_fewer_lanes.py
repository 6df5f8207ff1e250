"""A lane that dies at each start: the other lane carries its packets until it lives again. All lanes: the tunnel is closed.

alpha (10.7.0.1) --veth0-- beta (10.7.0.2)      two lanes
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from flows import assert_never_reused, flow, told, transport_counters, wait_told
from netparty import bring_up, connected, make_nodes

from lab import Lab, wait_for
from lab.nodes import Node
from lab.traffic import ping

pytestmark = pytest.mark.netns

_RESTART = {"burst": 2, "slow_every": "3s", "lived": "2s", "first_wait": "10ms", "longest_wait": "100ms"}
_FLOWS = 6  # both lanes get some


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
        settings = {"node": {"lanes": 2}, "restart": _RESTART | getattr(request, "param", {})}
        alpha, beta = make_nodes(lab, a, b, None, "10.0.0.2", settings)
        bring_up(alpha, beta)
        connected(alpha, beta)
        yield alpha, beta


@contextmanager
def killed_at_each_start(node: Node, *lanes: str) -> Iterator[None]:
    """Kill these lanes whenever they run, until the block is left."""
    done = threading.Event()

    def kill() -> None:
        while not done.wait(0.02):
            for lane in lanes:
                for pid in node.pids(lane):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def running(node: Node) -> int:
    return int(node.status()["node"]["lanes_running"])


@pytest.mark.slow  # more than a minute each: the connections wait longer and longer for a lane that dies at each try
@pytest.mark.parametrize("lane", ["lane-0", "lane-1"])
def test_the_other_lane_carries_it(pair: tuple[Node, Node], lane: str) -> None:
    alpha, beta = pair
    session = alpha.peer("beta")["session_id"]
    assert running(beta) == 2
    with ExitStack() as stack:
        seen = stack.enter_context(alpha.namespace.capture("veth0", limit=1 << 30))
        flows = [
            stack.enter_context(flow(*ends, rate=1 << 18))
            for ends in ((alpha, beta), (beta, alpha))
            for _ in range(_FLOWS)
        ]
        with killed_at_each_start(beta, lane):
            wait_told(beta, "problem", reason="node.fewer_lanes")
            wait_for("fewer lanes to be shown", lambda: running(beta) == 1)
            for each in flows:
                each.more()
            assert ping(alpha.namespace, "10.7.0.2", 5).lost <= 1
            wait_told(
                beta, "health.changed", item="node.lanes", state="warning", reason="node.fewer_lanes", timeout=20.0
            )
            # a rare try takes it back, and it is given away once more
            wait_told(beta, "problem", 2, reason="node.fewer_lanes", timeout=20.0)
            for each in flows:
                each.more()
        wait_told(beta, "retry.ended", operation="restart", key=lane, outcome="recovered", timeout=20.0)
        wait_for("all lanes to be shown", lambda: running(beta) == 2)
        wait_told(beta, "health.changed", item="node.lanes", state="ok", timeout=20.0)
        for each in flows:
            each.more()
        assert alpha.peer("beta")["session_id"] == beta.peer("alpha")["session_id"] == session, (
            "nobody had to shake hands"
        )
    assert seen.dropped == 0
    assert_never_reused(seen.frames)


@pytest.mark.parametrize("pair", [{"slow_every": "10m"}], indirect=True)  # no try in between: an operator ends it
def test_when_all_lanes_end_the_tunnel_is_closed(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    with alpha.namespace.capture("veth0", limit=1 << 28) as seen:
        with killed_at_each_start(alpha, "lane-0", "lane-1"):
            wait_told(alpha, "problem", reason="node.no_lanes", timeout=30.0)
            wait_for("no lane to be shown", lambda: running(alpha) == 0)
        sent = len(transport_counters(seen.frames))
        assert ping(alpha.namespace, "10.7.0.2", 3).lost == 3
        assert told(alpha, "problem", reason="node.restart_loop")
        wait_told(alpha, "health.changed", item="node.lanes", state="failing", reason="node.no_lanes", timeout=20.0)
        assert not seen.contains(bytes((10, 7, 0, 1, 10, 7, 0, 2))), "nothing leaves in the clear"
        alpha.cli("reload")
        wait_for("both lanes to live", lambda: running(alpha) == 2, 20.0)
        wait_for("the tunnel to be open", lambda: ping(alpha.namespace, "10.7.0.2", 1).lost == 0, 20.0)
        assert len(transport_counters(seen.frames)) > sent
    assert_never_reused(seen.frames, at_least=1)
