"""When the next try of a delivery is due: a breaker and a backoff behind the interface that the senders of telemetry take.

Owns the joining of the two for one thing that is tried by one thread, while the loop shows it and operators act on it.
Telemetry may not import breakers: it is given one of these. Knows nothing of what is delivered.
"""

import threading
from collections.abc import Callable
from typing import Final

from pqvpn.facts import FactHook, RetryEnded, RetryWaiting
from pqvpn.reasons import Reason
from pqvpn.resilience.backoff import Backoff
from pqvpn.resilience.breaker import Breaker, BreakerOpenError, Permit, State

FIRST: Final = 0.5
LONGEST: Final = 60.0
SHORTEST: Final = 0.05
_HELD: Final = 5.0
"""Seconds after which a delivery that an operator holds is looked at again; a reset wakes it at once."""


class BreakerPacing:
    """Ask `due`, tell `worked` or `failed`. `publish` may be called in any thread; `lock` is held around the breaker."""

    def __init__(
        self,
        kind: str,
        breaker: Breaker,
        clock: Callable[[], float],
        publish: FactHook,
        lock: threading.RLock,
        waits: Backoff | None = None,
    ) -> None:
        self._kind = kind
        self._breaker = breaker
        self._clock = clock
        self._publish = publish
        self._waits = waits or Backoff(FIRST, LONGEST, shortest=SHORTEST)
        self._lock = lock
        self._permit: Permit | None = None
        self._next_at = 0.0
        self._news = False

    @property
    def state(self) -> State:
        """Of the breaker."""
        with self._lock:
            return self._breaker.state

    def due(self, now: float) -> float:
        """Seconds until the next try; 0.0: now, and its outcome must be told."""
        del now  # the sender's clock stands while the machine sleeps
        with self._lock:
            wait = max(0.0, self._next_at - self._clock())
            if wait or self._permit is not None:
                return wait
            try:
                self._permit = self._breaker.acquire()
            except BreakerOpenError as refusal:
                return (
                    max(SHORTEST, min(refusal.seconds, _HELD)) if self._breaker.held else max(SHORTEST, refusal.seconds)
                )
            return 0.0

    def worked(self) -> None:
        """It answered."""
        with self._lock:
            self._settle(True, None)
            self._next_at = 0.0
            tries, news, self._news = self._waits.reset(), self._news, False
        if tries:
            self._publish(RetryEnded(self._kind, "", tries, "good_news" if news else "recovered"))

    def failed(self, now: float, reason: Reason | None, asked: float | None) -> float:
        """It did not. `asked`: seconds that it wants us to wait at least. Returns the wait."""
        del now
        with self._lock:
            self._settle(False, reason)
            wait = max(
                asked or 0.0, self._waits.next(), self._breaker.open_remaining if not self._breaker.held else 0.0
            )
            self._next_at = self._clock() + wait
            number = self._waits.tries
        self._publish(RetryWaiting(self._kind, "", number, round(wait, 3), reason))
        return wait

    def hold(self, now: float, seconds: float) -> None:
        """It answered, and wants us to wait before the next try."""
        del now
        with self._lock:
            self._next_at = self._clock() + seconds

    def good_news(self) -> None:
        """The network changed, or an operator asks: try at once."""
        with self._lock:
            self._next_at, self._news = 0.0, True
            self._permit = None
            if not self._breaker.held:
                self._breaker.reset()

    def _settle(self, worked: bool, reason: Reason | None) -> None:
        permit, self._permit = self._permit, None
        if permit is None:
            return
        if worked:
            permit.succeeded()
        else:
            permit.failed(reason)
