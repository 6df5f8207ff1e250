"""What the observer keeps of facts: log files now, signals and their store.

Owns how these are made of the settings and which thread calls what: `take`, `tick`, `close`, `metrics_text` and
`collector` belong to the loop and wait for nothing; `open`, `flush`, `collect` and `flush_and_close` to the worker, which
may wait for the disk.
"""

from pathlib import Path

from pqvpn.config.paths import LOG_FOLDER
from pqvpn.dataplane.counters import Counters
from pqvpn.facts import Fact
from pqvpn.observer.start import ObserverStart
from pqvpn.reasons import Reason
from pqvpn.resilience.health import State
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.logfiles.files import LogFiles
from pqvpn.telemetry.logfiles.journal import Journal
from pqvpn.telemetry.logfiles.levels import Levels
from pqvpn.telemetry.redaction import Redactor


class Keeping:
    """Every store of one node. `began`: CLOCK_BOOTTIME."""

    def __init__(self, start: ObserverStart, redactor: Redactor, counters: Counters, began: float) -> None:
        log = start.log
        self.levels = Levels(log.level)
        self._journal: Journal | None = None
        if log.file:
            folder = Path(start.state_folder) / LOG_FOLDER
            files = LogFiles(folder, log.rotate_size, log.rotate_age, log.keep_size)
            self._journal = Journal(files, self.levels, redactor)

    @property
    def refusal(self) -> str:
        """Why records are not written now, empty when they are."""
        return f"log: {self._journal.failure}" if self._journal and self._journal.failure else ""

    # -- in the loop -------------------------------------------------------------------------------------------------

    def take(self, envelope: Envelope, fact: Fact, now: float) -> None:
        """Keep one fact."""
        if self._journal:
            self._journal.take(envelope, fact, now)

    def tick(self, now: float) -> None:
        """Tell of what was held back, before a flush."""
        if self._journal:
            self._journal.tick(now)

    def close(self, now: float) -> None:
        """Nothing more comes."""
        if self._journal:
            self._journal.close(now)

    def metrics_text(self, accept: str) -> tuple[bytes, str]:
        """(body, content type) of `/metrics`."""
        return b"", "text/plain; version=0.0.4"

    def collector(self) -> tuple[State, Reason | None, str] | None:
        """How sending goes; None when nothing is sent."""
        return None

    # -- in the worker -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the stores."""

    def flush(self) -> None:
        """Write what waits."""
        if self._journal:
            self._journal.flush()

    def collect(self) -> None:
        """Read the metrics and keep them."""

    def flush_and_close(self) -> None:
        """The last job."""
        self.flush()
