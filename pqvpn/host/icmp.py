"""Raw sockets that hear what the network says of our datagrams: ICMP errors, by the kernel's leave.

Owns opening (CAP_NET_RAW) and the filters in the kernel: only errors, and only those that quote a UDP datagram from our
port, so that neither pings nor other programs' errors wake anybody or push ours out. Nothing is sent. Reading them is
`pqvpn.wire.icmp`; where they may not be opened, all else works without them.
"""

import contextlib
import ctypes
import socket
import struct
from typing import Final

from pqvpn.wire.icmp import TYPES4, TYPES6

_SOL_RAW, _ICMP_FILTER = 255, 1
_ICMP6_FILTER = 1
_SO_ATTACH_FILTER = 26
_BUFFER = 64 << 10
_LARGEST: Final = 2048
_ALL = 0xFFFF


def open_sockets(port: int, ipv6: bool) -> tuple[socket.socket, ...]:
    """One socket a family, or none where the kernel refuses. `port`: our UDP port."""
    opened = []
    families = ((socket.AF_INET, socket.IPPROTO_ICMP), (socket.AF_INET6, socket.IPPROTO_ICMPV6))
    for family, protocol in families[: 2 if ipv6 else 1]:
        with contextlib.suppress(OSError):
            opened.append(_open(family, protocol, port))
    return tuple(opened)


def receive(sock: socket.socket) -> bytes | None:
    """The next packet (IPv4: with its header; IPv6: without), or None. Never raises."""
    try:
        return sock.recv(_LARGEST)
    except OSError:
        return None


def _open(family: int, protocol: int, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    try:
        if family == socket.AF_INET:
            sock.setsockopt(_SOL_RAW, _ICMP_FILTER, blocked4())
            _attach(sock, program4(port))
        else:
            sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, blocked6())
            _attach(sock, program6(port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    except BaseException:
        sock.close()
        raise
    return sock


def blocked4() -> bytes:
    """ICMP_FILTER: a bit for each type below 32 that is not wanted."""
    return struct.pack("=I", 0xFFFFFFFF & ~sum(1 << kind for kind in TYPES4))


def blocked6() -> bytes:
    """ICMP6_FILTER: a bit for each of 256 types that is not wanted."""
    words = [0xFFFFFFFF] * 8
    for kind in TYPES6:
        words[kind >> 5] &= ~(1 << (kind & 31))
    return struct.pack("=8I", *words)


def program4(port: int) -> bytes:
    """Classic BPF on an IPv4 packet: all of one whose quoted UDP source port is ours, nothing of others."""
    return _encoded(
        (0xB1, 0, 0, 0),  # X = 4 * (byte 0 & 15): outer header
        (0x50, 0, 0, 8),  # A = byte X + 8: first of the quoted header
        (0x54, 0, 0, 15),  # A &= 15
        (0x64, 0, 0, 2),  # A <<= 2
        (0x0C, 0, 0, 0),  # A += X
        (0x07, 0, 0, 0),  # X = A
        (0x48, 0, 0, 8),  # A = half word at X + 8: quoted source port
        (0x15, 0, 1, port),
        (0x06, 0, 0, _ALL),
        (0x06, 0, 0, 0),
    )


def program6(port: int) -> bytes:
    """The same on an ICMPv6 message, without or with a fragment header in the quotation."""
    return _encoded(
        (0x30, 0, 0, 14),  # A = byte 14: next header of the quotation
        (0x15, 2, 0, 44),  # fragment?
        (0x28, 0, 0, 48),  # A = half word 48: source port
        (0x05, 0, 0, 1),  # go on after the next
        (0x28, 0, 0, 56),  # A = half word 56
        (0x15, 0, 1, port),
        (0x06, 0, 0, _ALL),
        (0x06, 0, 0, 0),
    )


def _encoded(*steps: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _attach(sock: socket.socket, program: bytes) -> None:
    held = bytearray(program)
    address = ctypes.addressof(ctypes.c_char.from_buffer(held))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(held) // 8, address))
