"""Span and log record of a process that has no observer to make them: a start that failed.

Owns the short way, as `crashes/direct.py` does for the report: straight into the spool, and, where an endpoint is
configured, one bounded try to deliver, so that the report's trace is known to whoever reads it. No metrics: what this
process counted says nothing. Loaded on such an end only.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pqvpn.facts import Crashed
from pqvpn.telemetry.envelope import stamped
from pqvpn.telemetry.export import Endpoint
from pqvpn.telemetry.redaction import Redactor
from pqvpn.telemetry.signals.settings import Settings
from pqvpn.telemetry.signals.signals import Signals
from pqvpn.telemetry.spool import Kind, Spool

KINDS: Final = {"traces": Kind.TRACES, "logs": Kind.LOGS}


@dataclass(frozen=True, slots=True)
class Place:
    """The spool's folder, its bounds in bytes and seconds, and where it is sent; `endpoint` None: nowhere."""

    folder: Path
    size: int
    age: float
    endpoint: Endpoint | None


def record(crash: Crashed, settings: Settings, redactor: Redactor, place: Place) -> None:
    """Keep the crash as a span of the trace that it names, and a log record in it. `settings.kinds`: of `KINDS`.

    Raises TelemetryError when the disk refuses, or another process has the spool.
    """
    envelope = msgspec.structs.replace(stamped(crash, crash.process), trace_id=crash.trace_id)
    with Spool(place.folder, place.size, place.age, sends=place.endpoint is not None) as spool:
        signals = Signals(settings, redactor, lambda kind, data, items: spool.append(KINDS[kind], data, items))
        signals.record(envelope, crash)
        signals.close()
        if place.endpoint is not None:
            from pqvpn.telemetry.export import Drainer, once

            once.deliver(spool, Drainer(spool, place.endpoint))
