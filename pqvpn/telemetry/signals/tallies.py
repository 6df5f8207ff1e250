"""Numbers behind counters: bounded in what they tell apart, and never smaller than before.

Owns `Tally`, which counts events, and `Rising`, which follows the count of somebody who may be replaced and begin again
at zero. Knows no instrument.
"""

from collections.abc import Iterable
from typing import Final

OTHER: Final = "other"
MOST: Final = 1024

Key = tuple[str, ...]


class Tally:
    """Counts by key. From `most` keys on, further ones are counted together as `other`."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self.counts: dict[Key, float] = {}

    def add(self, *key: str, count: float = 1) -> None:
        """So many more."""
        if key not in self.counts and len(self.counts) >= self._most:
            key = (OTHER,) * len(key)
        self.counts[key] = self.counts.get(key, 0) + count


class Rising:
    """The latest counts of others by key, as sums over all of their lives."""

    def __init__(self) -> None:
        self._before: dict[Key, float] = {}
        self._latest: dict[Key, float] = {}

    def set(self, key: Key, count: float) -> None:
        """What somebody counts now."""
        former = self._latest.get(key, 0)
        if count < former:
            self._before[key] = self._before.get(key, 0) + former
        self._latest[key] = count

    def keep(self, keys: Iterable[Key]) -> None:
        """Forget all others."""
        wanted = set(keys)
        for known in (self._before, self._latest):
            for key in known.keys() - wanted:
                del known[key]

    @property
    def counts(self) -> dict[Key, float]:
        """The sums."""
        return {key: self._before.get(key, 0) + count for key, count in self._latest.items()}
