"""ICMP errors as routers write them, about a datagram from port 51820 to port 51821."""

import struct

from pqvpn.wire.address import Address

V4, V6 = Address.parse("192.0.2.2:51821"), Address.parse("[2001:db8::2]:51821")
UDP = struct.pack(">HHHH", 51820, 51821, 8, 0)


def quoted4(protocol: int = 17, fragment: int = 0, words: int = 5) -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x40 | words, 0, 28, 1, fragment, 64, protocol, 0, bytes(4), V4.ip)
    return head + bytes(max(0, 4 * words - 20))


def icmp4(code: int = 3, kind: int = 3, quoted: bytes = quoted4() + UDP, words: int = 5, protocol: int = 1) -> bytes:
    outer = struct.pack(">BBHHHBBH4s4s", 0x40 | words, 0, 0, 1, 0, 64, protocol, 0, bytes(4), bytes(4))
    return outer + bytes(max(0, 4 * words - 20)) + bytes([kind, code]) + bytes(6) + quoted


def icmp6(kind: int = 1, code: int = 4, following: int = 17, between: bytes = b"", udp: bytes = UDP) -> bytes:
    quoted = struct.pack(">IHBB16s16s", 6 << 28, 8, following, 64, bytes(16), V6.ip)
    return bytes([kind, code]) + bytes(6) + quoted + between + udp
