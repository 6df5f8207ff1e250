"""Cutting a super-packet into segments: where they lie, and their headers.

Owns `Shape` (everything that depends on sizes only, kept from super-packet to super-packet) and `Template` (one
super-packet's header and what changes from segment to segment). Seals and sends nothing.
"""

import sys
from array import array
from struct import Struct
from typing import Final, Self

from pqvpn.dataplane.engine import Bound, Places
from pqvpn.dataplane.inner import TCP, TCP_CSUM, U16, UDP, UDP_CSUM, fold, ip_checksum
from pqvpn.dataplane.slots import PACKET, PLAIN, VNET_HEADER, VNET_SIZE
from pqvpn.wire.transport import GSO_TCPV4, GSO_TCPV6, GSO_UDP, META, META_SIZE, NEEDS_CSUM, PAD_TO

_U32: Final = Struct(">I")
_SWAP: Final = sys.byteorder == "little"
_FIN_PSH: Final = 0x09
_MOST_HEADER: Final = 200


class Shape:
    """Slots for segments of one size: headers of `header` bytes, payload of `segment`, plaintexts of `length`."""

    def __init__(
        self, header: int, segment: int, length: int, transport: int,
        buffer: bytearray, view: memoryview, wire: memoryview, bound: Bound, spill: memoryview,
    ) -> None:  # fmt: skip
        self.header, self.segment, self.length, self.buffer = header, segment, length, buffer
        self.stride = stride = (length + PAD_TO - 1) & -PAD_TO
        self.places = Places(view, PLAIN, stride, length, wire, bound)
        self.count = count = self.places.count
        whole = META_SIZE + header
        self.headers = [slice(PLAIN + i * stride, PLAIN + i * stride + whole) for i in range(count)]
        starts = [PLAIN + i * stride + whole for i in range(count)]
        self.payloads = [view[at : at + segment] for at in starts]
        # one readv: virtio header, packet header and first payload, then the payloads behind them, then the rest
        first = view[PACKET - VNET_SIZE : starts[0] + segment]
        self.reading = [first, *self.payloads[1:], spill]
        self._padding = [slice(at + segment, PLAIN + i * stride + length) for i, at in enumerate(starts)]
        self._zeros = bytearray(length - whole - segment)
        words = view[: (len(view) // 4) * 4].cast("I")
        self.sequences = words[(PACKET + transport + 4) // 4 :: stride // 4]

    def clear_padding(self) -> None:
        """Write the zeros between the segments, where another shape may have left something."""
        if self._zeros:
            for place in self._padding:
                self.buffer[place] = self._zeros

    def fill(self, source: memoryview, at: int, count: int) -> None:
        """Copy the payloads of `count` segments, which lie one behind the other at `source[at]`."""
        segment, payloads = self.segment, self.payloads
        for i in range(count):
            piece = source[at : at + segment]
            payloads[i][: len(piece)] = piece
            at += segment

    def gather(self, size: int) -> bytes:
        """The `size` bytes that a readv into `reading` gave, as one piece."""
        pieces = []
        for view in self.reading:
            if size <= 0:
                break
            pieces.append(view[:size])
            size -= len(view)
        return b"".join(pieces)


class Template:
    """The header of one super-packet and the rule by which its segments' headers follow from it."""

    def __init__(
        self, buffer: bytearray, at: int, size: int, gso: int, segment: int, transport: int, offset: int
    ) -> None:
        """`at`: virtio header; `size` counts from there. Use `parse`."""
        ip = at + VNET_SIZE
        self.is_v6 = buffer[ip] >> 4 == 6
        self.is_tcp = gso != GSO_UDP
        self.transport, self.offset, self.segment = transport, offset, segment
        self.header = transport + ((buffer[ip + transport + 12] >> 4) << 2 if self.is_tcp else 8)
        self.total = size - VNET_SIZE  # of the super-packet
        self.payload = self.total - self.header
        self.count = -(-self.payload // segment)
        self.plain = bytearray(META.pack(NEEDS_CSUM, gso, self.header, transport, offset))
        self.plain += buffer[ip : ip + self.header]
        self.sum = U16.unpack_from(buffer, ip + transport + offset)[0]
        if self.is_tcp:
            self.sequence = _U32.unpack_from(buffer, ip + transport + 4)[0]
            self.flags = buffer[ip + transport + 13]
        # without DF an identification must not repeat (RFC 6864)
        self.counts_ids = not self.is_v6 and not buffer[ip + 6] & 0x40
        self.identification = U16.unpack_from(buffer, ip + 4)[0]

    @classmethod
    def parse(cls, buffer: bytearray, at: int, size: int) -> Self | None:
        """From a frame's virtio header at `buffer[at]`; None when it is not what the kernel's offloads give."""
        flags, gso, _, segment, transport, offset = VNET_HEADER.unpack_from(buffer, at)
        ip = at + VNET_SIZE
        version = buffer[ip] >> 4
        if gso not in (GSO_TCPV4, GSO_TCPV6, GSO_UDP) or not flags & NEEDS_CSUM or not segment:
            return None
        if gso != GSO_UDP and version != (4 if gso == GSO_TCPV4 else 6):
            return None
        plain = (buffer[ip] & 15) << 2 if version == 4 else 40
        protocol = buffer[ip + 9] if version == 4 else buffer[ip + 6]
        if transport < plain or transport % 4 or transport > _MOST_HEADER - 60 or version not in (4, 6):
            return None
        if version == 4 and protocol != (UDP if gso == GSO_UDP else TCP):
            return None
        if offset != (UDP_CSUM if gso == GSO_UDP else TCP_CSUM) or size <= VNET_SIZE + transport + 8:
            return None
        found = cls(buffer, at, size, gso, segment, transport, offset)
        return found if found.payload > 0 and found.header >= transport + (8 if gso == GSO_UDP else 20) else None

    def inner_bytes(self, done: int, count: int) -> int:
        """Inner bytes of `count` segments from number `done`."""
        payload = min(count * self.segment, self.payload - done * self.segment)
        return count * self.header + payload

    def write(self, shape: Shape, done: int, count: int, limit: int) -> int:
        """Write the headers of segments `done` to `done + count - 1` into the first slots.

        Returns the plaintext size of the last one (PROTOCOL section 5, padding; `limit` is the largest inner packet).
        """
        buffer, plain = shape.buffer, self.plain
        self._fit(self.segment)
        is_end = done + count == self.count
        if self.is_tcp:
            flags_at = META_SIZE + self.transport + 13
            plain[flags_at] = self.flags & ~_FIN_PSH
        for place in shape.headers[:count]:
            buffer[place] = plain
        last = shape.length
        at = shape.headers[count - 1].start
        if is_end:
            payload = self.payload - (self.count - 1) * self.segment
            if self.is_tcp:
                plain[flags_at] = self.flags
            if payload != self.segment:
                self._fit(payload)
                whole = META_SIZE + self.header + payload
                last = min((whole + PAD_TO - 1) & -PAD_TO, META_SIZE + limit)
                buffer[at + whole : at + last] = bytearray(last - whole)
            buffer[at : at + len(plain)] = plain
        if self.is_tcp:
            self._sequences(shape, done, count)
        if self.counts_ids:
            self._identifications(shape, done, count)
        return last

    def _fit(self, payload: int) -> None:
        """Make lengths and checksums in the template those of a segment with this payload."""
        plain, transport = self.plain, self.transport
        length = self.header + payload
        if self.is_v6:
            U16.pack_into(plain, META_SIZE + 4, length - 40)
        else:
            U16.pack_into(plain, META_SIZE + 2, length)
            ip_checksum(plain, META_SIZE, (plain[META_SIZE] & 15) << 2)
        if not self.is_tcp:
            U16.pack_into(plain, META_SIZE + transport + 4, length - transport)
        # the partial sum covers the pseudo-header, so only the length in it changes
        total = self.sum + (length - transport) + (0xFFFF - (self.total - transport) % 0xFFFF)
        U16.pack_into(plain, META_SIZE + transport + self.offset, fold(total))

    def _sequences(self, shape: Shape, done: int, count: int) -> None:
        first = self.sequence + done * self.segment
        end = first + count * self.segment
        numbers = range(first, end, self.segment)
        values = array("I", numbers if end <= 1 << 32 else [n & 0xFFFFFFFF for n in numbers])
        if _SWAP:
            values.byteswap()
        shape.sequences[:count] = memoryview(values)

    def _identifications(self, shape: Shape, done: int, count: int) -> None:
        buffer = shape.buffer
        for i, place in enumerate(shape.headers[:count]):
            ip = place.start + META_SIZE
            U16.pack_into(buffer, ip + 4, (self.identification + done + i) & 0xFFFF)
            ip_checksum(buffer, ip, (buffer[ip] & 15) << 2)
