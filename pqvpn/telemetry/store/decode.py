"""From encoded OTLP to plain records, one span, log record or data point at a time.

Owns the decoding and its bounds: what is larger, deeper or longer than anything that this program writes is cut or
passed over. Whatever the bytes are, memory is bounded by one item's size, and the only error is DamagedItem.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from pqvpn.telemetry.store import wire
from pqvpn.telemetry.store.records import (
    Attributes,
    EventRecord,
    ExemplarRecord,
    Histogram,
    LinkRecord,
    LogRecord,
    MetricRecord,
    SpanRecord,
)

LARGEST_ITEM: Final = 256 << 10
_SMALLEST_SPAN: Final = 24  # its two ids
_MOST: Final = 256  # attributes, events, links, elements
_DEEPEST: Final = 6
_LONGEST_TEXT: Final = 32 << 10
_MOST_KNOWN: Final = 64
_CUT: Final = "..."

_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUS: Final[tuple[Literal["unset", "ok", "error"], ...]] = ("unset", "ok", "error")
LEVELS: Final = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}
"""The lowest OTLP severity number of each level."""
_DATA: Final[dict[int, Literal["gauge", "sum", "histogram"]]] = {5: "gauge", 7: "sum", 9: "histogram"}
_EVENT_NAME: Final = "event.name"
_Value = TypeVar("_Value")


class DamagedItem(ValueError):  # noqa: N818 - what it is, not what went wrong
    """An item that is no OTLP, or too large to be looked at."""


class Decoder:
    """Decodes items; resources and scopes, which repeat, are decoded once."""

    def __init__(self) -> None:
        self._resources: dict[bytes, Attributes] = {}
        self._scopes: dict[bytes, str] = {}

    def span(self, resource: memoryview, scope: memoryview, item: memoryview) -> Iterator[SpanRecord]:
        """The span. Raises DamagedItem."""
        if len(item) < _SMALLEST_SPAN:
            raise DamagedItem("a span without ids")
        span = _parsed(trace_pb2.Span, item)
        yield SpanRecord(
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            name=_text(span.name),
            kind=_KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else _KINDS[0],
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            status=_STATUS[span.status.code] if 0 <= span.status.code < len(_STATUS) else "unset",
            description=_text(span.status.message),
            attributes=_attributes(span.attributes),
            events=tuple(
                EventRecord(_text(e.name), e.time_unix_nano, _attributes(e.attributes)) for e in span.events[:_MOST]
            ),
            links=tuple(
                LinkRecord(each.trace_id.hex(), each.span_id.hex(), _attributes(each.attributes))
                for each in span.links[:_MOST]
            ),
            resource=self._resource(resource),
            scope=self._scope(scope),
        )

    def log(self, resource: memoryview, scope: memoryview, item: memoryview) -> Iterator[LogRecord]:
        """The log record. Raises DamagedItem."""
        log = _parsed(logs_pb2.LogRecord, item)
        attributes = _attributes(log.attributes)
        yield LogRecord(
            time_ns=log.time_unix_nano or log.observed_time_unix_nano,
            severity=_level(log.severity_number),
            body=_value(log.body, _DEEPEST),
            event=_text(log.event_name) or str(attributes.get(_EVENT_NAME, "")),
            attributes=attributes,
            trace_id=log.trace_id.hex(),
            span_id=log.span_id.hex(),
            resource=self._resource(resource),
            scope=self._scope(scope),
        )

    def metric(self, resource: memoryview, scope: memoryview, item: memoryview) -> Iterator[MetricRecord]:
        """The data points of a metric. Raises DamagedItem, also after some of them."""
        try:
            found = list(_metric_fields(item))
        except wire.WireError as error:
            raise DamagedItem(str(error)) from None
        texts = {number: _decoded(value) for number, value in found if number in (1, 2, 3)}
        around = (texts.get(1, ""), texts.get(3, ""), texts.get(2, ""))
        for number, value in found:
            kind = _DATA.get(number)
            if kind is not None:
                yield from self._points(kind, value, around, (self._resource(resource), self._scope(scope)))

    def _points(
        self, kind: Literal["gauge", "sum", "histogram"], data: memoryview, around: tuple[str, str, str], whose: Any
    ) -> Iterator[MetricRecord]:
        make = metrics_pb2.HistogramDataPoint if kind == "histogram" else metrics_pb2.NumberDataPoint
        try:
            numbers = {number: value for number, value in wire.fields(data) if isinstance(value, int)}
            shown: Literal["gauge", "counter", "updown", "histogram"]
            shown = ("counter" if numbers.get(3) else "updown") if kind == "sum" else kind
            for each in wire.messages(data, 1):
                point = _parsed(make, each)
                yield MetricRecord(
                    *around,
                    kind=shown,
                    time_ns=point.time_unix_nano,
                    start_ns=point.start_time_unix_nano,
                    attributes=_attributes(point.attributes),
                    value=None if kind == "histogram" else _number(point),
                    histogram=_histogram(point) if kind == "histogram" else None,
                    exemplars=tuple(
                        ExemplarRecord(e.time_unix_nano, _number(e), e.trace_id.hex(), e.span_id.hex())
                        for e in point.exemplars[:_MOST]
                    ),
                    resource=whose[0],
                    scope=whose[1],
                    delta=numbers.get(2) == metrics_pb2.AGGREGATION_TEMPORALITY_DELTA,
                )
        except wire.WireError as error:
            raise DamagedItem(str(error)) from None

    def _resource(self, data: memoryview) -> Attributes:
        return _known(self._resources, data, lambda: _attributes(_parsed(Resource, data).attributes))

    def _scope(self, data: memoryview) -> str:
        return _known(self._scopes, data, lambda: _text(_parsed(InstrumentationScope, data).name))


def _known(known: dict[bytes, _Value], data: memoryview, make: Callable[[], _Value]) -> _Value:
    key = bytes(data[:LARGEST_ITEM])
    if key not in known:
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known[key] = make()
    return known[key]


def _metric_fields(item: memoryview) -> Iterator[tuple[int, memoryview]]:
    for index, (number, value) in enumerate(wire.fields(item)):
        if index > _MOST:
            raise wire.WireError("a metric of too many fields")
        if isinstance(value, memoryview):
            yield number, value


def _parsed(make: Any, data: memoryview) -> Any:
    if len(data) > LARGEST_ITEM:
        raise DamagedItem(f"an item of {len(data)} bytes")
    try:
        return make.FromString(bytes(data))
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedItem(type(error).__name__) from None


def _attributes(pairs: Any) -> Attributes:
    return {_text(pair.key): _value(pair.value, _DEEPEST) for pair in pairs[:_MOST]}


def _value(value: Any, depth: int) -> Any:
    kind = value.WhichOneof("value")
    match kind:
        case "string_value":
            return _text(value.string_value)
        case "bool_value" | "int_value" | "double_value":
            return getattr(value, kind)
        case "bytes_value":
            return value.bytes_value[: _LONGEST_TEXT // 2].hex()
        case "array_value":
            return tuple(_value(v, depth - 1) for v in value.array_value.values[:_MOST]) if depth else _CUT
        case "kvlist_value":
            pairs = value.kvlist_value.values[:_MOST]
            return {_text(pair.key): _value(pair.value, depth - 1) for pair in pairs} if depth else _CUT
    return ""


def _text(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + _CUT


def _decoded(data: memoryview) -> str:
    return _text(bytes(data[: 4 * _LONGEST_TEXT]).decode("utf-8", "replace"))


def _level(number: int) -> str:
    found = [name for name, lowest in LEVELS.items() if number >= lowest]
    return found[-1] if found else "debug"


def _number(point: Any) -> float:
    which = point.WhichOneof("value")
    return getattr(point, which) if which else 0.0


def _histogram(point: Any) -> Histogram:
    bounds: Sequence[float] = point.explicit_bounds[:_MOST]
    return Histogram(
        count=point.count,
        sum=point.sum,
        bounds=tuple(bounds),
        buckets=tuple(point.bucket_counts[: _MOST + 1]),
        min=point.min if point.HasField("min") else None,
        max=point.max if point.HasField("max") else None,
    )
