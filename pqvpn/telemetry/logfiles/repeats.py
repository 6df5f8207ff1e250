"""Repeats: the same record again and again becomes one line that says how often.

Owns what was told lately, by key. Pure: the time is given. The first `BURST` records of a key are told, further ones
are counted; at the end of each window the last of them is told once with the count. Memory is bounded: where there are
too many keys, the one that was quiet for longest is summarised and forgotten.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

WINDOW: Final = 60.0
BURST: Final = 5
MOST_KEYS: Final = 512

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Repeated(Generic[Record]):
    """The last of `count` records that were not told, which came within `seconds`."""

    record: Record
    count: int
    seconds: float


@dataclass(slots=True)
class _Seen(Generic[Record]):
    began: float
    told: int
    count: int = 0
    last: Record | None = None


class Repeats(Generic[Record]):
    """What was told and held back by key. `window` in seconds."""

    def __init__(self, window: float = WINDOW, burst: int = BURST, most: int = MOST_KEYS) -> None:
        self._window = window
        self._burst = burst
        self._most = most
        self._seen: OrderedDict[Hashable, _Seen[Record]] = OrderedDict()
        self._forgotten: list[Repeated[Record]] = []

    def take(self, key: Hashable, record: Record, now: float) -> bool:
        """Whether to tell this record; otherwise it is counted. Ask for `due` before, or windows last longer."""
        seen = self._seen.get(key)
        if seen is None:
            self._make_room(now)
            self._seen[key] = _Seen(now, 1)
            return True
        self._seen.move_to_end(key)
        if seen.told < self._burst:
            seen.told += 1
            return True
        seen.count += 1
        seen.last = record
        return False

    def due(self, now: float) -> list[Repeated[Record]]:
        """Summaries of the windows that ended. A key without a repeat in its window is told in full next time."""
        found, self._forgotten = self._forgotten, []
        for key, seen in list(self._seen.items()):
            if now - seen.began < self._window:
                continue
            if seen.count:
                found.append(_summary(seen, now))
                seen.began, seen.count, seen.last = now, 0, None
            else:
                del self._seen[key]
        return found

    def flush(self, now: float) -> list[Repeated[Record]]:
        """Summaries of everything held back: the end of the process."""
        found = self._forgotten + [_summary(seen, now) for seen in self._seen.values() if seen.count]
        self._seen.clear()
        self._forgotten = []
        return found

    def next_due(self) -> float | None:
        """When `due` has something to say or to forget."""
        return min((seen.began + self._window for seen in self._seen.values()), default=None)

    def _make_room(self, now: float) -> None:
        while len(self._seen) >= self._most:
            _, oldest = self._seen.popitem(last=False)
            if oldest.count:
                self._forgotten.append(_summary(oldest, now))


def _summary(seen: _Seen[Record], now: float) -> Repeated[Record]:
    assert seen.last is not None
    return Repeated(seen.last, seen.count, now - seen.began)
