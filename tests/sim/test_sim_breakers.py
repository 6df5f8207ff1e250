"""Breakers of whole nodes on the virtual clock: they open for silence of ours to hear, never for what strangers send."""

import random
from collections.abc import Callable

import pytest
from simnet import Node, Weather, World, address_of, identity, mesh, node_of, peer_of

from pqvpn.control.gates import Gates
from pqvpn.crypto import xwing
from pqvpn.facts import BreakerChanged, HandshakeFailed, HandshakeStarted, Problem, RetryEnded, RetryWaiting
from pqvpn.protocol.effects import Trigger
from pqvpn.protocol.settings import Timers
from pqvpn.reasons import Reason
from pqvpn.resilience.breaker import State
from pqvpn.resilience.registry import PEER_LONGEST, Kind, Settings
from pqvpn.wire.address import Address
from pqvpn.wire.handshake import Msg

A, B, C = (identity(n)[0] for n in (1, 2, 3))
TIMERS = Timers()
REACHED_WITHIN = PEER_LONGEST + TIMERS.m1_fresh_after + TIMERS.m1_fresh_jitter + 3.0
"""The longest wait of a breaker, the longest pause between two fresh M1s of an attempt, and round trips with a lost one."""


def connected(node: Node, peer_id: bytes) -> bool:
    return any(h.spoke and h.session.peer_id == peer_id for h in node.lanes.held.values())


def breaker(node: Node, key: str = "node-2", kind: Kind = Kind.PEER) -> State:
    return node.gates.registry.get(kind, key).state


def opened(node: Node, kinds: tuple[str, ...] = ("peer", "path", "crypto")) -> list[BreakerChanged]:
    return [f for f in node.facts if isinstance(f, BreakerChanged) and f.state == "open" and f.breaker in kinds]


def talking(world: World, node: Node, peer_id: bytes, every: float = 1.0) -> None:
    """The inside sends a packet each second, as lanes tell it at most once a second."""
    count = 0

    def say() -> None:
        nonlocal count
        count += 1
        node.say(peer_id, b"packet %d" % count)
        world.after(every, say)

    say()


def gone(world: World, node: Node, seconds: float) -> None:
    node.crash()
    world.run(seconds)


def test_a_peer_that_is_gone_is_called_less_and_found_again_in_time() -> None:
    world = World(1)
    one, two = mesh(world, 2)
    talking(world, one, B)
    world.run(5)
    assert connected(one, B)
    gone(world, two, 900)
    assert len(opened(one)) >= 2
    waits = [f for f in one.facts if isinstance(f, RetryWaiting)]
    assert [w.seconds for w in waits][:3] == [5.0, 10.0, 15.0]
    assert max(w.seconds for w in waits) <= PEER_LONGEST
    for moment in range(6):  # whenever in the cycle of attempt and pause it comes back
        world.run(17.0)
        two.start()
        assert world.run_until(lambda: connected(one, B), REACHED_WITHIN), moment
        assert breaker(one) is State.CLOSED
        gone(world, two, 500)


def test_each_transition_belongs_to_the_attempt_that_caused_it() -> None:
    world = World(2)
    one, two = mesh(world, 2)
    gone(world, two, 0)
    talking(world, one, B)
    world.run(300)
    two.start()
    world.run(REACHED_WITHIN)
    facts = [f for f in one.facts if isinstance(f, BreakerChanged | HandshakeStarted | HandshakeFailed | RetryEnded)]
    first = next(i for i, f in enumerate(facts) if isinstance(f, BreakerChanged))
    assert isinstance(facts[first], BreakerChanged)
    assert (facts[first].state, facts[first].cause, facts[first].attempt) == (
        "open", "consecutive", facts[first - 1].attempt,
    )  # fmt: skip
    told = [f for f in facts if isinstance(f, BreakerChanged)]
    assert all(f.attempt and f.peer == "node-2" for f in told)
    half = next(i for i, f in enumerate(facts) if isinstance(f, BreakerChanged) and f.state == "half_open")
    assert isinstance(facts[half - 1], HandshakeStarted)
    assert facts[half - 1].attempt == facts[half].attempt
    assert [f.outcome for f in facts if isinstance(f, RetryEnded)][-1] == "recovered"


def test_while_open_traffic_starts_nothing_and_a_person_does() -> None:
    world = World(3)
    one, two = mesh(world, 2)
    gone(world, two, 0)
    talking(world, one, B)
    assert world.run_until(lambda: breaker(one) is State.OPEN, 400)
    started = sum(isinstance(f, HandshakeStarted) for f in one.facts)
    world.run(4.5)
    assert sum(isinstance(f, HandshakeStarted) for f in one.facts) == started
    assert one.core.want_session(B, world.now) == []
    one.do(one.core.want_session(B, world.now, force=True))
    assert breaker(one) is State.CLOSED
    assert one.core.peers(world.now)[0].trigger == "operator"


@pytest.mark.parametrize("news", ["network", "address", "its call", "released"])
def test_good_news_ends_the_wait(news: str) -> None:
    world = World(4)
    one, two = mesh(world, 2)
    gone(world, two, 0)
    talking(world, one, B)
    assert world.run_until(lambda: breaker(one) is State.OPEN, 400)
    two.start()
    match news:
        case "network":
            one.do(one.core.good_news(world.now))
        case "address":
            two.move(address_of(2, 1))
            one.do(one.core.set_endpoints(B, (two.address,), world.now))
        case "its call":
            two.say(A, b"hello")
        case "released":
            one.gates.registry.get(Kind.PEER, "node-2").reset()
    assert world.run_until(lambda: connected(one, B), 2.5)
    assert breaker(one) is State.CLOSED


def test_a_change_of_the_network_begins_a_call_under_way_anew() -> None:
    world = World(5)
    one, _ = mesh(world, 2)
    world.partitioned = True
    one.say(B, b"hello")
    world.run(20.2)
    world.partitioned = False
    one.do(one.core.good_news(world.now))
    assert world.run_until(lambda: connected(one, B), 0.5)


def test_a_peer_with_keepalive_is_called_without_traffic() -> None:
    world = World(6)
    one, two = mesh(world, 2, peer={"keepalive": 25.0})
    world.run(5)
    gone(world, two, 800)
    assert opened(one)
    two.peer_settings = (peer_of(1),)
    two.start()
    assert world.run_until(lambda: connected(one, B), REACHED_WITHIN)


def test_an_operators_hold_keeps_everything_back_until_it_ends() -> None:
    world = World(7)
    one, _ = mesh(world, 2)
    one.gates.registry.get(Kind.PEER, "node-2").hold_open()
    talking(world, one, B)
    world.run(60)
    assert not any(isinstance(f, HandshakeStarted) for f in one.facts)
    one.do(one.core.good_news(world.now))
    assert breaker(one) is State.OPEN
    one.gates.registry.get(Kind.PEER, "node-2").reset()
    assert world.run_until(lambda: connected(one, B), 2.5)


# -- addresses -------------------------------------------------------------------------------------------------------


def test_an_address_that_never_answers_is_left_out_and_tried_again() -> None:
    world = World(8)
    dead = [address_of(9, place) for place in range(3)]
    good = address_of(2)
    settings = peer_of(2)
    one = Node(world, 1, address_of(1), node_of(1), (peer_of(2, None),))
    two = Node(world, 2, good, node_of(2), (peer_of(1),))
    assert settings.endpoints == ()
    two.crash()
    one.do(one.core.set_endpoints(B, (*dead, good), world.now))
    talking(world, one, B)
    world.run(60)
    states = {str(a): breaker(one, f"node-2/{a}", Kind.PATH) for a in (*dead, good)}
    assert set(states.values()) != {State.CLOSED}
    two.start()
    assert world.run_until(lambda: connected(one, B), 4 * 5.4 + 3)
    assert breaker(one, f"node-2/{good}", Kind.PATH) is State.CLOSED


def test_an_open_address_costs_no_turn() -> None:
    """With three dead addresses known, the fourth is found by the first M1 instead of the fourth."""
    world = World(9)
    dead = [address_of(9, place) for place in range(3)]
    one = Node(world, 1, address_of(1), node_of(1), (peer_of(2, None),), Settings(open_for=60.0))
    Node(world, 2, address_of(2), node_of(2), (peer_of(1),))
    one.do(one.core.set_endpoints(B, (*dead, address_of(2)), world.now))
    for address in dead:
        for _ in range(2):
            one.gates.answered(B, "", address, worked=False)
    one.say(B, b"hello")
    assert world.run_until(lambda: connected(one, B), 0.5)


def test_with_all_addresses_open_all_are_tried() -> None:
    world = World(10)
    one = Node(world, 1, address_of(1), node_of(1), (peer_of(2, None),))
    two = [address_of(2), address_of(9)]
    one.do(one.core.set_endpoints(B, tuple(two), world.now))
    for address in two:
        one.gates.registry.get(Kind.PATH, f"node-2/{address}").hold_open()
    assert one.gates.usable(B, "", tuple(two))[0] == tuple(two)


def test_the_number_of_breakers_is_bounded() -> None:
    """A name server that answers differently each time, for ever."""
    world = World(11)
    one = Node(world, 1, address_of(1), node_of(1), (peer_of(2, None),))
    for turn in range(400):
        poisoned = tuple(Address(bytes([203, turn & 255, turn >> 8, n]), 7) for n in range(8))
        one.do(one.core.set_endpoints(B, poisoned, world.now))
        one.say(B, b"hello")
        world.run(11)
    names = one.gates.registry.names()
    assert len(names) <= 4 + 1 + 10
    assert len(one.gates._permits) <= 1


def test_broken_encapsulation_refuses_handshakes_is_told_and_heals(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(20)
    one, two = mesh(world, 2)
    broken = True
    works = xwing.PublicKey.encapsulate

    def encapsulate(key: xwing.PublicKey) -> xwing.Encapsulation:
        if broken:
            raise MemoryError
        return works(key)

    monkeypatch.setattr(xwing.PublicKey, "encapsulate", encapsulate)
    talking(world, one, B)
    world.run(60)
    assert breaker(one, "encapsulate", Kind.CRYPTO) is not State.CLOSED
    problems = [f for f in one.facts if isinstance(f, Problem)]
    assert {f.reason for f in problems} == {Reason.SELF_TEST_FAILED}
    assert len(problems) < 12, "while it is open nothing is tried"
    assert not one.lanes.held
    world.run(60)
    (failed, *_) = [f for f in one.facts if isinstance(f, HandshakeFailed)]
    assert failed.reason is Reason.SELF_TEST_FAILED
    assert breaker(one) is State.CLOSED, "our own fault says nothing of the peer"
    broken = False
    assert world.run_until(lambda: connected(one, B), 60 + 12)
    assert breaker(one, "encapsulate", Kind.CRYPTO) is State.CLOSED
    assert breaker(two, "node-1") is State.CLOSED


# -- not a weapon ----------------------------------------------------------------------------------------------------


def _quiet(node: Node, key: str = "node-2") -> None:
    """Nothing opened, nothing waits, nothing was restarted from."""
    assert opened(node) == []
    assert breaker(node, key) is State.CLOSED
    assert not any(isinstance(f, RetryWaiting) for f in node.facts)
    assert all(node.gates.registry.get(Kind.CRYPTO, o).counts()[1] == 0 for o in ("encapsulate", "decapsulate"))


def _forger(world: World, victim: Node, source: Callable[[], Address], kinds: tuple[int, ...]) -> None:
    """Sends handshake messages for a configured peer, of every shape: noise, cut ones, bits flipped in real ones."""
    chance = random.Random(7)

    def strike() -> None:
        for _ in range(20):
            real = [d for _, d, _, _ in world.wire if d[:1] in (b"\x01", b"\x03")]
            forged = (
                bytearray(chance.choice(real)) if real and chance.random() < 0.7 else bytearray(chance.randbytes(1200))
            )
            forged[0] = 3 if 3 in kinds and chance.random() < 0.3 else 1
            if chance.random() < 0.8:
                forged[chance.randrange(1, len(forged))] ^= 1 << chance.randrange(8)
            if chance.random() < 0.2:
                del forged[chance.randrange(1, len(forged)) :]
            victim.datagram(bytes(forged), source(), victim.address.ip)
        world.after(0.1, strike)

    strike()


@pytest.mark.parametrize("origin", ["the peer's address", "anywhere"])
def test_forged_handshakes_open_nothing(origin: str) -> None:
    world = World(12)
    world.keep_wire = True
    one, two = mesh(world, 2)
    chance = random.Random(3)

    def anywhere() -> Address:
        return two.address if origin != "anywhere" else Address(chance.randbytes(4), 1 + chance.randrange(65535))

    talking(world, one, B)
    _forger(world, one, anywhere, (1, 3))
    world.run(200)  # a rekey, too
    _quiet(one)
    assert connected(one, B)


def test_forged_answers_to_a_call_under_way_are_no_outcome() -> None:
    """An attacker on the way lets nothing through and answers every M1 with refused M2s and cookies: the attempt goes on,
    and ends by the protocol's own timer, once, whatever came."""
    worlds = []
    for attacked in (False, True):
        world = World(13)
        world.keep_wire = True
        one, two = mesh(world, 2)
        world.adversary = lambda d, s, t: []
        one.say(B, b"hello")
        if attacked:
            _forger(world, one, lambda at=two.address: at, (1, 3))  # type: ignore[misc]
        for _ in range(17):
            world.run(5)
            assert one.gates.registry.get(Kind.PEER, "node-2").counts() == (0, 0)
        assert opened(one) == []
        world.run(9)
        worlds.append(one.gates.registry.get(Kind.PEER, "node-2").counts())
    assert worlds == [(1, 1), (1, 1)]


@pytest.mark.parametrize("which", [Msg.M2, Msg.M3])
def test_messages_changed_on_the_way_are_no_outcome(which: Msg) -> None:
    """Whoever is on the way can make an attempt fail by silence; what it changes counts for nothing beyond that."""
    world, chance = World(19), random.Random(2)
    one, _ = mesh(world, 2)

    def changed(d: bytes, s: Address, t: Address) -> list[tuple[bytes, Address, Address]]:
        if d[:1] != b"\x01" or d[2] != which:
            return [(d, s, t)]
        places = [chance.randrange(16, len(d)) for _ in range(20)]
        return [(d[:p] + bytes([d[p] ^ 1 << chance.randrange(8)]) + d[p + 1 :], s, t) for p in places]

    world.adversary = changed
    one.say(B, b"hello")
    for _ in range(17):
        world.run(5)
        assert one.gates.registry.get(Kind.PEER, "node-2").counts() == (0, 0)
    assert any(one.core.drops) or which is Msg.M3
    _quiet(one)
    world.adversary = None
    assert world.run_until(lambda: connected(one, B), 12)


def test_replayed_datagrams_open_nothing() -> None:
    world = World(14, weather=Weather(replay=0.9, duplicate=0.5))
    one, two = mesh(world, 2)
    talking(world, one, B)
    talking(world, two, A)
    world.run(300)
    for node, key in ((one, "node-2"), (two, "node-1")):
        _quiet(node, key)


def test_icmp_of_every_kind_opens_nothing() -> None:
    world = World(15)
    one, two = mesh(world, 2)
    talking(world, one, B)
    for _ in range(200):
        for kind in ("port_unreachable", "host_unreachable", "net_unreachable", "prohibited", "too_big"):
            one.do(one.core.icmp(kind, two.address, world.now))
        world.run(0.5)
    _quiet(one)
    assert connected(one, B)


def test_poisoned_answers_open_no_breaker_of_the_peer_and_hide_no_proven_address() -> None:
    world = World(16)
    one = Node(world, 1, address_of(1), node_of(1), (peer_of(2, None),))
    two = Node(world, 2, address_of(2), node_of(2), (peer_of(1),))
    nowhere = (address_of(9),)
    one.do(one.core.set_endpoints(B, nowhere, world.now))
    talking(world, one, B)
    world.run(600)  # six attempts at an address that DNS alone named
    assert opened(one, ("peer",)) == []
    assert breaker(one) is State.CLOSED
    one.do(one.core.set_endpoints(B, (two.address,), world.now))
    assert world.run_until(lambda: connected(one, B), 12)
    one.do(one.core.set_endpoints(B, nowhere, world.now))
    gone(world, two, 200)
    two.start()
    assert world.run_until(lambda: connected(one, B), REACHED_WITHIN + 6), "its proven address is among the others"


def test_a_hostile_authenticated_peer_hurts_only_itself() -> None:
    """Node 3 has keys: it shakes hands and closes, again and again, floods challenges and answers none of ours."""
    world = World(17)
    one, _, three = mesh(world, 3)
    talking(world, one, B)
    chance = random.Random(5)

    def misbehave() -> None:
        for slot in list(three.lanes.held):
            three.do(three.core.control_frame(slot, chance.randbytes(20), one.address, None, world.now))
        if chance.random() < 0.3:
            three.crash()
            three.start()
        if three.alive:
            three.do(three.core.want_session(A, world.now, force=True))
        world.after(0.5, misbehave)

    misbehave()
    world.run(200)
    assert connected(one, B)
    assert [f for f in opened(one) if f.key.startswith("node-2")] == []
    assert breaker(one) is State.CLOSED
    assert all(breaker(one, o, Kind.CRYPTO) is State.CLOSED for o in ("encapsulate", "decapsulate", "seal", "open"))


def test_many_restarts_of_control_and_reloads_keep_memory_bounded() -> None:
    world = World(18)
    one, _ = mesh(world, 2)
    for turn in range(50):
        names = {identity(n)[0]: f"peer-{turn}-{n}" for n in range(2, 10)}
        one.gates.configure(names)
        for peer_id in names:
            one.gates.begin(peer_id, "", Trigger.TRAFFIC, world.now)
            one.gates.ended(peer_id, "", False, None)
    assert isinstance(one.gates, Gates)
    assert len(one.gates.registry.names()) == 8 + 4
    assert len(one.gates._failures) == len(one.gates._known) == 8
