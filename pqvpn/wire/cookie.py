"""The cookie reply, 60 bytes (PROTOCOL section 4).

```
 0      1      2             3      4            8                       16         28                 60
 | 0x03 | 0x01 | msg of the  | 0x01 | index sidi | msg_id of the request | nonce 12 | sealed cookie 32 |
                 request
```
"""

import struct
from dataclasses import dataclass

from pqvpn.drops import DropReason
from pqvpn.wire.handshake import VERSION, Msg, is_base_index

TYPE_COOKIE_REPLY = 0x03
REPLY_SIZE = 60
COOKIE_SIZE = 16

_REPLY = struct.Struct("<BBBBIQ12s32s")
_ONE = 0x01


@dataclass(frozen=True, slots=True)
class CookieReply:
    """A cookie reply, well-formed and unauthenticated."""

    msg: Msg  # M1 or M1C
    index: int
    msg_id: int
    nonce: bytes
    sealed: bytes

    def encode(self) -> bytes:
        """60 bytes."""
        return _REPLY.pack(
            TYPE_COOKIE_REPLY, VERSION, self.msg, _ONE, self.index, self.msg_id, self.nonce, self.sealed
        )  # fmt: skip


def parse_reply(datagram: bytes) -> CookieReply | DropReason:
    """Check length, type, version and the message answered."""
    if len(datagram) != REPLY_SIZE:
        return DropReason.MALFORMED
    kind, version, msg, one, index, msg_id, nonce, sealed = _REPLY.unpack(datagram)
    if kind == TYPE_COOKIE_REPLY and version != VERSION:
        return DropReason.VERSION
    if (kind, one) != (TYPE_COOKIE_REPLY, _ONE) or msg not in (Msg.M1, Msg.M1C):
        return DropReason.MALFORMED
    if not is_base_index(index):
        return DropReason.MALFORMED
    return CookieReply(Msg(msg), index, msg_id, nonce, sealed)
