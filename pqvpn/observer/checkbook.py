"""The registry of checks: which facts a check draws from, and which checks run by the clock.

Owns the calling: each check behind a boundary of its own, and measured against the time that it may take. A new part of
the node adds its checks here, and rows for its items to `resilience/health.py`; nothing else knows of them. Checks run in
the observer's event loop: one that must wait does so elsewhere and publishes a fact. Knows nothing of what they find.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from pqvpn.facts import Fact

TIMEOUT: Final = 0.1
"""Seconds of processor time that a check may take: a busy machine is no fault of a check."""
Failed = Callable[[str, Exception], None]
_F = TypeVar("_F", bound=Fact)


class CheckTooSlowError(Exception):
    """A check held up the event loop."""


class Checkbook:
    """Checks by name. `clock`: of processor time. `failed` takes a name and what that check raised, or how long it took."""

    def __init__(self, clock: Callable[[], float], failed: Failed, timeout: float = TIMEOUT) -> None:
        self._clock = clock
        self._failed = failed
        self._timeout = timeout
        self._of_facts: dict[type[Fact], list[tuple[str, Callable[[Any, float], None]]]] = {}
        self._timed: dict[str, Callable[[float], None]] = {}

    def on(self, kind: type[_F], name: str, check: Callable[[_F, float], None]) -> None:
        """Have a check called with every fact of a kind and the time."""
        self._of_facts.setdefault(kind, []).append((name, check))

    def every_interval(self, name: str, check: Callable[[float], None]) -> None:
        """Have a check called with the time, once an interval of [health]. Raises ValueError for a name that is taken."""
        if name in self._timed:
            raise ValueError(f"there is a check {name} already")
        self._timed[name] = check

    def take(self, fact: Fact, now: float) -> None:
        """Give a fact to the checks that draw from it."""
        for name, check in self._of_facts.get(type(fact), ()):
            self._call(name, lambda: check(fact, now))  # noqa: B023 - called at once

    def run(self, now: float) -> None:
        """Run what runs by the clock."""
        for name, check in self._timed.items():
            self._call(name, lambda: check(now))  # noqa: B023 - called at once

    def _call(self, name: str, check: Callable[[], None]) -> None:
        began = self._clock()
        try:
            check()
        except Exception as error:  # noqa: BLE001 - the boundary: one check must not cost the others theirs
            self._failed(name, error)
        if (took := self._clock() - began) > self._timeout:
            self._failed(name, CheckTooSlowError(f"{took:.3f} s"))
