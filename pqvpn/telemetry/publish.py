"""Where a process's facts go: its own log on stderr, and the observer.

Owns the fan-out, and what becomes of records that other libraries log. Lines are `jsonlog.py`, the way to the observer
is `envelope.py`. A `Publisher` is a `FactHook`; it never raises and never waits, because what publishes is the data
path's own process.
"""

import contextlib
import logging
import socket

from pqvpn.facts import Fact, FactHook
from pqvpn.telemetry import jsonlog
from pqvpn.telemetry.envelope import Sender


class Publisher:
    """The `FactHook` of one process. `link`: the sending end towards the observer, None where there is none."""

    def __init__(self, process: str, link: socket.socket | None = None) -> None:
        self._send = Sender(process, link) if link else None
        if self._send:
            relay(self._send)

    def __call__(self, fact: Fact) -> None:
        """Tell a fact to whoever listens."""
        with contextlib.suppress(Exception):  # what cannot be told costs its line, not whoever published it
            if fact.told:
                jsonlog.publish(fact)
            jsonlog.tick()
        if self._send:
            with contextlib.suppress(Exception):  # likewise its record
                self._send(fact)


def relay(take: FactHook) -> None:
    """Make facts of the records of the standard `logging` package, but of those that are facts already."""
    logging.getLogger().addHandler(_Relay(take))


class _Relay(logging.Handler):
    def __init__(self, take: FactHook) -> None:
        super().__init__()
        self._take = take
        self._busy = False

    def emit(self, record: logging.LogRecord) -> None:
        ours = hasattr(record, "fact") or hasattr(record, "line")
        if ours or self._busy or record.name.split(".", 1)[0] in jsonlog.FEEDBACK:
            return
        self._busy = True
        try:
            self._take(jsonlog.of_record(record))
        except Exception:  # noqa: BLE001 - a log call must never fail whoever made it
            self.handleError(record)
        finally:
            self._busy = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        """Nothing: the default writes the record, unredacted, to standard error."""
