"""Facts in, batches of spans, metrics and log records out: what the observer drives.

Owns the order of things and the count of what was lost. One thread only. Nothing that a sink, the redactor or a fact
does comes out of here as an exception.
"""

import time
from collections.abc import Callable, Iterable

from pqvpn.facts import Fact
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.redaction import Redactor
from pqvpn.telemetry.signals.factory import Factory
from pqvpn.telemetry.signals.logs import Logs
from pqvpn.telemetry.signals.metrics import Metrics
from pqvpn.telemetry.signals.readings import Readings
from pqvpn.telemetry.signals.settings import Settings, Sink, Wanted
from pqvpn.telemetry.signals.spans import Writer
from pqvpn.telemetry.signals.traces import Tracker

Clock = Callable[[], float]


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Signals:
    """The signals of one node. `wanted`: which log records; all of them when there is none."""

    def __init__(
        self,
        settings: Settings,
        redactor: Redactor,
        sink: Sink,
        wanted: Wanted | None = None,
        clock: Clock = _boot_time,
    ) -> None:
        self._clock = clock
        self._factory = Factory(settings, redactor, sink)
        self._traces = Tracker(settings, Writer(self._factory.tracer, self._factory.ids))
        self._logs = Logs(self._factory.logger, redactor, wanted)
        self._metrics = Metrics(settings, self._factory, lambda: self.lost)
        kinds = self._factory.kinds
        self._takers: list[Callable[[Envelope, Fact], None]] = [self._metrics.take]
        self._takers += [self._traces.take] if "traces" in kinds else []
        self._takers += [self._logs.take] if "logs" in kinds else []
        self._failed = 0

    def record(self, envelope: Envelope, fact: Fact) -> None:
        """A fact came in."""
        for take in self._takers:
            try:
                take(envelope, fact)
            except Exception:  # noqa: BLE001 - a fact that makes no sense costs its signal, which is counted
                self._failed += 1

    def observe(self, readings: Readings) -> None:
        """What the observer read by itself; the next metrics show it."""
        self._metrics.observe(readings)

    def peers(self, names: Iterable[str]) -> None:
        """The configured peers changed."""
        known = tuple(names)
        self._metrics.configure(known)
        self._traces.configure(len(known))

    def collect(self) -> None:
        """Hand all metrics of now to the sink: one batch."""
        self._factory.collect()

    def flush(self) -> None:
        """Hand spans and log records that wait to the sink, one batch each, and end what is open for too long."""
        self._traces.expire(self._clock())
        self._factory.flush()

    def prometheus_text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics of now and their content type: OpenMetrics when `accept` asks for it, else Prometheus text."""
        return self._factory.page(accept)

    @property
    def lost(self) -> dict[str, int]:
        """Records lost on the way so far, by cause.

        link: a process could not send the fact; facts: it made no sense; peers: of one too many; attempts: one too many was
        open; full: one too many waited; redaction, sink: they refused.
        """
        here = {"attempts": self._traces.lost, "facts": self._failed}
        return {**self._factory.outlet.lost, **self._metrics.lost, **here}

    @property
    def written(self) -> dict[str, int]:
        """Records handed to the sink so far, by kind."""
        return dict(self._factory.outlet.written)

    def close(self) -> None:
        """End what is open and hand over what waits. The sink is the caller's."""
        self._traces.close()
        self._factory.flush()
        self._factory.collect()
        self._factory.close()
