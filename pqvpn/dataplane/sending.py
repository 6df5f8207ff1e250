"""Giving sealed datagrams to the kernel, and the counters they are sealed with.

Owns what may go wrong on the way out of the lane: no counters left, no endpoint, a device that cannot cut, a source
address that is gone, a path too narrow. Seals nothing.
"""

import errno
from typing import Final

from pqvpn.dataplane.counters import Total
from pqvpn.dataplane.events import KeysWorn
from pqvpn.dataplane.sessions import Session
from pqvpn.dataplane.state import Lane
from pqvpn.drops import DropReason
from pqvpn.host.udp import allow_fragments
from pqvpn.wire.transport import META_SIZE

_UDP_SENDS: Final = int(Total.UDP_SENDS)
_SOURCE_GONE: Final = frozenset((errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.ENODEV))


class Sender:
    """The UDP side of one lane's way out."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def counters(self, session: Session, count: int) -> int:
        """The first of `count` reserved counters, -1 when the packets must be dropped."""
        first = session.reserve(count)
        if first < 0:
            self._lane.drop(DropReason.SEND_COUNTER_LIMIT, count)
            if not session.worn:
                session.worn = True
                self._lane.tell(KeysWorn(session.slot))
        elif first >= session.worn_limit and not session.worn:
            session.worn = True
            self._lane.tell(KeysWorn(session.slot))
        return first

    def send_in_pieces(self, session: Session, wire: memoryview, count: int, size: int, ecn: int) -> bool:
        """As `send`, for datagrams that have to be fragmented on the way (RFC 2473 section 7.1): one by one, slowly."""
        lane = self._lane
        gso, lane.gso = lane.gso, False  # a device does not fragment what it cuts
        allow_fragments(lane.udp, lane.ipv6, True)
        try:
            return self.send(session, wire, count, size, ecn)
        finally:
            allow_fragments(lane.udp, lane.ipv6, False)
            lane.gso = gso

    def send(self, session: Session, wire: memoryview, count: int, size: int, ecn: int) -> bool:
        """Give `count` datagrams of `size` bytes (the last may be shorter) to the kernel; False when it took none."""
        lane, to = self._lane, session.to
        if to is None:
            lane.drop(DropReason.NO_ENDPOINT, count)
            return False
        if session.budget is not None:
            if session.budget < len(wire):
                lane.drop(DropReason.AMPLIFICATION, count)
                return False
            session.budget -= len(wire)
        if count > 1 and not lane.gso:
            return self._send_each(session, wire, size, ecn)
        lane.count(_UDP_SENDS)
        try:
            lane.udp.sendmsg((wire,), session.ancillary(size if count > 1 else 0, ecn), 0, to)
        except OSError as e:
            return self.send_again(e.errno, session, wire, count, size, ecn)
        return True

    def send_again(
        self, error: int | None, session: Session, wire: memoryview, count: int, size: int, ecn: int
    ) -> bool:
        """After a refusal: without UDP_SEGMENT when the device cannot, from another source when ours is gone."""
        if error == errno.EIO and count > 1:
            self._lane.gso = False
            return self._send_each(session, wire, size, ecn)
        if error in _SOURCE_GONE and session.source is not None:
            session.source = None
            session.ancillaries.clear()
            return self.send(session, wire, count, size, ecn)
        self._lane.drop(DropReason.UDP_SEND, count)
        return False

    def _send_each(self, session: Session, wire: memoryview, size: int, ecn: int) -> bool:
        lane, to, some = self._lane, session.to, False
        options = session.ancillary(0, ecn)
        for at in range(0, len(wire), size):
            lane.count(_UDP_SENDS)
            try:
                lane.udp.sendmsg((wire[at : at + size],), options, 0, to)
                some = True
            except OSError:
                lane.drop(DropReason.UDP_SEND)
        return some

    def exceeds(self, session: Session, size: int) -> bool:
        """Whether a plaintext of `size` bytes does not fit the path in one piece: IPv6 of up to 1280 bytes on a narrow one."""
        return size - META_SIZE > self._lane.peers[session.peer].path_mtu
