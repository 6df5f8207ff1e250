"""What the observer keeps of facts: log files, signals in their store, and crash reports.

Owns which thread calls what: `take`, `flush`, `close` and what is asked belong to the loop and wait for nothing; `open`,
`store`, `read` and `finish` belong to the worker, which may wait for the disk.
"""

from collections.abc import Callable
from pathlib import Path

from pqvpn.config.paths import LOG_FOLDER
from pqvpn.dataplane.counters import Counters
from pqvpn.facts import Fact, FactHook
from pqvpn.host.clock import now
from pqvpn.observer.checks import Verdict
from pqvpn.observer.crashes import Crashes, traced
from pqvpn.observer.machine import meaning
from pqvpn.observer.records import Records
from pqvpn.observer.start import ObserverStart
from pqvpn.resilience.health import State
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.logfiles.files import LogFiles
from pqvpn.telemetry.logfiles.journal import Journal
from pqvpn.telemetry.logfiles.levels import Levels
from pqvpn.telemetry.logfiles.lines import Line, level_of, make
from pqvpn.telemetry.redaction import Redactor
from pqvpn.telemetry.signals import Readings


class Keeping:
    """Every store of one node. `soon` runs something in the loop from any thread; `wake` has a crash stored."""

    def __init__(
        self,
        start: ObserverStart,
        redactor: Redactor,
        counters: Counters,
        soon: Callable[[Callable[[], None]], None],
        publish: FactHook,
        wake: Callable[[], None],
    ) -> None:
        log = start.log
        self.levels = Levels(log.level)
        for area, level, seconds in log.levels:
            self.levels.change(area, level, None if seconds is None else now() + seconds)
        self.records = Records(start, redactor, self.levels, counters, soon, publish)
        self.crashes = Crashes(start, redactor.policy, self.records.pacing, wake)
        self.records.also.append(self.crashes.good_news)
        self._redactor = redactor
        self._journal: Journal | None = None
        if log.file:
            folder = Path(start.state_folder) / LOG_FOLDER
            files = LogFiles(folder, log.rotate_size, log.rotate_age, log.keep_size)
            self._journal = Journal(files, self.levels, redactor)

    # -- in the loop -------------------------------------------------------------------------------------------------

    def take(self, envelope: Envelope, fact: Fact, now: float) -> None:
        """Keep one fact."""
        envelope, fact = traced(envelope, fact)
        self.crashes.take(envelope, fact)  # first: its own line is none of those that came before it
        if line := self._line(envelope, fact, now):
            self.crashes.note(envelope, line)
        self.records.take(envelope, fact, now)

    def _line(self, envelope: Envelope, fact: Fact, now: float) -> Line | None:
        if self._journal:
            return self._journal.take(envelope, fact, now)
        wanted = fact.told and self.levels.wanted(fact.area, level_of(fact), now)
        return make(envelope, fact, self._redactor) if wanted else None

    def flush(self, now: float) -> None:
        """Make ready what `store` then writes."""
        if self._journal:
            self._journal.tick(now)
        self.records.flush()

    def close(self, now: float) -> None:
        """Nothing more comes."""
        if self._journal:
            self._journal.close(now)
        self.records.close()

    def kept(self) -> Verdict:
        """Whether records and log lines are kept."""
        if self._journal and self._journal.failure:
            detail = f"log: {self._journal.failure}, {self._journal.dropped} lines lost"
            return State.WARNING, meaning(self._journal.error_number), detail
        return self.records.kept()

    # -- in the worker -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the stores."""
        self.crashes.open()
        self.records.open()

    def store(self) -> None:
        """Write what waits."""
        if self._journal:
            self._journal.flush()
        self.records.store()
        self.crashes.store()

    def read(self, pids: dict[str, int], now: float, lost: dict[str, int]) -> Readings:
        """What the metrics show of the machine."""
        return self.records.read(pids, now, lost)

    def finish(self) -> None:
        """The last job."""
        if self._journal:
            self._journal.flush()
        self.crashes.finish()
        self.records.finish()
