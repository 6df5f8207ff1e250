"""Which way the kernel would send a datagram: asked of rtnetlink, so that nothing is sent.

Owns one request and the reading of its answer, and which addresses no router of the Internet forwards. Needs no privilege.
"""

import ipaddress
import os
import socket
import struct
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # family, bits of destination and source, tos, table, ..., type, flags
_GETROUTE, _NEWROUTE, _ERROR, _REQUEST = 26, 24, 2, 1
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_MARK, _RTA_VIA = 1, 4, 5, 7, 16, 18
_REFUSES: Final = {6: "blackhole", 7: "unreachable", 8: "prohibited"}  # types of routes
_LARGEST: Final = 1 << 14
_SO_MARK: Final = 36
_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8",
                 "fc00::/7", "fe80::/10", "::1/128")
)  # fmt: skip


class Way(NamedTuple):
    """`error`: why there is none, in the kernel's words. `source`: our address; `gateway`: a router comes next."""

    error: str = ""
    interface: str = ""
    source: bytes | None = None
    gateway: bool = False


def to(ip: bytes, mark: int = 0) -> Way | None:
    """The way to an address of 4 or 16 bytes for a socket with this mark; None where the kernel cannot be asked."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
            asking.send(_request(ip, mark))
            return read(asking.recv(_LARGEST, socket.MSG_DONTWAIT))  # it answers within `send`
    except OSError:
        return None


def mark_of(sock: socket.socket) -> int:
    """The mark of a socket of ours, 0 when it has none."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_MARK)
    except OSError:
        return 0


def is_private(ip: bytes) -> bool:
    """Whether no router of the Internet forwards to this address: RFC 1918, 6598, 4193, link-local, loopback."""
    address = ipaddress.ip_address(ip)
    return any(address in network for network in _PRIVATE)


def _request(ip: bytes, mark: int) -> bytes:
    family = socket.AF_INET if len(ip) == 4 else socket.AF_INET6
    attributes = struct.pack("=HH", 4 + len(ip), _RTA_DST) + ip
    attributes += struct.pack("=HHI", 8, _RTA_MARK, mark & 0xFFFFFFFF) if mark else b""
    body = _ROUTE.pack(family, 8 * len(ip), 0, 0, 0, 0, 0, 0, 0) + attributes
    return _HEADER.pack(_HEADER.size + len(body), _GETROUTE, _REQUEST, 1, 0) + body


def read(answer: bytes) -> Way | None:
    """A kernel's answer; None when it is another one than expected."""
    if len(answer) < _HEADER.size + 4:
        return None
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _ERROR:
        return Way(os.strerror(-struct.unpack_from("=i", answer, _HEADER.size)[0]))
    at = _HEADER.size + _ROUTE.size
    if kind != _NEWROUTE or len(answer) < at:
        return None
    refused = _REFUSES.get(_ROUTE.unpack_from(answer, _HEADER.size)[7], "")
    found = _attributes(answer[at:])
    (index,) = struct.unpack("=I", found.get(_RTA_OIF, b"")[:4].ljust(4, b"\0"))
    return Way(refused, _name(index), found.get(_RTA_PREFSRC), _RTA_GATEWAY in found or _RTA_VIA in found)


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except (OSError, OverflowError):
        return ""
