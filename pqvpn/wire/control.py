"""Control frames: what follows the meta of a kind 1 packet (PROTOCOL section 5).

```
 0x01 PATH_CHALLENGE | nonce 8
 0x02 PATH_RESPONSE  | nonce 8
 0x03 CLOSE          | reason u8
 0x04 MTU_PROBE      | id u16 | zeros up to the size probed
 0x05 MTU_ACK        | id u16 | size u16
```

Receivers ignore what follows a body, so lengths here are minima. Operations from 0x10 on belong to relays.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

from pqvpn.drops import DropReason

NONCE_SIZE = 8

_PATH = struct.Struct("<B8s")
_CLOSE = struct.Struct("<BB")
_PROBE = struct.Struct("<BH")
_ACK = struct.Struct("<BHH")


class Op(IntEnum):
    """Control operations."""

    PATH_CHALLENGE = 0x01
    PATH_RESPONSE = 0x02
    CLOSE = 0x03
    MTU_PROBE = 0x04
    MTU_ACK = 0x05


class CloseReason(IntEnum):
    """Why the other side closed. A number that is not here closes as well."""

    SHUTDOWN = 0
    REKEYED = 1
    ADMINISTRATIVE = 2


class PathChallenge(NamedTuple):
    """Asks whoever holds the session's keys at an address to send `nonce` (8 bytes) back from there."""

    nonce: bytes

    def encode(self) -> bytes:
        """9 bytes."""
        return _PATH.pack(Op.PATH_CHALLENGE, self.nonce)


class PathResponse(NamedTuple):
    """Answers a challenge with its nonce."""

    nonce: bytes

    def encode(self) -> bytes:
        """9 bytes."""
        return _PATH.pack(Op.PATH_RESPONSE, self.nonce)


class Close(NamedTuple):
    """Erases the session; unanswered. `reason` is a CloseReason or a later version's number."""

    reason: int

    def encode(self) -> bytes:
        """2 bytes."""
        return _CLOSE.pack(Op.CLOSE, self.reason)


class MtuProbe(NamedTuple):
    """A probe; `size` is how many bytes followed the meta (sent: pad to it; parsed: what arrived)."""

    id: int
    size: int

    def encode(self) -> bytes:
        """3 bytes, to be padded to `size`."""
        return _PROBE.pack(Op.MTU_PROBE, self.id)


class MtuAck(NamedTuple):
    """Says that probe `id` arrived with `size` bytes behind the meta."""

    id: int
    size: int

    def encode(self) -> bytes:
        """5 bytes."""
        return _ACK.pack(Op.MTU_ACK, self.id, self.size)


Frame = PathChallenge | PathResponse | Close | MtuProbe | MtuAck

_SIZES = {
    Op.PATH_CHALLENGE: _PATH.size,
    Op.PATH_RESPONSE: _PATH.size,
    Op.CLOSE: _CLOSE.size,
    Op.MTU_PROBE: _PROBE.size,
    Op.MTU_ACK: _ACK.size,
}


def parse_frame(body: bytes) -> Frame | DropReason:
    """A control frame: operation, its body, and whatever padding follows."""
    if not body:
        return DropReason.BAD_LENGTH
    op = body[0]
    if op not in _SIZES:
        return DropReason.UNKNOWN_KIND
    if len(body) < _SIZES[Op(op)]:
        return DropReason.BAD_LENGTH
    return _read(Op(op), body)


def _read(op: Op, body: bytes) -> Frame:
    if op is Op.PATH_CHALLENGE:
        return PathChallenge(_PATH.unpack_from(body)[1])
    if op is Op.PATH_RESPONSE:
        return PathResponse(_PATH.unpack_from(body)[1])
    if op is Op.CLOSE:
        return Close(_CLOSE.unpack_from(body)[1])
    if op is Op.MTU_PROBE:
        return MtuProbe(_PROBE.unpack_from(body)[1], len(body))
    return MtuAck(*_ACK.unpack_from(body)[1:])
