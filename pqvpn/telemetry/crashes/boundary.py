"""A process's outermost boundaries: what reaches one becomes a `Crashed` fact, at most one a second for each place.

Owns the hooks of threads and of exceptions that Python cannot raise, and the limit at the source: whoever finds a way to
make a process fail a thousand times a second must not fill the link that all facts take. Knows nothing of reports. The
default hooks would write the exception's text, which may hold a secret, to standard error.
"""

import contextlib
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from pqvpn.facts import Crashed, FactHook
from pqvpn.telemetry.crashes import describe
from pqvpn.telemetry.crashes.limits import Limits

EVERY: Final = 1.0
_MOST_PLACES: Final = 64


class Boundary:
    """Publishes what is caught. `process`: whose; `clock`: seconds."""

    def __init__(self, publish: FactHook, process: str, clock: Callable[[], float]) -> None:
        self._publish = publish
        self._process = process
        self._clock = clock
        self._limits = Limits(burst=1, every=EVERY, most=_MOST_PLACES)
        self._lock = threading.Lock()
        self._telling = threading.local()

    def caught(self, error: BaseException, *, handled: bool = True, kind: str = "exception") -> None:
        """An exception reached a boundary; `handled`: the process goes on. Never raises."""
        with contextlib.suppress(Exception):
            self.tell(describe.exception(error, self._process, handled=handled, kind=kind))

    def tell(self, crash: Crashed) -> None:
        """Publish a fact that was made already, within the limit."""
        if getattr(self._telling, "busy", False):
            return  # telling failed: telling that would not end
        with self._lock:
            count = self._limits.admit((crash.process, crash.error, crash.place), self._clock(), crash.count)
        if count is None:
            return
        self._telling.busy = True
        try:
            self._publish(replace(crash, count=count))
        finally:
            self._telling.busy = False

    def watch(self) -> None:
        """Have this process's threads, and what Python can only write to standard error, end here."""
        threading.excepthook = self._in_thread
        sys.unraisablehook = self._unraisable

    def _in_thread(self, told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None and told.exc_type is not SystemExit:
            self.caught(told.exc_value)

    def _unraisable(self, told: Any) -> None:
        if told.exc_value is not None:
            self.caught(told.exc_value)


def of_loop(boundary: Boundary) -> Callable[[Any, dict[str, Any]], None]:
    """An event loop's exception handler: exceptions of callbacks, and of tasks that nobody asks."""

    def handle(_: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            boundary.caught(error)

    return handle
