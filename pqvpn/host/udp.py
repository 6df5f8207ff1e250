"""One UDP port for the whole node: a SO_REUSEPORT group of sockets, one for control and one for each lane.

Owns opening, options and the steering program; reads and sends nothing. Socket 0 is control's, socket 1 + l is lane
l's.
A classic BPF program looks at the first two bytes of each datagram (PROTOCOL section 5: type, then flags with the
lane in the low
four bits) and names the socket; UDP GRO may still put datagrams of several lanes into one, so a lane checks each.
Where the kernel cannot steer, every entry is the same socket: lane 0 reads it and hands on, the others only send.
"""

import errno
import os
import select
import socket
import struct
from dataclasses import dataclass, replace
from typing import Final

from pqvpn.errors import NetworkError
from pqvpn.reasons import Reason

SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
_SO_ATTACH_REUSEPORT_CBPF: Final = 51
SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_IP_MTU_DISCOVER: Final = 10
_IP_RECVTOS: Final = 13
_IP_PKTINFO: Final = 8
_IPV6_MTU_DISCOVER: Final = 23
_IPV6_MTU: Final = 24
_PMTUDISC_DONT: Final = 0
_PMTUDISC_PROBE: Final = 3  # DF set, the kernel's own idea of the path MTU ignored
_BUFFER: Final = 8 << 20
_TRANSPORT: Final = 4  # datagram type


@dataclass(frozen=True, slots=True)
class UdpGroup:
    """The open sockets and what the kernel can do with them."""

    sockets: tuple[socket.socket, ...]  # control, then the lanes; all the same object when not `steering`
    port: int
    ipv6: bool  # AF_INET6 that takes IPv4 as well (mapped addresses), else AF_INET
    gso: bool
    gro: bool
    steering: bool

    def close(self) -> None:
        """Close every socket."""
        for sock in self.sockets:
            sock.close()


def open_group(port: int, lanes: int, *, gro: bool = True, steering: bool = True, ipv6: bool = True) -> UdpGroup:
    """Bind `port` (0: any) on all addresses for control and `lanes` lanes; the keywords switch an ability off.

    Raises `NetworkError`: ADDRESS_IN_USE, NO_PERMISSION (privileged port) or KERNEL_REFUSED.
    """
    try:
        return _open(port, lanes, gro, steering, ipv6 and _has_ipv6())
    except OSError as e:
        raise NetworkError(_reason(e), os.strerror(e.errno or 0), place=f"udp port {port}") from e


def lost(group: UdpGroup) -> tuple[int, ...]:
    """Numbers of the sockets that serve no more: shut down or closed, by whoever. Reads and sends nothing."""
    if not group.steering:
        return (0,) if _is_lost(group.sockets[0]) else ()
    return tuple(number for number, sock in enumerate(group.sockets) if _is_lost(sock))


def _is_lost(sock: socket.socket) -> bool:
    if sock.fileno() < 0:
        return True
    poller = select.poll()
    poller.register(sock, select.POLLRDHUP)
    wrong = select.POLLRDHUP | select.POLLHUP | select.POLLNVAL
    return any(found & wrong for _, found in poller.poll(0))


def reopen(group: UdpGroup, number: int) -> UdpGroup:
    """The group with another socket in the place of `number`; the old one is the caller's to close.

    One at a time: the kernel puts the last of a group into the place of one that was closed everywhere, which is how the
    fresh one comes to have its number. Raises NetworkError.
    """
    try:
        fresh = _bind(group.port, group.ipv6)
    except OSError as e:
        raise NetworkError(_reason(e), os.strerror(e.errno or 0), place=f"udp port {group.port}") from e
    if group.gro and (number or not group.steering):
        _enable(fresh, SOL_UDP, UDP_GRO)
    if not group.steering:
        return replace(group, sockets=(fresh,) * len(group.sockets))
    return replace(group, sockets=(*group.sockets[:number], fresh, *group.sockets[number + 1 :]))


def _reason(e: OSError) -> Reason:
    if e.errno == errno.EADDRINUSE:
        return Reason.ADDRESS_IN_USE
    if e.errno in (errno.EACCES, errno.EPERM):
        return Reason.NO_PERMISSION
    return Reason.KERNEL_REFUSED


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::", 0))
    except OSError:
        return False
    return True


def _open(port: int, lanes: int, gro: bool, steering: bool, ipv6: bool) -> UdpGroup:
    opened: list[socket.socket] = []
    try:
        port = _claim(port, ipv6)
        first = _bind(port, ipv6)
        opened.append(first)
        steered = steering and _steer(first, lanes)
        if steered:
            opened.extend(_bind(port, ipv6) for _ in range(lanes))
        receivers = opened[1:] if steered else opened
        joined = gro and all(_enable(sock, SOL_UDP, UDP_GRO) for sock in receivers)
        sockets = tuple(opened) if steered else (first,) * (lanes + 1)
        return UdpGroup(sockets, port, ipv6, _enable(first, SOL_UDP, UDP_SEGMENT, 0), joined, steered)
    except BaseException:
        for sock in opened:
            sock.close()
        raise


def _claim(port: int, ipv6: bool) -> int:
    """Bind once without SO_REUSEPORT: another node of the same user would otherwise be let into the group unnoticed."""
    with _new(ipv6) as sock:
        sock.bind(("::" if ipv6 else "0.0.0.0", port))  # noqa: S104 - a VPN listens on all addresses
        return int(sock.getsockname()[1])


def _new(ipv6: bool) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if ipv6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return sock


def _bind(port: int, ipv6: bool) -> socket.socket:
    sock = _new(ipv6)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        enlarge(sock, _SO_RCVBUFFORCE, socket.SO_RCVBUF, _BUFFER)
        enlarge(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF, _BUFFER)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTOS, 1)
        if ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.bind(("::" if ipv6 else "0.0.0.0", port))  # noqa: S104 - a VPN listens on all addresses
    except BaseException:
        sock.close()
        raise
    return sock


def enlarge(sock: socket.socket, force: int, plain: int, size: int) -> None:
    """Set a buffer to `size` bytes; where the host's CAP_NET_ADMIN is missing, to what the sysctls allow."""
    if not _enable(sock, socket.SOL_SOCKET, force, size):
        sock.setsockopt(socket.SOL_SOCKET, plain, size)


def _enable(sock: socket.socket, level: int, option: int, value: int = 1) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True


def allow_fragments(sock: socket.socket, ipv6: bool, allowed: bool) -> None:
    """Let what is sent next be fragmented (IPv4: anywhere; IPv6: here, at 1280 bytes), or forbid it again.

    Sockets of the group forbid it. Sending is the lane's alone, so that nothing else leaves meanwhile.
    """
    mode = _PMTUDISC_DONT if allowed else _PMTUDISC_PROBE
    sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, mode)
    if ipv6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, mode)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU, 1280 if allowed else 0)


def steering_program(lanes: int) -> bytes:
    """Classic BPF on the UDP payload: transport of lane l < `lanes` gives 1 + l, of others 1, all else 0."""
    return b"".join(
        struct.pack("=HBBI", code, yes, no, k)
        for code, yes, no, k in (
            (0x30, 0, 0, 0),  # A = byte 0: type
            (0x15, 1, 0, _TRANSPORT),  # transport?
            (0x06, 0, 0, 0),  # no: control
            (0x30, 0, 0, 1),  # A = byte 1: flags
            (0x54, 0, 0, 15),  # A &= 15: lane
            (0x35, 2, 0, lanes),  # no such lane?
            (0x04, 0, 0, 1),  # A += 1
            (0x16, 0, 0, 0),  # return A
            (0x06, 0, 0, 1),  # lane 0, which counts it
        )
    )


def _steer(sock: socket.socket, lanes: int) -> bool:
    """Attach the program to the group of `sock`. False when the kernel cannot."""
    program = bytearray(steering_program(lanes))
    import ctypes  # only here: sock_fprog holds an address

    address = ctypes.addressof(ctypes.c_char.from_buffer(program))
    fprog = struct.pack("@HP", len(program) // 8, address)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, fprog)
    except OSError:
        return False
    return True
