"""Checks of inner packets and of the meta that came with them (PROTOCOL section 5), and sums over them.

An authenticated peer can be hostile to our kernel: nothing here trusts what was sealed. Knows no session and no key;
the
source address is checked by the caller, which knows the peer. Buffers are indexed, never copied.
"""

from struct import Struct
from typing import Final

from pqvpn.drops import DropReason
from pqvpn.wire.transport import GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, META, NEEDS_CSUM

TCP: Final = 6
UDP: Final = 17
TCP_CSUM: Final = 16  # offset of the checksum in the transport header
UDP_CSUM: Final = 6
OK: Final = -1

U16: Final = Struct(">H")
_EXTENSIONS: Final = frozenset((0, 43, 60))  # hop-by-hop, routing, destination options: same layout
_MOST_EXTENSIONS: Final = 8

Buffer = bytes | bytearray | memoryview


def length_of(buffer: Buffer, ip: int, data: int) -> int:
    """Length of the IP packet at `ip` by its own header, 0 when it is none or does not fit `data` bytes."""
    if data < 20:
        return 0
    first = buffer[ip]
    if first >> 4 == 4:
        length = buffer[ip + 2] << 8 | buffer[ip + 3]
        header = (first & 15) << 2
        return length if 20 <= header <= length <= data else 0
    if first >> 4 == 6 and data > 40:
        payload = buffer[ip + 4] << 8 | buffer[ip + 5]
        return 40 + payload if 0 < payload <= data - 40 else 0
    return 0


def transport_of(buffer: Buffer, ip: int, length: int) -> tuple[int, int]:
    """Protocol number and offset of the transport header; protocol -1 for fragments and what cannot be followed."""
    if buffer[ip] >> 4 == 4:
        if buffer[ip + 6] & 0x3F or buffer[ip + 7]:
            return -1, 0
        return buffer[ip + 9], (buffer[ip] & 15) << 2
    protocol, at = buffer[ip + 6], 40
    for _ in range(_MOST_EXTENSIONS):
        if protocol not in _EXTENSIONS:
            break
        if at + 8 > length:
            return -1, 0
        protocol, at = buffer[ip + at], at + 8 + (buffer[ip + at + 1] << 3)
    else:
        return -1, 0
    return (-1, 0) if protocol == 44 else (protocol, at)


def header_length(buffer: Buffer, ip: int, length: int, protocol: int, at: int) -> int:
    """IP and transport header together, 0 when protocol is neither TCP nor UDP or they do not fit in `length`."""
    if protocol == TCP and at + 20 <= length:
        offset = (buffer[ip + at + 12] >> 4) << 2
        return at + offset if offset >= 20 and at + offset <= length else 0
    if protocol == UDP and at + 8 <= length:
        return at + 8
    return 0


def check_meta(buffer: Buffer, meta: int, length: int) -> int:
    """Whether meta of kind 0 at `meta` fits the packet of `length` bytes behind it: `OK` or a `DropReason`.

    `length` is what `length_of` gave.
    """
    flags, gso, hdr_len, start, offset = META.unpack_from(buffer, meta)
    if not (flags or gso or hdr_len or start or offset):
        return OK
    if flags & ~NEEDS_CSUM or gso not in (GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP):
        return DropReason.BAD_META
    ip = meta + 8
    protocol, at = transport_of(buffer, ip, length)
    header = header_length(buffer, ip, length, protocol, at)
    if not header or hdr_len not in (0, header):
        return DropReason.BAD_META
    if gso:
        version = buffer[ip] >> 4
        fits = protocol == UDP if gso == GSO_UDP else protocol == TCP and version == (4 if gso == GSO_TCPV4 else 6)
        if not fits:
            return DropReason.BAD_META
    expected = (at, TCP_CSUM if protocol == TCP else UDP_CSUM) if flags else (0, 0)
    return OK if (start, offset) == expected else DropReason.BAD_META


def fold(total: int) -> int:
    """The ones' complement sum of a sum of 16-bit words."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def sum_words(data: Buffer) -> int:
    """The sum of 16-bit big-endian words, an odd byte at the end counting as the high one (RFC 1071)."""
    # 65536 = 1 (mod 65535): the whole number modulo 65535 is the folded sum
    number = int.from_bytes(data, "big") << (8 * (len(data) & 1))
    return number % 0xFFFF or (0xFFFF if number else 0)


def ip_checksum(buffer: bytearray, ip: int, header: int) -> None:
    """Write the checksum of the IPv4 header of `header` bytes."""
    buffer[ip + 10] = buffer[ip + 11] = 0
    U16.pack_into(buffer, ip + 10, ~fold(sum_words(buffer[ip : ip + header])) & 0xFFFF)


def complete_checksum(buffer: bytearray, ip: int, length: int, start: int, offset: int) -> None:
    """Finish a partial transport checksum in software: what NEEDS_CSUM asks of a device."""
    if start + offset + 2 > length:
        return
    value = ~fold(sum_words(buffer[ip + start : ip + length])) & 0xFFFF
    U16.pack_into(buffer, ip + start + offset, value or 0xFFFF)


def ecn_of(buffer: Buffer, ip: int) -> int:
    """The ECN bits of the IP packet at `ip`."""
    return (buffer[ip + 1] if buffer[ip] >> 4 == 4 else buffer[ip + 1] >> 4) & 3


def merge_ecn(buffer: bytearray, ip: int, outer: int) -> bool:
    """Carry the outer ECN bits inside on decapsulation (RFC 6040, figure 4); False: the packet must be dropped."""
    inner = ecn_of(buffer, ip)
    if not outer or inner == outer or inner == 3:
        return True
    if inner == 0:
        return outer != 3
    if outer == 2:  # ECT(0) outside does not undo ECT(1) inside
        return True
    if buffer[ip] >> 4 == 4:
        buffer[ip + 1] = buffer[ip + 1] & 0xFC | outer
        ip_checksum(buffer, ip, (buffer[ip] & 15) << 2)
    else:
        buffer[ip + 1] = buffer[ip + 1] & 0xCF | outer << 4
    return True
