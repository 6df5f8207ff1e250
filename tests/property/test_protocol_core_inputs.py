"""Whatever comes in, from strangers or from an authenticated peer that is hostile, no input of the core raises."""

import hashlib
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from pqvpn.crypto import xwing
from pqvpn.crypto.secret import Secret
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Activity, Erase, Install, Transmit
from pqvpn.protocol.settings import NodeSettings, PeerSettings
from pqvpn.wire.address import Address
from pqvpn.wire.handshake import COUNTS, Msg, datagram_size

HERE, THERE = Address(b"\xc0\x00\x02\x01", 1), Address(b"\xc0\x00\x02\x02", 2)


@cache
def identity(number: int) -> tuple[bytes, Secret, bytes]:
    seed = Secret(bytes([number]) * 32)
    public = xwing.PrivateKey(seed).public
    return hashlib.sha256(public).digest(), seed, public


def stream(seed: bytes):  # type: ignore[no-untyped-def] # a test helper
    state = [seed]

    def random(count: int) -> bytes:
        state[0] = hashlib.sha256(state[0]).digest()
        return hashlib.shake_256(state[0]).digest(count)

    return random


def cores() -> tuple[Core, Core]:
    (a, seed_a, public_a), (b, seed_b, public_b) = identity(1), identity(2)
    one = Core(NodeSettings(a, seed_a), stream(b"a"), 0.0)
    two = Core(NodeSettings(b, seed_b), stream(b"b"), 0.0)
    one.set_peers((PeerSettings(b, "b", public_b, endpoints=(THERE,)),), 0.0)
    two.set_peers((PeerSettings(a, "a", public_a, endpoints=(HERE,)),), 0.0)
    return one, two


def handshake() -> tuple[Core, Core, list[bytes]]:
    """Two cores with a session, and the datagrams that made it."""
    one, two = cores()
    datagrams = []
    queue = [(0, e) for e in one.want_session(identity(2)[0], 0.0)]
    while queue:
        sender, effect = queue.pop(0)
        if isinstance(effect, Transmit):
            datagrams.append(effect.datagram)
            source = (HERE, THERE)[sender]
            queue += [(1 - sender, e) for e in (one, two)[1 - sender].receive(effect.datagram, source, None, 0.1)]
    return one, two, datagrams


@st.composite
def shaped(draw: st.DrawFn) -> bytes:
    """A datagram whose header and length pass."""
    msg = draw(st.sampled_from(list(Msg)))
    idx = draw(st.integers(0, COUNTS[msg] - 1))
    head = bytes([1, 1, msg, idx << 4 | COUNTS[msg]]) + draw(st.binary(min_size=12, max_size=12))
    return (head + draw(st.binary(max_size=64))).ljust(datagram_size(msg, idx), draw(st.binary(min_size=1, max_size=1)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=80) | shaped(), max_size=5))
def test_no_datagram_of_a_stranger_raises_or_makes_a_session(datagrams: list[bytes]) -> None:
    one, two = cores()
    one.want_session(identity(2)[0], 0.0)
    for now, datagram in enumerate(datagrams):
        for core in (one, two):
            effects = core.receive(datagram, THERE, None, float(now))
            assert not any(isinstance(e, Install) for e in effects)
            assert sum(core.drops) or effects == []


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_change_to_a_recorded_datagram_raises_or_makes_a_session(data: st.DataObject) -> None:
    one, two, recorded = handshake()
    for _ in range(4):
        datagram = bytearray(data.draw(st.sampled_from(recorded)))
        place = data.draw(st.integers(0, len(datagram) - 1))
        datagram[place] ^= data.draw(st.integers(1, 255))
        for core in (one, two):
            effects = core.receive(bytes(datagram), HERE, None, 0.2)
            assert not any(isinstance(e, (Install, Erase)) for e in effects)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.binary(max_size=24), st.sampled_from([HERE, THERE]), st.floats(0, 40)),
        max_size=25,
    )
)
def test_a_hostile_peer_raises_nothing_and_gets_no_more_than_it_sent(
    steps: list[tuple[int, bytes, Address, float]],
) -> None:
    one, two, _ = handshake()
    now = 1.0
    for what, body, source, gap in steps:
        now += gap
        for core in (one, two):
            match what:
                case 0:
                    core.first_authenticated(0, now)
                case 1:
                    core.roamed(0, source, None, len(body), now)
                case 2:
                    core.worn(0, now)
                case 3:
                    core.observe(0, Activity(now, now - 1, now - 2, now), now)
                case 4:
                    core.tick(now)
                case _:
                    answers = core.control_frame(0, bytes([what - 4]) + body, source, None, now)
                    assert not any(isinstance(e, Install) for e in answers)
            deadline = core.deadline()
            assert deadline is not None
            assert len(core.peers(now)) == 1
