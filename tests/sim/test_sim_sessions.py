"""The life of sessions between whole nodes on a virtual clock: rekey, keepalive, crossing, adoption, reload, endpoints."""

from dataclasses import replace
from itertools import pairwise

import pytest
from simnet import Node, Weather, World, address_of, identity, mesh, node_of, peer_of

from pqvpn.facts import HandshakeCompleted, HandshakeFailed, SessionEnded
from pqvpn.facts import Roamed as RoamedFact
from pqvpn.protocol.effects import Role
from pqvpn.protocol.settings import Timers
from pqvpn.protocol.views import PeerState
from pqvpn.reasons import Reason
from pqvpn.wire.address import Address
from pqvpn.wire.handshake import Msg

A, B = identity(1)[0], identity(2)[0]


def pair(seed: int = 1, **more: object) -> tuple[World, Node, Node]:
    world = World(seed)
    world.keep_wire = True
    a, b = mesh(world, 2, **more)  # type: ignore[arg-type]
    return world, a, b


def m1_times(world: World, node: Node) -> list[float]:
    """When a node began to send an M1 (its fragment 0)."""
    return [t for t, d, s, _ in world.wire if s == node.address and d[0] == 1 and d[2] == Msg.M1 and d[3] >> 4 == 0]


def talk(world: World, nodes: list[Node], every: float, until: float) -> None:
    if world.now < until:
        for node in nodes:
            for peer in node.peer_settings:
                node.say(peer.peer_id, b"%.6f from %d" % (world.now, node.number))
        world.after(every, lambda: talk(world, nodes, every, until))


def selected(node: Node) -> bytes:
    (slot,) = node.lanes.selected.values()
    return node.lanes.held[slot].session.session_id


def test_the_responder_rekeys_at_120_seconds_without_losing_a_packet() -> None:
    world, a, b = pair()
    a.say(B, b"hello")
    world.run(0.5)
    start = world.now
    talk(world, [a, b], 0.5, start + 400)
    world.run(130)
    assert (len(a.lanes.held), len(b.lanes.held)) == (2, 2)  # the replaced one still receives
    world.run(30)
    assert (len(a.lanes.held), len(b.lanes.held)) == (1, 1)
    world.run(240)
    first = [t for t in m1_times(world, b) if start + 10 < t]
    assert 120 <= first[0] - start <= 126
    assert len(world.agreed) == 1 + 3  # one every 120 to 125 seconds
    assert len(b.inbox[A]) >= 795
    assert len(a.inbox[B]) >= 795
    assert len(a.lanes.held) <= 2


def test_the_initiator_rekeys_at_130_seconds_when_the_responder_does_not() -> None:
    world, a, b = pair()
    world.adversary = lambda d, s, t: [] if d[0] == 1 and s == b.address and d[2] == Msg.M1 else [(d, s, t)]
    start = world.now
    a.say(B, b"first")
    world.run(1)
    talk(world, [a, b], 1.0, start + 150)
    world.run(150)
    assert 130 <= next(t for t in m1_times(world, a) if t > start + 10) - start <= 136


def test_an_idle_session_is_not_rekeyed_and_goes_after_180_seconds() -> None:
    world, a, b = pair()
    a.do(a.core.want_session(B, world.now))
    world.run(179)
    assert len(world.agreed) == 1
    assert a.lanes.held
    world.run(3)
    assert not a.lanes.held
    assert not b.lanes.held
    assert not a.lanes.selected
    assert [f.why for f in a.facts if isinstance(f, SessionEnded)] == ["expired"]
    a.say(B, b"later")
    world.run(1)
    assert b.inbox[A]


def test_a_failed_rekey_ends_in_a_black_hole_never_in_old_keys() -> None:
    world, a, b = pair()
    talk(world, [a, b], 1.0, world.now + 400)
    world.run(5)
    world.adversary = lambda d, s, t: [] if d[0] == 1 else [(d, s, t)]
    world.run(170)
    assert a.lanes.held
    world.run(10)
    assert not a.lanes.held
    assert a.core.peers(world.now)[0].state is PeerState.CONNECTING
    world.adversary = None
    world.run(10)
    assert a.core.peers(world.now)[0].state is PeerState.UP


def test_data_one_way_is_answered_by_a_keepalive_within_ten_seconds() -> None:
    quiet = Timers(rtt_interval=1e6, mtu_confirm_interval=1e6)
    world, a, b = pair(timers=quiet)
    a.say(B, b"one")
    world.run(3)
    world.wire.clear()
    a.say(B, b"two")
    world.run(13)
    back = [t for t, d, s, _ in world.wire if s == b.address and len(d) == 48]
    assert len(back) == 1
    assert len(m1_times(world, a)) == 0


def test_a_peer_that_forgot_everything_is_found_again_after_fifteen_seconds() -> None:
    world, a, b = pair()
    a.say(B, b"0 from 1")
    world.run(30)
    b.crash()
    b.start()
    world.wire.clear()
    lost = world.now
    talk(world, [a], 1.0, lost + 40)
    world.run(40)
    assert 15 <= m1_times(world, a)[0] - lost <= 17
    assert max(float(m.split()[5]) for m in b.inbox[A]) > lost + 17


def test_a_crashed_peer_that_calls_back_at_once_takes_over() -> None:
    """Not a crossing, although our own session is younger than ten seconds: its M1 came after ours was confirmed."""
    for crashed in (0, 1):
        world, *nodes = pair()
        nodes[0].say(B, b"hello")
        world.run(1)
        nodes[crashed].crash()
        nodes[crashed].start()
        nodes[crashed].say((B, A)[crashed], b"back")
        world.run(0.5)
        for node, peer in zip(nodes, (B, A), strict=True):
            node.say(peer, b"after")
        world.run(0.5)
        assert selected(nodes[0]) == selected(nodes[1])
        assert all(any(m.endswith(b"after") for m in n.inbox[p]) for n, p in zip(nodes, (B, A), strict=True))


@pytest.mark.parametrize("skew", [0.0, 0.001, 0.019, 0.021, 0.041, 0.059, 0.061, 0.079, 0.081])
@pytest.mark.parametrize("first", [0, 1])
def test_crossing_handshakes_end_on_the_same_session(skew: float, first: int) -> None:
    world, *nodes = pair(int(skew * 1000))
    nodes[first].say((B, A)[first], b"hello")
    world.run(skew)
    nodes[1 - first].say((A, B)[first], b"hello")
    world.run(1)
    for node, peer in zip(nodes, (B, A), strict=True):
        node.say(peer, b"after")
    world.run(40)
    assert selected(nodes[0]) == selected(nodes[1])
    assert all(len(n.lanes.held) == 1 for n in nodes)
    assert all(any(m.endswith(b"after") for m in n.inbox[p]) for n, p in zip(nodes, (B, A), strict=True))
    assert not any(isinstance(f, SessionEnded) and f.why == "lost" for n in nodes for f in n.facts)


def test_control_restarts_and_the_session_goes_on_to_its_rekey() -> None:
    world, a, b = pair()
    a.say(B, b"hello")
    world.run(0.5)
    talk(world, [a, b], 0.5, world.now + 200)
    world.run(60)
    session = selected(a)
    a.restart_control()
    b.restart_control()
    world.run(30)
    assert selected(a) == selected(b) == session
    assert len(world.agreed) == 1
    world.run(60)
    assert selected(a) == selected(b) != session
    assert len(b.inbox[A]) >= 295


def test_a_session_whose_keys_are_lost_is_made_anew() -> None:
    world, a, b = pair()
    a.say(B, b"hello")
    world.run(1)
    before = selected(a)
    a.do(a.core.lost(next(iter(a.lanes.held)), world.now))
    world.run(1)
    assert selected(a) == selected(b) != before


def test_shutdown_tells_the_peer() -> None:
    world, a, b = pair()
    a.say(B, b"hello")
    world.run(1)
    a.do(a.core.close(world.now))
    assert not a.lanes.held
    world.run(0.1)
    assert not b.lanes.held
    assert b.core.peers(world.now)[0].state is PeerState.DOWN


def test_reload_touches_only_what_changed() -> None:
    world = World(3)
    a, b, c = mesh(world, 3)
    peer_c = identity(3)[0]
    a.say(B, b"hello")
    a.say(peer_c, b"hello")
    world.run(1)
    kept = a.lanes.selected[B]
    a.do(a.core.set_peers((peer_of(2, address_of(2), keepalive=7.0),), world.now))
    assert a.lanes.selected == {B: kept}
    world.run(0.1)
    assert A not in c.lanes.selected
    assert A in b.lanes.selected
    assert [f.why for f in a.facts if isinstance(f, SessionEnded)] == ["removed"]


def test_several_endpoints_are_tried_in_turn_and_names_that_fail_keep_the_last() -> None:
    world = World(4)
    b = Node(world, 2, address_of(2), node_of(2), (peer_of(1),))
    a = Node(world, 1, address_of(1), node_of(1), (peer_of(2),))
    a.say(B, b"hello")
    view = a.core.peers(world.now)[0]
    assert (view.state, view.reason) == (PeerState.DOWN, Reason.NO_ENDPOINT)
    a.do(a.core.set_endpoints(B, (address_of(8), address_of(9), address_of(2)), world.now))
    a.do(a.core.set_endpoints(B, (), world.now))
    world.run(12)
    assert b.inbox[A]


def test_giving_up_after_ninety_seconds_is_told_with_a_reason() -> None:
    world, a, b = pair()
    b.crash()
    a.say(B, b"hello")
    world.run(100)
    times = m1_times(world, a)
    gaps = [round(y - x, 2) for x, y in pairwise(times)]
    assert gaps[:3] == [1.0, 1.0, 2.0]
    assert 1.0 <= gaps[3] <= 1.34
    assert times[-1] - times[0] < 90
    (failed,) = [f for f in a.facts if isinstance(f, HandshakeFailed)]
    assert failed.reason is Reason.NO_REPLY
    assert a.core.peers(world.now)[0].reason is Reason.NO_REPLY
    assert not a.core._context.indices


def test_a_persistent_keepalive_connects_and_reconnects_by_itself() -> None:
    world, a, b = pair(peer={"keepalive": 25.0})
    world.run(300)
    assert selected(a) == selected(b)
    assert sum(isinstance(f, HandshakeCompleted) for f in a.facts) >= 3


def test_roaming_moves_the_session_and_ends_validated() -> None:
    world, a, b = pair()
    talk(world, [a, b], 0.2, world.now + 30)
    world.run(5)
    session = selected(a)
    a.move(address_of(1, 60))
    world.run(2)
    assert b.lanes.held[b.lanes.selected[A]].endpoint == address_of(1, 60)
    assert b.lanes.held[b.lanes.selected[A]].budget is None
    assert selected(b) == session
    assert [f.validated for f in b.facts if isinstance(f, RoamedFact)] == [False, True]
    assert len(a.inbox[B]) > 25


def test_packets_relayed_from_a_spoofed_address_do_not_steal_the_path() -> None:
    """Somebody on the path sends each packet on from elsewhere first; nothing comes back from there."""
    world, a, b = pair()
    talk(world, [a, b], 0.2, world.now + 60)
    world.run(5)
    thief = Address(bytes([203, 0, 113, 1]), 9)
    world.adversary = lambda d, s, t: [(d, thief, t), (d, s, t)] if s == a.address else [(d, s, t)]
    sent_before = sum(len(d) for _, d, _, t in world.wire if t == thief)
    world.run(4)
    world.adversary = None
    world.run(4)
    assert b.lanes.held[b.lanes.selected[A]].endpoint == a.address
    to_thief = sum(len(d) for _, d, _, t in world.wire if t == thief) - sent_before
    from_thief = sum(len(d) for _, d, s, _ in world.wire if s == a.address)
    assert to_thief <= 3 * from_thief


def test_path_mtu_is_found_over_the_tunnel_itself() -> None:
    world, a, b = pair()
    world.weather = Weather(mtu=1400)
    talk(world, [a, b], 0.5, world.now + 60)
    world.run(10)
    assert 1400 - 28 - 40 - 16 < a.lanes.path_mtu[B] <= 1400 - 28 - 40
    world.weather = Weather(mtu=1300)
    world.run(10)
    assert 1300 - 28 - 40 - 16 < a.lanes.path_mtu[B] <= 1300 - 28 - 40
    assert a.core.peers(world.now)[0].rtt == pytest.approx(0.04)


def test_lanes_mtu_and_cipher_are_what_both_have() -> None:
    world = World(9)
    a = Node(world, 1, address_of(1), node_of(1, lanes=4, mtu=1412), (peer_of(2, address_of(2)),))
    Node(world, 2, address_of(2), node_of(2, lanes=2, aeads=2), (peer_of(1),))
    a.say(B, b"hello")
    world.run(1)
    (ends,) = world.agreed.values()
    assert {(s.lanes, s.mtu, s.aead) for s, _, _ in ends} == {(2, 1412, 2)}
    assert {s.role for s, _, _ in ends} == {Role.INITIATOR, Role.RESPONDER}


def test_inputs_about_sessions_that_are_gone_change_nothing() -> None:
    world, a, _ = pair()
    core, now = a.core, world.now
    where = address_of(5)
    for slot in (0, 5, 1023):
        assert core.first_authenticated(slot, now) == []
        assert core.control_frame(slot, b"\x03\x00", where, None, now) == []
        assert core.roamed(slot, where, None, 100, now) == []
        assert core.worn(slot, now) == []
        assert core.lost(slot, now) == []
    assert core.want_session(b"?" * 32, now) == []
    assert core.set_endpoints(b"?" * 32, (where,), now) == []
    assert core.arm_degraded(b"?" * 32, now) == []


def test_changing_the_psk_ends_the_session() -> None:
    world, a, _ = pair()
    a.say(B, b"hello")
    world.run(1)
    changed = replace(a.peer_settings[0], psk=identity(9)[1])
    a.do(a.core.set_peers((changed,), world.now))
    assert not a.lanes.held


def test_forcing_handshake_after_handshake_never_holds_more_than_three_sessions() -> None:
    world, a, b = pair()
    held = []
    for _ in range(8):
        a.do(a.core.want_session(B, world.now, force=True))
        world.run(1)
        a.say(B, b"%f" % world.now)
        held.append((len(a.lanes.held), len(b.lanes.held)))
    world.run(1)
    assert len(world.agreed) == 8
    assert held[-1] == (3, 3)
    assert max(max(pair) for pair in held) == 3
    assert len(b.inbox[A]) == 8


@pytest.mark.parametrize(("lost", "after"), [(1, 0.5), (2, 1.0), (3, 2.0)])
def test_a_lost_m3_is_repeated_byte_identical_on_its_schedule(lost: int, after: float) -> None:
    world, a, b = pair()
    seen: list[bytes] = []

    def adversary(d: bytes, s: Address, t: Address) -> list[tuple[bytes, Address, Address]]:
        if d[0] == 1 and d[2] == Msg.M3:
            seen.append(d)
            return [(d, s, t)] if len(seen) > lost else []
        return [(d, s, t)]

    world.adversary = adversary
    a.say(B, b"hello")
    world.run(0.06 + after - 0.05)
    assert not b.lanes.held
    world.run(0.1)
    assert b.lanes.held
    assert len(set(seen)) == 1
    assert len(m1_times(world, a)) == 1
