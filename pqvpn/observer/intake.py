"""The reading end of the facts: datagrams become envelopes, whatever they hold.

Owns the socket, the buffer and the counts of what could not be read and of what its senders lost. Never raises for what
comes in: another version of this program, or a process gone mad, may be at the other end.
"""

import socket
from collections.abc import Iterator
from typing import Final

from pqvpn.facts import Fact
from pqvpn.telemetry import envelope
from pqvpn.telemetry.envelope import Envelope

BATCH: Final = 64
"""Envelopes read in one go, so that a flood of them does not starve timers and answers."""


class Intake:
    """Reads facts. `foreign`: datagrams that were none; `lost`: what processes could not send, by process."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._buffer = bytearray(envelope.LARGEST + 1)
        self._view = memoryview(self._buffer)
        self.foreign = 0
        self.lost: dict[str, int] = {}
        self.taken = 0

    def read(self, most: int = BATCH) -> Iterator[tuple[Envelope, Fact]]:
        """What is there, at most so much of it."""
        for _ in range(most):
            try:
                size = self._end.recv_into(self._view)
            except OSError:  # nothing more, or an end that is gone for good: the supervisor holds it, so it cannot be
                return
            if size == 0:
                return
            try:
                stamped = envelope.decode(bytes(self._view[:size]))
                fact = stamped.fact()
            except (ValueError, RecursionError):
                self.foreign += 1
                continue
            self.taken += 1
            if stamped.lost > 0:
                self._count(stamped)
            yield stamped, fact

    def total_lost(self) -> int:
        """Facts that found no room, of all processes."""
        return sum(self.lost.values())

    def _count(self, stamped: Envelope) -> None:
        if stamped.process in self.lost or len(self.lost) < BATCH:
            self.lost[stamped.process] = self.lost.get(stamped.process, 0) + stamped.lost
