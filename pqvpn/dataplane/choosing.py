"""Choosing the session that takes a packet from the inside, and what becomes of one that none takes.

Owns the decision and the refusal: no route, no session yet, keys expired, another lane's session, too big. Packets
are looked at where they lie; only those that wait are copied.
"""

from struct import Struct
from typing import Final

from pqvpn.dataplane.counters import Total
from pqvpn.dataplane.routes import NO_PEER, PROBE
from pqvpn.dataplane.sessions import QUEUE, Peer, Session
from pqvpn.dataplane.slots import VNET_SIZE
from pqvpn.dataplane.state import Lane
from pqvpn.drops import DropReason

WAIT_NS: Final = 5_000_000_000  # a peer without session for so long is refused, and what waited so long is of no use
IPV6_LEAST_MTU: Final = 1280
_HANDED_OVER: Final = int(Total.HANDED_OVER)
_PROBES: Final = int(Total.PROBES)
_U32: Final = Struct(">I")
_U64_U64: Final = Struct(">QQ")


class Choice:
    """Which session takes a packet."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.handed = False  # the packet came from another lane: it is not handed on again

    def peer_of(self, buffer: bytearray, ip: int) -> int:
        if buffer[ip] >> 4 == 4:
            return self._lane.routes.find4(_U32.unpack_from(buffer, ip + 16)[0])
        return self._lane.routes.find6(*_U64_U64.unpack_from(buffer, ip + 24))

    def session(self, number: int) -> Session | None:
        """The session that takes packets for a peer in this lane now."""
        peer = self._lane.peers.get(number)
        session = None if peer is None else peer.session
        if session is None or not session.carried or self._lane.now_ns >= session.expires_ns:
            return None
        return session

    def elsewhere(self, number: int, frame: bytes) -> None:
        """A frame for which `session` gave none: refuse it, hand it to its lane, or let it wait."""
        lane = self._lane
        if number == PROBE:
            lane.count(_PROBES)
            return
        if number == NO_PEER:
            lane.drop(DropReason.NO_ROUTE)
            lane.refuse(frame[VNET_SIZE:])
            return
        peer = lane.peer(number)
        session = peer.session
        if session is None:
            self._wait(number, peer, frame)
        elif lane.now_ns >= session.expires_ns:
            lane.drop(DropReason.KEYS_EXPIRED)
            lane.refuse(frame[VNET_SIZE:])
            lane.want(number)
        elif self.handed or not lane.crossover.hand_frame(lane.number % session.install.lanes, [frame]):
            lane.drop(DropReason.HANDOVER)
        else:
            lane.count(_HANDED_OVER)

    def _wait(self, number: int, peer: Peer, frame: bytes) -> None:
        """Queue for the first session; the oldest goes when the queue is full."""
        lane = self._lane
        lane.want(number)
        if peer.black_hole:
            lane.drop(DropReason.KEYS_EXPIRED)
            lane.refuse(frame[VNET_SIZE:])
            return
        if not peer.waiting:
            peer.waiting_since_ns = lane.now_ns
        peer.waiting.append((lane.now_ns, frame))
        if len(peer.waiting) > QUEUE:
            _, oldest = peer.waiting.popleft()
            lane.drop(DropReason.NO_SESSION)
            # early errors would end connections that a handshake on its way is about to serve
            if lane.now_ns - peer.waiting_since_ns > WAIT_NS:
                lane.refuse(oldest[VNET_SIZE:])

    def limit(self, number: int, session: Session) -> int:
        """The largest inner packet that may leave."""
        return min(session.mtu, self._lane.peers[number].path_mtu)

    def limit6(self, number: int, session: Session, length: int) -> int:
        """As `limit` for IPv6, whose hosts may send 1280 bytes on any path and hear of nothing less (RFC 8200 section 5).

        What fits the path in one piece, `length` bytes, is not filled up past it. Where all lanes share one socket, its
        options are not this one's to change.
        """
        limit = self.limit(number, session)
        if length <= limit or not self._lane.offloads.steering:
            return limit
        return max(limit, min(session.mtu, IPV6_LEAST_MTU))
