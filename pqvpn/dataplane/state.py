"""What both directions of a lane share: descriptors, routes, peers, sessions, counters.

Owns the tables and the small acts on them (count a drop, tell control, ask for a session). Moves no packet.
"""

import os
import socket
from typing import Final

from pqvpn.dataplane.commands import InstallSession
from pqvpn.dataplane.counters import Total, lane_base, total_base
from pqvpn.dataplane.events import Event, InnerRefused, WantSession
from pqvpn.dataplane.icmp import IcmpLimit, prohibited, too_big
from pqvpn.dataplane.links import ControlLink, Crossover
from pqvpn.dataplane.routes import Routes
from pqvpn.dataplane.sessions import Peer, Session
from pqvpn.dataplane.start import Start
from pqvpn.drops import DropReason

_WANT_EVERY_NS: Final = 1_000_000_000
_REFUSED_EVERY_NS: Final = 1_000_000_000
_NO_VNET: Final = bytes(10)


class Lane:
    """One lane's state. `now_ns` is CLOCK_BOOTTIME, read once a turn of the event loop."""

    def __init__(self, start: Start, udp: socket.socket, words: memoryview) -> None:
        self.number, self.tun, self.udp = start.lane, start.tun, udp
        self.ipv6, self.offloads, self.mtu = start.ipv6, start.offloads, start.mtu
        self.gso = start.offloads.udp_gso
        self.words = words
        self.control = ControlLink(start.control)
        self.crossover = Crossover(start.crossover)
        self.routes = Routes()
        self.peers: dict[int, Peer] = {}
        self.sessions: dict[int, Session] = {}  # by slot
        self.by_index: dict[int, Session] = {}  # by index_in of this lane
        self.now_ns = 0
        self._icmp = IcmpLimit()
        self._refused: dict[tuple[int, int], list[int]] = {}  # by slot and drop: when told, how many since
        self._drops = lane_base(start.lane)
        self._totals = total_base(start.lane)

    def drop(self, reason: int, count: int = 1) -> None:
        """Count discarded packets."""
        self.words[self._drops + reason] += count

    def count(self, total: int, amount: int = 1) -> None:
        """Add to one of the lane's totals; `total` is a `counters.Total` as a plain integer."""
        self.words[self._totals + total] += amount

    def total(self, total: int) -> int:
        """One of the lane's totals."""
        return self.words[self._totals + total]

    def tell(self, event: Event) -> None:
        """Send an event to control, or count that it was lost."""
        if not self.control.tell(event):
            self.count(Total.EVENTS_LOST)

    def refuse_inner(self, slot: int, reason: int) -> None:
        """Count a packet that an authenticated peer sent and may not; tell control at most once a second and reason.

        Such a peer is wrongly configured or hostile; either way its operator's counterpart wants to know which.
        """
        self.drop(reason)
        seen = self._refused.get((slot, reason))
        if seen is None:
            seen = self._refused[slot, reason] = [self.now_ns - _REFUSED_EVERY_NS, 0]
        seen[1] += 1
        if self.now_ns - seen[0] >= _REFUSED_EVERY_NS:
            self.tell(InnerRefused(slot, int(reason), seen[1]))
            seen[:] = self.now_ns, 0

    def peer(self, number: int) -> Peer:
        """The peer's record, made when it is first named."""
        found = self.peers.get(number)
        if found is None:
            found = self.peers[number] = Peer()
        return found

    def want(self, number: int) -> None:
        """Ask control for a session with the peer, at most once a second."""
        peer = self.peer(number)
        if not peer.wanted_ns or self.now_ns - peer.wanted_ns >= _WANT_EVERY_NS:
            peer.wanted_ns = self.now_ns
            self.tell(WantSession(number))

    def install(self, command: InstallSession) -> None:
        """Hold a session; whatever was in its slot goes. Raises ValueError when the command makes no sense."""
        session = Session(command, self.number, self.words, self.ipv6)
        sending = [p for p in self.peers.values() if p.session is not None and p.session.slot == command.slot]
        same = command.slot in self.sessions and self.sessions[command.slot].install.session_id == command.session_id
        self.erase(command.slot)
        self.sessions[command.slot] = session
        if session.carried:
            self.by_index[session.index_in] = session
        for peer in sending if same else ():
            peer.session = session

    def erase(self, slot: int) -> None:
        """Forget a session and its keys."""
        session = self.sessions.pop(slot, None)
        if session is None:
            return
        if self.by_index.get(session.index_in) is session:
            del self.by_index[session.index_in]
        session.sealer = session.opener = None
        for key in [key for key in self._refused if key[0] == slot]:
            del self._refused[key]
        for peer in self.peers.values():
            if peer.session is session:
                peer.session = None

    def refuse(self, packet: bytes, mtu: int = 0) -> None:
        """Answer a packet from the inside with ICMP: "too big" when `mtu` is given, else "prohibited"."""
        if not self._icmp.allow(self.now_ns):
            return
        answer = too_big(packet, mtu) if mtu else prohibited(packet)
        if answer is None:
            return
        try:
            os.write(self.tun, _NO_VNET + answer if self.offloads.vnet else answer)
        except OSError:
            self.drop(DropReason.TUN_WRITE)
