"""Sessions are replaced under load, by time, by packet count and by both sides at once, and no connection notices.

alpha (10.7.0.1) --veth0-- beta (10.7.0.2)      a session lives for about a second
"""

import sys
from collections.abc import Iterator

import pytest
from flows import assert_never_reused, flow, in_parallel, told, wait_replaced, wait_told
from netparty import bring_up, connected, make_nodes

from lab import Lab, wait_for
from lab.nodes import ROOT, Node

pytestmark = pytest.mark.netns

_SHORT = {
    "rekey_after": "1s",
    "rekey_initiator_after": "1.4s",
    "rekey_jitter": "0.2s",
    "reject_after": "6s",
    "replaced_receives": "1s",
    "m1_schedule": ["0s", "0.3s", "0.6s"],
    "m1_fresh_after": "1s",
}
_LONG = {"m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": "1s", "replaced_receives": "1s"}

# Run inside, where the lab's user may open what the node holds: as if all counters below the argument had been used.
_USE_UP = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pqvpn.dataplane.counters import SLOTS, Counters, Field, slot_base, tag_of
pid, limit, tag = sys.argv[2], int(sys.argv[3]), tag_of(bytes.fromhex(sys.argv[4]))
for fd in os.listdir(f"/proc/{pid}/fd"):
    if "pqvpn-counters" in os.readlink(f"/proc/{pid}/fd/{fd}"):
        words = Counters(os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR)).words
slots = [slot for slot in range(SLOTS) if words[slot_base(0, slot) + Field.TAG] == tag]
assert slots, "no slot shows this session"
for slot in slots:
    words[slot_base(0, slot) + Field.SEND_RESERVED] = limit
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def restless(lab: Lab) -> tuple[Node, Node]:
    a, b = lab.namespace("a"), lab.namespace("b")
    lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"], names=("veth0", "veth0"))
    nodes = make_nodes(lab, a, b, "10.0.0.1", "10.0.0.2", {"timers": _SHORT})
    bring_up(*nodes)
    return nodes


@pytest.fixture(scope="module")
def lasting(lab: Lab) -> tuple[Node, Node]:
    a, b = lab.namespace("c"), lab.namespace("d")
    lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"], names=("veth0", "veth0"))
    nodes = make_nodes(lab, a, b, "10.0.0.1", "10.0.0.2", {"timers": _LONG}, names=("gamma", "delta"))
    bring_up(*nodes)
    return nodes


def test_many_rekeys_under_load(restless: tuple[Node, Node]) -> None:
    alpha, beta = restless
    before = len(told(alpha, "handshake.completed"))
    with alpha.namespace.capture("veth0", limit=1 << 30) as seen, flow(alpha, beta) as there, flow(beta, alpha) as back:
        for number in range(1, 6):
            wait_told(alpha, "handshake.completed", before + number)
            there.more(1 << 16)
            back.more(1 << 16)
    assert seen.dropped == 0
    assert_never_reused(seen.frames)
    whys = {record["why"] for record in told(alpha, "session.ended")}
    assert whys == {"replaced"}, "no session was lost or expired"
    drops = alpha.drops()
    assert not drops.keys() & {"replay", "bad_tag", "no_session"}, drops


def test_rekeys_go_on_after_control_was_killed(restless: tuple[Node, Node]) -> None:
    alpha, beta = restless
    with flow(alpha, beta) as there, flow(beta, alpha) as back:
        for node in (beta, alpha):
            wait_replaced(node, "control", node.kill("control"))
        before = len(told(alpha, "handshake.completed"))
        for number in range(1, 4):
            wait_told(alpha, "handshake.completed", before + number)
            there.more(1 << 16)
            back.more(1 << 16)
    assert not told(alpha, "session.ended", why="expired")


def test_both_sides_begin_at_once(lasting: tuple[Node, Node]) -> None:
    gamma, delta = lasting
    with flow(gamma, delta) as there, flow(delta, gamma) as back:
        for _ in range(6):
            old = gamma.peer("delta")["session_id"]
            in_parallel(
                lambda: gamma.ask("reconnect", peer="delta"),
                lambda: delta.ask("reconnect", peer="gamma"),
            )
            wait_for("a new session", lambda: gamma.peer("delta")["session_id"] not in (old, None))  # noqa: B023
            connected(gamma, delta)
            there.more(1 << 16)
            back.more(1 << 16)


@pytest.mark.parametrize("limit", [2**26 - 200, 2**26, 2**28 - 20, 2**28])
def test_worn_counters_bring_a_new_session(lasting: tuple[Node, Node], limit: int) -> None:
    """A lane that takes up the session near the cipher's rekey limit, at it, near the hard stop, and at that."""
    gamma, delta = lasting
    connected(gamma, delta)
    old = gamma.peer("delta")["session_id"]
    with gamma.namespace.capture("veth0", limit=1 << 30) as seen, flow(gamma, delta) as there:
        (supervisor,) = gamma.pids("supervisor")
        lane = gamma.kill("lane-0", 19)  # stopped: it reserves nothing while we write
        gamma.namespace.run([sys.executable, "-c", _USE_UP, str(ROOT), str(supervisor), str(limit), old])
        gamma.kill("lane-0")
        wait_replaced(gamma, "lane-0", lane)
        wait_for("a new session", lambda: gamma.peer("delta")["session_id"] not in (old, None))
        there.more()
    assert seen.dropped == 0
    assert_never_reused(seen.frames)
    connected(gamma, delta)
