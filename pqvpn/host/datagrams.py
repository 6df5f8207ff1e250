"""One datagram at a time with the local address it came to: what control needs of a UDP socket.

Owns the ancillary data for source and destination addresses (IPV6_PKTINFO, IP_PKTINFO) on the dual-stack sockets of
`pqvpn.host.udp`. The lanes, which move bursts, have their own way.
"""

import socket
import struct
from typing import Any

from pqvpn.wire.address import Address

_MAX_DATAGRAM = 2048
"""Handshake datagrams are at most 1,088 bytes; a longer one is cut, and its length is refused later."""
_MAPPED = bytes(10) + b"\xff\xff"
_PKTINFO4 = struct.Struct("@i4s4s")
_PKTINFO6 = struct.Struct("@16si")
_IP_PKTINFO = 8
_ANCILLARY = socket.CMSG_SPACE(_PKTINFO6.size) + socket.CMSG_SPACE(_PKTINFO4.size) + 2 * socket.CMSG_SPACE(4)


def receive(sock: socket.socket) -> tuple[bytes, Address, bytes | None] | None:
    """The next datagram, its source, and our address that got it; None when nothing waits.

    Raises OSError only for a broken socket: an ICMP error that an earlier datagram met is swallowed.
    """
    while True:
        try:
            data, ancillary, _, source = sock.recvmsg(_MAX_DATAGRAM, _ANCILLARY)
        except BlockingIOError:
            return None
        except (ConnectionRefusedError, InterruptedError):
            continue
        return data, _address(source), _local(ancillary)


def _address(source: tuple[Any, ...]) -> Address:
    """As `Address.from_socket`, by the C library: this runs once for each datagram of a flood."""
    host: str = source[0]
    if ":" not in host:
        return Address(socket.inet_pton(socket.AF_INET, host), source[1])
    ip = socket.inet_pton(socket.AF_INET6, host.partition("%")[0] if "%" in host else host)
    return Address(ip[12:] if ip.startswith(_MAPPED) else ip, source[1])


def _local(ancillary: list[tuple[int, int, bytes]]) -> bytes | None:
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) >= _PKTINFO6.size:
            address: bytes = _PKTINFO6.unpack_from(data)[0]
            return address[12:] if address.startswith(_MAPPED) else address
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) >= _PKTINFO4.size:
            mine: bytes = _PKTINFO4.unpack_from(data)[2]
            return mine
    return None


def send(sock: socket.socket, datagram: bytes, to: Address, source: bytes | None) -> None:
    """Send one datagram from `source` (4 or 16 bytes; None: the kernel chooses). Raises OSError when the kernel refuses."""
    ipv6 = sock.family == socket.AF_INET6
    ancillary: list[tuple[int, int, bytes]] = []
    if source is not None and ipv6:
        mapped = source if len(source) == 16 else _MAPPED + source
        ancillary.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(mapped, 0)))
    elif source is not None and len(source) == 4:
        ancillary.append((socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO4.pack(0, source, bytes(4))))
    sock.sendmsg([datagram], ancillary, 0, to.to_socket() if ipv6 else (to.host(), to.port))
