"""The private key file and what is derived from it (PROTOCOL section 1).

Owns the codec between the file's text and two secrets of 32 bytes, the X-Wing seed and the signature master. File modes
are checked by whoever reads the file.
"""

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from pqvpn.crypto import kdf, labels, xwing
from pqvpn.crypto.secret import Secret
from pqvpn.errors import ConfigError
from pqvpn.identity.card import Card
from pqvpn.identity.text import armour, unarmour
from pqvpn.reasons import Reason

KEY_LABEL = "PQVPN PRIVATE KEY"
SEED_SIZE = 32
RAW_SIZE = 2 * SEED_SIZE


class IdentityKey:
    """A node's long-term secrets. `xwing` is the parsed KEM key; signature keys are derived when asked for."""

    __slots__ = ("_master", "_seed", "xwing")

    def __init__(self, raw: Secret) -> None:
        """`raw`: 64 secret bytes, X-Wing seed || signature master. Fresh ones come from the system's randomness."""
        if len(raw) != RAW_SIZE:
            raise ValueError(f"an identity has {RAW_SIZE} secret bytes")
        self._seed = Secret(raw.expose()[:SEED_SIZE])
        self._master = Secret(raw.expose()[SEED_SIZE:])
        self.xwing = xwing.PrivateKey(self._seed)

    @classmethod
    def decode(cls, text: Secret, place: str = "") -> "IdentityKey":
        """Parse a key file's bytes. Raises ConfigError (identity.key_malformed), whose detail shows nothing of them."""
        try:
            data = unarmour(KEY_LABEL, text.expose().decode("ascii"))
        except UnicodeDecodeError:
            raise _malformed("it is not text", place) from None
        except ValueError as error:
            raise _malformed(str(error), place) from None
        if len(data) != RAW_SIZE:
            raise _malformed(f"it holds {len(data)} bytes, not {RAW_SIZE}", place)
        return cls(Secret(data))

    def encode(self) -> Secret:
        """The bytes of the key file."""
        return Secret(armour(KEY_LABEL, self._seed.expose() + self._master.expose()).encode("ascii"))

    @property
    def seed(self) -> Secret:
        """The X-Wing seed, 32 bytes."""
        return self._seed

    def mldsa65_seed(self) -> Secret:
        """The seed of the ML-DSA-65 key that signs discovery records, 32 bytes."""
        return Secret(kdf.expand(self._master.expose(), labels.SIG_MLDSA65, SEED_SIZE))

    def ed25519_seed(self) -> Secret:
        """The seed of the Ed25519 key that signs discovery records, 32 bytes."""
        return Secret(kdf.expand(self._master.expose(), labels.SIG_ED25519, SEED_SIZE))

    def sig_pk_hash(self) -> bytes:
        """SHA-256(ML-DSA-65 public key 1952 || Ed25519 public key 32)."""
        mldsa = MLDSA65PrivateKey.from_seed_bytes(self.mldsa65_seed().expose()).public_key()
        ed25519 = Ed25519PrivateKey.from_private_bytes(self.ed25519_seed().expose()).public_key()
        return hashlib.sha256(mldsa.public_bytes_raw() + ed25519.public_bytes_raw()).digest()

    def card(self) -> Card:
        """The node's card. It names the signature keys from the start: publishing records later keeps the ID."""
        return Card(xwing.PublicKey(self.xwing.public), self.sig_pk_hash())

    def __repr__(self) -> str:
        return "<IdentityKey>"


def _malformed(detail: str, place: str) -> ConfigError:
    return ConfigError(Reason.KEY_MALFORMED, f"not a private key file: {detail}", place=place)
