"""Where a process's facts go: its own log on stderr, and the observer.

Owns the fan-out and nothing else: lines are `jsonlog.py`, the way to the observer is `envelope.py`. A `Publisher` is a
`FactHook`; it never raises and never waits, because what publishes is the data path's own process.
"""

import socket

from pqvpn.facts import Fact
from pqvpn.telemetry import jsonlog
from pqvpn.telemetry.envelope import Sender


class Publisher:
    """The `FactHook` of one process. `link`: the sending end towards the observer, None where there is none."""

    def __init__(self, process: str, link: socket.socket | None = None) -> None:
        self._send = Sender(process, link) if link else None

    def __call__(self, fact: Fact) -> None:
        """Tell a fact to whoever listens."""
        if fact.told:
            jsonlog.publish(fact)
        if self._send:
            self._send(fact)
