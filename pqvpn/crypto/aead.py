"""Authenticated encryption: the two transport ciphers, the handshake's ChaCha20-Poly1305, AES-256-GCM-SIV for biscuits.

Owns cipher numbers, limits and nonces. The data plane builds its cipher objects with `Aead.cipher` and keeps them; the
functions here are for the control path, one call a message.
"""

from enum import IntEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305

from pqvpn.crypto.refused import Refused
from pqvpn.crypto.secret import Secret
from pqvpn.drops import DropReason

KEY_SIZE = 32
NONCE_SIZE = 12
TAG_SIZE = 16
ZERO_NONCE = bytes(NONCE_SIZE)  # every handshake key seals exactly one message

Cipher = AESGCM | ChaCha20Poly1305


class Aead(IntEnum):
    """A transport cipher; the value is its bit in `pay` and its number in `params` and lane keys (PROTOCOL 2)."""

    AES_256_GCM = 1
    CHACHA20_POLY1305 = 2

    @property
    def rekey_limit(self) -> int:
        """Packets of one lane and direction after which the session re-keys (PROTOCOL section 5)."""
        return 1 << 26 if self is Aead.AES_256_GCM else 1 << 48

    @property
    def stop_limit(self) -> int:
        """The first counter that is neither sent nor accepted (PROTOCOL section 5)."""
        return 1 << 28 if self is Aead.AES_256_GCM else 1 << 60

    @property
    def suite(self) -> str:
        """The name for status and logs."""
        return "AES-256-GCM" if self is Aead.AES_256_GCM else "ChaCha20-Poly1305"

    def cipher(self, key: Secret) -> Cipher:
        """A cipher object for one 32-byte key. It takes nonces of other sizes silently: give it 12 bytes."""
        if len(key) != KEY_SIZE:
            raise ValueError("a transport key has 32 bytes")
        return AESGCM(key.expose()) if self is Aead.AES_256_GCM else ChaCha20Poly1305(key.expose())


ALL_AEADS = int(Aead.AES_256_GCM) | int(Aead.CHACHA20_POLY1305)


def transport_nonce(iv: bytes, counter: int) -> bytes:
    """iv XOR (0^4 || counter u64 little-endian), 12 bytes (PROTOCOL section 5)."""
    return (int.from_bytes(iv, "little") ^ (counter << 32)).to_bytes(NONCE_SIZE, "little")


def seal(key: bytes, plaintext: bytes, ad: bytes) -> bytes:
    """The handshake's AEAD(k, p, ad): ChaCha20-Poly1305 with nonce 0^12. The key must never seal a second message."""
    return ChaCha20Poly1305(key).encrypt(ZERO_NONCE, plaintext, ad)


def unseal(key: bytes, ciphertext: bytes, ad: bytes) -> bytes:
    """Open what `seal` made. Raises Refused(BAD_HANDSHAKE) when it does not authenticate."""
    try:
        return ChaCha20Poly1305(key).decrypt(ZERO_NONCE, ciphertext, ad)
    except InvalidTag:
        raise Refused(DropReason.BAD_HANDSHAKE) from None


def siv_seal(key: bytes, nonce: bytes, plaintext: bytes, ad: bytes) -> bytes:
    """AES-256-GCM-SIV (RFC 8452): key 32, nonce 12 random bytes; a repeated nonce costs no more than equality."""
    return AESGCMSIV(key).encrypt(nonce, plaintext, ad)


def siv_unseal(key: bytes, nonce: bytes, ciphertext: bytes, ad: bytes) -> bytes | None:
    """Open what `siv_seal` made; None when it does not authenticate or its nonce has not 12 bytes."""
    if len(nonce) != NONCE_SIZE:
        return None
    try:
        return AESGCMSIV(key).decrypt(nonce, ciphertext, ad)
    except InvalidTag:
        return None
