"""Limits on what strangers may cost us: token buckets, cookie mode, keys seen (PROTOCOL section 4).

Owns the arithmetic and its bounds in memory. Knows no datagram: callers pass opaque keys and `now`.
"""

from collections import OrderedDict
from hashlib import blake2s

SOURCE_RATE, SOURCE_BURST = 20.0, 8.0  # new slots a second, per /32 or /64, or per (ip, port) with a valid MAC2
SOURCES = 65_536
CONFIRM_RATE = 2000.0  # M3 a second, all sources
FULL_M1_RATE = 200.0  # completed M1 a second, all sources; past that, cookie mode
EPKS = 32_768


class TokenBucket:
    """`rate` tokens a second up to `burst`; starts full."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst, self._tokens, self._at = rate, burst, burst, now

    def take(self, now: float) -> bool:
        """Take one token. False when there is none. A `now` that runs backwards adds nothing."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class BucketTable:
    """A bucket per key, the least recently used forgotten when there are more than `capacity`."""

    def __init__(self, rate: float, burst: float, capacity: int = SOURCES) -> None:
        self._rate, self._burst, self._capacity = rate, burst, capacity
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()

    def take(self, key: bytes, now: float) -> bool:
        """Take one token from the key's bucket."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._capacity:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst, now)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now)

    def __len__(self) -> int:
        return len(self._buckets)


class CookieMode:
    """Whether strangers must prove their address first: under load, and for at least `holds` seconds after."""

    def __init__(self, holds: float) -> None:
        self._holds = holds
        self._until = float("-inf")

    def trigger(self, now: float) -> None:
        """Load was seen now."""
        self._until = max(self._until, now + self._holds)

    def active(self, now: float) -> bool:
        """Whether an M1 without a valid MAC2 gets a cookie instead of a slot."""
        return now < self._until


class SeenKeys:
    """Hashes of the ephemeral keys of completed M1s, for `lifetime` seconds, at most `capacity` (the oldest go)."""

    def __init__(self, lifetime: float, capacity: int = EPKS) -> None:
        self._lifetime, self._capacity = lifetime, capacity
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def add(self, epk: bytes, now: float) -> bool:
        """Remember a key; whether it was new. Seeing a key again does not prolong its stay."""
        while self._seen and next(iter(self._seen.values())) <= now:
            self._seen.popitem(last=False)
        digest = blake2s(epk, digest_size=16).digest()
        if digest in self._seen:
            return False
        if len(self._seen) >= self._capacity:
            self._seen.popitem(last=False)
        self._seen[digest] = now + self._lifetime
        return True

    def __len__(self) -> int:
        return len(self._seen)
