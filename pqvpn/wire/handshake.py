"""Handshake datagrams and message bodies (PROTOCOL sections 2 and 3).

Every datagram of type 1 is one fragment:

```
 0     1     2     3                4         8              16          16 + chunk
 | 0x01| 0x01| msg | idx<<4 | count | index   | msg_id u64   | chunk ... | MAC1 16 | MAC2 16 (M1, M1c only) |
```

| message | msg | body | fragments | datagrams |
| --- | --- | --- | --- | --- |
| M1  | 1 | epk 1216, ct_s 1120, id_ct 48, pay_ct 48 = 2432 | 3 | 1072, 1072, 432 |
| M2  | 2 | sidr 4, ct_e 1120, ct_i_enc 1136, biscuit 148, conf_r 32 = 2440 | 3 | 1056, 1056, 424 |
| M3  | 3 | sidi 4, biscuit 148, conf_i 32 = 184 | 1 | 216 |
| M1c | 4 | epk 1216, ct_s 1120, card_ct 1272, pay_ct 48 = 3656 | 4 | 1072, 1072, 1072, 632 |

Owns layouts and lengths. `pay` and `params` (what the sides offer and choose) are in `offer.py`.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from pqvpn.crypto.mac import MAC_SIZE
from pqvpn.drops import DropReason

TYPE_HANDSHAKE = 0x01
VERSION = 1
CHUNK_SIZE = 1024
HEADER_SIZE = 16
INDEX_LANE_BITS = 0x0F  # an index names lane 0; lane l receives at index | l

CARD_CT_SIZE = 1272
BISCUIT_SIZE = 148

_HEADER = struct.Struct("<BBBBIQ")
_TRANSCRIPT_HEADER = struct.Struct("<BBI")
_M1 = struct.Struct("<1216s1120s48s48s")
_M1C = struct.Struct("<1216s1120s1272s48s")
_M2 = struct.Struct("<I1120s1136s148s32s")
_M3 = struct.Struct("<I148s32s")


class Msg(IntEnum):
    """Handshake messages by number."""

    M1 = 1
    M2 = 2
    M3 = 3
    M1C = 4


BODY_SIZES = {Msg.M1: _M1.size, Msg.M2: _M2.size, Msg.M3: _M3.size, Msg.M1C: _M1C.size}
COUNTS = {msg: -(-size // CHUNK_SIZE) for msg, size in BODY_SIZES.items()}
TRAILER_SIZES = {Msg.M1: 2 * MAC_SIZE, Msg.M2: MAC_SIZE, Msg.M3: MAC_SIZE, Msg.M1C: 2 * MAC_SIZE}
NO_MAC2 = bytes(MAC_SIZE)

_MESSAGES = {int(msg): msg for msg in Msg}


def chunk_size(msg: Msg, idx: int) -> int:
    """Bytes of body in fragment `idx`: 1024, or what is left in the last."""
    return min(CHUNK_SIZE, BODY_SIZES[msg] - idx * CHUNK_SIZE)


def datagram_size(msg: Msg, idx: int) -> int:
    """The one length that fragment `idx` of a message can have."""
    return HEADER_SIZE + chunk_size(msg, idx) + TRAILER_SIZES[msg]


def is_base_index(index: int) -> bool:
    """Whether an index can name lane 0 of a session: low 4 bits zero, the others not all zero."""
    return index & INDEX_LANE_BITS == 0 and index != 0


@dataclass(frozen=True, slots=True)
class Fragment:
    """One handshake datagram, well-formed and unauthenticated. `mac2` is empty where the message has none."""

    msg: Msg
    idx: int
    index: int  # the receiver's or sender's, as the message has it: sidi in M1, M1c, M2; sidr in M3
    msg_id: int
    chunk: bytes
    mac1: bytes
    mac2: bytes
    covered: bytes  # header || chunk, what MAC1 covers

    @property
    def count(self) -> int:
        """How many fragments the message has."""
        return COUNTS[self.msg]


def parse_fragment(datagram: bytes) -> Fragment | DropReason:
    """Check type, version, message, place, exact length and index of a datagram of type 1."""
    if len(datagram) < HEADER_SIZE:
        return DropReason.MALFORMED
    kind, version, number, place, index, msg_id = _HEADER.unpack_from(datagram)
    if kind != TYPE_HANDSHAKE:
        return DropReason.MALFORMED
    if version != VERSION:
        return DropReason.VERSION
    msg = _MESSAGES.get(number)
    if msg is None:
        return DropReason.MALFORMED
    idx, count = place >> 4, place & 0x0F
    if count != COUNTS[msg] or idx >= count or len(datagram) != datagram_size(msg, idx):
        return DropReason.MALFORMED
    if not is_base_index(index):
        return DropReason.MALFORMED
    end = HEADER_SIZE + chunk_size(msg, idx)
    return Fragment(
        msg, idx, index, msg_id,
        chunk=bytes(datagram[HEADER_SIZE:end]),
        mac1=bytes(datagram[end : end + MAC_SIZE]),
        mac2=bytes(datagram[end + MAC_SIZE :]),
        covered=bytes(datagram[:end]),
    )  # fmt: skip


def header(msg: Msg, idx: int, index: int, msg_id: int) -> bytes:
    """The 16 bytes before a chunk."""
    return _HEADER.pack(TYPE_HANDSHAKE, VERSION, msg, idx << 4 | COUNTS[msg], index, msg_id)


def transcript_header(msg: Msg, index: int) -> bytes:
    """ver || msg || index, 6 bytes: what the transcript mixes of a header (PROTOCOL section 2)."""
    return _TRANSCRIPT_HEADER.pack(VERSION, msg, index)


class M1(NamedTuple):
    """Body of M1 and M1c; `who_ct` is id_ct (48 bytes, M1) or card_ct (1272 bytes, M1c)."""

    epk: bytes
    ct_s: bytes
    who_ct: bytes
    pay_ct: bytes

    def encode(self) -> bytes:
        """2432 bytes, or 3656 with a card."""
        return (_M1C if len(self.who_ct) == CARD_CT_SIZE else _M1).pack(*self)


class M2(NamedTuple):
    """Body of M2, 2440 bytes."""

    sidr: int
    ct_e: bytes
    ct_i_enc: bytes
    biscuit: bytes
    conf_r: bytes

    def encode(self) -> bytes:
        """2440 bytes."""
        return _M2.pack(*self)


class M3(NamedTuple):
    """Body of M3, 184 bytes."""

    sidi: int
    biscuit: bytes
    conf_i: bytes

    def encode(self) -> bytes:
        """184 bytes."""
        return _M3.pack(*self)


def parse_m1(body: bytes, msg: Msg = Msg.M1) -> M1 | DropReason:
    """A body of M1, or of M1c when `msg` says so."""
    layout = _M1C if msg is Msg.M1C else _M1
    return M1(*layout.unpack(body)) if len(body) == layout.size else DropReason.MALFORMED


def parse_m2(body: bytes) -> M2 | DropReason:
    """A body of M2, whose sidr must be able to name lane 0."""
    if len(body) != _M2.size:
        return DropReason.MALFORMED
    m2 = M2(*_M2.unpack(body))
    return m2 if is_base_index(m2.sidr) else DropReason.MALFORMED


def parse_m3(body: bytes) -> M3 | DropReason:
    """A body of M3, whose sidi must be able to name lane 0."""
    if len(body) != _M3.size:
        return DropReason.MALFORMED
    m3 = M3(*_M3.unpack(body))
    return m3 if is_base_index(m3.sidi) else DropReason.MALFORMED
