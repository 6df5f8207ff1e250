"""X-Wing, the hybrid KEM of ML-KEM-768 and X25519 (draft-connolly-cfrg-xwing-kem; PROTOCOL section 1).

Owns key parsing, encapsulation, decapsulation and the combiner. Keys are parsed once and kept as objects,
because parsing is a good part of the cost. Randomness of encapsulation is the library's own; whoever needs it fixed
injects another `Encapsulate`.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from pqvpn.crypto import labels
from pqvpn.crypto.refused import Refused
from pqvpn.crypto.secret import Secret
from pqvpn.drops import DropReason

SEED_SIZE = 32
PUBLIC_KEY_SIZE = 1216
CIPHERTEXT_SIZE = 1120
SHARED_SECRET_SIZE = 32

_MLKEM_PUBLIC_SIZE = 1184
_MLKEM_CIPHERTEXT_SIZE = 1088
_MLKEM_SEED_SIZE = 64  # d || z


class Encapsulation(NamedTuple):
    """What encapsulating to a public key gives: the secret for us, the ciphertext (1120 bytes) for the key's owner."""

    shared_secret: Secret
    ciphertext: bytes


def combine(ss_m: bytes, ss_x: bytes, ct_x: bytes, pk_x: bytes) -> Secret:
    """SHA3-256(ssM || ssX || ctX || pkX || label): the shared secret of 32 bytes."""
    return Secret(hashlib.sha3_256(ss_m + ss_x + ct_x + pk_x + labels.XWING).digest())


class PublicKey:
    """A parsed X-Wing public key; `raw` is its 1216 bytes pkM || pkX."""

    __slots__ = ("_mlkem", "_x25519", "raw")

    def __init__(self, raw: bytes) -> None:
        """Parse. Raises Refused(DECAPSULATION) on a wrong length or a pkM that fails the FIPS 203 modulus check."""
        if len(raw) != PUBLIC_KEY_SIZE:
            raise Refused(DropReason.DECAPSULATION)
        self.raw = bytes(raw)
        try:
            self._mlkem = MLKEM768PublicKey.from_public_bytes(self.raw[:_MLKEM_PUBLIC_SIZE])
            self._x25519 = X25519PublicKey.from_public_bytes(self.raw[_MLKEM_PUBLIC_SIZE:])
        except ValueError:
            raise Refused(DropReason.DECAPSULATION) from None

    def encapsulate(self) -> Encapsulation:
        """A fresh secret and its ciphertext. Raises Refused(DECAPSULATION) when pkX is a point of small order."""
        ephemeral = X25519PrivateKey.generate()
        ss_m, ct_m = self._mlkem.encapsulate()
        try:
            ss_x = ephemeral.exchange(self._x25519)
        except ValueError:
            raise Refused(DropReason.DECAPSULATION) from None
        ct_x = ephemeral.public_key().public_bytes_raw()
        return Encapsulation(combine(ss_m, ss_x, ct_x, self.raw[_MLKEM_PUBLIC_SIZE:]), ct_m + ct_x)

    def __repr__(self) -> str:
        return f"<X-Wing public key {self.raw[:4].hex()}..>"


Encapsulate = Callable[[PublicKey], Encapsulation]


class PrivateKey:
    """A parsed X-Wing private key; `public` is its 1216-byte public key."""

    __slots__ = ("_mlkem", "_pk_x", "_x25519", "public")

    def __init__(self, seed: Secret) -> None:
        """Expand a seed of 32 bytes with SHAKE256. Raises ValueError on another length (a mistake of ours)."""
        if len(seed) != SEED_SIZE:
            raise ValueError("an X-Wing seed has 32 bytes")
        expanded = hashlib.shake_256(seed.expose()).digest(96)
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_SIZE])
        self._x25519 = X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_SIZE:])
        self._pk_x = self._x25519.public_key().public_bytes_raw()
        self.public = self._mlkem.public_key().public_bytes_raw() + self._pk_x

    def decapsulate(self, ciphertext: bytes) -> Secret:
        """The shared secret. Raises Refused(DECAPSULATION) on a wrong length or an all-zero X25519 result.

        ML-KEM rejects implicitly: a forged ctM gives a secret that nobody knows, and the next tag tells.
        """
        if len(ciphertext) != CIPHERTEXT_SIZE:
            raise Refused(DropReason.DECAPSULATION)
        ct_m, ct_x = ciphertext[:_MLKEM_CIPHERTEXT_SIZE], ciphertext[_MLKEM_CIPHERTEXT_SIZE:]
        try:
            ss_m = self._mlkem.decapsulate(ct_m)
            ss_x = self._x25519.exchange(X25519PublicKey.from_public_bytes(ct_x))
        except ValueError:
            raise Refused(DropReason.DECAPSULATION) from None
        return combine(ss_m, ss_x, ct_x, self._pk_x)

    def __repr__(self) -> str:
        return "<X-Wing private key>"


def encapsulate(public: PublicKey) -> Encapsulation:
    """`Encapsulate` with the library's randomness: what every real handshake uses."""
    return public.encapsulate()
