"""Good news for whatever waits: this machine's network changed, or the machine slept.

Owns how each is noticed, and how often it is told: a network that flaps must not make a storm of handshakes. Knows nothing
of what is done about it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from pqvpn.host import changes
from pqvpn.host.clock import now

SLEPT: Final = 1.0
"""Seconds by which CLOCK_BOOTTIME must overtake CLOCK_MONOTONIC, which stops while the machine sleeps."""
SETTLES: Final = 0.5
"""Seconds after a change: several come at once, and addresses are of no use before they are there."""
APART: Final = 5.0
"""Seconds between two, at least: as often as a call is repeated anyway."""
CHANGED, RESUMED = "changed", "resumed"

Act = Callable[[str, float], None]


class News:
    """`act(cause, seconds)` is called by `tick` and in the loop. `interface` is our own, whose changes are no news."""

    def __init__(
        self,
        act: Act,
        interface: str,
        clock: Callable[[], float] = now,
        awake: Callable[[], float] = time.monotonic,
    ) -> None:
        self._act = act
        self._interface = interface
        self._clock = clock
        self._awake = awake
        self._slept = clock() - awake()
        self._told_at = float("-inf")
        self._due: float | None = None
        self._sock = changes.listen()
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear of changes from now on."""
        if self._sock is not None:
            self._loop = loop
            loop.add_reader(self._sock, self._readable)

    def close(self) -> None:
        """Hear no more."""
        if self._sock is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None

    def changed(self) -> None:
        """Something changed: it is told when it has settled."""
        if self._due is None:
            self._due = max(self._clock() + SETTLES, self._told_at + APART)

    def tick(self) -> None:
        """Time passed."""
        at = self._clock()
        before, self._slept = self._slept, at - self._awake()
        if (seconds := self._slept - before) > SLEPT:
            self._tell(RESUMED, seconds, at)
        elif self._due is not None and at >= self._due:
            self._tell(CHANGED, 0.0, at)

    def _readable(self) -> None:
        if self._sock is not None and changes.drain(self._sock, self._interface):
            self.changed()

    def _tell(self, cause: str, seconds: float, at: float) -> None:
        self._told_at, self._due = at, None
        self._act(cause, seconds)
