"""What the initiator offers (`pay`) and the responder chooses (`params`), PROTOCOL section 2.

```
pay     0 aeads | 1 lanes | 2 mtu u16 | 4 features u16 | 6 policy | 7 boot id 8 | 15 0^16 | 31 trace flags    32 bytes
params  0 aead  | 1 lanes | 2 mtu u16 | 4 features u16 | 6 policy | 7 trace flags | 8 0^8                     16 bytes
```

Owns the layouts and the ranges of their values. What fits together is decided in `pqvpn.protocol`.
"""

import struct
from typing import NamedTuple

from pqvpn.crypto.aead import ALL_AEADS, Aead
from pqvpn.drops import DropReason

MAX_LANES = 16
MIN_MTU = 576
MAX_MTU = 2040
FEATURES = 0  # none in version 1
POLICY_FULL = 0
POLICY_AUTH_PLAINTEXT = 1
TRACE_SAMPLED = 1
BOOT_ID_SIZE = 8

PAY_SIZE = 32
PARAMS_SIZE = 16
PARAMS_BOUND_SIZE = 12  # of params, what a biscuit carries: the rest is zero

_PAY = struct.Struct("<BBHHB8s16sB")
_PARAMS = struct.Struct("<BBHHBB8s")


class Pay(NamedTuple):
    """The initiator's offer. Nothing may act on it before M3 verifies: M1 is not authenticated."""

    aeads: int  # bits of Aead
    lanes: int  # 1..16, the most the sender wants
    mtu: int  # largest inner packet it accepts, bytes
    policy: int = POLICY_FULL
    boot_id: bytes = bytes(BOOT_ID_SIZE)  # a log field, nothing else
    trace_flags: int = 0
    features: int = FEATURES

    def encode(self) -> bytes:
        """32 bytes."""
        return _PAY.pack(
            self.aeads, self.lanes, self.mtu, self.features, self.policy, self.boot_id, bytes(16), self.trace_flags
        )  # fmt: skip


class Params(NamedTuple):
    """What the responder chose."""

    aead: Aead
    lanes: int
    mtu: int
    policy: int
    trace_flags: int
    features: int = FEATURES

    def encode(self) -> bytes:
        """16 bytes."""
        return _PARAMS.pack(
            self.aead, self.lanes, self.mtu, self.features, self.policy, self.trace_flags, bytes(8)
        )  # fmt: skip


def parse_pay(data: bytes) -> Pay | DropReason:
    """An offer. Bits of aeads, features and trace flags that version 1 does not know are dropped from the value."""
    if len(data) != PAY_SIZE:
        return DropReason.MALFORMED
    aeads, lanes, mtu, features, policy, boot_id, reserved, trace_flags = _PAY.unpack(data)
    if any(reserved) or not _in_range(lanes, mtu, policy):
        return DropReason.BAD_HANDSHAKE
    return Pay(aeads & ALL_AEADS, lanes, mtu, policy, boot_id, trace_flags & TRACE_SAMPLED, features & FEATURES)


def parse_params(data: bytes) -> Params | DropReason:
    """A choice: exactly one known cipher, known bits only, reserved bytes zero."""
    if len(data) != PARAMS_SIZE:
        return DropReason.MALFORMED
    aead, lanes, mtu, features, policy, trace_flags, reserved = _PARAMS.unpack(data)
    if any(reserved) or features & ~FEATURES or trace_flags & ~TRACE_SAMPLED:
        return DropReason.BAD_HANDSHAKE
    if aead not in (Aead.AES_256_GCM, Aead.CHACHA20_POLY1305) or not _in_range(lanes, mtu, policy):
        return DropReason.BAD_HANDSHAKE
    return Params(Aead(aead), lanes, mtu, policy, trace_flags, features)


def _in_range(lanes: int, mtu: int, policy: int) -> bool:
    policies = (POLICY_FULL, POLICY_AUTH_PLAINTEXT)
    return 1 <= lanes <= MAX_LANES and MIN_MTU <= mtu <= MAX_MTU and policy in policies
