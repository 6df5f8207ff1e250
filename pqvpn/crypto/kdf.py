"""HKDF with SHA-256 (RFC 5869), as PROTOCOL section 0 fixes it.

Owns extract, expand and both together. Inputs are plain bytes: callers expose a `Secret` right here
and wrap what comes back.
"""

import hmac

HASH_SIZE = 32


def extract(salt: bytes, ikm: bytes) -> bytes:
    """HKDF-Extract (RFC 5869, 2.2): a pseudorandom key of 32 bytes."""
    return hmac.digest(salt, ikm, "sha256")


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand (RFC 5869, 2.3): `length` bytes, at most 255 * 32. Raises ValueError past that (our mistake)."""
    if not 0 < length <= 255 * HASH_SIZE:
        raise ValueError("HKDF-Expand gives 1 to 8160 bytes")
    block, output = b"", b""
    for counter in range(1, -(-length // HASH_SIZE) + 1):
        block = hmac.digest(prk, block + info + bytes((counter,)), "sha256")
        output += block
    return output[:length]


def hkdf(salt: bytes, ikm: bytes, info: bytes, length: int) -> bytes:
    """Extract, then expand."""
    return expand(extract(salt, ikm), info, length)
