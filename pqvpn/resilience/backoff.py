"""How long to wait between tries: exponential with full jitter, capped, and short again on good news.

Owns the sequence of waits of one operation, made by the `backoff` library. Knows nothing of the operation: whoever owns
its retries asks for the next wait, and nobody else retries the same operation (retries inside retries multiply).
"""

import random
from collections.abc import Callable, Iterator

import backoff


def _full_jitter(longest: float) -> float:
    return random.uniform(0.0, longest)  # noqa: S311 - spreads load, guards no secret


class Backoff:
    """The waits of one operation. `first` and `longest` in seconds; `shortest` keeps the jitter from a busy loop."""

    def __init__(
        self,
        first: float,
        longest: float,
        *,
        shortest: float = 0.0,
        jitter: Callable[[float], float] = _full_jitter,
    ) -> None:
        self._first = first
        self._longest = longest
        self._shortest = shortest
        self._jitter = jitter
        self.tries = 0
        self._waits = self._begin()

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        self.tries += 1
        return max(self._shortest, self._jitter(next(self._waits)))

    def reset(self) -> int:
        """Good news (success, a change of network, an operator): begin anew. Returns the failures there were."""
        tries, self.tries = self.tries, 0
        if tries:
            self._waits = self._begin()
        return tries

    def _begin(self) -> Iterator[float]:
        waits = backoff.expo(base=2, factor=self._first, max_value=self._longest)
        next(waits)  # the library's generators begin with a value that is not a wait
        return waits
