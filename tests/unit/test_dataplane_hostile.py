"""An authenticated peer that lies in bursts which would otherwise be joined: each lie costs its packet, no join carries it in."""

import struct
from collections.abc import Callable

import dataplane_rig as rig
import pytest

from pqvpn.crypto.aead import Aead
from pqvpn.crypto.secret import Secret
from pqvpn.dataplane import commands, events
from pqvpn.dataplane.engine import sealer
from pqvpn.drops import DropReason
from pqvpn.wire.transport import HEADER

COUNT, SIZE = 6, 600
Change = Callable[[bytearray], None]


def segment(kind: str, i: int) -> bytearray:
    """Plaintext of packet i of a flow that joins; multiples of 16, so that nothing is padding."""
    v6 = kind.endswith("6")
    start = 40 if v6 else 20
    payload = bytes([65 + i]) * (SIZE - 8 - start - (20 if kind.startswith("tcp") else 8))
    if kind.startswith("tcp"):
        frame = rig.tcp(payload, 1400, v6, seq=7 + i * len(payload), flags=0x10)
        return bytearray(struct.pack("<BBHHH", 1, 0, 0, start, 16) + frame[10:])
    return bytearray(struct.pack("<BBHHH", 1, 0, 0, start, 6) + rig.udp(payload, v6)[10:])


def burst(side: rig.Side, plains: list[bytearray]) -> list[bytes]:
    """Seal and deliver as one reception; frames written."""
    session = rig.install(side.side)
    key = sealer(Aead.AES_256_GCM, 0, Secret(session.recv_key), session.recv_iv)
    sealed = []
    for i, plain in enumerate(plains):
        header = HEADER.pack(4, 16, i, session.index_in, i)
        sealed.append(header + key.seal_one(header, i, memoryview(plain)))
    data = b"".join(sealed)
    inbound = side.worker.inbound
    inbound._wire_view[: len(data)] = data
    inbound.take(len(data), len(sealed[0]), 0, side.worker.lane.sessions[0].to, b"")
    return side.written()


def foreign(plain: bytearray) -> None:
    """A source that is not the peer's."""
    at = 8 + (12 if plain[8] >> 4 == 4 else 8)
    plain[at] ^= 0x40


def port(plain: bytearray) -> None:
    """Another flow."""
    plain[8 + (20 if plain[8] >> 4 == 4 else 40)] ^= 1


def too_long(plain: bytearray) -> None:
    """More than was sent."""
    at = 8 + (2 if plain[8] >> 4 == 4 else 4)
    struct.pack_into(">H", plain, at, struct.unpack_from(">H", plain, at)[0] + 16)


@pytest.mark.parametrize("kind", ["udp", "udp6", "tcp", "tcp6"])
def test_the_burst_joins_when_nobody_lies(kind: str) -> None:
    with rig.pair() as (_, b):
        (frame,) = burst(b, [segment(kind, i) for i in range(COUNT)])
        assert len(rig.segments(frame)) == COUNT
        assert not b.drops()


@pytest.mark.parametrize("kind", ["udp", "udp6", "tcp", "tcp6"])
def test_a_burst_from_a_foreign_source_is_refused_whole(kind: str) -> None:
    with rig.pair() as (_, b):
        plains = [segment(kind, i) for i in range(COUNT)]
        for plain in plains:
            foreign(plain)
        assert burst(b, plains) == []
        assert b.drops() == {"SOURCE_NOT_ALLOWED": COUNT}


@pytest.mark.parametrize("kind", ["udp", "udp6", "tcp", "tcp6"])
@pytest.mark.parametrize("which", range(COUNT))
@pytest.mark.parametrize(("lie", "drop"), [(foreign, "SOURCE_NOT_ALLOWED"), (too_long, "BAD_LENGTH")])
def test_one_lie_costs_one_packet(kind: str, which: int, lie: Change, drop: str) -> None:
    with rig.pair() as (_, b):
        plains = [segment(kind, i) for i in range(COUNT)]
        lie(plains[which])
        got = [p for frame in burst(b, plains) for p in rig.segments(frame)]
        assert [p[-1] - 65 for p in got] == [i for i in range(COUNT) if i != which]
        assert b.drops() == {drop: 1}


@pytest.mark.parametrize("kind", ["udp", "udp6", "tcp", "tcp6"])
def test_a_last_packet_that_was_cut_short_is_refused(kind: str) -> None:
    with rig.pair() as (_, b):
        plains = [segment(kind, i) for i in range(COUNT)]
        del plains[-1][-32:]
        got = [p for frame in burst(b, plains) for p in rig.segments(frame)]
        assert [p[-1] - 65 for p in got] == list(range(COUNT - 1))
        assert b.drops() == {"BAD_LENGTH": 1}


def refused(side: rig.Side) -> list[events.InnerRefused]:
    return [event for event in side.events() if isinstance(event, events.InnerRefused)]


@pytest.mark.parametrize(("lie", "drop"), [(foreign, DropReason.SOURCE_NOT_ALLOWED), (too_long, DropReason.BAD_LENGTH)])
def test_control_is_told_once_a_second_what_is_refused(lie: Change, drop: DropReason) -> None:
    with rig.pair() as (_, b):
        plains = [segment("udp", i) for i in range(COUNT)]
        for plain in plains:
            lie(plain)
        burst(b, plains)
        assert refused(b) == [events.InnerRefused(0, drop, 1)]
        lane = b.worker.lane
        for _ in range(1000):
            lane.refuse_inner(0, drop)
            lane.refuse_inner(5, DropReason.BAD_META)
        assert refused(b) == [events.InnerRefused(5, DropReason.BAD_META, 1)]
        lane.now_ns += 1_000_000_000
        lane.refuse_inner(0, drop)
        assert refused(b) == [events.InnerRefused(0, drop, COUNT + 1000)]


def test_what_was_refused_is_forgotten_with_its_session() -> None:
    with rig.pair() as (_, b):
        plain = segment("udp", 0)
        foreign(plain)
        burst(b, [plain])
        assert b.worker.lane._refused
        b.do(commands.EraseSession(0))
        assert not b.worker.lane._refused


@pytest.mark.parametrize("which", range(COUNT))
@pytest.mark.parametrize("flag", [0x01, 0x02, 0x04, 0x08, 0x20, 0x40, 0x80])
def test_tcp_flags_stay_with_their_packet(which: int, flag: int) -> None:
    with rig.pair() as (_, b):
        plains = [segment("tcp", i) for i in range(COUNT)]
        plains[which][8 + 20 + 13] |= flag
        got = [p for frame in burst(b, plains) for p in rig.segments(frame)]
        assert [p[33] for p in got] == [0x10 | (flag if i == which else 0) for i in range(COUNT)]


@pytest.mark.parametrize("kind", ["udp", "tcp6"])
@pytest.mark.parametrize("which", range(COUNT))
def test_flows_are_not_mixed(kind: str, which: int) -> None:
    with rig.pair() as (_, b):
        plains = [segment(kind, i) for i in range(COUNT)]
        port(plains[which])
        start = 48 if kind.endswith("6") else 28
        # the partial sum covers addresses and length only, so it still fits
        got = [p for frame in burst(b, plains) for p in rig.segments(frame)]
        assert [p[start - 8] for p in got] == [plain[start] for plain in plains]
