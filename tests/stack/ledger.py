"""What became of each alert: when it was first seen to fire, and when it was gone after its fault.

Owns a thread that asks Alertmanager again and again. Alerts that are suppressed as symptoms count, too. What is expected is
noted by `expect` before the fault, so that one that fires for a few seconds only is not overlooked, and faults whose alerts
take long to end do not hold up others.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from lab import WaitTimeoutError, wait_for
from lab.stackservers import Stack

Labels = Mapping[str, str]
_EVERY = 0.25


@dataclass
class Expected:
    """One alert with the labels that it must have. Times of `time.monotonic`, 0 while it has not come to that."""

    name: str
    labels: Labels
    quiet: float = 0.0
    began: float = 0.0
    fired: float = 0.0
    over: float = 0.0
    resolved: float = 0.0

    def see(self, present: bool, now: float) -> None:
        """One look at all alerts."""
        if self.over:
            self.resolved = self.resolved or (0.0 if present else now)
        elif self.began:
            self.fired = self.fired or (now if present else 0.0)
        else:
            self.quiet = 0.0 if present else now

    def __str__(self) -> str:
        fired = f"fired after {self.fired - self.began:.1f} s" if self.fired else "did not fire"
        ended = f", resolved {self.resolved - self.over:.1f} s after the fault" if self.resolved else ""
        return f"{self.name} {dict(self.labels)}: {fired}{ended}"


@dataclass
class Ledger:
    """A context manager around the thread. `meanwhile` is called at each wait: traffic."""

    stack: Stack
    meanwhile: Callable[[], None]
    all: list[Expected] = field(default_factory=list)

    def __enter__(self) -> "Ledger":
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._look, name="ledger", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)

    def _look(self) -> None:
        while not self._ended.wait(_EVERY):
            with contextlib.suppress(OSError):
                before = time.monotonic()
                there = [alert["labels"] for alert in self.stack.alerts()]
                with self._lock:
                    for each in self.all:
                        if max(each.began, each.over) <= before:  # asked after the fault began, or ended
                            each.see(_present(each, there), time.monotonic())

    @contextlib.contextmanager
    def expect(self, limit: float, **alerts: Labels) -> Iterator["Phase"]:
        """The block makes the faults, waits by `Phase.fire`, and undoes them; the end is waited for by `settled`."""
        noted = [Expected(name, labels) for name, labels in alerts.items()]
        with self._lock:
            self.all.extend(noted)
        self.until(f"{sorted(alerts)} to be quiet", lambda: all(each.quiet for each in noted), limit)
        with self._lock:
            for each in noted:
                each.began = time.monotonic()
        yield Phase(self, noted, limit)
        assert all(each.fired for each in noted)
        with self._lock:
            for each in noted:
                each.over = time.monotonic()

    def settled(self, limit: float) -> None:
        """Wait until every alert whose fault is over has ended."""
        self.until("all alerts to end", lambda: not self._open(), limit)

    def _open(self) -> list[str]:
        return [str(each) for each in self.all if each.over and not each.resolved]

    def until(self, what: str, probe: Callable[[], object], limit: float) -> None:
        """Wait, with what happens meanwhile."""

        def done() -> object:
            with contextlib.suppress(OSError):
                self.meanwhile()
            return probe()

        try:
            wait_for(what, done, limit, 0.2)
        except WaitTimeoutError as error:
            found = [(alert["labels"], alert["status"]["state"]) for alert in self.stack.alerts()]
            noted = "\n".join(str(each) for each in self.all)
            raise AssertionError(f"{error}\n{noted}\nAlertmanager has {found}") from error


@dataclass
class Phase:
    """Faults that are there at the same time."""

    ledger: Ledger
    noted: list[Expected]
    limit: float

    def fire(self) -> None:
        """Wait until each fired."""
        names = [each.name for each in self.noted]
        self.ledger.until(f"{names} to fire", lambda: all(each.fired for each in self.noted), self.limit)

    def fired(self, name: str) -> bool:
        """Whether one of them did."""
        return any(each.fired for each in self.noted if each.name == name)


def _present(wanted: Expected, there: list[Labels]) -> bool:
    return any(each["alertname"] == wanted.name and wanted.labels.items() <= each.items() for each in there)
