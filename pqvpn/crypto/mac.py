"""BLAKE2s-128, keyed (RFC 7693): MAC1, MAC2 and cookies (PROTOCOL sections 0, 3 and 4)."""

import hashlib
import hmac

MAC_SIZE = 16


def blake2s_128(key: bytes, message: bytes) -> bytes:
    """Keyed BLAKE2s with a digest of 16 bytes; `key` has at most 32 bytes."""
    return hashlib.blake2s(message, digest_size=MAC_SIZE, key=key).digest()


def verify(key: bytes, message: bytes, tag: bytes) -> bool:
    """Whether `tag` is the MAC of `message`, in constant time."""
    return hmac.compare_digest(blake2s_128(key, message), tag)
