"""The self-tests as control runs them: aside, so that a library which never answers holds nothing up.

Owns which test is under way: one that gives no answer in its time has failed, whatever it says later. Knows nothing of when
they run or what follows (`watch.py`), nor of the tests themselves (`crypto/selftest.py`).
"""

from typing import Final

from pqvpn.crypto import selftest
from pqvpn.facts import Problem
from pqvpn.host.clock import now
from pqvpn.reasons import Reason
from pqvpn.resilience.aside import Aside

_SLICE: Final = 0.05


class SelfTests:
    """Of one control process."""

    def __init__(self) -> None:
        self._aside = Aside("self-tests", self._run)
        self._failed: tuple[str, ...] = ()  # of the run under way
        self._running = ""

    @property
    def hang(self) -> bool:
        """Whether a run was given up and has not come back: there will be no other until it does."""
        return self._aside.hangs

    @property
    def unanswered(self) -> tuple[str, ...]:
        """What counts as failed of a run that was given up: what did, what does not come back, and what was not tested."""
        names = list(selftest.TESTS)
        return (*self._failed, *names[names.index(self._running) if self._running else 0 :])

    def at_start(self, patience: float) -> tuple[str, ...]:
        """Run them and wait for as long as `patience` seconds; the names of those that failed."""
        try:
            self._aside.begin(now())
        except RuntimeError:  # no thread is to be had
            return self._run()[0]
        left = patience
        while left > 0.0 and not self._aside.wait(_SLICE):  # in slices: one that stood still has not waited
            left -= _SLICE
        answer = self._aside.look(now(), 0.0)
        return self.unanswered if answer is None else answer[0]

    def begin(self, at: float) -> None:
        """Begin a run, unless one is under way or hangs."""
        self._aside.begin(at)

    def look(self, at: float, patience: float) -> tuple[tuple[str, ...], float] | None:
        """What a run found, once: the names of those that failed, and the seconds that it took."""
        return self._aside.look(at, patience)

    def problem(self, failed: tuple[str, ...], waited: float) -> Problem:
        """What is told of primitives that failed; `waited`: seconds, for a run that was given up."""
        hangs = f"{self._running or 'the first test'} has not answered for {waited:g} s: " if self.hang else ""
        return Problem(Reason.SELF_TEST_FAILED, "crypto", hangs + ", ".join(failed))

    def _run(self) -> tuple[tuple[str, ...], float]:
        began, self._failed, self._running = now(), (), ""
        for name, test in selftest.TESTS.items():
            self._running = name
            if not selftest.passes(test):
                self._failed = (*self._failed, name)
        return self._failed, now() - began
