"""What was authenticated, to the TUN: checked, joined when possible, else packet by packet (PROTOCOL section 5).

Owns the checks of every inner packet before it is written: length, source, meta, ECN. Other kinds go to control. The
plaintexts lie where they were opened.
"""

import os
from collections.abc import Sequence
from struct import Struct
from typing import Final

from pqvpn.dataplane.counters import Total
from pqvpn.dataplane.events import ControlFrame
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
from pqvpn.wire.address import Address
from pqvpn.wire.transport import GSO_NONE, META, META_SIZE, NEEDS_CSUM, Kind

BASE: Final = 16  # the first plaintext; the virtio header begins two bytes before
FRONT: Final = Struct(">QBxHxxHxB2xI")  # meta, then of an IPv4 header: version, length, fragment, protocol, source
# the virtio header's first six bytes: what follows is the end of the meta
NO_OFFLOAD: Final = bytearray(6)
PARTIAL: Final = bytearray((1, 0, 0, 0, 0, 0))
_MTU_PROBE: Final = 0x04
_TUN_WRITES: Final = int(Total.TUN_WRITES)
_U32: Final = Struct(">I")
_U64_U64: Final = Struct(">QQ")
# meta of plain IPv4 packets with a checksum left to the device, and what it asks of them: protocol, shortest length
_COMMON: Final = {
    int.from_bytes(META.pack(NEEDS_CSUM, GSO_NONE, 0, 20, UDP_CSUM), "big"): (UDP, 28),
    int.from_bytes(META.pack(NEEDS_CSUM, GSO_NONE, 0, 20, TCP_CSUM), "big"): (TCP, 40),
}


class Delivery:
    """One lane's writes to the TUN."""

    def __init__(self, lane: Lane, plain: bytearray, view: memoryview) -> None:
        self._lane = lane
        self._plain, self._plain_view = plain, view

    def deliver(
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
            return self._lane.routes.find4(_U32.unpack_from(plain, ip + 12)[0]) == session.peer
        return self._lane.routes.find6(*_U64_U64.unpack_from(plain, ip + 8)) == session.peer

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
        find4, peer, front = lane.routes.find4, session.peer, FRONT.unpack_from
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
                length = self.checked(session, o, data, ecn, source, pktinfo)
            if length:
                try:
                    if vnet:
                        plain[o - 2 : o + 4] = PARTIAL if plain[o] else NO_OFFLOAD
                        write(tun, view[o - 2 : ip + length])
                    else:
                        self.write_bare(o, ip, length)
                    written += 1
                    total += length
                except OSError:
                    lane.drop(DropReason.TUN_WRITE)
            o += stride
        if written:
            session.received(written, total, lane.now_ns)
            lane.count(_TUN_WRITES, written)

    def checked(self, session: Session, o: int, data: int, ecn: int, source: SocketAddress, pktinfo: bytes) -> int:
        """Length of the IP packet behind the meta at `o` when it may be written; 0: it was dropped or taken otherwise."""
        lane, plain, ip = self._lane, self._plain, o + META_SIZE
        if plain[o] > NEEDS_CSUM or data > session.mtu:
            self._other(session, o, data, source, pktinfo)
            return 0
        length = length_of(plain, ip, data)
        if not length:
            lane.refuse_inner(session.slot, DropReason.BAD_LENGTH)
        elif not self._allowed(session, o):
            lane.refuse_inner(session.slot, DropReason.SOURCE_NOT_ALLOWED)
        elif check_meta(plain, o, length) != OK:
            lane.refuse_inner(session.slot, DropReason.BAD_META)
        elif ecn and not merge_ecn(plain, ip, ecn):
            lane.drop(DropReason.ECN_INVALID)
        else:
            return length
        return 0

    def write_bare(self, o: int, ip: int, length: int) -> None:
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
            lane.refuse_inner(session.slot, DropReason.BAD_LENGTH if data > session.mtu else DropReason.BAD_META)
        elif plain[o] & 15 or any(plain[o + 1 : body]):
            lane.refuse_inner(session.slot, DropReason.BAD_META)
        elif (kind == Kind.CONTROL and not data) or (
            data > session.mtu and (kind != Kind.CONTROL or plain[body] != _MTU_PROBE)
        ):
            lane.refuse_inner(session.slot, DropReason.BAD_LENGTH)
        elif kind == Kind.CONTROL:
            frame = bytes(self._plain_view[body : body + data])
            lane.tell(ControlFrame(session.slot, frame, Address.from_socket(source), local_ip(pktinfo)))
