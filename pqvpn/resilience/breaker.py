"""A circuit breaker that opens by failure rate: `circuitbreaker`, mended where it falls short.

Owns one breaker: its state, its window of outcomes, its probes. Knows nothing of what it guards. Theory of operation:

    CLOSED --rate, consecutive--> OPEN --waited--> HALF_OPEN --probes_passed--> CLOSED
                                   ^                  |
                                   +---probe_failed---+

What the library lacks and is here: a failure rate over a sliding window with a minimum of calls; a second trigger by
consecutive failures; one bounded set of half-open probes; a cancelled call counts as neither; a slow call counts as a
failure; listeners; an injected monotonic clock; an operator's hold; no text of a failure is kept; `with` refuses while
open; no global registry. Outcomes count for this node's own calls only: nothing received may be recorded as a failure
unless it answers a call of ours (see `docs/decisions/`).
"""

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Final, TypeVar

from circuitbreaker import CircuitBreaker

from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

_SLICES: Final = 10
"""Of the window: an outcome is forgotten within a tenth of the window's length of its time."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


class State(StrEnum):
    """Whether calls are let through."""

    CLOSED = "closed"  # all
    OPEN = "open"  # none
    HALF_OPEN = "half_open"  # a few, to see


class Cause(StrEnum):
    """Why a breaker changed its state."""

    RATE = "rate"
    CONSECUTIVE = "consecutive"
    WAITED = "waited"
    PROBE_FAILED = "probe_failed"
    PROBES_PASSED = "probes_passed"
    HELD_OPEN = "held_open"  # by an operator
    HELD_CLOSED = "held_closed"  # by an operator
    RESET = "reset"


TRANSITIONS: Final[dict[tuple[State, Cause], State]] = {
    (State.CLOSED, Cause.RATE): State.OPEN,
    (State.CLOSED, Cause.CONSECUTIVE): State.OPEN,
    (State.OPEN, Cause.WAITED): State.HALF_OPEN,
    (State.HALF_OPEN, Cause.PROBE_FAILED): State.OPEN,
    (State.HALF_OPEN, Cause.PROBES_PASSED): State.CLOSED,
    **{(state, Cause.HELD_OPEN): State.OPEN for state in State},
    **{(state, Cause.HELD_CLOSED): State.CLOSED for state in State},
    **{(state, Cause.RESET): State.CLOSED for state in State},
}
"""Every legal change; anything else is a mistake in this module and raises KeyError."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When a breaker opens and tries again. Times in seconds.

    It opens when at least `minimum_calls` ended within `window` and the share of failures reaches `failure_rate`, or
    after `consecutive` failures in a row. It stays open for `open_for`, doubled by each failed probe up to
    `open_longest`; then at most `probes` calls are let through at once, and as many successes close it. A call that
    took longer than `slow_after` is a failure (None: never).
    """

    window: float = 30.0
    minimum_calls: int = 5
    failure_rate: float = 0.5
    consecutive: int = 5
    open_for: float = 5.0
    open_longest: float = 60.0
    probes: int = 1
    slow_after: float | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a breaker, for its listeners. `reason`: of the failure that caused it, where one did."""

    name: str
    before: State
    after: State
    cause: Cause
    reason: Reason | None = None


class BreakerOpenError(PqvpnError):
    """A call was refused because its breaker is open; `seconds` until the next probe."""

    family = "resilience"

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(Reason.BREAKER_OPEN, f"{name}: next try in {seconds:.1f} s")
        self.seconds = seconds


Listener = Callable[[Transition], None]


@dataclass(slots=True)
class _Slice:
    number: int = -1
    calls: int = 0
    failures: int = 0


class Permit:
    """Leave for one call. Tell its outcome exactly once; further tellings change nothing."""

    __slots__ = ("_breaker", "_done", "probe", "started")

    def __init__(self, breaker: "Breaker", started: float, probe: bool) -> None:
        self._breaker = breaker
        self._done = False
        self.started = started
        self.probe = probe

    def succeeded(self) -> None:
        """The call worked; too slowly, it is a failure all the same."""
        self._end(True, None)

    def failed(self, reason: Reason | None = None) -> None:
        """The call failed."""
        self._end(False, reason)

    def abandoned(self) -> None:
        """The call was cancelled, or failed for a reason that is not the guarded thing's: neither."""
        self._end(None, None)

    def _end(self, worked: bool | None, reason: Reason | None) -> None:
        if not self._done:
            self._done = True
            self._breaker.settle(self, worked, reason)


_entered: contextvars.ContextVar[tuple[Permit, ...]] = contextvars.ContextVar("permits", default=())


class Breaker(CircuitBreaker):  # type: ignore[misc] # the library ships no types
    """One breaker. `is_failure(exception)` says which exceptions of a guarded call count; others count as neither."""

    def __init__(
        self,
        name: str,
        policy: Policy,
        clock: Callable[[], float],
        *,
        is_failure: type[Exception] | tuple[type[Exception], ...] = Exception,
    ) -> None:
        super().__init__(policy.consecutive, policy.open_for, is_failure, name)
        self.policy = policy
        self.listeners: list[Listener] = []
        self._clock = clock
        self._at = State.CLOSED
        self._held = False
        self._slices = [_Slice() for _ in range(_SLICES)]
        self._in_a_row = 0
        self._open_until = 0.0
        self._open_for = policy.open_for
        self._probing: set[Permit] = set()
        self._passed = 0

    # -- what it says ------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The state as of now; an open breaker whose time has come is half open."""
        if self._at is State.OPEN and not self._held and self._clock() >= self._open_until:
            self._change(Cause.WAITED)
        return self._at

    @property
    def opened(self) -> bool:
        """Whether a call would be refused now."""
        return not self._admits()

    @property
    def closed(self) -> bool:
        """Whether all calls are let through."""
        return self.state is State.CLOSED

    @property
    def held(self) -> bool:
        """Whether an operator holds the state."""
        return self._held

    @property
    def open_remaining(self) -> float:
        """Seconds until the next probe; 0.0 when calls are let through, infinity when an operator holds it open."""
        if self.state is not State.OPEN:
            return 0.0
        return float("inf") if self._held else max(0.0, self._open_until - self._clock())

    @property
    def last_failure(self) -> None:
        """Nothing: a failure's text may hold a secret, so none is kept."""
        return

    def counts(self) -> tuple[int, int]:
        """(calls, failures) within the window."""
        oldest = self._slice_number() - _SLICES
        live = [s for s in self._slices if s.number > oldest]
        return sum(s.calls for s in live), sum(s.failures for s in live)

    # -- calls -------------------------------------------------------------------------------------------------------

    def acquire(self) -> Permit:
        """Leave for one call. Raises BreakerOpenError."""
        if not self._admits():
            raise BreakerOpenError(str(self.name), self.open_remaining)
        permit = Permit(self, self._clock(), self._at is State.HALF_OPEN)
        if permit.probe:
            self._probing.add(permit)
        return permit

    @contextmanager
    def guard(self) -> Iterator[Permit]:
        """Guard a block: its exceptions are judged, a cancellation counts as neither. Raises BreakerOpenError."""
        permit = self.acquire()
        try:
            yield permit
        except Exception as error:
            self._judge(permit, error)
            raise
        except BaseException:  # cancelled, interrupted, closed: says nothing of what is guarded
            permit.abandoned()
            raise
        permit.succeeded()

    def __enter__(self) -> None:
        """As the library's, but refusing while open."""
        _entered.set((*_entered.get(), self.acquire()))

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Judge how the block ended."""
        *before, permit = _entered.get()
        _entered.set(tuple(before))
        if error is None:
            permit.succeeded()
        else:
            self._judge(permit, error)

    def decorate(self, function: _Function) -> _Function:
        """Guard every call of a function or coroutine function; nothing is entered into the library's registry."""
        if iscoroutinefunction(function):

            @wraps(function)
            async def guarded(*args: Any, **kwargs: Any) -> Any:
                with self.guard():
                    return await function(*args, **kwargs)

        else:

            @wraps(function)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                with self.guard():
                    return function(*args, **kwargs)

        return guarded  # type: ignore[return-value] # functools.wraps keeps the signature

    # -- an operator's hand ------------------------------------------------------------------------------------------

    def hold_open(self) -> None:
        """Refuse every call until `reset`."""
        self._change(Cause.HELD_OPEN)
        self._held = True

    def hold_closed(self) -> None:
        """Let every call through, whatever becomes of it, until `reset`."""
        self._change(Cause.HELD_CLOSED)
        self._held = True

    def apply(self, policy: Policy) -> None:
        """Take a new policy. The state stays; a window of another length begins empty."""
        if policy.window != self.policy.window:
            self._slices = [_Slice() for _ in range(_SLICES)]
        self.policy = policy
        closed = self._at is State.CLOSED
        self._open_for = policy.open_for if closed else min(self._open_for, policy.open_longest)
        if not closed:
            self._open_until = min(self._open_until, self._clock() + policy.open_longest)

    def reset(self) -> None:
        """Closed, and nothing remembered."""
        self._held = False
        self._change(Cause.RESET)

    # -- inside ------------------------------------------------------------------------------------------------------

    def settle(self, permit: Permit, worked: bool | None, reason: Reason | None) -> None:
        """Take the outcome of a call (None: neither); for `Permit`."""
        probe = permit in self._probing
        self._probing.discard(permit)
        if worked and self.policy.slow_after is not None:
            worked = self._clock() - permit.started <= self.policy.slow_after
        if worked is None or self._held:
            return
        if self._at is State.CLOSED and not permit.probe:
            self._count(worked)
            self._in_a_row = 0 if worked else self._in_a_row + 1
            self._open_if_due(reason)
        elif self._at is State.HALF_OPEN and probe:
            self._probed(worked, reason)

    def _admits(self) -> bool:
        match self.state:
            case State.CLOSED:
                return True
            case State.OPEN:
                return False
        # a probe whose caller is gone for good must not keep everybody out
        longest = max(self.policy.open_longest, self.policy.slow_after or 0.0)
        self._probing = {p for p in self._probing if self._clock() - p.started < longest}
        return len(self._probing) < self.policy.probes - self._passed

    def _judge(self, permit: Permit, error: BaseException) -> None:
        counted = isinstance(error, Exception) and not isinstance(error, asyncio.CancelledError)
        if counted and self.is_failure(type(error), error):
            permit.failed(error.reason if isinstance(error, PqvpnError) else None)
        else:
            permit.abandoned()

    def _open_if_due(self, reason: Reason | None) -> None:
        if not self._in_a_row:
            return
        calls, failures = self.counts()
        if self._in_a_row >= self.policy.consecutive:
            self._change(Cause.CONSECUTIVE, reason)
        elif calls >= self.policy.minimum_calls and failures >= self.policy.failure_rate * calls:
            self._change(Cause.RATE, reason)

    def _probed(self, worked: bool, reason: Reason | None) -> None:
        if not worked:
            self._open_for = min(2 * self._open_for, self.policy.open_longest)
            self._change(Cause.PROBE_FAILED, reason)
            return
        self._passed += 1
        if self._passed >= self.policy.probes:
            self._change(Cause.PROBES_PASSED)

    def _change(self, cause: Cause, reason: Reason | None = None) -> None:
        before, after = self._at, TRANSITIONS[self._at, cause]
        self._at = after
        self._probing.clear()
        self._passed = self._in_a_row = 0
        if after is State.OPEN:
            self._open_until = self._clock() + self._open_for
        elif after is State.CLOSED:
            self._open_for = self.policy.open_for
            self._slices = [_Slice() for _ in range(_SLICES)]
        if before is not after:
            told = Transition(str(self.name), before, after, cause, reason)
            for listener in self.listeners:
                listener(told)

    def _count(self, worked: bool) -> None:
        number = self._slice_number()
        place = self._slices[number % _SLICES]
        if place.number != number:
            place.number, place.calls, place.failures = number, 0, 0
        place.calls += 1
        place.failures += not worked

    def _slice_number(self) -> int:
        return int(self._clock() / (self.policy.window / _SLICES))
