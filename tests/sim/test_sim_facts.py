"""What whole nodes tell: an attempt's story in order, the cause of each refusal on the side that sees it, and never too much.

Facts are what traces, logs and `diag` are made of; see `pqvpn/facts.py`.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import pytest
from simnet import Node, Weather, World, address_of, identity, mesh, node_of, peer_of

from pqvpn.crypto import mac
from pqvpn.crypto.secret import Secret
from pqvpn.facts import (
    AnswerRefused,
    AnswerVerified,
    CookieReceived,
    Fact,
    FragmentsLost,
    HandshakeAbandoned,
    HandshakeCompleted,
    HandshakeFailed,
    HandshakeRefused,
    HandshakeSent,
    HandshakeStarted,
    IcmpReceived,
    PathMtuChanged,
    PathValidated,
    SessionEnded,
)
from pqvpn.protocol.answers import ANSWERS, Asked
from pqvpn.protocol.effects import Trigger
from pqvpn.protocol.evidence import INTERVAL
from pqvpn.protocol.sampling import sampled
from pqvpn.reasons import Reason
from pqvpn.wire.address import Address
from pqvpn.wire.handshake import COUNTS, Msg

A, B = identity(1)[0], identity(2)[0]
Kind = TypeVar("Kind", bound=Fact)
Datagrams = list[tuple[bytes, Address, Address]]


def told(node: Node, kind: type[Kind]) -> list[Kind]:
    return [fact for fact in node.facts if isinstance(fact, kind)]


def pair(seed: int = 1, **more: object) -> tuple[World, Node, Node]:
    world = World(seed)
    a, b = mesh(world, 2, **more)  # type: ignore[arg-type]
    return world, a, b


def only(*messages: Msg) -> Callable[[bytes, Address, Address], Datagrams]:
    """A network that carries nothing but these handshake messages."""
    return lambda d, s, t: [(d, s, t)] if d[0] == 1 and d[2] in messages else []


def test_a_connection_is_told_from_its_trigger_to_its_first_round_trip() -> None:
    world, a, b = pair()
    a.say(B, b"hello")
    world.run(0.5)
    a.say(B, b"more")
    world.run(3)
    story = [fact for fact in a.facts if not isinstance(fact, PathMtuChanged)]
    kinds = (HandshakeStarted, HandshakeSent, AnswerVerified, HandshakeSent, HandshakeCompleted, PathValidated)
    assert tuple(type(fact) for fact in story) == kinds
    started, m1, verified, m3, completed, validated = story
    assert (started.trigger, started.endpoint) == ("traffic", str(b.address))
    assert len({fact.attempt for fact in (started, m1, verified, m3, completed)}) == 1
    assert len(bytes.fromhex(started.attempt)) == 16
    assert [(s.message, s.number, s.cookie) for s in (m1, m3)] == [("m1", 1, False), ("m3", 1, False)]
    assert verified.session_id == completed.session_id == validated.session_id
    assert (completed.role, completed.policy, validated.endpoint) == ("initiator", "full", str(b.address))
    assert validated.rtt == pytest.approx(0.04, abs=0.001)
    assert completed.seconds == pytest.approx(0.08, abs=0.001)
    (responded,) = told(b, HandshakeCompleted)
    assert (responded.role, responded.session_id, responded.seconds) == ("responder", completed.session_id, None)
    assert (completed.asked, completed.answered) == (None, None)


def test_the_responder_knows_at_m3_when_the_m1_it_answered_came() -> None:
    world, a, b = pair()
    lost: list[bytes] = []

    def late(d: bytes, s: Address, t: Address) -> Datagrams:
        """The last datagram of M1 arrives with the repetition only."""
        if d[0] == 1 and d[2] == Msg.M1 and d[3] >> 4 == COUNTS[Msg.M1] - 1 and not lost:
            lost.append(d)
            return []
        return [(d, s, t)]

    world.adversary = late
    a.say(B, b"hello")
    world.run(3)
    (responded,) = told(b, HandshakeCompleted)
    assert lost
    assert responded.answered == pytest.approx(0.04, abs=0.001)  # M2 there, M3 back
    assert responded.asked == pytest.approx(0.04 + a.core._context.timers.m1_schedule[1], abs=0.001)
    world.run(40)
    assert len(b.core._admission.answers) == 0


def test_a_flood_of_answers_takes_two_times_from_the_trace_and_no_session() -> None:
    world, a, b = pair()

    def flood(d: bytes, s: Address, t: Address) -> Datagrams:
        """As many M1s are answered while M3 is on its way as there is room for."""
        if d[0] == 1 and d[2] == Msg.M3:
            for number in range(1000, 1000 + 2 * ANSWERS):
                b.core._admission.answers.note(number, Asked(world.now, world.now))
        return [(d, s, t)]

    world.adversary = flood
    a.say(B, b"hello")
    world.run(1)
    (responded,) = told(b, HandshakeCompleted)
    assert (responded.asked, responded.answered) == (None, None)
    assert len(b.core._admission.answers) <= ANSWERS


@pytest.mark.parametrize(
    ("ours", "theirs", "share"), [(True, True, 1.0), (True, False, 1.0), (False, True, 1.0), (True, True, 0.0)]
)
def test_the_trace_id_is_shared_by_those_who_both_want_it(ours: bool, theirs: bool, share: float) -> None:
    world = World(3)
    a = Node(world, 1, address_of(1), node_of(1, sample=share), (peer_of(2, address_of(2), trace=ours),))
    b = Node(world, 2, address_of(2), node_of(2), (peer_of(1, address_of(1), trace=theirs),))
    a.say(B, b"hello")
    world.run(1)
    (mine,), (other,) = told(a, HandshakeCompleted), told(b, HandshakeCompleted)
    (verified,) = told(a, AnswerVerified)
    assert mine.attempt == told(a, HandshakeStarted)[0].attempt
    assert other.attempt == (mine.attempt if ours and theirs and share else "")
    assert verified.sampled == (ours and share > 0)
    traces = {node.number: {h.session.trace_id.hex() for h in node.lanes.held.values()} for node in (a, b)}
    assert traces == {1: {mine.attempt}, 2: {other.attempt}}


def test_sampling_is_a_share_that_all_agree_on() -> None:
    ids = [bytes(8) + (i * (1 << 64) // 1000).to_bytes(8, "big") for i in range(1000)]
    for share in (0.0, 0.25, 0.5, 1.0):
        assert sum(sampled(i, share) for i in ids) == 1000 * share
    assert sampled(b"\xff" * 16, 1.0)
    assert not sampled(bytes(16), 0.0)


def test_a_cookie_round_is_told_once() -> None:
    world, a, b = pair(14)

    def stress() -> None:
        b.core._admission._cookie_mode.trigger(world.now)
        world.after(0.5, stress)

    stress()
    a.say(B, b"hello")
    world.run(1)
    story = [type(fact) for fact in a.facts][:4]
    assert story == [HandshakeStarted, HandshakeSent, CookieReceived, HandshakeSent]
    sent = [(s.message, s.number, s.cookie) for s in told(a, HandshakeSent)]
    assert sent == [("m1", 1, False), ("m1", 2, True), ("m3", 1, False)]
    assert len(told(a, HandshakeCompleted)) == 1


def test_every_transmission_is_told_and_the_end_has_all_that_was_refused() -> None:
    world, a, b = pair(5)

    def spoil(d: bytes, s: Address, t: Address) -> Datagrams:
        """M2 arrives with its last byte of the body changed: MAC1 does not fit."""
        return [(d[:40] + bytes([d[40] ^ 1]) + d[41:], s, t)] if d[0] == 1 and d[2] == Msg.M2 else [(d, s, t)]

    world.adversary = spoil
    a.say(B, b"hello")
    world.run(95)
    (failed,) = told(a, HandshakeFailed)
    (started,) = told(a, HandshakeStarted)
    assert failed.attempt == started.attempt
    assert failed.seconds == pytest.approx(90, abs=1)
    assert failed.drops == ("mac1",)
    numbers = [s.number for s in told(a, HandshakeSent) if s.message == "m1"]
    assert numbers[:6] == [1, 2, 3, 4, 1, 2]
    refused = told(a, AnswerRefused)
    assert {(r.drop, r.attempt, r.endpoint, r.reason) for r in refused} == {
        ("mac1", started.attempt, str(b.address), None)
    }
    assert len(refused) <= 95 / INTERVAL + 1
    assert not told(b, HandshakeRefused)


def test_an_answer_of_the_peers_own_that_fails_is_told_in_each_attempt_with_what_it_means() -> None:
    world, a, _ = pair(5)

    def spoil(d: bytes, s: Address, t: Address) -> Datagrams:
        """The last datagram of M2 with another confirmation, and the MAC1 that only the peer can make."""
        attempt = a.core._attempts.of(B)
        if d[0] != 1 or d[2] != Msg.M2 or d[3] >> 4 != COUNTS[Msg.M2] - 1 or attempt is None or attempt.m1 is None:
            return [(d, s, t)]
        covered = d[:-17] + bytes([d[-17] ^ 1])
        return [(covered + mac.blake2s_128(attempt.m1.m2_mac_key.expose(), covered), s, t)]

    world.adversary = spoil
    for _ in range(2):  # the second within the time in which the same is not told again
        a.say(B, b"hello")
        world.run(1)
        a.core.close(world.now)
    refused = told(a, AnswerRefused)
    assert [(r.drop, r.reason) for r in refused] == [("bad_handshake", Reason.BAD_AUTH)] * 2
    assert len({r.attempt for r in refused}) == 2


def responder(world: World, number: int = 2, **peer: object) -> Node:
    return Node(world, number, address_of(number), node_of(number), (peer_of(1, address_of(1), **peer),))


def caller(world: World, number: int = 1, node: dict[str, object] | None = None, **peer: object) -> Node:
    settings = node_of(number, **(node or {}))
    return Node(world, number, address_of(1), settings, (peer_of(2, address_of(2), **peer),))


def refusals(node: Node) -> set[tuple[str, bool]]:
    return {(fact.drop, fact.named) for fact in told(node, HandshakeRefused)}


def test_another_network_key_is_seen_where_the_call_comes_in() -> None:
    world = World(6)
    b, a = responder(world), caller(world, node={"network_key": Secret(b"n" * 32)})
    a.say(B, b"hello")
    world.run(20)
    assert refusals(b) == {("mac1", False)}
    assert {f.peer for f in told(b, HandshakeRefused)} == {"node-1"}
    assert not told(a, HandshakeRefused)
    assert not told(a, AnswerRefused)


def test_another_psk_is_seen_where_the_call_comes_in_and_it_names_itself() -> None:
    world = World(6)
    b, a = responder(world), caller(world, psk=Secret(b"x" * 32))
    a.move(address_of(8))  # not where the configuration has it: only its name tells
    a.say(B, b"hello")
    world.run(20)
    assert refusals(b) == {("bad_handshake", True)}
    assert {f.endpoint for f in told(b, HandshakeRefused)} == {str(address_of(8))}


def test_a_new_identity_at_a_known_address_is_an_unknown_peer() -> None:
    world = World(6)
    b, a = responder(world), caller(world, number=3)
    a.say(B, b"hello")
    world.run(20)
    assert refusals(b) == {("unknown_peer", False)}


def test_a_strangers_call_is_nobodys_evidence() -> None:
    world = World(6)
    b = responder(world)
    stranger = Node(world, 3, address_of(3), node_of(3), (peer_of(2, address_of(2)),))
    stranger.say(B, b"hello")
    world.run(20)
    assert sum(b.core.drops)
    assert b.facts == []


def test_policies_that_differ_are_told_by_the_side_that_is_called() -> None:
    world, a, b = pair(7, peer={"allow_degraded": True})
    a.policy = 1
    a.do(a.core.arm_degraded(B, world.now))
    a.say(B, b"hello")
    world.run(20)
    assert refusals(b) == {("policy_mismatch", True)}


def test_another_version_is_told_of_a_known_address_only() -> None:
    world, a, b = pair(8)
    world.adversary = lambda d, s, t: [(bytes([d[0], 2]) + d[2:], s, t)]
    a.say(B, b"hello")
    world.run(20)
    assert refusals(b) == {("version", False)}
    a.crash()
    world.run(INTERVAL + 1)
    before = len(b.facts)
    b.datagram(b"\x01\x02" + bytes(200), address_of(9), b.address.ip)
    assert len(b.facts) == before
    b.datagram(b"\x01\x02" + bytes(200), address_of(1), b.address.ip)
    assert len(b.facts) == before + 1


def test_m3_from_elsewhere_is_told_of_a_known_address() -> None:
    world, a, b = pair(5)
    known = address_of(1)
    b.do(b.core.set_endpoints(A, (known, address_of(7)), world.now))
    world.adversary = lambda d, s, t: [(d, address_of(7), t)] if d[0] == 1 and d[2] == Msg.M3 else [(d, s, t)]
    a.say(B, b"hello")
    world.run(4)
    assert refusals(b) == {("biscuit", False)}
    assert {f.endpoint for f in told(b, HandshakeRefused)} == {str(address_of(7))}


def test_an_m3_that_comes_too_late_is_stale() -> None:
    world, a, b = pair(5)
    held: Datagrams = []

    def hold(d: bytes, s: Address, t: Address) -> Datagrams:
        if d[0] == 1 and d[2] == Msg.M3:
            held.append((d, s, t))
            return []
        return [(d, s, t)]

    world.adversary = hold
    a.say(B, b"hello")
    world.run(33)
    datagram, source, to = held[0]
    b.datagram(datagram, source, to.ip)
    assert refusals(b) == {("stale_handshake", False)}


def test_fragments_of_m1_that_are_lost_are_told_by_the_responder() -> None:
    world, a, b = pair(9)
    world.adversary = lambda d, s, t: [] if d[0] == 1 and d[2] == Msg.M1 and d[3] >> 4 == 1 else [(d, s, t)]
    a.say(B, b"hello")
    world.run(20)
    lost = told(b, FragmentsLost)
    assert {(f.peer, f.message, f.have, f.want, f.endpoint) for f in lost} == {("node-1", "m1", 2, 3, str(a.address))}
    assert 1 <= len(lost) <= 2
    assert not told(a, FragmentsLost)


def test_fragments_of_m2_that_are_lost_are_told_by_the_initiator() -> None:
    world, a, b = pair(9)
    world.adversary = lambda d, s, t: [] if d[0] == 1 and d[2] == Msg.M2 and d[3] >> 4 == 2 else [(d, s, t)]
    a.say(B, b"hello")
    world.run(20)
    (attempt,) = {s.attempt for s in told(a, HandshakeStarted)}
    assert {(f.message, f.have, f.want, f.attempt) for f in told(a, FragmentsLost)} == {("m2", 2, 3, attempt)}
    assert not told(b, FragmentsLost)


def test_lost_fragments_are_told_soon_although_nothing_else_happens() -> None:
    world, a, b = pair(9)
    world.adversary = lambda d, s, t: [(d, s, t)] if d[0] == 1 and d[3] >> 4 == 0 else []
    a.do(a.core.want_session(B, world.now))
    world.run(0.5)
    a.crash()
    world.run(4)
    assert [(f.have, f.want) for f in told(b, FragmentsLost)] == [(1, 3)]


@pytest.mark.parametrize("seed", range(20))
def test_a_network_that_doubles_datagrams_loses_no_fragments(seed: int) -> None:
    world, a, b = pair(seed)
    world.weather = Weather(duplicate=0.5, jitter=0.03)
    a.say(B, b"hello")
    world.run(20)
    assert not told(a, FragmentsLost)
    assert not told(b, FragmentsLost)
    assert not told(a, AnswerRefused)


def test_a_flood_with_a_peers_address_is_told_within_the_rate_and_counted() -> None:
    world, a, b = pair(10)
    before, start = len(b.facts), world.now
    for number in range(10_000):
        forged = b"\x01\x01\x01\x03\x10\x00\x00\x00" + number.to_bytes(8, "little") + bytes(1056)
        b.datagram(forged, a.address, b.address.ip)
        world.run(0.005)
    world.run(INTERVAL)
    facts = b.facts[before:]
    assert {type(fact) for fact in facts} == {HandshakeRefused}
    assert len(facts) <= (world.now - start) / INTERVAL + 2
    assert sum(fact.count for fact in facts) == 10_000


def test_a_flood_from_strangers_tells_nothing_and_costs_no_memory() -> None:
    _, _, b = pair(10)
    for number in range(10_000):
        source = Address(bytes([198, 51, number >> 8 & 255, number & 255]), 9)
        b.datagram(bytes([1, 1 + number % 2, 1, 3]) + number.to_bytes(12, "little") + bytes(1056), source, b.address.ip)
        b.datagram(bytes([3]) + bytes(59), source, b.address.ip)
    assert b.facts == []
    assert not b.core._context.evidence._tallies
    assert len(b.core._context.evidence._table) == 1


def test_looking_for_evidence_costs_a_datagram_little() -> None:
    """Some microseconds for each of a flood's datagrams; the bound leaves room for a busy machine."""
    world, _, b = pair(10)
    source = Address(bytes([198, 51, 100, 7]), 9)
    forged = b"\x01\x01\x01\x03\x10\x00\x00\x00" + bytes(1064)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(1000):
            b.core.receive(forged, source, None, world.now)
        best = min(best, time.perf_counter() - began)
    assert best < 1000 * 100e-6


def test_what_is_known_of_a_removed_peer_goes_with_it() -> None:
    world, a, b = pair(10)
    b.datagram(b"\x01\x02" + bytes(200), a.address, b.address.ip)
    assert b.core._context.evidence._tallies
    b.do(b.core.set_peers((), world.now))
    assert not b.core._context.evidence._tallies
    b.datagram(b"\x01\x02" + bytes(200), a.address, b.address.ip)
    world.run(INTERVAL + 1)
    assert len(told(b, HandshakeRefused)) == 1


def test_icmp_is_told_of_known_addresses_and_changes_nothing() -> None:
    world, a, b = pair(11)
    a.say(B, b"hello")
    world.run(1)
    before = (a.core.deadline(), a.core.peers(world.now), dict(a.lanes.selected), a.core.drops[:])
    for _ in range(1000):
        for kind in ("port_unreachable", "too_big"):
            a.do(a.core.icmp(kind, b.address, world.now))
        a.do(a.core.icmp("port_unreachable", address_of(9), world.now))
    assert before[1:] == (a.core.peers(world.now), dict(a.lanes.selected), a.core.drops[:])
    assert [(f.peer, f.kind, f.count) for f in told(a, IcmpReceived)] == [
        ("node-2", "port_unreachable", 1), ("node-2", "too_big", 1),
    ]  # fmt: skip
    world.run(INTERVAL + 1)
    assert sum(f.count for f in told(a, IcmpReceived)) == 2000
    a.say(B, b"still there")
    world.run(1)
    assert len(b.inbox[A]) == 2


@pytest.mark.parametrize(
    ("trigger", "begin"),
    [
        ("traffic", lambda n, w: n.core.want_session(B, w.now)),
        ("operator", lambda n, w: n.core.want_session(B, w.now, force=True)),
        ("start", lambda n, w: n.core.want_session(B, w.now, trigger=Trigger.START)),
    ],
)
def test_why_an_attempt_began(trigger: str, begin: Callable[[Node, World], list]) -> None:  # type: ignore[type-arg]
    world, a, _ = pair()
    a.do(begin(a, world))
    assert [s.trigger for s in told(a, HandshakeStarted)] == [trigger]
    view = a.core.peers(world.now)[0]
    assert (view.trigger, view.attempt) == (trigger, told(a, HandshakeStarted)[0].attempt)


def test_rekey_silence_keepalive_and_loss_are_triggers_too() -> None:
    world, a, b = pair(peer={"keepalive": 25.0})
    a.do(a.core.tick(world.now))
    world.run(1)
    assert {s.trigger for n in (a, b) for s in told(n, HandshakeStarted)} == {"keepalive"}
    a.do(a.core.lost(next(iter(a.lanes.held)), world.now))
    world.run(1)
    a.say(B, b"hello")
    world.run(140)
    b.crash()
    a.say(B, b"are you there")
    world.run(20)
    triggers = [s.trigger for n in (a, b) for s in told(n, HandshakeStarted)]
    assert {"lost", "rekey", "silence"} <= set(triggers)


def test_a_peer_without_address_keeps_its_trigger_until_one_is_known() -> None:
    world = World(2)
    a = Node(world, 1, address_of(1), node_of(1), (peer_of(2),))
    a.do(a.core.want_session(B, world.now, trigger=Trigger.START))
    assert a.facts == []
    a.do(a.core.set_endpoints(B, (address_of(2),), world.now))
    assert [s.trigger for s in told(a, HandshakeStarted)] == ["start"]


def test_every_attempt_that_began_also_ends() -> None:
    """Completed, failed or abandoned, exactly once each, so that no span stays open."""
    for seed in range(30):
        world, a, b = pair(seed, peer={"keepalive": 5.0})
        world.weather = Weather(loss=0.2, duplicate=0.1, jitter=0.05)
        for node in (a, b):
            node.do(node.core.tick(world.now))
        world.run(200)
        a.do(a.core.set_peers((), world.now))
        b.do(b.core.close(world.now))
        for node in (a, b):
            began = [s.attempt for s in told(node, HandshakeStarted)]
            ended = [f.attempt for f in told(node, HandshakeFailed) + told(node, HandshakeAbandoned)]
            ended += [f.attempt for f in told(node, HandshakeCompleted) if f.role == "initiator"]
            assert sorted(began) == sorted(ended), seed
            assert len(set(began)) == len(began)


def test_a_narrow_path_is_told_when_it_is_found() -> None:
    world, a, _ = pair(12)
    world.weather = Weather(mtu=1400)
    a.say(B, b"hello")
    world.run(10)
    changes = told(a, PathMtuChanged)
    assert changes
    assert changes[0].before == changes[0].largest == 1432
    assert changes[-1].after == a.lanes.path_mtu[B] < 1400
    assert {c.session_id for c in changes} == {c.session_id for c in told(a, HandshakeCompleted)}


def test_a_session_that_ends_is_told_on_both_sides() -> None:
    world, a, b = pair(13)
    a.say(B, b"hello")
    world.run(1)
    a.do(a.core.close(world.now))
    world.run(1)
    assert [f.why for n in (a, b) for f in told(n, SessionEnded)] == ["closed", "closed"]
