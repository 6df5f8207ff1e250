"""Transport packets (PROTOCOL section 5).

```
 0      1       2             4                   8               16                                    -16
 | 0x04 | flags | seg_idx u16 | receiver index u32 | counter u64   | AEAD( meta 8 || data || zeros )     | tag 16 |
          bits 0-3 lane, bit 4 run                                  all 16 bytes before it are AAD

meta, kind 0 (IP), 1 (control), 3 (keepalive):
 0                      1          2             4                6             8
 | kind<<4 | vnet flags | gso_type | hdr_len u16 | csum_start u16 | csum_off u16 |

meta, kind 2 (relay):
 0      1              5           6                          8
 | 0x20 | channel u32  | hop limit | inner length u16         |
```

Owns layouts, padding and the checks that need no inner packet; `dataplane.inner` checks meta against the packet itself.
The lanes' burst engine may use the structs directly.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from pqvpn.crypto.aead import TAG_SIZE
from pqvpn.drops import DropReason

TYPE_TRANSPORT = 0x04
HEADER_SIZE = 16
META_SIZE = 8
OVERHEAD = HEADER_SIZE + META_SIZE + TAG_SIZE  # 40
KEEPALIVE_SIZE = 48
PAD_TO = 16
MAX_DATA = 2040  # no session has a larger MTU, no probe is larger

LANE_MASK = 0x0F
RUN = 0x10
MAX_RUN = 64
NEEDS_CSUM = 0x01
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP = 0, 1, 4, 5

HEADER = struct.Struct("<BBHIQ")
META = struct.Struct("<BBHHH")
RELAY_META = struct.Struct("<BIBH")

CONTROL_META = META.pack(0x10, 0, 0, 0, 0)
KEEPALIVE_META = META.pack(0x30, 0, 0, 0, 0)


class Kind(IntEnum):
    """What a transport packet carries."""

    IP = 0
    CONTROL = 1
    RELAY = 2
    KEEPALIVE = 3


@dataclass(frozen=True, slots=True)
class Header:
    """A transport header, well-formed."""

    lane: int
    run: bool
    seg_idx: int
    index: int
    counter: int

    def encode(self) -> bytes:
        """16 bytes, all of them AAD."""
        flags = self.lane | (RUN if self.run else 0)
        return HEADER.pack(TYPE_TRANSPORT, flags, self.seg_idx, self.index, self.counter)


class Meta(NamedTuple):
    """Meta of kinds 0, 1 and 3."""

    kind: Kind
    vnet_flags: int = 0
    gso_type: int = GSO_NONE
    hdr_len: int = 0
    csum_start: int = 0
    csum_off: int = 0

    def encode(self) -> bytes:
        """8 bytes."""
        return META.pack(
            self.kind << 4 | self.vnet_flags, self.gso_type, self.hdr_len, self.csum_start, self.csum_off
        )  # fmt: skip


class RelayMeta(NamedTuple):
    """Meta of kind 2."""

    channel: int
    hop_limit: int
    length: int

    def encode(self) -> bytes:
        """8 bytes."""
        return RELAY_META.pack(Kind.RELAY << 4, *self)


def parse_header(packet: bytes) -> Header | DropReason:
    """Check size, type, reserved bits, the run's place and that the lane is the index's."""
    if len(packet) < OVERHEAD:
        return DropReason.MALFORMED
    kind, flags, seg_idx, index, counter = HEADER.unpack_from(packet)
    run = flags & RUN != 0
    if kind != TYPE_TRANSPORT or flags & ~(LANE_MASK | RUN) or seg_idx >= (MAX_RUN if run else 1):
        return DropReason.MALFORMED
    if flags & LANE_MASK != index & LANE_MASK:
        return DropReason.WRONG_LANE
    return Header(flags & LANE_MASK, run, seg_idx, index, counter)


def parse_meta(plaintext: bytes) -> Meta | RelayMeta | DropReason:
    """Meta of an authenticated plaintext of at least 8 bytes: known kind, known values, zeros where they must be."""
    if len(plaintext) < META_SIZE:
        return DropReason.BAD_LENGTH
    first, gso_type, hdr_len, csum_start, csum_off = META.unpack_from(plaintext)
    kind = first >> 4
    if kind == Kind.RELAY:
        return _parse_relay(plaintext)
    if kind in (Kind.CONTROL, Kind.KEEPALIVE):
        empty = first & 0x0F == 0 and not (gso_type or hdr_len or csum_start or csum_off)
        return Meta(Kind(kind)) if empty else DropReason.BAD_META
    if kind != Kind.IP:
        return DropReason.UNKNOWN_KIND
    vnet_flags = first & 0x0F
    if vnet_flags & ~NEEDS_CSUM or gso_type not in (GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP):
        return DropReason.BAD_META
    if not vnet_flags & NEEDS_CSUM and (csum_start or csum_off):
        return DropReason.BAD_META
    return Meta(Kind.IP, vnet_flags, gso_type, hdr_len, csum_start, csum_off)


def _parse_relay(plaintext: bytes) -> RelayMeta | DropReason:
    first, channel, hop_limit, length = RELAY_META.unpack_from(plaintext)
    if first != Kind.RELAY << 4:
        return DropReason.BAD_META
    if length > len(plaintext) - META_SIZE:
        return DropReason.BAD_LENGTH
    return RelayMeta(channel, hop_limit, length)


def padded_size(data: int, mtu: int) -> int:
    """Bytes of plaintext for `data` bytes behind the meta: a multiple of 16, but not past 8 + mtu."""
    return min(-(-(META_SIZE + data) // PAD_TO) * PAD_TO, META_SIZE + mtu)


def pad(meta: bytes, data: bytes, mtu: int) -> bytes:
    """meta || data || zeros, as long as `padded_size` says."""
    return (meta + data).ljust(padded_size(len(data), mtu), b"\0")


def pad_exactly(meta: bytes, data: bytes, size: int) -> bytes:
    """meta || data || zeros so that `size` bytes follow the meta: an MTU probe, exempt from the padding limit."""
    return (meta + data).ljust(META_SIZE + size, b"\0")
