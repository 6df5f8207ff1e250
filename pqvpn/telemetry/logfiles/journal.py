"""The observer's log: which facts become lines, and lines that wait for a disk.

Owns what is held back as a repeat and what is not yet written. `take` and `tick` belong to the thread that reads facts
and wait for nothing; `flush` belongs to the one that may wait for the disk. A disk that refuses costs the oldest lines
beyond `MOST_WAITING`, counted.
"""

import threading
from collections import deque
from typing import Final

from pqvpn.facts import Fact
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.logfiles import lines
from pqvpn.telemetry.logfiles.files import LogFiles
from pqvpn.telemetry.logfiles.levels import Levels
from pqvpn.telemetry.logfiles.lines import Held, Line, Scrubs
from pqvpn.telemetry.logfiles.repeats import Repeats

MOST_WAITING: Final = 8192


class Journal:
    """Facts in, lines out. `failure`: why the disk took nothing last time, empty when it did; `error_number` of that."""

    def __init__(self, files: LogFiles, levels: Levels, redactor: Scrubs) -> None:
        self._files = files
        self._redactor = redactor
        self._repeats: Repeats[Held] = Repeats()
        self._waiting: deque[bytes] = deque()
        self._lock = threading.Lock()
        self.levels = levels
        self.failure = ""
        self.error_number: int | None = None
        self.dropped = 0
        self.written = 0

    def take(self, envelope: Envelope, fact: Fact, now: float) -> Line | None:
        """Make a line of a fact, when it is wanted and not a repeat; answers that line."""
        if not fact.told or not self.levels.wanted(fact.area, lines.level_of(fact), now):
            return None
        key = lines.key_of(envelope, fact)
        if key is None or self._repeats.take(key, (envelope, fact), now):
            line = lines.make(envelope, fact, self._redactor)
            self._wait(line)
            return line
        return None

    def tick(self, now: float) -> None:
        """Tell of repeats whose window ended."""
        for summary in self._repeats.due(now):
            self._wait(lines.repeated(summary, self._redactor))

    def close(self, now: float) -> None:
        """Tell of every repeat held back; `flush` then writes the last lines."""
        for summary in self._repeats.flush(now):
            self._wait(lines.repeated(summary, self._redactor))

    def flush(self) -> bool:
        """Write what waits; answers whether the disk took it. Never raises: what it refused waits on."""
        with self._lock:
            batch = list(self._waiting)
            self._waiting.clear()
        try:
            self._files.write(batch)
        except OSError as error:
            self.failure, self.error_number = error.strerror or type(error).__name__, error.errno
            with self._lock:
                self._waiting.extendleft(reversed(batch))
                self._shorten()
            return False
        self.failure = ""
        self.written += len(batch)
        return True

    def _wait(self, line: Line) -> None:
        data = lines.as_json(line)
        with self._lock:
            self._waiting.append(data)
            self._shorten()

    def _shorten(self) -> None:
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1
