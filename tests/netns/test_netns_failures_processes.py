"""A node's processes are killed while a TCP connection runs through the tunnel: the connection lives, no counter is reused.

    alpha (10.7.0.1) --veth0-- beta (10.7.0.2)      one lane, then two

beta is not told where alpha is: its new control calls nobody by itself, so that what goes on afterwards is what was adopted.
"""

import os
import signal
from collections.abc import Iterator

import pytest
from flows import assert_never_reused, flow, told, wait_replaced, wait_told
from netparty import bring_up, connected, make_nodes

from lab import Lab, wait_for
from lab.nodes import Node
from lab.traffic import ping

pytestmark = pytest.mark.netns

_TIMERS = {"m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": "1s", "dead": "3s", "keepalive": "1s"}


def _pair(lanes: int) -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
        settings = {"node": {"lanes": lanes}, "timers": _TIMERS}
        alpha, beta = make_nodes(lab, a, b, None, "10.0.0.2", settings)
        bring_up(alpha, beta)
        yield alpha, beta


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    yield from _pair(1)


@pytest.fixture(scope="module")
def pair_of_lanes() -> Iterator[tuple[Node, Node]]:
    yield from _pair(2)


def test_lanes_killed_again_and_again(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    connected(alpha, beta)
    session = alpha.peer("beta")["session_id"]
    with alpha.namespace.capture("veth0", limit=1 << 30) as seen, flow(alpha, beta) as there, flow(beta, alpha) as back:
        for node in (alpha, beta, alpha, beta):
            pid = node.kill("lane-0")
            wait_replaced(node, "lane-0", pid)
            there.more()
            back.more()
    assert seen.dropped == 0
    assert_never_reused(seen.frames)
    assert alpha.peer("beta")["session_id"] == beta.peer("alpha")["session_id"] == session, (
        "the session itself survives"
    )


def test_lane_of_two_killed(pair_of_lanes: tuple[Node, Node]) -> None:
    alpha, beta = pair_of_lanes
    session = alpha.peer("beta")
    assert session["lanes"] == 2
    with alpha.namespace.capture("veth0", limit=1 << 30) as seen, flow(alpha, beta) as there, flow(beta, alpha) as back:
        for node, lane in ((alpha, "lane-1"), (beta, "lane-0"), (alpha, "lane-0")):
            others = [pid for pid in node.pids("lane-") if pid not in node.pids(lane)]
            pid = node.kill(lane)
            wait_replaced(node, lane, pid)
            there.more()
            back.more()
            assert set(others) <= set(node.pids("lane-")), "the other lane goes on"
    assert seen.dropped == 0
    assert_never_reused(seen.frames)
    assert alpha.peer("beta")["session_id"] == session["session_id"]


def test_control_killed(pair: tuple[Node, Node]) -> None:
    """Its successor adopts the session, and can renew it."""
    alpha, beta = pair
    connected(alpha, beta)
    session = beta.peer("alpha")["session_id"]
    with alpha.namespace.capture("veth0", limit=1 << 30) as seen, flow(alpha, beta) as there, flow(beta, alpha) as back:
        pid = beta.kill("control")
        wait_replaced(beta, "control", pid)
        assert beta.peer("alpha")["session_id"] == session, "adopted"
        there.more()
        back.more()
        beta.ask("reconnect", peer="alpha")
        wait_for("a session after the adopted one", lambda: beta.peer("alpha")["session_id"] not in (session, None))
        connected(alpha, beta)
        there.more()
        back.more()
        pid = alpha.kill("control")
        wait_replaced(alpha, "control", pid)
        there.more()
        back.more()
    assert seen.dropped == 0
    assert_never_reused(seen.frames)
    assert not told(beta, "session.ended", why="lost")


def test_adopted_session_keeps_its_age(pair: tuple[Node, Node]) -> None:
    """The new control has never seen the handshake; what it knows of the age is what the lanes report."""
    alpha, beta = pair
    connected(alpha, beta)
    with flow(alpha, beta) as there:
        pid = beta.kill("control")
        wait_replaced(beta, "control", pid)
        age = beta.peer("alpha")["handshake_age_seconds"]
        assert alpha.peer("beta")["handshake_age_seconds"] == pytest.approx(age, abs=1.0)
        there.more()


def test_control_and_lane_killed_together(pair: tuple[Node, Node]) -> None:
    """Nobody holds the keys any more: a new handshake, and the connection goes on."""
    alpha, beta = pair
    connected(alpha, beta)
    session = alpha.peer("beta")["session_id"]
    (control,), (lane,) = alpha.pids("control"), alpha.pids("lane-0")
    with alpha.namespace.capture("veth0", limit=1 << 30) as seen, flow(alpha, beta) as there, flow(beta, alpha) as back:
        os.kill(control, signal.SIGKILL)
        os.kill(lane, signal.SIGKILL)
        wait_replaced(alpha, "control", control)
        wait_replaced(alpha, "lane-0", lane)
        wait_for("a new session", lambda: alpha.peer("beta")["session_id"] not in (session, None))
        there.more()
        back.more()
    assert seen.dropped == 0
    assert_never_reused(seen.frames)


def test_control_killed_then_a_lane(pair: tuple[Node, Node]) -> None:
    """The lanes told control's successor their keys, so that it can give them to a lane's successor: no handshake."""
    alpha, beta = pair
    connected(alpha, beta)
    session = beta.peer("alpha")["session_id"]
    with alpha.namespace.capture("veth0", limit=1 << 30) as seen, flow(alpha, beta) as there, flow(beta, alpha) as back:
        control = beta.kill("control")
        wait_replaced(beta, "control", control)
        assert beta.peer("alpha")["session_id"] == session
        lane = beta.kill("lane-0")
        wait_replaced(beta, "lane-0", lane)
        there.more()
        back.more()
        assert beta.peer("alpha")["session_id"] == session
    assert seen.dropped == 0
    assert_never_reused(seen.frames)
    assert not told(beta, "session.ended", session_id=session, why="lost")


def restarts(node: Node) -> dict[str, int]:
    """By component; a spare has no history."""
    return {p["component"]: p["restarts"] for p in node.status()["processes"] if p["component"] != "spare"}


def test_deaths_are_told_and_counted(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    before = restarts(alpha)
    ended = len(told(alpha, "process.ended", process="lane-0", status="SIGKILL"))
    pid = alpha.kill("lane-0")
    wait_replaced(alpha, "lane-0", pid)
    wait_told(alpha, "process.ended", ended + 1, process="lane-0", status="SIGKILL")
    after = restarts(alpha)
    assert after == before | {"lane-0": before["lane-0"] + 1}
    assert ping(alpha.namespace, "10.7.0.2", 3).lost <= 1
