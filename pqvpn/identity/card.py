"""The card: what a node publishes about itself (PROTOCOL section 1).

```
 0        4   5   6     8                            1224              1256
 | "PQVC" | 1 | 1 | 0 0 | X-Wing public key, 1216 ... | sig_pk_hash, 32 |
   magic   ver suite flags
```

Owns the 1256 bytes and their checks. Text forms are in `text.py`.
"""

import struct
from typing import Self

from pqvpn.crypto import xwing
from pqvpn.crypto.refused import Refused
from pqvpn.errors import ConfigError
from pqvpn.identity import peer_id
from pqvpn.reasons import Reason

CARD_SIZE = 1256
MAGIC = b"PQVC"
VERSION = 1
SUITE = 1
NO_SIGNATURE_KEY = bytes(32)

_HEAD = struct.Struct("<4sBBH")


class Card:
    """A parsed card. `public_key` is parsed once and kept; `encoded` is the 1256 bytes; `peer_id` their hash."""

    __slots__ = ("encoded", "peer_id", "public_key", "sig_pk_hash")

    def __init__(self, public_key: xwing.PublicKey, sig_pk_hash: bytes = NO_SIGNATURE_KEY) -> None:
        """`sig_pk_hash`: 32 bytes, zeros when the node publishes no discovery records."""
        if len(sig_pk_hash) != len(NO_SIGNATURE_KEY):
            raise ValueError("a signature key hash has 32 bytes")
        self.public_key = public_key
        self.sig_pk_hash = sig_pk_hash
        self.encoded = _HEAD.pack(MAGIC, VERSION, SUITE, 0) + public_key.raw + sig_pk_hash
        self.peer_id = peer_id.of_card(self.encoded)

    @classmethod
    def decode(cls, encoded: bytes, place: str = "") -> Self:
        """Parse 1256 bytes. Raises ConfigError (identity.card_malformed) on anything that `encoded` would not hold."""
        if len(encoded) != CARD_SIZE:
            raise _malformed(f"a card has {CARD_SIZE} bytes, this has {len(encoded)}", place)
        magic, version, suite, flags = _HEAD.unpack_from(encoded)
        if magic != MAGIC:
            raise _malformed("it does not begin with PQVC", place)
        if (version, suite, flags) != (VERSION, SUITE, 0):
            raise _malformed(f"version {version}, suite {suite}, flags {flags:#06x} are not known here", place)
        end = _HEAD.size + xwing.PUBLIC_KEY_SIZE
        try:
            return cls(xwing.PublicKey(encoded[_HEAD.size : end]), encoded[end:])
        except Refused:
            raise _malformed("its public key is not a valid X-Wing key", place) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Card) and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __repr__(self) -> str:
        return f"<Card of {peer_id.to_text(self.peer_id)}>"


def _malformed(detail: str, place: str) -> ConfigError:
    return ConfigError(Reason.CARD_MALFORMED, detail, place=place)
