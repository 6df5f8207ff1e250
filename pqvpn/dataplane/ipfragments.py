"""Fragments of IPv4 packets from the inside that are larger than the path and whose sender lets routers cut them (RFC 791).

Owns the cut. Off the usual path: senders that look for the path's size set DF and are told instead (`icmp`).
"""

from typing import Final

from pqvpn.dataplane.inner import U16, ip_checksum, length_of

_HEADER: Final = 20
_DF: Final = 0x4000
_MF: Final = 0x2000
_OFFSET: Final = 0x1FFF  # in units of 8 bytes


def fragments(packet: bytes, limit: int) -> list[bytearray]:
    """The packet in pieces of at most `limit` bytes; none when it must not be cut.

    That is: it is not IPv4, is malformed, has DF, or has options (which would have to be told apart). Its transport checksum
    must be complete. A packet that is a fragment already is cut further.
    """
    if len(packet) < _HEADER or packet[0] != 0x45:
        return []
    word = U16.unpack_from(packet, 6)[0]
    length = length_of(packet, 0, len(packet))
    step = (limit - _HEADER) & -8
    past_the_end = (word & _OFFSET) * 8 + length > 0xFFFF  # of what a reassembled packet can be
    if not length or word & _DF or step <= 0 or past_the_end:
        return []
    pieces = []
    for at in range(_HEADER, length, step):
        end = min(at + step, length)
        piece = bytearray(packet[:_HEADER] + packet[at:end])
        more = _MF if end < length else word & _MF
        U16.pack_into(piece, 2, len(piece))
        U16.pack_into(piece, 6, more | ((word & _OFFSET) + (at - _HEADER) // 8))
        ip_checksum(piece, 0, _HEADER)
        pieces.append(piece)
    return pieces
