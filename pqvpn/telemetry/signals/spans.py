"""Spans before they are spans: plain drafts, written when it is known how they ended.

Owns `Draft`, and `Writer`, which makes spans of OpenTelemetry of a whole tree at once. A draft costs nothing to throw
away, so that what is not sampled never becomes a span, and no span stays open in the SDK.
"""

from dataclasses import dataclass, field
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from pqvpn.telemetry import names
from pqvpn.telemetry.signals.attributes import Attributes
from pqvpn.telemetry.signals.factory import Ids

MOST_EVENTS: Final = 64
MOST_CHILDREN: Final = 64
_KINDS: Final = {names.CONNECT: SpanKind.CLIENT, names.REKEY: SpanKind.CLIENT, names.ACCEPT: SpanKind.SERVER}
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


@dataclass(frozen=True, slots=True)
class Place:
    """A span elsewhere: lower-case hex. `remote`: on the other node."""

    trace_id: str
    span_id: str
    remote: bool = False

    def context(self) -> SpanContext:
        """As OpenTelemetry has it."""
        return SpanContext(int(self.trace_id, 16), int(self.span_id, 16), self.remote, _SAMPLED)


@dataclass(slots=True)
class Draft:
    """A span to be. Times are nanoseconds of the wall clock; `end` 0: it goes on. `error`: why it failed."""

    name: str
    start: int
    attributes: Attributes = field(default_factory=dict)
    end: int = 0
    error: str = ""
    events: list[tuple[str, int, Attributes]] = field(default_factory=list)
    children: list["Draft"] = field(default_factory=list)
    links: list[Place] = field(default_factory=list)

    def event(self, name: str, time: int, attributes: Attributes) -> None:
        """Note an event; one too many is not noted."""
        if len(self.events) < MOST_EVENTS:
            self.events.append((name, time, attributes))

    def child(self, name: str, start: int, attributes: Attributes | None = None) -> "Draft":
        """A child that begins."""
        made = Draft(name, start, attributes or {})
        self.adopt(made)
        return made

    def adopt(self, child: "Draft") -> None:
        """Take a child that was made elsewhere; of too many the oldest is forgotten."""
        if len(self.children) >= MOST_CHILDREN:
            del self.children[0]
        self.children.append(child)
        self.start = min(self.start, child.start)

    def close(self, time: int, outcome: str = "", error: str = "") -> None:
        """It ended."""
        self.end = max(time, self.start)
        self.error = error
        if outcome:
            self.attributes[names.OUTCOME] = outcome
        if error:
            self.attributes[names.ERROR_TYPE] = self.attributes[names.REASON] = error


class Writer:
    """Makes spans of drafts."""

    def __init__(self, tracer: Tracer, ids: Ids) -> None:
        self._tracer = tracer
        self._ids = ids

    def new_trace(self) -> str:
        """A random trace id."""
        return f"{self._ids.random_trace_id():032x}"

    def write(self, draft: Draft, trace_id: str, span_id: str = "", parent: Place | None = None) -> Place:
        """Write a tree. `span_id`: of its root, a random one when it is empty; `parent`: what it hangs below."""
        self._ids.next_trace = 0 if parent else int(trace_id, 16)
        self._ids.next_span = int(span_id, 16) if span_id else 0
        above = set_span_in_context(NonRecordingSpan(parent.context()), Context()) if parent else Context()
        return self._write(draft, above)

    def _write(self, draft: Draft, above: Context) -> Place:
        span = self._tracer.start_span(
            draft.name,
            above,
            _KINDS.get(draft.name, SpanKind.INTERNAL),
            draft.attributes,
            [Link(each.context()) for each in draft.links],
            draft.start,
        )
        for name, time, attributes in draft.events:
            span.add_event(name, attributes, time)
        if draft.error:
            span.set_status(Status(StatusCode.ERROR, draft.error))
        context = span.get_span_context()
        below = set_span_in_context(NonRecordingSpan(context), Context())
        for child in draft.children:
            self._write(child, below)
        span.end(draft.end or draft.start)
        return Place(f"{context.trace_id:032x}", f"{context.span_id:016x}")
