"""From `Crashed` facts to envelopes in the spool of crashes: limits, surroundings, redaction, storage.

Owns the last log lines and the health that a report shows. Never raises: a report that cannot be made is counted.
The SDK is loaded with the first crash. Knows nothing of delivery.
"""

import platform
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pqvpn.facts import Crashed
from pqvpn.telemetry.crashes import remember
from pqvpn.telemetry.crashes.event import Surroundings, event_of, fingerprint
from pqvpn.telemetry.crashes.limits import Limits
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.redaction import Policy, Redactor
from pqvpn.telemetry.redaction.allowed import ALLOWED

if TYPE_CHECKING:
    from pqvpn.telemetry.crashes.client import CrashClient

_LINES = 50
_FIELDS = frozenset(
    (
        "pqvpn",
        "pqvpn.node",
        "pqvpn.kind",
        "trace",
        "health",
        "process",
        "pid",
        "thread",
        "caused by",
        "place",
        "op",
        "state",
        "sent_at",
    )
)


@dataclass(frozen=True, slots=True)
class Naming:
    """What reports call this node. `host` empty: its host's name is not told."""

    node: str
    environment: str = "production"
    host: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """A crash with what was known when it was told."""

    envelope: Envelope
    crash: Crashed
    lines: tuple[dict[str, Any], ...]
    health: tuple[tuple[str, str], ...]


class CrashRecorder:
    """`keep` stores one envelope durably, and may raise; `items` are the names of health items that may be told.

    `remembered`: the file in which the limits outlive this process: a process that fails at each start must not
    begin with fresh ones. `note` and `noted` belong to one thread, `make` to another or the same.
    """

    def __init__(
        self,
        policy: Policy,
        naming: Naming,
        keep: Callable[[bytes], None],
        items: frozenset[str] = frozenset(),
        remembered: Path | None = None,
    ) -> None:
        told = frozenset(item.replace(".", " ") for item in items)
        self._redactor = Redactor(policy, ALLOWED | _FIELDS | told)
        self._naming = naming
        self._keep = keep
        self._remembered = remembered
        self._lines: deque[dict[str, Any]] = deque(maxlen=_LINES)
        self._limits: Limits | None = None
        self._client: CrashClient | None = None
        self.health: tuple[tuple[str, str], ...] = ()
        self.recorded = 0
        self.left_out = 0
        self.failed = 0

    def note(self, line: dict[str, Any]) -> None:
        """Remember a log line (`time` in seconds, `level`, `component`, `message`, fields) as one of the last."""
        self._lines.append(line)

    def noted(self, envelope: Envelope, crash: Crashed) -> Noted:
        """The crash with its surroundings, to make a report of."""
        return Noted(envelope, crash, tuple(self._lines), self.health)

    def record(self, envelope: Envelope, crash: Crashed) -> None:
        """Both at once."""
        self.make(self.noted(envelope, crash))

    def make(self, noted: Noted) -> None:
        """Make a report of it, unless there were too many of its kind."""
        try:
            count = self._admitted(noted)
            if count is None:
                self.left_out += 1
            else:
                self._report(noted, replace(noted.crash, count=count))
        except Exception:  # noqa: BLE001 - whatever is wrong with a report must not become the next crash
            self.failed += 1

    def _admitted(self, noted: Noted) -> int | None:
        now = noted.envelope.time_ns / 1e9
        if self._limits is None:
            self._limits = Limits()
            if self._remembered:
                remember.load(self._remembered, self._limits, now)
        count = self._limits.admit(fingerprint(noted.crash), now, noted.crash.count)
        if self._remembered:
            remember.save(self._remembered, self._limits)
        return count

    def _report(self, noted: Noted, crash: Crashed) -> None:
        naming = self._naming
        around = Surroundings(naming.node, naming.environment, naming.host, noted.lines, noted.health)
        if self._client is None:
            from pqvpn.telemetry.crashes.client import CrashClient

            self._client = CrashClient(self._scrubbed, self._kept)
        before = self.recorded
        self._client.report(event_of(crash, noted.envelope, around))
        self.failed += self.recorded == before

    def _scrubbed(self, event: dict[str, Any]) -> dict[str, Any]:
        """Raises when the event lost what makes it an event: then it is not stored."""
        scrubbed = self._redactor.fields(event)
        if scrubbed.get("fingerprint") is None or "exception" not in scrubbed:
            raise ValueError("redaction left nothing of the event")
        if self._naming.host and self._naming.host == platform.node():
            scrubbed["server_name"] = self._naming.host  # the operator allowed it, and nothing else stands there
        else:
            scrubbed.pop("server_name", None)
        return scrubbed

    def _kept(self, envelope: bytes) -> None:
        self._keep(envelope)
        self.recorded += 1
