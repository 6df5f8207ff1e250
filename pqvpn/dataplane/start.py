"""Start: what a lane is given by the process that spawned it, in one message.

Owns the record and how it crosses the link (a SOCK_SEQPACKET socket whose descriptor number is an argument of the lane).
Descriptors travel with the message, so that a process that was started long before, a warm spare, can become any lane;
nothing comes by argv or environment. When the link closes, the lane ends; a byte on it asks for a sign of progress, and a
further message makes the process a stand-in: it carries that lane as well, until that lane's own `Start.link` closes.
"""

import socket

import msgspec

from pqvpn.dataplane.events import Offloads
from pqvpn.host import handover

_MAX = 1 << 16
POKE = b"\1"
"""One byte; a start message is longer."""
_DESCRIPTORS = ("tun", "udp", "control", "counters", "crossover", "link")


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
    waits: bool = False  # packets stay in the kernel until control said `commands.Begin`: before, all would be dropped
    link: int = -1  # of a lane that is carried beside another, to the supervisor; its closing says that it was let go


def send(link: socket.socket, start: Start) -> None:
    """Put the message and its descriptors on the link. Raises OSError when it finds no room."""
    message, descriptors = handover.pack(start, _DESCRIPTORS)
    handover.send(link, msgspec.msgpack.encode(message), descriptors)


def poked(link: socket.socket) -> bool:
    """Take a poke from a link that is ready, if that is what waits there. Raises EOFError when the link closed."""
    first = link.recv(2, socket.MSG_PEEK)
    if not first:
        raise EOFError("the link closed")
    if len(first) > 1:
        return False
    link.recv(1)
    return True


def receive(link: socket.socket) -> Start:
    """Wait for the message. Raises EOFError when the link closed, ValueError when it is something else."""
    message, descriptors = handover.receive(link, _MAX)
    return handover.unpack(msgspec.msgpack.decode(message, type=Start), _DESCRIPTORS, descriptors)
