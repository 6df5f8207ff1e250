"""Facts to log records of OpenTelemetry.

Owns severity, body and attributes of a record. The body says in words what the attributes say in fields; it is made of
fields that are redacted already, since a name in a sentence cannot be told from a word. Which records are wanted is
asked of somebody else; repeats are not summarised here: who publishes facts limits them.
"""

import time
from collections.abc import Callable
from typing import Final

from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from pqvpn.facts import Fact, LogLine
from pqvpn.telemetry import context
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.logfiles.messages import sentence
from pqvpn.telemetry.redaction import Redactor
from pqvpn.telemetry.signals import attributes
from pqvpn.telemetry.signals.settings import Wanted
from pqvpn.telemetry.signals.spans import Place

_SEVERITIES: Final = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}
_NO_SPAN: Final = "0" * 16


class Logs:
    """The log records of one node."""

    def __init__(
        self, logger: Logger, redactor: Redactor, wanted: Wanted | None, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._logger = logger
        self._redactor = redactor
        self._wanted = wanted
        self._clock = clock

    def take(self, envelope: Envelope, fact: Fact) -> None:
        """A fact came in; one that is not told, or not wanted, makes nothing."""
        level = fact.severity if isinstance(fact, LogLine) else fact.level
        if not fact.told or (self._wanted is not None and not self._wanted(fact.area, level, envelope.now)):
            return
        record = LogRecord(
            timestamp=envelope.time_ns,
            observed_timestamp=self._clock(),
            context=_context(envelope),
            severity_text=level.upper(),
            severity_number=_SEVERITIES.get(level, SeverityNumber.ERROR),
            body=self._body(envelope, fact),
            attributes=attributes.common(envelope, fact) | attributes.of(fact),
            event_name=fact.event,
        )
        self._logger.emit(record)

    def _body(self, envelope: Envelope, fact: Fact) -> str:
        clean = self._redactor.fields({k: v for k, v in envelope.fields.items() if v not in (None, "", (), [])})
        return sentence(fact.event, clean)


def _context(envelope: Envelope) -> Context:
    """Where the record belongs; an empty place, lest the SDK asks the context in force."""
    trace_id = envelope.trace_id or "0" * 32
    span_id = envelope.span_id or (context.root_span_id(trace_id) if envelope.trace_id else _NO_SPAN)
    return set_span_in_context(NonRecordingSpan(Place(trace_id, span_id).context()), Context())
