"""When the next try to reach the collector is due: a breaker around one thing that is tried by one thread.

Owns the breaker's state and the waits, which `backoff` makes: exponential with full jitter, capped, short again after
good news. Knows nothing of what is tried.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final, Protocol

import backoff

from pqvpn.reasons import Reason

FIRST: Final = 0.5
LONGEST: Final = 60.0
_SHORTEST: Final = 0.05  # so that jitter makes no busy loop
_OPENS_AFTER: Final = 3


class State(StrEnum):
    """closed: it works, or failed once or twice. open: nothing is tried. half_open: one try is under way, to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


OnChange = Callable[[State, State, Reason | None], None]


class Paces(Protocol):
    """What a sender asks and tells: `Pacing`, or what its owner puts in its place."""

    @property
    def state(self) -> str:
        """closed, open, half_open."""

    def due(self, now: float) -> float:
        """Seconds until the next try; 0.0: now, and its outcome must be told."""

    def worked(self) -> None:
        """It answered."""

    def failed(self, now: float, reason: Reason | None, asked: float | None) -> float:
        """It did not; returns the wait."""

    def hold(self, now: float, seconds: float) -> None:
        """It answered, and wants us to wait before the next try."""

    def good_news(self) -> None:
        """Try at once."""


class Pacing:
    """Ask `due`, tell `worked` or `failed`. `now` in seconds. `on_change` is told (before, after, reason)."""

    def __init__(
        self, on_change: OnChange | None = None, jitter: Callable[[float], float] = backoff.full_jitter
    ) -> None:
        self.state: str = State.CLOSED
        self._on_change = on_change
        self._jitter = jitter
        self._waits: Iterator[float] | None = None
        self._failures = 0
        self._next_at = 0.0

    def due(self, now: float) -> float:
        """Seconds until the next try; 0.0: now, and its outcome must be told."""
        wait = max(0.0, self._next_at - now)
        if not wait and self.state is State.OPEN:
            self._change(State.HALF_OPEN, None)
        return wait

    def worked(self) -> None:
        """It answered."""
        self._failures, self._next_at, self._waits = 0, 0.0, None
        self._change(State.CLOSED, None)

    def hold(self, now: float, seconds: float) -> None:
        """It answered, and wants us to wait before the next try."""
        self._next_at = now + seconds

    def failed(self, now: float, reason: Reason | None, asked: float | None) -> float:
        """It did not. `asked`: seconds that it wants us to wait at least. Returns the wait."""
        self._failures += 1
        wait = max(asked or 0.0, _SHORTEST, self._jitter(self._next_wait()))
        self._next_at = now + wait
        if self._failures >= _OPENS_AFTER:
            self._change(State.OPEN, reason)
        return wait

    def good_news(self) -> None:
        """The network changed, or an operator asks: try at once."""
        self._next_at, self._waits = 0.0, None

    def _next_wait(self) -> float:
        if self._waits is None:
            self._waits = backoff.expo(base=2, factor=FIRST, max_value=LONGEST)
            next(self._waits)  # the library's generators begin with a value that is not a wait
        return next(self._waits)

    def _change(self, state: State, reason: Reason | None) -> None:
        before, self.state = State(self.state), state
        if before is not state and self._on_change:
            self._on_change(before, state, reason)
