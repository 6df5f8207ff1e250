"""A crash loop is one issue with a count: how many reports of one fingerprint are made.

Owns the counts by fingerprint, bounded. Pure: takes `now` in seconds. Knows nothing of events.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

BURST = 3
"""Reports of one fingerprint that are made at once; then one in `EVERY` seconds, with the count of those left out."""
EVERY = 600.0
MOST = 256


@dataclass(slots=True)
class _Seen:
    tokens: float
    at: float
    left_out: int = 0


class Limits:
    """Answers for each crash whether to report it, and how many went unreported since the last report."""

    def __init__(self, burst: int = BURST, every: float = EVERY, most: int = MOST) -> None:
        self._burst = burst
        self._every = every
        self._most = most
        self._seen: OrderedDict[tuple[str, ...], _Seen] = OrderedDict()

    def admit(self, fingerprint: tuple[str, ...], now: float, times: int = 1) -> int | None:
        """The count that this report stands for (1 and more), or None: it is left out and counted.

        `times`: how often it happened already, when its source told of several at once.
        """
        seen = self._seen.pop(fingerprint, None) or _Seen(float(self._burst), now)
        self._seen[fingerprint] = seen
        while len(self._seen) > self._most:
            self._seen.popitem(last=False)
        seen.tokens = min(float(self._burst), seen.tokens + max(0.0, now - seen.at) / self._every)
        seen.at = now
        if seen.tokens < 1.0:
            seen.left_out += times
            return None
        seen.tokens -= 1.0
        count, seen.left_out = times + seen.left_out, 0
        return count

    def dump(self) -> list[list[Any]]:
        """What is known, as JSON takes it."""
        return [[list(key), each.tokens, each.at, each.left_out] for key, each in self._seen.items()]

    def load(self, dumped: list[list[Any]], now: float) -> None:
        """Take over what `dump` gave, `now` being on the same clock. Raises ValueError, TypeError when it is another thing."""
        for key, tokens, at, left_out in dumped[-self._most :]:
            seen = _Seen(min(float(tokens), float(self._burst)), min(float(at), now), int(left_out))
            self._seen[tuple(str(part) for part in key)] = seen
