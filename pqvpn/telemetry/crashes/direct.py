"""A report by a process that has no observer to make it: a start that failed, and the supervisor's own end.

Owns the short way: straight into the spool, and, where a server is configured, one bounded try to deliver, since a
node that does not start would not tell its operator otherwise. Loaded on such an end only. Never raises.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from pqvpn.errors import TelemetryError
from pqvpn.facts import Crashed
from pqvpn.telemetry.crashes import remember
from pqvpn.telemetry.crashes.delivery import Server, deliverer
from pqvpn.telemetry.crashes.recorder import CrashRecorder, Naming
from pqvpn.telemetry.envelope import stamped
from pqvpn.telemetry.export import once
from pqvpn.telemetry.redaction import Policy
from pqvpn.telemetry.spool import Kind, Spool


@dataclass(frozen=True, slots=True)
class Place:
    """Where reports are kept: the state folder, the spool's folder in it, its bounds in bytes and seconds."""

    state: Path
    folder: str
    size: int
    age: float


def record(crash: Crashed, policy: Policy, naming: Naming, place: Place, server: Server | None) -> bool:
    """Whether the report, or that it was one too many of its kind, is on disk."""
    try:
        with Spool(place.state / place.folder, place.size, place.age, sends=server is not None) as spool:
            recorder = CrashRecorder(
                policy,
                naming,
                lambda data: _keep(spool, data),
                remembered=place.state / remember.NAME,
            )
            recorder.record(stamped(crash, "supervisor"), crash)
            if server and recorder.recorded:
                _deliver(spool, server)
            return recorder.recorded + recorder.left_out > 0
    except Exception:  # noqa: BLE001 - a disk that refuses, or another process that has the spool: nothing more can be done
        return False


def _keep(spool: Spool, data: bytes) -> None:
    spool.append(Kind.CRASHES, data, 1)


def _deliver(spool: Spool, server: Server) -> None:
    """What is not delivered now waits for the next start that succeeds."""
    with contextlib.suppress(TelemetryError):
        once.deliver(spool, deliverer(spool, server))
