"""Fragments of IPv4 packets, put together again by a plain reassembler."""

import dataplane_rig as rig
from hypothesis import given
from hypothesis import strategies as st

from pqvpn.dataplane.ipfragments import fragments

SOURCE, TARGET = rig.addresses(False)


def body_of(pieces: list[bytearray]) -> tuple[bytes, bool]:
    """The payload that the pieces make, whatever their order, and whether more is to come."""
    found: dict[int, bytes] = {}
    last = False
    for piece in pieces:
        assert rig.checksum(bytes(piece[:20])) == 0
        assert int.from_bytes(piece[2:4], "big") == len(piece)
        word = int.from_bytes(piece[6:8], "big")
        found[(word & 0x1FFF) * 8] = bytes(piece[20:])
        last |= not word & 0x2000
    body, base = b"", min(found)
    for at in sorted(found):
        assert at == base + len(body), "a gap or an overlap"
        body += found[at]
    return body, not last


@given(st.integers(0, 2000), st.integers(28, 1500), st.booleans(), st.integers(0, 7000))
def test_the_pieces_fit_and_make_the_packet(size: int, limit: int, more: bool, offset: int) -> None:
    body = rig.checksum(bytes([1, size & 255])).to_bytes(2, "big") * (size // 2) + b"\7" * (size % 2)
    packet = rig.ip(SOURCE, TARGET, 17, body, ident=99, frag=0x2000 * more | offset)
    pieces = fragments(packet + b"behind", limit)
    if not size:
        assert pieces == []
        return
    assert all(len(piece) <= limit for piece in pieces)
    assert all(
        piece[:2] + piece[4:6] + piece[8:10] + piece[12:20] == packet[:2] + packet[4:6] + packet[8:10] + packet[12:20]
        for piece in pieces
    )
    assert min((int.from_bytes(p[6:8], "big") & 0x1FFF) for p in pieces) == offset
    assert body_of(pieces) == (body, more)


@given(st.binary(max_size=80), st.integers(0, 100))
def test_nothing_makes_it_raise(packet: bytes, limit: int) -> None:
    for piece in fragments(packet, limit):
        assert 20 < len(piece) <= limit


def test_what_must_not_be_cut() -> None:
    good = rig.ip(SOURCE, TARGET, 17, bytes(100), frag=0)
    assert len(fragments(good, 60)) == 3
    assert fragments(rig.ip(SOURCE, TARGET, 17, bytes(100), frag=0x4000), 60) == []
    assert fragments(rig.ip(SOURCE, TARGET, 17, bytes(100), frag=0x1FFF), 60) == []  # would end past 65535 bytes
    assert fragments(b"\x46" + good[1:], 60) == []  # options
    assert fragments(good[:50], 60) == []  # shorter than it says
    assert fragments(b"\x60" + good[1:], 60) == []
    assert fragments(good, 27) == []
