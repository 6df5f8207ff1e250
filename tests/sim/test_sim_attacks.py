"""Attacks on whole nodes (PROTOCOL sections 4, 8 and 10): what an adversary on the path or anywhere can make happen."""

import random

import pytest
from simnet import InvariantBroken, Node, World, address_of, identity, mesh, node_of, peer_of

from pqvpn.crypto.secret import Secret
from pqvpn.drops import DropReason
from pqvpn.protocol.answers import ANSWERS
from pqvpn.protocol.effects import Install, Tell, Transmit
from pqvpn.reasons import Reason
from pqvpn.wire.address import Address
from pqvpn.wire.handshake import HEADER_SIZE, Msg

HANDSHAKE, COOKIE, TRANSPORT = 1, 3, 4
A, B = identity(1)[0], identity(2)[0]


def connected(node: Node, peer_id: bytes) -> bool:
    return any(h.spoke and h.session.peer_id == peer_id for h in node.lanes.held.values())


def recorded_handshake() -> tuple[World, list[Node], list[tuple[bytes, Address, Address]]]:
    """Two nodes after an undisturbed handshake, and all that was on the wire."""
    world = World(1)
    world.keep_wire = True
    nodes = mesh(world, 2)
    nodes[0].say(B, b"hello")
    world.run(0.5)
    assert connected(nodes[0], B)
    assert connected(nodes[1], A)
    return world, nodes, [(d, s, t) for _, d, s, t in world.wire]


def test_responder_sends_nothing_but_m2_before_m3() -> None:
    world = World(2)
    world.keep_wire = True
    nodes = mesh(world, 2)
    world.adversary = lambda d, s, t: [] if d[:1] == b"\x01" and d[2] == Msg.M3 else [(d, s, t)]
    nodes[0].say(B, b"hello")
    world.run(60)
    sent = {(d[0], d[2] if d[0] == HANDSHAKE else 0) for _, d, s, _ in world.wire if s == nodes[1].address}
    assert sent == {(HANDSHAKE, Msg.M2)}
    assert not nodes[1].lanes.held


@pytest.mark.parametrize("lost", [(m, i) for m, n in ((1, 3), (2, 3), (3, 1)) for i in range(n)])
def test_dropping_any_datagram_for_a_while_only_delays(lost: tuple[int, int]) -> None:
    world = World(3)
    nodes = mesh(world, 2)
    start = world.now

    def adversary(d: bytes, s: Address, t: Address) -> list[tuple[bytes, Address, Address]]:
        hit = d[0] == HANDSHAKE and (d[2], d[3] >> 4) == lost and world.now < start + 7
        return [] if hit else [(d, s, t)]

    world.adversary = adversary
    nodes[0].say(B, b"hello")
    assert world.run_until(lambda: connected(nodes[0], B), 20)


@pytest.mark.parametrize("seed", range(60))
def test_changing_any_bit_never_gives_a_session_that_differs(seed: int) -> None:
    """Whatever is flipped, sessions agree and keep the policy (checked at every install), or there is none."""
    world, chance = World(seed), random.Random(seed)
    nodes = mesh(world, 2)

    def adversary(d: bytes, s: Address, t: Address) -> list[tuple[bytes, Address, Address]]:
        place = chance.randrange(len(d)) if chance.random() < 0.5 else chance.randrange(HEADER_SIZE)
        return [(d[:place] + bytes([d[place] ^ 1 << chance.randrange(8)]) + d[place + 1 :], s, t)]

    world.adversary = adversary
    nodes[0].say(B, b"hello")
    world.run(8)
    assert not any(n.lanes.held for n in nodes)


def test_replaying_everything_gives_no_second_session_and_no_data_twice() -> None:
    world, nodes, wire = recorded_handshake()
    sessions = [set(n.lanes.held) for n in nodes]
    installs = len(world.agreed)
    for delay in (0.0, 1.0, 31.0):
        world.run(delay)
        for datagram, source, to in wire:
            world._fly(datagram, source, to)
            world._fly(datagram, address_of(9), to)
        world.run(1.0)
    assert len(world.agreed) == installs
    assert [set(n.lanes.held) for n in nodes] == sessions
    assert nodes[1].inbox[A] == {next(iter(nodes[1].inbox[A]))}


def test_m3_from_another_address_than_m1_is_refused() -> None:
    world = World(5)
    nodes = mesh(world, 2)
    world.adversary = lambda d, s, t: [(d, address_of(7), t)] if d[0] == HANDSHAKE and d[2] == Msg.M3 else [(d, s, t)]
    nodes[0].say(B, b"hello")
    world.run(4)
    assert nodes[1].core.drops[DropReason.BISCUIT]
    assert not nodes[1].lanes.held


def test_a_repeated_m3_is_acknowledged_at_most_four_times_a_second() -> None:
    world, nodes, wire = recorded_handshake()
    (m3, source, to), *_ = [(d, s, t) for d, s, t in wire if d[0] == HANDSHAKE and d[2] == Msg.M3]
    world.wire.clear()
    for _ in range(100):
        nodes[1].datagram(m3, address_of(9), to.ip)
        world.run(0.01)
    keepalives = [t for _, d, s, t in world.wire if s == nodes[1].address and len(d) == 48]
    assert 1 <= len(keepalives) <= 5
    assert set(keepalives) == {source}  # to the session's endpoint, not to whoever repeated it
    assert nodes[1].core.drops[DropReason.RESPONSE_LIMIT] >= 95


def test_unknown_initiators_and_wrong_keys_get_silence() -> None:
    for stranger in (
        {"peers": (peer_of(2, address_of(2)),), "number": 3},
        {"peers": (peer_of(2, address_of(2), psk=Secret(b"x" * 32)),), "number": 1},
        {"peers": (peer_of(2, address_of(2)),), "number": 1, "network_key": Secret(b"n" * 32)},
    ):
        world = World(6)
        world.keep_wire = True
        responder = Node(world, 2, address_of(2), node_of(2), (peer_of(1),))
        key = stranger.pop("network_key", None)
        number = stranger["number"]
        other = Node(world, number, address_of(number), node_of(number, network_key=key), stranger["peers"])
        other.say(B, b"let me in")
        world.run(20)
        assert all(s == other.address for _, _, s, _ in world.wire)
        assert sum(responder.core.drops)
        assert not responder.lanes.held


def test_policies_that_differ_never_meet_and_nothing_received_arms_one() -> None:
    world = World(7)
    nodes = mesh(world, 2, peer={"allow_degraded": True})
    nodes[0].policy = 1
    nodes[0].do(nodes[0].core.arm_degraded(B, world.now))
    nodes[0].say(B, b"hello")
    world.run(100)
    assert not world.agreed
    assert nodes[1].core.drops[DropReason.POLICY_MISMATCH] or nodes[0].core.drops[DropReason.POLICY_MISMATCH]
    view = nodes[0].core.peers(world.now)[0]
    assert view.reason is Reason.NO_REPLY


def test_a_policy_that_changes_between_m2_and_m3_is_the_one_that_counts() -> None:
    world = World(15)
    nodes = mesh(world, 2, peer={"allow_degraded": True})
    for node, peer in zip(nodes, (B, A), strict=True):
        node.policy = 1
        node.do(node.core.arm_degraded(peer, world.now))
    held: list[tuple[bytes, Address, Address]] = []

    def adversary(d: bytes, s: Address, t: Address) -> list[tuple[bytes, Address, Address]]:
        if d[0] == HANDSHAKE and d[2] == Msg.M3:
            held.append((d, s, t))
            return []
        return [(d, s, t)]

    world.adversary = adversary
    nodes[0].say(B, b"hello")
    world.run(0.5)
    nodes[1].policy = 0
    nodes[1].do(nodes[1].core.arm_degraded(A, world.now, armed=False))
    assert held
    for datagram, source, to in held:
        nodes[1].datagram(datagram, source, to.ip)
    assert not nodes[1].lanes.held
    assert nodes[1].core.drops[DropReason.POLICY_MISMATCH]


def test_degraded_only_when_configured_and_armed_and_not_past_its_end() -> None:
    world = World(8)
    nodes = mesh(world, 2, peer={"allow_degraded": True, "degraded_until": world.now + 50})
    for node, peer in zip(nodes, (B, A), strict=True):
        node.policy = 1
        node.do(node.core.arm_degraded(peer, world.now))
    nodes[0].say(B, b"hello")
    world.run(1)
    assert {s.policy for ends in world.agreed.values() for s, _, _ in ends} == {1}
    for node in nodes:
        node.policy = 0  # the end date passes: nothing below it is installed from here on
    world.run(60)
    assert not any(n.lanes.held for n in nodes)
    nodes[0].say(B, b"again")
    world.run(1)
    assert {h.session.policy for n in nodes for h in n.lanes.held.values()} == {0}


def test_arming_a_peer_that_does_not_allow_it_changes_nothing() -> None:
    world = World(9)
    nodes = mesh(world, 2)
    nodes[0].do(nodes[0].core.arm_degraded(B, world.now))
    nodes[0].say(B, b"hello")
    world.run(1)
    assert {h.session.policy for n in nodes for h in n.lanes.held.values()} == {0}


@pytest.mark.parametrize("msg", [Msg.M1, Msg.M2, Msg.M3])
def test_without_a_valid_mac1_nothing_else_is_looked_at(msg: Msg) -> None:
    """No slot, no token, no decapsulation: a wrong MAC1 costs one hash, and later the intact message still works."""
    _, _, wire = recorded_handshake()
    world = World(1)  # the same chance as recorded: the same attempt is out, but nothing of it arrives
    nodes = mesh(world, 2)
    world.adversary = lambda d, s, t: []
    nodes[0].say(B, b"hello")
    for datagram, source, to in [(d, s, t) for d, s, t in wire if d[0] == HANDSHAKE and d[2] == msg]:
        node = world.at[to]
        mac1 = slice(-32, -16) if msg is Msg.M1 else slice(-16, None)
        forged = bytearray(datagram)
        forged[mac1] = bytes(b ^ 1 for b in forged[mac1])
        before = node.core.drops[DropReason.MAC1]
        assert all(isinstance(e, Tell) for e in node.core.receive(bytes(forged), source, None, world.now))
        sidi = datagram[4:8] in {i.to_bytes(4, "little") for i in node.core._context.indices}
        assert node.core.drops[DropReason.MAC1] - before == (msg is not Msg.M2 or sidi)
        assert node.core._admission.sizes() == {"slots": 0, "sources": 0, "keys": 0}
        assert sum(node.core.drops[r] for r in (DropReason.BISCUIT, DropReason.DECAPSULATION)) == 0
    if msg is Msg.M2:
        assert nodes[0].core.drops[DropReason.MAC1] == 3


def test_m1c_is_dropped_before_reassembly() -> None:
    world = World(10)
    nodes = mesh(world, 2)
    nodes[0].say(B, b"hello")
    for idx, size in enumerate((1072, 1072, 1072, 632)):
        head = bytes([1, 1, Msg.M1C, idx << 4 | 4]) + (16).to_bytes(4, "little") + bytes(8)
        nodes[1].datagram(head.ljust(size, b"\1"), address_of(9), b"")
    assert nodes[1].core.drops[DropReason.ENROLMENT_OFF] == 4
    assert nodes[1].core._admission.sizes()["slots"] == 0


def test_failed_self_tests_refuse_handshakes_and_nothing_else() -> None:
    world = World(11)
    a = Node(world, 1, address_of(1), node_of(1), (peer_of(2, address_of(2)),))
    b = Node(world, 2, address_of(2), node_of(2, handshakes=False), (peer_of(1, address_of(1)),))
    a.say(B, b"hello")
    b.say(A, b"hello")
    world.run(10)
    assert not world.agreed
    assert b.core.drops[DropReason.CRYPTO_UNAVAILABLE]
    assert b.core.peers(world.now)[0].reason is Reason.SELF_TEST_FAILED


def captured_by_type() -> dict[tuple[int, int], tuple[bytes, Address, Address]]:
    """One datagram of every kind that two nodes exchange, M1 with its three fragments."""
    _, _, wire = recorded_handshake()
    kinds: dict[tuple[int, int], tuple[bytes, Address, Address]] = {}
    for datagram, source, to in wire:
        kinds.setdefault(
            (datagram[0], datagram[2] << 8 | datagram[3] if datagram[0] == HANDSHAKE else 0), (datagram, source, to)
        )
    return kinds


def test_amplification_is_at_most_one_over_every_type_of_message() -> None:
    """Each kind of datagram, intact, changed, truncated, alone, from strangers and in cookie mode: less back than in."""
    kinds = captured_by_type()
    assert len(kinds) == 3 + 3 + 1 + 1
    world = World(1)  # the same chance, so the same keys and cookies are about
    nodes = mesh(world, 2)
    stranger = address_of(66)
    for forced in (False, True):
        for datagram, _, to in kinds.values():
            node = world.at[to]
            for shape in (datagram, datagram[:-1], datagram[:-1] + b"\xff", datagram[:16], datagram[:1], b""):
                if forced:
                    node.core._admission._cookie_mode.trigger(world.now)
                effects = node.core.receive(shape, stranger, to.ip, world.now)
                out = [e for e in effects if isinstance(e, Transmit)]
                assert all(e.to == stranger for e in out)
                node._weigh(shape, stranger, effects)  # cumulative: M2 as a whole is smaller than M1 as a whole
                assert len(out) == len(effects)
    assert nodes[1].answered_bytes[stranger.ip] > 0


def test_a_whole_m1_is_answered_with_no_more_datagrams_and_fewer_bytes() -> None:
    _, _, wire = recorded_handshake()
    m1 = [d for d, _, _ in wire if d[0] == HANDSHAKE and d[2] == Msg.M1]
    m2 = [d for d, _, _ in wire if d[0] == HANDSHAKE and d[2] == Msg.M2]
    assert (len(m1), len(m2)) == (3, 3)
    assert (sum(map(len, m1)), sum(map(len, m2))) == (2576, 2536)


@pytest.mark.parametrize("spread", [1, 50, 4000])
def test_a_flood_of_m1s_leaves_memory_bounded_and_friends_able_to_connect(spread: int) -> None:
    """Valid M1 fragments of a real peer, replayed from `spread` addresses; then an honest handshake in the middle of it."""
    _, _, wire = recorded_handshake()
    m1 = [d for d, _, _ in wire if d[0] == HANDSHAKE and d[2] == Msg.M1]
    world = World(12)
    target = Node(world, 2, address_of(2), node_of(2), (peer_of(1),))
    friend = Node(world, 1, address_of(1), node_of(1), (peer_of(2, address_of(2)),))
    chance = random.Random(spread)
    friend.say(B, b"hello")
    for _ in range(6000):
        number = chance.randrange(spread)
        source = Address(bytes([10, number >> 16, number >> 8 & 255, number & 255]), 1000 + chance.randrange(8))
        target._weigh(m1[0], source, target.core.receive(chance.choice(m1), source, None, world.now))
        world.run(0.0005)
        sizes = target.core._admission.sizes()
        assert sizes["slots"] <= 256
        assert sizes["sources"] <= 65_536
        assert len(target.core._admission.answers) <= ANSWERS
        assert set(target.core._context.peers) == {A}
    world.run(6)
    assert connected(friend, B)
    target.core.tick(world.now)
    assert target.core._admission.sizes()["slots"] == 0


def test_a_spoofed_flood_from_a_friends_address_does_not_shut_it_out() -> None:
    """An attacker empties the bucket of the friend's /32; the cookie that the friend gets instead lets it in."""
    _, _, wire = recorded_handshake()
    m1 = [d for d, _, _ in wire if d[0] == HANDSHAKE and d[2] == Msg.M1]
    world = World(13)
    target = Node(world, 2, address_of(2), node_of(2), (peer_of(1),))
    friend = Node(world, 1, address_of(1), node_of(1), (peer_of(2, address_of(2)),))

    def spoof() -> None:
        for port in range(20):
            target.core.receive(m1[0], Address(friend.address.ip, port + 1), None, world.now)
        world.after(0.01, spoof)

    spoof()
    world.run(1)
    friend.say(B, b"hello")
    assert world.run_until(lambda: connected(friend, B), 3)
    assert target.core.drops[DropReason.RATE_LIMIT] or target.core.drops[DropReason.COOKIE_REQUIRED]


def test_cookie_mode_costs_one_round_trip_and_a_second_m1_with_the_same_key_is_dropped() -> None:
    world = World(14)
    world.keep_wire = True
    nodes = mesh(world, 2)

    def stress() -> None:
        nodes[1].core._admission._cookie_mode.trigger(world.now)
        world.after(0.5, stress)

    stress()
    nodes[0].say(B, b"hello")
    assert world.run_until(lambda: connected(nodes[0], B), 1)
    m1 = [d for _, d, _, _ in world.wire if d[0] == HANDSHAKE and d[2] == Msg.M1]
    assert len(m1) == 6
    assert [d[-16:] == bytes(16) for d in m1] == [True] * 3 + [False] * 3
    before = nodes[1].core.drops[DropReason.STALE_HANDSHAKE]
    for datagram in m1[3:]:
        effects = nodes[1].core.receive(datagram, nodes[0].address, None, world.now)
        assert all(isinstance(e, Tell) for e in effects)
    assert nodes[1].core.drops[DropReason.STALE_HANDSHAKE] == before + 1


def test_a_cookie_reply_that_was_not_asked_for_changes_nothing() -> None:
    world, nodes, _ = recorded_handshake()
    for datagram in (b"\x03\x01" + bytes(58), b"\x03\x01\x01\x01" + (16).to_bytes(4, "little") + bytes(52)):
        assert nodes[0].core.receive(datagram, nodes[1].address, None, world.now) == []
    assert nodes[0].core.drops[DropReason.NO_ATTEMPT] == 1
    assert nodes[0].core.drops[DropReason.MALFORMED] == 1


def test_the_simulation_notices_a_reused_counter() -> None:
    world, nodes, _ = recorded_handshake()
    held = next(iter(nodes[0].lanes.held.values()))
    held.counters[0] = 0
    with pytest.raises(InvariantBroken):
        nodes[0].say(B, b"again")
    assert world.agreed


def test_installed_twice_is_noticed() -> None:
    world, nodes, _ = recorded_handshake()
    session, receive, send = next(iter(world.agreed.values()))[0]
    again = Install(session, tuple(map(Secret, receive)), tuple(map(Secret, send)))
    with pytest.raises(InvariantBroken):
        world.installed(nodes[0], again)


def test_a_cookie_is_kept_for_the_next_handshake() -> None:
    world = World(16)
    world.keep_wire = True
    nodes = mesh(world, 2)

    def stress() -> None:
        nodes[1].core._admission._cookie_mode.trigger(world.now)
        world.after(0.5, stress)

    stress()
    nodes[0].say(B, b"hello")
    world.run(1)
    world.wire.clear()
    nodes[0].do(nodes[0].core.want_session(B, world.now, force=True))
    world.run(0.5)
    m1 = [d for _, d, _, _ in world.wire if d[0] == HANDSHAKE and d[2] == Msg.M1]
    assert len(m1) == 3
    assert all(d[-16:] != bytes(16) for d in m1)


def test_an_m3_whose_index_was_taken_meanwhile_is_dropped() -> None:
    world = World(17)
    nodes = mesh(world, 2)
    held: list[bytes] = []

    def adversary(d: bytes, s: Address, t: Address) -> list[tuple[bytes, Address, Address]]:
        if d[0] == HANDSHAKE and d[2] == Msg.M3:
            held.append(d)
            return []
        return [(d, s, t)]

    world.adversary = adversary
    nodes[0].say(B, b"hello")
    world.run(0.2)
    nodes[1].core._context.indices.add(int.from_bytes(held[0][4:8], "little"))
    assert nodes[1].core.receive(held[0], nodes[0].address, None, world.now) == []
    assert nodes[1].core.drops[DropReason.INDEX_IN_USE] == 1
