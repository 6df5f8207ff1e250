"""Work that may never come back: done in a thread of its own, one at a time, and given up when its time is over.

Owns the thread and the measure of its time. A thread cannot be ended from outside: what is given up runs on, its late answer
is dropped, and until it comes back nothing else is begun. Theory of operation: whoever owns it asks `look` again and again.
Only time between two looks counts, and no more than a little of it each time: while the process itself stood still, or the
machine slept, the thread had no time either. Knows nothing of what is done.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_MOST: Final = 1.0
"""Seconds that count between two looks, at most."""


@dataclass(slots=True)
class _Run(Generic[T]):
    looked: float
    waited: float = 0.0
    given_up: bool = False
    answer: T | None = None
    error: Exception | None = None
    over: bool = False  # set last, by the thread
    thread: threading.Thread | None = None


class Aside(Generic[T]):
    """`work` is what is done. It must not answer None."""

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        self._name = name
        self._work = work
        self._run: _Run[T] | None = None

    @property
    def hangs(self) -> bool:
        """Whether it was given up and has not come back yet."""
        return self._run is not None and self._run.given_up

    @property
    def busy(self) -> bool:
        """Whether it runs, or its answer waits to be looked at."""
        return self._run is not None

    def begin(self, now: float) -> bool:
        """Begin; False while it is busy. Raises RuntimeError when the machine gives no thread."""
        if self._run is not None:
            return False
        run: _Run[T] = _Run(now)
        run.thread = threading.Thread(target=self._do, args=(run,), name=self._name, daemon=True)
        run.thread.start()
        self._run = run
        return True

    def wait(self, seconds: float) -> bool:
        """Wait for its end so long; whether nothing runs any more."""
        if self._run is not None and self._run.thread is not None:
            self._run.thread.join(seconds)
        return self._run is None or self._run.over

    def look(self, now: float, patience: float) -> T | None:
        """The answer, once it is there and not too late. Raises what the work raised, unless it was too late for that."""
        run = self._run
        if run is None:
            return None
        if run.over:
            self._run = None
            if run.given_up:
                return None
            if run.error is not None:
                raise run.error
            return run.answer
        run.waited += min(max(0.0, now - run.looked), _MOST)
        run.looked = now
        run.given_up = run.given_up or run.waited >= patience
        return None

    def _do(self, run: _Run[T]) -> None:
        try:
            run.answer = self._work()
        except Exception as error:  # noqa: BLE001 - the thread's boundary: raised where the answer is looked at
            run.error = error
        finally:
            run.over = True
