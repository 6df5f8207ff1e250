"""Spans, log records and data points as `pqvpn diag` sees them: plain, frozen, independent of OpenTelemetry.

Owns the records' shapes. Times are wall-clock nanoseconds since 1970; ids are lower-case hex, empty where there is none.
Attribute values are str, bool, int, float, tuples and dicts of these; bytes stand as hex.
"""

from dataclasses import dataclass
from typing import Any, Literal

Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened within a span."""

    name: str
    time_ns: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """Another span that this one points to."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """A span that ended. `kind`: internal, server, client, producer, consumer, or unspecified. `scope`: what made it."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    status: Literal["ok", "error", "unset"]
    description: str
    attributes: Attributes
    events: tuple[EventRecord, ...]
    links: tuple[LinkRecord, ...]
    resource: Attributes
    scope: str

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A log record. `severity`: debug, info, warning, error, critical. `event`: the name of the fact behind it, if any."""

    time_ns: int
    severity: str
    body: Any
    event: str
    attributes: Attributes
    trace_id: str
    span_id: str
    resource: Attributes
    scope: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """A distribution: `buckets[i]` values were at most `bounds[i]`, the last of `buckets` were above all of them."""

    count: int
    sum: float
    bounds: tuple[float, ...]
    buckets: tuple[int, ...]
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class ExemplarRecord:
    """A measurement that stands for others, and the span within which it was made."""

    time_ns: int
    value: float
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class MetricRecord:
    """A data point. `kind`: gauge, counter, updown, histogram; `value` is None for the last. `delta`: since `start_ns`."""

    name: str
    unit: str
    description: str
    kind: Literal["gauge", "counter", "updown", "histogram"]
    time_ns: int
    start_ns: int
    attributes: Attributes
    value: float | None
    histogram: Histogram | None
    exemplars: tuple[ExemplarRecord, ...]
    resource: Attributes
    scope: str
    delta: bool = False
