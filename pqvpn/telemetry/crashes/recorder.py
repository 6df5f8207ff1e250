"""From `Crashed` facts to envelopes in the spool of crashes: limits, surroundings, redaction, storage.

Owns the last log lines and the health that a report shows. Never raises: a report that cannot be made is counted.
The SDK is loaded with the first crash. Knows nothing of delivery.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pqvpn.facts import Crashed
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


class CrashRecorder:
    """`keep` stores one envelope durably, and may raise; `items` are the names of health items that may be told."""

    def __init__(
        self, policy: Policy, naming: Naming, keep: Callable[[bytes], None], items: frozenset[str] = frozenset()
    ) -> None:
        told = frozenset(item.replace(".", " ") for item in items)
        self._redactor = Redactor(policy, ALLOWED | _FIELDS | told)
        self._naming = naming
        self._keep = keep
        self._lines: deque[dict[str, Any]] = deque(maxlen=_LINES)
        self._limits = Limits()
        self._client: CrashClient | None = None
        self.health: tuple[tuple[str, str], ...] = ()
        self.recorded = 0
        self.left_out = 0
        self.failed = 0

    def note(self, line: dict[str, Any]) -> None:
        """Remember a log line (`time` in seconds, `level`, `component`, `message`, fields) as one of the last."""
        self._lines.append(line)

    def record(self, envelope: Envelope, crash: Crashed) -> None:
        """Make a report of it, unless there were too many of its kind."""
        count = self._limits.admit(fingerprint(crash), envelope.now)
        if count is None:
            self.left_out += 1
            return
        try:
            self._report(envelope, replace(crash, count=count))
        except Exception:  # noqa: BLE001 - whatever is wrong with a report must not become the next crash
            self.failed += 1

    def _report(self, envelope: Envelope, crash: Crashed) -> None:
        naming = self._naming
        around = Surroundings(naming.node, naming.environment, naming.host, tuple(self._lines), self.health)
        if self._client is None:
            from pqvpn.telemetry.crashes.client import CrashClient

            self._client = CrashClient(self._scrubbed, self._kept)
        before = self.recorded
        self._client.report(event_of(crash, envelope, around))
        self.failed += self.recorded == before

    def _scrubbed(self, event: dict[str, Any]) -> dict[str, Any]:
        """Raises when the event lost what makes it an event: then it is not stored."""
        scrubbed = self._redactor.fields(event)
        if scrubbed.get("fingerprint") is None or "exception" not in scrubbed:
            raise ValueError("redaction left nothing of the event")
        return scrubbed

    def _kept(self, envelope: bytes) -> None:
        self._keep(envelope)
        self.recorded += 1
