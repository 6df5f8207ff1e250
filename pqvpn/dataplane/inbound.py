"""UDP to TUN: receive joined datagrams, check session, replay and tags, open them (PROTOCOL section 5).

In packet order: `pump` receives; `take` divides what came into groups of consecutive counters; `_open` checks
session, replay and tags; `delivering` writes. The datagram that comes alone goes by `lone`. Owns the buffers of this
direction. Nothing that was not authenticated is looked at, apart from headers; nothing is written that was not
checked.
"""

import socket
from array import array
from collections.abc import Callable
from struct import Struct
from typing import Final

from pqvpn.dataplane.counters import Field, Total
from pqvpn.dataplane.delivering import BASE, Delivery
from pqvpn.dataplane.engine import MAX_BURST, WIRE_EXTRA, Places
from pqvpn.dataplane.events import FirstAuthenticated, Roamed, StrayDatagram
from pqvpn.dataplane.joining import Columns
from pqvpn.dataplane.lone import FEW, PAUSE_NS, LoneDatagram
from pqvpn.dataplane.sessions import Session, SocketAddress, local_ip
from pqvpn.dataplane.state import Lane
from pqvpn.drops import DropReason
from pqvpn.protocol.unvalidated import divide, earned
from pqvpn.wire.address import Address
from pqvpn.wire.transport import HEADER, LANE_MASK, MAX_DATA, META_SIZE, OVERHEAD, RUN, TYPE_TRANSPORT

RECEIVES: Final = 8  # receptions before other work gets its turn
MAX_DATAGRAM: Final = OVERHEAD + MAX_DATA
_SOL_UDP: Final = 17
_UDP_GRO: Final = 104
_ANCILLARY: Final = 256
_STRAY: Final = frozenset((1, 3))  # handshake, cookie reply
_NATIVE: Final = Struct("=I")
_RECEIVE_FROM: Final = int(Field.RECEIVE_FROM)  # an enumeration's members cost a look-up each time
_HANDED_OVER: Final = int(Total.HANDED_OVER)
_UDP_RECEIVES: Final = int(Total.UDP_RECEIVES)
_LAST_RECEIVED_ANY: Final = int(Field.LAST_RECEIVED_ANY)
_ARRIVED: Final = int(Field.ARRIVED)
_PLACES_KEPT: Final = 32

Ancillary = list[tuple[int, int, bytes]]


class Inbound:
    """One lane's way in."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._wire = bytearray(65536 + MAX_DATAGRAM)
        self._wire_view = memoryview(self._wire)
        self._receive, self._receiving = lane.udp.recvmsg_into, [self._wire_view[:65536]]
        self._plain = bytearray(BASE + 2 * 65536 + 4096)
        self._plain_view = memoryview(self._plain)
        self._columns: dict[int, Columns] = {}
        self._runs = self._words(True)
        self._singles = self._words(False)
        self._index_words: dict[int, memoryview] = {}
        self._delivery = Delivery(lane, self._plain, self._plain_view)
        self._alone = LoneDatagram(lane, self._wire, self._plain, self._plain_view, self, self._delivery)
        self._last_ns, self._few = 0, True  # when `pump` was called last, and whether it received little then
        # what came with the last datagram alone, and what it says: mostly the same again
        self._options: Ancillary = []
        self._tos, self._pktinfo = 0, b""
        self.answer: Callable[[], object] = lambda: None  # looks for what the host says to the datagram just written

    def _words(self, run: bool) -> memoryview:
        """First words of `MAX_BURST` headers in line, as the sender of this lane writes them."""
        word = TYPE_TRANSPORT | (self._lane.number | (RUN if run else 0)) << 8
        steps = range(MAX_BURST) if run else [0] * MAX_BURST
        return memoryview(array("I", [word | s << 16 for s in steps]))

    # -- receiving

    def pump(self) -> None:
        """Receive until the socket is empty or a burst is full.

        After a pause a datagram probably comes alone: then just one is received, and the host's answer looked for,
        which often lies there at once. If there are more, the event loop calls again, and that is no pause.
        """
        lane, received = self._lane, 0
        now = lane.now_ns
        paused, self._last_ns = self._few and now - self._last_ns > PAUSE_NS, now
        while received < RECEIVES:
            try:
                size, options, _, source = self._receive(self._receiving, _ANCILLARY)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error of an earlier send; nothing was received
                received += 1
                continue
            received += 1
            if options == self._options:
                if not self._alone.take(size, self._tos, source, self._pktinfo):
                    self.take(size, size, self._tos, source, self._pktinfo)
                if paused:
                    self.answer()
                    break
            else:
                self._take_with(options, size, source)
                paused = False
        self._few = received <= FEW
        lane.count(_UDP_RECEIVES, received)

    def _take_with(self, options: Ancillary, size: int, source: SocketAddress) -> None:
        """Handle `size` received bytes that came with other ancillary data than the last datagram alone."""
        each, tos, pktinfo = 0, 0, b""
        for level, kind, data in options:
            if level == _SOL_UDP:
                if kind == _UDP_GRO:
                    each = _NATIVE.unpack(data)[0]
            elif kind in (socket.IP_TOS, socket.IPV6_TCLASS) and len(data) in (1, 4):
                tos = data[0] if len(data) == 1 else _NATIVE.unpack(data)[0]
            else:
                pktinfo = data
        if not each:
            self._options, self._tos, self._pktinfo = options, tos, pktinfo
        self.take(size, each or size, tos, source, pktinfo)

    def inject(self, data: bytes, size: int, tos: int, source: SocketAddress, local: bytes | None) -> None:
        """Take datagrams that another lane received."""
        self._wire_view[: len(data)] = data
        pktinfo = b""
        if local is not None:
            pktinfo = local + bytes(4) if len(local) == 16 else bytes(8) + local
        self.take(len(data), size, tos, source, pktinfo, handed=True)

    def take(self, size: int, each: int, tos: int, source: SocketAddress, pktinfo: bytes, handed: bool = False) -> None:
        """Handle `size` received bytes: datagrams of `each` bytes, the last perhaps shorter."""
        if each <= 0:
            return
        total = -(-size // each)
        if total == 1 and self._alone.take(size, tos, source, pktinfo):
            return
        if each < OVERHEAD or each > MAX_DATAGRAM:
            for begin in range(0, size, each):
                self._stray(begin, min(each, size - begin), source, pktinfo)
            return
        columns = self.columns_for(each)
        at = 0
        base = 0
        while at < total:
            if at - base >= columns.places.count:  # more datagrams than places: move the rest to the front
                self._wire_view[: size - at * each] = bytes(self._wire_view[(at - base) * each : size - base * each])
                base = at
            here = at - base
            most = min(columns.places.count, total - base)
            at += self._group(columns, here, most, size - base * each, tos, source, pktinfo, handed)

    def _stray(self, at: int, size: int, source: SocketAddress, pktinfo: bytes) -> None:
        """A datagram that is not transport: control's, or nobody's."""
        if size and self._wire[at] in _STRAY and size <= MAX_DATAGRAM:
            datagram = bytes(self._wire_view[at : at + size])
            self._lane.tell(StrayDatagram(datagram, Address.from_socket(source), local_ip(pktinfo)))
        else:
            self._lane.drop(DropReason.MALFORMED)

    def columns_for(self, each: int) -> Columns:
        """Where datagrams of `each` bytes lie, and what is opened of them."""
        columns = self._columns.get(each)
        if columns is None:
            if len(self._columns) >= _PLACES_KEPT:
                self._columns.clear()
            length = each - WIRE_EXTRA
            stride = (length + 15) & -16
            columns = Columns(self._plain, Places(self._plain_view, BASE, stride, length, self._wire_view))
            self._columns[each] = columns
        return columns

    # -- groups of consecutive counters

    def _group(
        self, columns: Columns, at: int, most: int, size: int, tos: int, source: SocketAddress, pktinfo: bytes,
        handed: bool,
    ) -> int:  # fmt: skip
        """Handle the datagrams from place `at` that belong together (places end at `most`); returns how many."""
        lane, each = self._lane, columns.places.size
        begin = at * each
        if size - begin < OVERHEAD:
            self._stray(begin, size - begin, source, pktinfo)
            return 1
        kind, flags, segment, index, first = HEADER.unpack_from(self._wire, begin)
        if kind != TYPE_TRANSPORT:
            self._stray(begin, min(each, size - begin), source, pktinfo)
            return 1
        run = flags & RUN
        if flags & ~(RUN | LANE_MASK) or segment >= (MAX_BURST if run else 1):
            lane.drop(DropReason.MALFORMED)
            return 1
        if flags & LANE_MASK != index & LANE_MASK:
            lane.drop(DropReason.WRONG_LANE)
            return 1
        if flags & LANE_MASK != lane.number:
            self._hand_over(flags & LANE_MASK, begin, min(each, size - begin), tos, source, pktinfo, handed)
            return 1
        session = lane.by_index.get(index)
        if session is None:
            lane.drop(DropReason.UNKNOWN_INDEX)
            return 1
        count = self._in_line(columns.places, at, most, segment, bool(run), index, first)
        end = at + count
        last = (each if end * each <= size else size - (end - 1) * each) - WIRE_EXTRA
        if last < META_SIZE:  # the short end is no packet; it is counted when its turn comes
            count, last = count - 1, each - WIRE_EXTRA
        return self._open(columns, session, at, count, first, last, tos, source, pktinfo)

    def _in_line(self, places: Places, at: int, most: int, segment: int, run: bool, index: int, first: int) -> int:
        """How many headers from place `at` on continue the one there: counter by counter, segment by segment."""
        count = most - at
        if count == 1:
            return 1
        if places.strided and segment + count <= MAX_BURST and first & 0xFFFFFFFF < 0xFFFFFF00:
            words = self._runs[segment : segment + count] if run else self._singles[:count]
            indices = self._index_words.get(index)
            if indices is None:
                if len(self._index_words) >= 64:
                    self._index_words.clear()
                indices = self._index_words[index] = memoryview(array("I", [index]) * MAX_BURST)
            low, high = first & 0xFFFFFFFF, first >> 32
            if (
                places.first_words[at:most] == words
                and places.indices[at:most] == indices[:count]
                and places.lows[at:most] == memoryview(array("I", range(low, low + count)))
                and places.highs[at:most].tobytes() == _NATIVE.pack(high) * count
            ):
                return count
        return self._in_line_slowly(places, at, min(most, at + MAX_BURST), segment, run, index, first)

    def _in_line_slowly(
        self, places: Places, at: int, most: int, segment: int, run: bool, index: int, first: int
    ) -> int:
        flags = self._lane.number | (RUN if run else 0)
        for i in range(1, most - at):
            number = segment + i if run else 0
            wanted = HEADER.pack(TYPE_TRANSPORT, flags, number, index, (first + i) & (1 << 64) - 1)
            if number >= MAX_BURST or places.heads[at + i] != wanted:
                return i
        return most - at

    def _hand_over(
        self, owner: int, begin: int, size: int, tos: int, source: SocketAddress, pktinfo: bytes, handed: bool
    ) -> None:
        """Give one datagram to the lane that it belongs to."""
        lane = self._lane
        data = self._wire_view[begin : begin + size]
        if handed:
            lane.drop(DropReason.HANDOVER)
        elif lane.crossover.knows(owner):
            if lane.crossover.hand_datagrams(owner, data, size, tos, source, local_ip(pktinfo)):
                lane.count(_HANDED_OVER)
            else:
                lane.drop(DropReason.HANDOVER)
        else:
            lane.drop(DropReason.WRONG_LANE)

    # -- opening

    def _open(
        self, columns: Columns, session: Session, at: int, count: int, first: int, last: int, tos: int,
        source: SocketAddress, pktinfo: bytes,
    ) -> int:  # fmt: skip
        """Authenticate `count` packets with counters from `first` and deliver them; returns how many were handled."""
        lane, places = self._lane, columns.places
        opener = session.opener
        if opener is None or lane.now_ns >= session.expires_ns:
            lane.drop(DropReason.SESSION_EXPIRED, count)
            return count
        if first + count > session.stop:
            if count > 1:
                return self._singly(columns, session, at, count, first, last, tos, source, pktinfo)
            lane.drop(DropReason.COUNTER_LIMIT)
            return 1
        replay = session.replay
        if not replay.check_run(first, count):
            if count > 1:
                return self._singly(columns, session, at, count, first, last, tos, source, pktinfo)
            lane.drop(DropReason.REPLAY)
            return 1
        if not opener.open_burst(places, at, first, count, last):
            if count > 1:
                return self._singly(columns, session, at, count, first, last, tos, source, pktinfo)
            lane.drop(DropReason.AUTHENTICATION)
            return 1
        newest = first + count - 1 > replay.highest
        replay.accept_run(first, count)
        size = (count - 1) * places.size + last + WIRE_EXTRA
        self.authentic(session, newest, count, size, source, pktinfo)
        self._delivery.deliver(columns, session, at, count, last, tos & 3, source, pktinfo)
        return count

    def authentic(
        self, session: Session, newest: bool, count: int, size: int, source: SocketAddress, pktinfo: bytes
    ) -> None:
        """`count` packets of `size` bytes together authenticated; `newest`: with the highest counter.

        What a lane that replaces this one must know is published here, before anything is written.
        """
        words, base = session.words, session.base
        words[base + _RECEIVE_FROM] = session.replay.highest + 1
        words[base + _ARRIVED] += count
        words[base + _LAST_RECEIVED_ANY] = self._lane.now_ns
        if source != session.to:
            if newest:
                self._roam(session, source, pktinfo, earned(count, size))
        elif session.budget is not None:
            session.budget += earned(count, size)
        if not session.seen:
            session.seen = True
            self._lane.tell(FirstAuthenticated(session.slot))

    def _singly(
        self, columns: Columns, session: Session, at: int, count: int, first: int, last: int, tos: int,
        source: SocketAddress, pktinfo: bytes,
    ) -> int:  # fmt: skip
        """Something in the group is wrong: find out packet by packet."""
        length = columns.places.length
        for i in range(count):
            own = length if i < count - 1 else last
            self._open(columns, session, at + i, 1, first + i, own, tos, source, pktinfo)
        return count

    def _roam(self, session: Session, source: SocketAddress, pktinfo: bytes, allowed: int) -> None:
        """The newest packet came from another address: answer there, within this lane's part of the `allowed` bytes."""
        address = Address.from_socket(source)
        local = local_ip(pktinfo)
        session.move(address, local, divide(allowed)[0] // session.install.lanes)
        self._lane.tell(Roamed(session.slot, address, local, allowed))
