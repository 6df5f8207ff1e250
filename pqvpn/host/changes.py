"""When links, addresses or routes of this machine change: rtnetlink's multicast groups, which need no privilege.

Owns the socket, and what of it is no news: what this node itself did to its interface. Knows nothing of who wants to know.
"""

import contextlib
import socket
import struct
from typing import Final

PROTOCOL: Final = 157  # as in `host/netlink.py`, which costs 0.3 s to import
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # link, ipv4 address, ipv4 route, ipv6 address, ipv6 route
_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE = 16, 17, 20, 21, 24, 25
_ATTRIBUTES: Final = 28  # of a route: header and rtmsg
_RTA_OIF: Final = 4
_LARGEST: Final = 1 << 16
_BATCH: Final = 64


def listen() -> socket.socket | None:
    """A socket that becomes readable by changes; None where the kernel does not let us."""
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    except OSError:
        return None
    try:
        sock.bind((0, _GROUPS))
    except OSError:
        sock.close()
        return None
    return sock


def drain(sock: socket.socket, interface: str) -> bool:
    """Read what came; whether it is a change that `interface`, our own, did not make. Never raises."""
    own = 0
    with contextlib.suppress(OSError):
        own = socket.if_nametoindex(interface)
    news = False
    for _ in range(_BATCH):
        try:
            data = sock.recv(_LARGEST)
        except BlockingIOError:
            break
        except OSError:  # too much came to be kept: something changed
            return True
        news = is_news(data, own) or news
    return news


def is_news(data: bytes, own: int) -> bool:
    """Whether one datagram of rtnetlink tells of something that is not about the interface with index `own`."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return False
        if _concerns_others(kind, data[at : at + length], own):
            return True
        at += (length + 3) & ~3
    return False


def _concerns_others(kind: int, message: bytes, own: int) -> bool:
    if kind in (_NEWLINK, _DELLINK, _NEWADDR, _DELADDR):
        return len(message) >= 24 and struct.unpack_from("=i", message, 20)[0] != own
    if kind in (_NEWROUTE, _DELROUTE) and len(message) >= _ATTRIBUTES:
        return message[21] != PROTOCOL and _outgoing(message) != own
    return False


def _outgoing(route: bytes) -> int | None:
    """The interface that a route leads to."""
    at = _ATTRIBUTES
    while at + 8 <= len(route):
        length, kind = struct.unpack_from("=HH", route, at)
        if kind == _RTA_OIF:
            return int(struct.unpack_from("=i", route, at + 4)[0])
        if length < 4:
            return None
        at += (length + 3) & ~3
    return None
