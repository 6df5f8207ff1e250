"""The handshake's running state: transcript hash h and chaining key ck (PROTOCOL section 2).

Owns `mix` and `key` and the tags of everything mixed. Knows no message: `initiator.py` and `responder.py` call it step
by step in the order of the specification.
"""

import hashlib
import struct
from enum import IntEnum
from typing import Self

from pqvpn.crypto import kdf, labels
from pqvpn.crypto.secret import Secret, key_or_none

_PREFIX = struct.Struct("<BI")


class Tag(IntEnum):
    """What is mixed."""

    ID_R = 0x01
    HEADER = 0x02
    EPK = 0x03
    CT_S = 0x04
    ID_CT = 0x05
    ID_I = 0x06
    PAY_CT = 0x07
    CARD_CT = 0x08
    SIDR = 0x09
    CT_E = 0x0A
    CT_I_ENC = 0x0B
    CT_I = 0x0C
    BISCUIT = 0x0D
    CONF_R = 0x0E


class Transcript:
    """h and ck, 32 bytes each. ck is secret; nothing of this prints."""

    __slots__ = ("ck", "h")

    def __init__(self, h: bytes, ck: bytes) -> None:
        """Resume from a known state: the responder does so from a biscuit."""
        self.h = h
        self.ck = ck

    @classmethod
    def start(cls, network_key: Secret | None, id_r: bytes) -> Self:
        """h and ck of the protocol's name and the network key, with the responder's ID mixed."""
        h = hashlib.sha256(labels.PROTOCOL_NAME).digest()
        transcript = cls(h, kdf.extract(h, key_or_none(network_key).expose()))
        transcript.mix(Tag.ID_R, id_r)
        return transcript

    def mix(self, tag: Tag, data: bytes) -> None:
        """h <- SHA-256(h || tag u8 || len u32 || data)."""
        self.h = hashlib.sha256(self.h + _PREFIX.pack(tag, len(data)) + data).digest()

    def key(self, label: bytes, ikm: bytes) -> bytes:
        """(ck, k) <- HKDF(ck, ikm, label || h, 64); returns k, which may seal one message."""
        output = kdf.hkdf(self.ck, ikm, label + self.h, 64)
        self.ck = output[:32]
        return output[32:]

    def m2_mac_key(self) -> Secret:
        """K_m2: from the state after M1, never from ID_I, which would break the initiator's hiding."""
        return Secret(kdf.expand(self.ck, labels.M2_MAC, 32))

    def session_secret(self) -> Secret:
        """S: from the state after M3's header."""
        return Secret(kdf.expand(self.ck, labels.SESSION + self.h, 32))

    def copy(self) -> "Transcript":
        """An independent state: an M2 that fails must change nothing."""
        return Transcript(self.h, self.ck)

    def __repr__(self) -> str:
        return "<Transcript>"
