"""UDP to TUN: receive joined datagrams, open them, check every inner packet, write (PROTOCOL section 5).

In packet order: `pump` receives; `take` divides what came into groups of consecutive counters; `_open` checks
session,
replay and tags; `_deliver` joins what belongs together or writes packet by packet. Owns the buffers of this
direction.
Nothing that was not authenticated is looked at, apart from headers; nothing is written that was not checked.
"""

import os
import socket
from array import array
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from pqvpn.dataplane.counters import Field, Total
from pqvpn.dataplane.engine import MAX_BURST, WIRE_EXTRA, Places
from pqvpn.dataplane.events import ControlFrame, FirstAuthenticated, Roamed, StrayDatagram
from pqvpn.dataplane.inner import (
    OK,
    TCP,
    TCP_CSUM,
    UDP,
    UDP_CSUM,
    check_meta,
    complete_checksum,
    length_of,
    merge_ecn,
)
from pqvpn.dataplane.joining import Columns, join
from pqvpn.dataplane.sessions import Session, SocketAddress, local_ip
from pqvpn.dataplane.state import Lane
from pqvpn.drops import DropReason
from pqvpn.protocol.unvalidated import divide, earned
from pqvpn.wire.address import Address
from pqvpn.wire.transport import (
    GSO_NONE,
    HEADER,
    LANE_MASK,
    MAX_DATA,
    META,
    META_SIZE,
    NEEDS_CSUM,
    OVERHEAD,
    RUN,
    TYPE_TRANSPORT,
    Kind,
)

RECEIVES: Final = 8  # receptions before other work gets its turn
MAX_DATAGRAM: Final = OVERHEAD + MAX_DATA
_MTU_PROBE: Final = 0x04
_SOL_UDP: Final = 17
_UDP_GRO: Final = 104
_ANCILLARY: Final = 256
_BASE: Final = 16  # the first plaintext; the virtio header begins two bytes before
_STRAY: Final = frozenset((1, 3))  # handshake, cookie reply
_NO_OFFLOAD: Final = bytearray(6)
_PARTIAL: Final = bytearray((1, 0, 0, 0, 0, 0))
_NATIVE: Final = Struct("=I")
_RECEIVE_FROM: Final = int(Field.RECEIVE_FROM)  # an enumeration's members cost a look-up each time
_HANDED_OVER: Final = int(Total.HANDED_OVER)
_TUN_WRITES: Final = int(Total.TUN_WRITES)
_UDP_RECEIVES: Final = int(Total.UDP_RECEIVES)
_LAST_RECEIVED_ANY: Final = int(Field.LAST_RECEIVED_ANY)
_ARRIVED: Final = int(Field.ARRIVED)
_U32: Final = Struct(">I")
_U64_U64: Final = Struct(">QQ")
_FRONT: Final = Struct(">QBxHxxHxB2xI")  # meta, then of an IPv4 header: version, length, fragment, protocol, source
# meta of plain IPv4 packets with a checksum left to the device, and what it asks of them: protocol, shortest length
_COMMON: Final = {
    int.from_bytes(META.pack(NEEDS_CSUM, GSO_NONE, 0, 20, UDP_CSUM), "big"): (UDP, 28),
    int.from_bytes(META.pack(NEEDS_CSUM, GSO_NONE, 0, 20, TCP_CSUM), "big"): (TCP, 40),
}
_PLACES_KEPT: Final = 32


class Inbound:
    """One lane's way in."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._wire = bytearray(65536 + MAX_DATAGRAM)
        self._wire_view = memoryview(self._wire)
        self._receiving = [self._wire_view[:65536]]
        self._plain = bytearray(_BASE + 2 * 65536 + 4096)
        self._plain_view = memoryview(self._plain)
        self._columns: dict[int, Columns] = {}
        self._runs = self._words(True)
        self._singles = self._words(False)
        self._index_words: dict[int, memoryview] = {}
        self._quiet = False  # the last turn brought one datagram alone
        self.answer: Callable[[], None] = lambda: None  # looks for what the host says to the datagram just written

    def _words(self, run: bool) -> memoryview:
        """First words of `MAX_BURST` headers in line, as the sender of this lane writes them."""
        word = TYPE_TRANSPORT | (self._lane.number | (RUN if run else 0)) << 8
        steps = range(MAX_BURST) if run else [0] * MAX_BURST
        return memoryview(array("I", [word | s << 16 for s in steps]))

    # -- receiving

    def pump(self) -> None:
        """Receive until the socket is empty or a burst is full."""
        receive, wire, lane = self._lane.udp.recvmsg_into, self._receiving, self._lane
        received, single = 0, False
        while received < RECEIVES:
            try:
                size, options, _, source = receive(wire, _ANCILLARY)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error of an earlier send; nothing was received
                received += 1
                continue
            received += 1
            each, tos, pktinfo = size, 0, b""
            for level, kind, data in options:
                if level == _SOL_UDP:
                    if kind == _UDP_GRO:
                        each = _NATIVE.unpack(data)[0]
                elif kind in (socket.IP_TOS, socket.IPV6_TCLASS) and len(data) in (1, 4):
                    tos = data[0] if len(data) == 1 else _NATIVE.unpack(data)[0]
                else:
                    pktinfo = data
            self.take(size, each, tos, source, pktinfo)
            single = each == size
            if received == 1 and single and self._quiet:  # singles come and go: the host's answer often lies there now
                self.answer()
        self._quiet = received == 1 and single
        lane.count(_UDP_RECEIVES, received)

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
        if total == 1 and self._one(size, tos, source, pktinfo):
            return
        if each < OVERHEAD or each > MAX_DATAGRAM:
            for begin in range(0, size, each):
                self._stray(begin, min(each, size - begin), source, pktinfo)
            return
        columns = self._columns_for(each)
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

    def _columns_for(self, each: int) -> Columns:
        columns = self._columns.get(each)
        if columns is None:
            if len(self._columns) >= _PLACES_KEPT:
                self._columns.clear()
            length = each - WIRE_EXTRA
            stride = (length + 15) & -16
            columns = Columns(self._plain, Places(self._plain_view, _BASE, stride, length, self._wire_view))
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
        self._authentic(session, newest, count, size, source, pktinfo)
        self._deliver(columns, session, at, count, last, tos & 3, source, pktinfo)
        return count

    def _authentic(
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

    def _one(self, size: int, tos: int, source: SocketAddress, pktinfo: bytes) -> bool:
        """The datagram that came alone: the same in fewer steps. False: it is not that simple; nothing has changed."""
        lane = self._lane
        if not OVERHEAD <= size <= MAX_DATAGRAM:
            return False
        kind, flags, segment, index, counter = HEADER.unpack_from(self._wire)
        session = lane.by_index.get(index)
        if kind != TYPE_TRANSPORT or flags != lane.number or segment or session is None or session.opener is None:
            return False
        replay = session.replay
        if lane.now_ns >= session.expires_ns or counter >= session.stop or not replay.check(counter):
            return False
        length = size - WIRE_EXTRA
        if not session.opener.open_one(self._wire_view[:size], counter, self._plain_view[_BASE : _BASE + length]):
            lane.drop(DropReason.AUTHENTICATION)
            return True
        newest = counter > replay.highest
        replay.accept(counter)
        self._authentic(session, newest, 1, size, source, pktinfo)
        inner = self._checked(session, _BASE, length - META_SIZE, tos & 3, source, pktinfo)
        if not inner:
            return True
        try:
            if lane.offloads.vnet:
                self._plain[_BASE - 2 : _BASE + 4] = _PARTIAL if self._plain[_BASE] else _NO_OFFLOAD
                os.write(lane.tun, self._plain_view[_BASE - 2 : _BASE + META_SIZE + inner])
            else:
                self._write_bare(_BASE, _BASE + META_SIZE, inner)
        except OSError:
            lane.drop(DropReason.TUN_WRITE)
            return True
        session.received(1, inner, lane.now_ns)
        lane.count(_TUN_WRITES)
        return True

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

    # -- delivering

    def _deliver(
        self, columns: Columns, session: Session, at: int, count: int, last: int, ecn: int, source: SocketAddress,
        pktinfo: bytes,
    ) -> None:  # fmt: skip
        """Write what was authenticated: joined when possible, else packet by packet."""
        places, offloads = columns.places, self._lane.offloads
        data = places.length - META_SIZE
        o = places.start + at * places.stride
        if count > 1 and offloads.vnet and data <= session.mtu and self._allowed(session, o):
            pieces = join(columns, at, count, data, last - META_SIZE, offloads.tun_tso, offloads.tun_uso)
            if pieces is not None:
                self._write_joined(session, o, count, pieces, ecn)
                return
        self._each(columns, session, at, count, last, ecn, source, pktinfo)

    def _allowed(self, session: Session, o: int) -> bool:
        """Whether the source address of the packet behind the meta at `o` belongs to the session's peer."""
        plain, ip = self._plain, o + META_SIZE
        if plain[ip] >> 4 == 4:
            return self._lane.routes.find4(_U32.unpack_from(plain, ip + 12)[0]) == session.install.peer
        return self._lane.routes.find6(*_U64_U64.unpack_from(plain, ip + 8)) == session.install.peer

    def _write_joined(self, session: Session, o: int, count: int, pieces: Sequence[memoryview], ecn: int) -> None:
        lane = self._lane
        if ecn and not merge_ecn(self._plain, o + META_SIZE, ecn):
            lane.drop(DropReason.ECN_INVALID, count)
            return
        try:
            size = os.writev(lane.tun, pieces)
        except OSError:
            lane.drop(DropReason.TUN_WRITE, count)
            return
        lane.count(_TUN_WRITES)
        header = int.from_bytes(self._plain[o : o + 2], "little")  # hdr_len of the virtio header, written by `join`
        session.received(count, size - 10 + (count - 1) * header, lane.now_ns)

    def _each(
        self, columns: Columns, session: Session, at: int, count: int, last: int, ecn: int, source: SocketAddress,
        pktinfo: bytes,
    ) -> None:  # fmt: skip
        """Check and write packet by packet."""
        lane, plain, view, places = self._lane, self._plain, self._plain_view, columns.places
        tun, vnet, write, mtu = lane.tun, lane.offloads.vnet, os.write, session.mtu
        find4, peer, front = lane.routes.find4, session.install.peer, _FRONT.unpack_from
        o, stride = places.start + at * places.stride, places.stride
        written = total = 0
        for i in range(count):
            data = (places.length if i < count - 1 else last) - META_SIZE
            meta, version, length, fragment, protocol, source4 = front(plain, o)
            common = _COMMON.get(meta)
            ip = o + META_SIZE
            if not (
                common is not None
                and version == 0x45
                and protocol == common[0]
                and common[1] <= length <= data <= mtu
                and not fragment & 0x3FFF
                and (protocol == UDP or 20 <= plain[ip + 32] >> 2 & 60 <= length - 20)
                and find4(source4) == peer
                and not ecn
            ):
                length = self._checked(session, o, data, ecn, source, pktinfo)
            if length:
                try:
                    if vnet:
                        plain[o - 2 : o + 4] = _PARTIAL if plain[o] else _NO_OFFLOAD
                        write(tun, view[o - 2 : ip + length])
                    else:
                        self._write_bare(o, ip, length)
                    written += 1
                    total += length
                except OSError:
                    lane.drop(DropReason.TUN_WRITE)
            o += stride
        if written:
            session.received(written, total, lane.now_ns)
            lane.count(_TUN_WRITES, written)

    def _checked(self, session: Session, o: int, data: int, ecn: int, source: SocketAddress, pktinfo: bytes) -> int:
        """Length of the IP packet behind the meta at `o` when it may be written; 0: it was dropped or taken otherwise."""
        lane, plain, ip = self._lane, self._plain, o + META_SIZE
        if plain[o] > NEEDS_CSUM or data > session.mtu:
            self._other(session, o, data, source, pktinfo)
            return 0
        length = length_of(plain, ip, data)
        if not length:
            lane.drop(DropReason.BAD_LENGTH)
        elif not self._allowed(session, o):
            lane.drop(DropReason.SOURCE_NOT_ALLOWED)
        elif check_meta(plain, o, length) != OK:
            lane.drop(DropReason.BAD_META)
        elif ecn and not merge_ecn(plain, ip, ecn):
            lane.drop(DropReason.ECN_INVALID)
        else:
            return length
        return 0

    def _write_bare(self, o: int, ip: int, length: int) -> None:
        """Write to a TUN without virtio header: a partial checksum must be finished here."""
        plain = self._plain
        if plain[o]:
            start = int.from_bytes(plain[o + 4 : o + 6], "little")
            complete_checksum(plain, ip, length, start, int.from_bytes(plain[o + 6 : o + 8], "little"))
        os.write(self._lane.tun, self._plain_view[ip : ip + length])

    def _other(self, session: Session, o: int, data: int, source: SocketAddress, pktinfo: bytes) -> None:
        """A packet that is not an IP packet of a size agreed on."""
        lane, plain = self._lane, self._plain
        kind = plain[o] >> 4
        body = o + META_SIZE
        if kind not in (Kind.IP, Kind.CONTROL, Kind.KEEPALIVE):
            lane.drop(DropReason.UNKNOWN_KIND)
        elif kind == Kind.IP:
            lane.drop(DropReason.BAD_LENGTH if data > session.mtu else DropReason.BAD_META)
        elif plain[o] & 15 or any(plain[o + 1 : body]):
            lane.drop(DropReason.BAD_META)
        elif (kind == Kind.CONTROL and not data) or (
            data > session.mtu and (kind != Kind.CONTROL or plain[body] != _MTU_PROBE)
        ):
            lane.drop(DropReason.BAD_LENGTH)
        elif kind == Kind.CONTROL:
            frame = bytes(self._plain_view[body : body + data])
            lane.tell(ControlFrame(session.slot, frame, Address.from_socket(source), local_ip(pktinfo)))
