"""Joining: segments of one flow, opened side by side, become one super-packet without moving a byte.

Owns the proof that packets may be joined, made in columns (one value of every packet in one comparison), and the
header of the
result. Every field that the kernel would take from the first packet for all of them is compared for each; GSO fields
are computed here and never taken from the peer.
"""

from struct import Struct, pack
from typing import Final

from pqvpn.dataplane.engine import Places
from pqvpn.dataplane.inner import TCP, TCP_CSUM, U16, UDP, UDP_CSUM, fold, ip_checksum
from pqvpn.wire.transport import GSO_TCPV4, GSO_TCPV6, GSO_UDP, META, META_SIZE, NEEDS_CSUM

VNET: Final = Struct("<BBHHHH")
_U32: Final = Struct(">I")
_ACK: Final = 0x10
_ECE: Final = 0x40
_LAST: Final = 0x09  # FIN and PSH: allowed on the last segment only
_MOST: Final = 65535
_KEPT: Final = 8  # lists of views of one kind
_V4: Final = 20
_V6: Final = 40


class Columns:
    """Columns over the packets of one `Places`, and the payload views that one write to the TUN needs."""

    def __init__(self, buffer: bytearray, places: Places) -> None:
        self.buffer, self.places = buffer, places
        self._start, self._stride = places.start, places.stride
        whole = places.plain[: len(places.plain) // 8 * 8]
        self._views = {1: whole, 2: whole.cast("H"), 4: whole.cast("I"), 8: whole.cast("Q")}
        self._columns: dict[int, memoryview] = {}
        self._payloads: dict[int, list[memoryview]] = {}
        self._cuts: dict[int, list[memoryview]] = {}

    def column(self, offset: int, width: int) -> memoryview:
        """The `width` bytes at `offset` of each packet (from the meta on)."""
        key = offset << 4 | width
        found = self._columns.get(key)
        if found is None:
            at = (self._start + offset) // width
            found = self._columns[key] = self._views[width][at :: self._stride // width]
        return found

    def same(self, at: int, count: int, fields: tuple[tuple[int, int], ...]) -> bool:
        """Whether `count` packets from place `at` agree in every (offset, width)."""
        end = at + count
        for offset, width in fields:
            values = self.column(offset, width)[at:end].tobytes()
            if values != values[:width] * count:
                return False
        return True

    def alike(self, at: int, count: int, begin: int, end: int) -> bool:
        """Whether `count` packets from place `at` agree in bytes `begin` to `end` (from the meta on)."""
        key = begin << 16 | end
        views = self._cuts.get(key)
        if views is None:
            if len(self._cuts) >= _KEPT:
                self._cuts.clear()
            views = self._cuts[key] = [plain[begin:end] for plain in self.places.plains]
        together = b"".join(views[at : at + count])
        return together == together[: end - begin] * count

    def payloads(self, header: int, size: int) -> list[memoryview]:
        """The `size` bytes behind meta and header of each packet."""
        key = header << 16 | size
        found = self._payloads.get(key)
        if found is None:
            if len(self._payloads) >= _KEPT:
                self._payloads.clear()
            places, begin = self.places, META_SIZE + header
            found = [plain[begin : begin + size] for plain in places.plains]
            self._payloads[key] = found
        return found


def _fields(version: int, protocol: int, header: int) -> tuple[tuple[int, int], ...]:
    """What must be equal in all but the last segment: all of meta and header that the join does not compute itself."""
    found = [(0, 8)]
    if version == 4:
        found += [(8, 4), (14, 2), (16, 2), (20, 4), (24, 8)]  # not: identification, header checksum
        transport = META_SIZE + _V4
    else:
        found += [(8, 8), (16, 8), (24, 8), (32, 8), (40, 8), (48, 4)]
        transport = META_SIZE + _V6
    if protocol == UDP:
        return (*found, (transport + 4, 4))
    found += [(transport + 8, 4), (transport + 12, 4), (transport + 16, 4)]
    found += [(at, 4) for at in range(transport + 20, META_SIZE + header, 4)]
    return tuple(found)


_FIELDS: dict[tuple[int, int, int], tuple[tuple[int, int], ...]] = {}


def join(
    columns: Columns, at: int, count: int, data: int, last_data: int, tcp: bool, udp: bool
) -> list[memoryview] | None:
    """One TUN write, virtio header first, for the `count` >= 2 packets from place `at`; None when they do not join.

    `data`: bytes behind the meta in each but the last, `last_data` in that; `tcp`, `udp`: what the TUN takes as
    super-packets. Meta
    and lengths of each packet are checked here; the source only has to be checked for the first, all are equal.
    """
    buffer, places = columns.buffer, columns.places
    o = places.start + at * places.stride
    ip = o + META_SIZE
    flags, gso, hdr_len, start, offset = META.unpack_from(buffer, o)
    version = buffer[ip] >> 4
    if flags != NEEDS_CSUM or start != (_V4 if version == 4 else _V6) or data < start + 8:
        return None
    if version == 4:
        # no options, no fragments, DF (else the identification counts)
        if buffer[ip] != 0x45 or buffer[ip + 6] != 0x40 or buffer[ip + 7]:
            return None
        protocol, length = buffer[ip + 9], U16.unpack_from(buffer, ip + 2)[0]
    elif version == 6:
        protocol, length = buffer[ip + 6], _V6 + U16.unpack_from(buffer, ip + 4)[0]
    else:
        return None
    if protocol == TCP:
        header, kind = start + ((buffer[ip + start + 12] >> 4) << 2), GSO_TCPV4 if version == 4 else GSO_TCPV6
        allowed = tcp and offset == TCP_CSUM and header >= start + 20 and not buffer[ip + start + 13] & ~(_ACK | _ECE)
    elif protocol == UDP:
        header, kind = start + 8, GSO_UDP
        allowed = udp and offset == UDP_CSUM and U16.unpack_from(buffer, ip + start + 4)[0] == length - start
    else:
        return None
    payload = length - header
    if not allowed or gso not in (0, kind) or hdr_len not in (0, header) or length > data or payload <= 0:
        return None
    if not _agree(columns, at, count - 1, version, protocol, start, header):
        return None
    end = o + (count - 1) * places.stride
    last = _last_payload(buffer, o, end, version, protocol, start, header, payload, last_data)
    total = header + (count - 1) * payload + last
    if last <= 0 or total > _MOST:
        return None
    if protocol == TCP:
        if not _in_sequence(columns, at, count, META_SIZE + start + 4, payload):
            return None
        buffer[ip + start + 13] |= buffer[end + META_SIZE + start + 13]
    _finish(buffer, o, version, protocol, start, offset, header, payload, total, kind)
    views = columns.payloads(header, payload)
    whole = places.plain[o - 2 : ip + header + payload]
    if last == payload:
        return [whole, *views[at + 1 : at + count]]
    return [whole, *views[at + 1 : at + count - 1], views[at + count - 1][:last]]


def _agree(columns: Columns, at: int, count: int, version: int, protocol: int, start: int, header: int) -> bool:
    """Whether `count` packets agree in everything that the join takes from the first one."""
    # a sender that cuts a super-packet leaves all but the sequence the same, identification included
    front, end = META_SIZE + start + 4, META_SIZE + header
    back = front if protocol == UDP else front + 4
    if columns.alike(at, count, 0, front):
        return columns.alike(at, count, back, end)
    key = (version, protocol, header)
    fields = _FIELDS.get(key)
    if fields is None:
        fields = _FIELDS[key] = _fields(*key)
    return columns.same(at, count, fields)


def _last_payload(
    buffer: bytearray, o: int, end: int, version: int, protocol: int, start: int, header: int, payload: int, data: int
) -> int:
    """Payload of the last packet (at `end`) when it may follow the first (at `o`), else 0. It may be shorter."""
    ip, own = o + META_SIZE, end + META_SIZE
    if data < header or buffer[o:ip] != buffer[end:own]:
        return 0
    if version == 4:
        length = U16.unpack_from(buffer, own + 2)[0]
        same = (
            buffer[ip : ip + 2] == buffer[own : own + 2]
            and buffer[ip + 6 : ip + 10] == buffer[own + 6 : own + 10]
            and buffer[ip + 12 : ip + 24] == buffer[own + 12 : own + 24]
        )
    else:
        length = _V6 + U16.unpack_from(buffer, own + 4)[0]
        same = buffer[ip : ip + 4] == buffer[own : own + 4] and buffer[ip + 6 : ip + 44] == buffer[own + 6 : own + 44]
    if not same or length > data or not 0 < length - header <= payload:
        return 0
    if protocol == UDP:
        return length - header if U16.unpack_from(buffer, own + start + 4)[0] == length - start else 0
    a, b = ip + start, own + start
    flags, others = buffer[b + 13], buffer[a + 13]
    same = (
        buffer[a + 8 : a + 13] == buffer[b + 8 : b + 13]
        and flags & ~_LAST == others
        and buffer[a + 14 : a + 16] == buffer[b + 14 : b + 16]
        and buffer[a + 18 : ip + header] == buffer[b + 18 : own + header]
    )
    return length - header if same else 0


def _in_sequence(columns: Columns, at: int, count: int, offset: int, payload: int) -> bool:
    """Whether the TCP sequence numbers go on without gap."""
    values = columns.column(offset, 4)[at : at + count].tobytes()
    first = _U32.unpack_from(values)[0]
    end = first + count * payload
    if end > 1 << 32:
        return False
    return values == pack(f">{count}I", *range(first, end, payload))


def _finish(
    buffer: bytearray, o: int, version: int, protocol: int, start: int, offset: int, header: int, payload: int,
    total: int, kind: int,
) -> None:  # fmt: skip
    """Make the first packet's header that of the super-packet of `total` bytes and put the virtio header before it."""
    ip = o + META_SIZE
    if version == 4:
        U16.pack_into(buffer, ip + 2, total)
        ip_checksum(buffer, ip, _V4)
    else:
        U16.pack_into(buffer, ip + 4, total - _V6)
    if protocol == UDP:
        U16.pack_into(buffer, ip + start + 4, total - start)
    # the partial sum covers the pseudo-header, so only the length in it changes
    at = ip + start + offset
    U16.pack_into(buffer, at, fold(U16.unpack_from(buffer, at)[0] + total - header - payload))
    VNET.pack_into(buffer, o - 2, NEEDS_CSUM, kind, header, payload, start, offset)
