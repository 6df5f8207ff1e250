"""Everything a node holds open for its processes, so that a process that dies takes nothing with it.

Owns opening and closing: TUN queues, the UDP group, the counters, the links between control and lanes, the crossovers. Reads and
writes none of them.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pqvpn.config.schema import NodeConfig
from pqvpn.dataplane.counters import Counters
from pqvpn.dataplane.events import Offloads
from pqvpn.errors import NetworkError, PqvpnError
from pqvpn.host import icmp, marks, tun, udp
from pqvpn.reasons import Reason

T = TypeVar("T")
_SO_MARK = 36
_TAKEN = (Reason.INTERFACE_EXISTS, Reason.ADDRESS_IN_USE)
_LEAVING = 1.0
"""Seconds for which a start waits for what is taken: the processes of a node that was killed end a little after it, and the
interface and the port are theirs until then."""
_AGAIN = 0.02
_CROSSOVER_BUFFER = 1 << 20
"""Bytes on their way to another lane. The usual 208 KiB are three joined bursts: fewer than come while that lane is at work
(thousands of drops in seconds of TCP where lane 0 hands everything on; with this none, and more only adds delay)."""


@dataclass(slots=True)
class LaneLink:
    """The two ends between control and one lane. Both are kept: either side may be replaced."""

    control: socket.socket
    lane: socket.socket

    @classmethod
    def make(cls) -> "LaneLink":
        """A fresh pair, with nothing of a dead process in its queues."""
        return cls(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))

    def close(self) -> None:
        """Close both ends."""
        self.control.close()
        self.lane.close()


@dataclass(slots=True)
class Descriptors:
    """Open descriptors. `crossover[a][b]` is lane a's end towards lane b."""

    tun: tun.Tun
    udp: udp.UdpGroup
    counters: int
    links: list[LaneLink]
    crossover: list[dict[int, socket.socket]] = field(default_factory=list)
    icmp: tuple[socket.socket, ...] = ()

    @property
    def offloads(self) -> Offloads:
        """What the kernel gave, within what the configuration allows."""
        return Offloads(
            vnet=self.tun.vnet,
            tun_tso=self.tun.tso,
            tun_uso=self.tun.uso,
            udp_gso=self.udp.gso,
            udp_gro=self.udp.gro,
            steering=self.udp.steering,
        )

    def close(self) -> None:
        """Close everything; the interface and its routes go with it."""
        self.tun.close()
        self.udp.close()
        os.close(self.counters)
        for heard in self.icmp:
            heard.close()
        for link in self.links:
            link.close()
        for ends in self.crossover:
            for end in ends.values():
                end.close()


def open_interface(config: NodeConfig, lanes: int) -> tun.Tun:
    """The node's TUN interface, made anew. Raises TunError."""
    wanted = config.offload
    return tun.open_tun(config.node.interface, lanes, tso=wanted.tun_tso != "off", uso=wanted.tun_uso != "off")


def reopen_socket(config: NodeConfig, held: Descriptors, number: int) -> None:
    """Put a fresh socket in the place of one of the port's that is lost. Raises NetworkError; then nothing has changed."""
    group = udp.reopen(held.udp, number)
    _mark(group.sockets[number : number + 1], config)
    old, held.udp = held.udp.sockets[number], group
    with contextlib.suppress(OSError):  # it may be closed already
        old.close()


def open_all(config: NodeConfig, lanes: int) -> Descriptors:
    """Open what a node with `lanes` lanes needs. Raises TunError or NetworkError; nothing stays open then."""
    wanted = config.offload
    gro, steering = wanted.udp_gro != "off", wanted.steering != "off"
    interface = once_free(lambda: open_interface(config, lanes), lambda: tun.stays(config.node.interface))
    try:
        group = once_free(lambda: udp.open_group(config.node.listen, lanes, gro=gro, steering=steering))
        _mark(group.sockets, config)
    except BaseException:
        interface.close()
        raise
    if wanted.udp_gso == "off":
        group = replace(group, gso=False)
    links = [LaneLink.make() for _ in range(lanes)]
    heard = icmp.open_sockets(group.port, group.ipv6)
    return Descriptors(interface, group, Counters.create(), links, crossovers(lanes), heard)


def once_free(acquire: Callable[[], T], stays: Callable[[], bool] = lambda: False, patience: float = _LEAVING) -> T:
    """What `acquire` gives; where that is taken, it is waited for unless it `stays`. Raises what `acquire` raises then."""
    ends = time.monotonic() + patience
    while True:
        try:
            return acquire()
        except PqvpnError as error:
            if error.reason not in _TAKEN or time.monotonic() >= ends or stays():
                raise
        time.sleep(_AGAIN)


def _mark(sockets: Iterable[socket.socket], config: NodeConfig) -> None:
    """Mark fresh sockets, or close them and raise NetworkError."""
    fresh = set(sockets)
    try:
        mark = marks.routing_mark(str(config.path))
        for sock in fresh:
            _set_mark(sock, mark)
    except BaseException:
        for sock in fresh:
            sock.close()
        raise


def _set_mark(sock: socket.socket, mark: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
    except OSError as error:
        raise NetworkError(Reason.NO_PERMISSION, f"SO_MARK: {error.strerror}") from error


def crossovers(lanes: int) -> list[dict[int, socket.socket]]:
    """Fresh links between any two lanes."""
    ends: list[dict[int, socket.socket]] = [{} for _ in range(lanes)]
    for a in range(lanes):
        for b in range(a):
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            for end in pair:
                udp.enlarge(end, udp.SO_SNDBUFFORCE, socket.SO_SNDBUF, _CROSSOVER_BUFFER)
            ends[a][b], ends[b][a] = pair
    return ends
