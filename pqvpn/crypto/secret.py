"""A type for secret bytes that cannot be shown by accident.

Owns `Secret`. It does not erase: immutable bytes remain in a Python process (PROTOCOL section 5, "Erasure, honestly").
"""

import hmac
from typing import NoReturn, SupportsIndex, final

SHOWN = "<secret>"


@final
class Secret:
    """Secret bytes. Prints as `<secret>`, compares in constant time, refuses pickling, copying and hashing."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def expose(self) -> bytes:
        """The bytes themselves. Every call is a place to review: pass the result to a primitive, never store it."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment] # a hash of a secret is a way to compare it in variable time

    def __repr__(self) -> str:
        return SHOWN

    def __format__(self, spec: str) -> str:
        return format(SHOWN, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a secret is not pickled")

    def __copy__(self) -> NoReturn:
        raise TypeError("a secret is not copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a secret is not copied")


NO_KEY = Secret(bytes(32))  # stands for "none" wherever a network_key or psk is optional


def key_or_none(key: Secret | None) -> Secret:
    """The key, or 0^32 when there is none (PROTOCOL 1 and 2). Configured keys of 0^32 are refused elsewhere."""
    return NO_KEY if key is None else key
