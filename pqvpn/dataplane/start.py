"""Start: what a lane is given by the process that spawned it, in one message.

Owns the record and how it crosses the link (a SOCK_SEQPACKET socket whose descriptor number is the lane's only
argument).
Descriptors are inherited and named by number; nothing comes by argv or environment. When the link closes, the lane
ends.
"""

import socket

import msgspec

from pqvpn.dataplane.events import Offloads

_MAX = 1 << 16


class Start(msgspec.Struct, frozen=True, tag=True):
    """Everything a lane needs before the first command."""

    lane: int  # 0..15
    lanes: int  # lanes of this node, 1..16
    tun: int  # TUN queue, non-blocking
    udp: int  # UDP socket of this lane, or the one all share
    control: int  # SOCK_SEQPACKET to control: commands in, events out
    counters: int  # memfd of `counters.Counters`
    crossover: tuple[int, ...]  # SOCK_DGRAM to each lane by number; -1 at the own place
    offloads: Offloads
    mtu: int  # of the interface
    ipv6: bool = True  # the UDP socket is AF_INET6 (dual stack), else AF_INET
    reads_udp: bool = True  # False when another lane reads the shared socket


def send(link: socket.socket, start: Start) -> None:
    """Put the message on the link."""
    link.send(msgspec.msgpack.encode(start))


def receive(link: socket.socket) -> Start:
    """Wait for the message. Raises EOFError when the link closed, ValueError when it is something else."""
    message = link.recv(_MAX)
    if not message:
        raise EOFError("the link closed before the start message")
    return msgspec.msgpack.decode(message, type=Start)
