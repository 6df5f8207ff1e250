"""Facts in, batches of spans, metrics and log records out: what the observer drives.

Owns the order of things and the count of what was lost. One thread only. Nothing that a sink, the redactor or a fact
does comes out of here as an exception.
"""

from collections.abc import Iterable

from pqvpn.facts import Fact
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.redaction import Redactor
from pqvpn.telemetry.signals.readings import Readings
from pqvpn.telemetry.signals.settings import Settings, Sink, Wanted


class Signals:
    """The signals of one node. `wanted`: which log records; all of them when there is none."""

    def __init__(self, settings: Settings, redactor: Redactor, sink: Sink, wanted: Wanted | None = None) -> None: ...

    def record(self, envelope: Envelope, fact: Fact) -> None:
        """A fact came in."""

    def observe(self, readings: Readings) -> None:
        """What the observer read by itself; the next metrics show it."""

    def peers(self, names: Iterable[str]) -> None:
        """The configured peers changed. A peer that is not among them is `other` in metrics."""

    def collect(self) -> None:
        """Hand all metrics of now to the sink: one batch."""

    def flush(self) -> None:
        """Hand spans and log records that wait to the sink, one batch each, and end what is open for too long."""

    def prometheus_text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics of now and their content type: OpenMetrics when `accept` asks for it, else Prometheus text."""
        return b"", "text/plain"

    @property
    def lost(self) -> dict[str, int]:
        """Records lost here so far, by cause: redaction, sink, full, link."""
        return {}

    def close(self) -> None:
        """End what is open and hand over what waits. The sink is the caller's."""
