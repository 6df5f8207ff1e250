"""OpenTelemetry's records: nothing of a secret in any place, as the wire encoder sees them, and counts survive."""

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Span, SpanContext, Status, StatusCode, TraceState

from pqvpn.telemetry.redaction import REDACTED, Policy, Redactor
from pqvpn.telemetry.redaction.otel import (
    OtelRedactor,
    RedactingLogExporter,
    RedactingMetricExporter,
    RedactingSpanExporter,
)

SECRET = bytes.fromhex("8f41c7035ce1b89a2b7df0146689d35a07fe92cb4de83f7160a55d1c0ab9e472")
LEAK = base64.b64encode(SECRET).decode()
REDACTOR = Redactor(Policy("mask", bytes(32)))
CLEAN = Resource({"service.name": "pqvpn"})


def leaks(encoded: bytes) -> bool:
    return LEAK.encode() in encoded or SECRET in encoded or b"hunter2" in encoded


class Both:
    """A provider whose spans are kept as they are and as they leave."""

    def __init__(self, resource: Resource = CLEAN, limits: SpanLimits | None = None) -> None:
        self.raw, self.out = InMemorySpanExporter(), InMemorySpanExporter()
        self.provider = TracerProvider(resource=resource, span_limits=limits, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.raw))
        self.provider.add_span_processor(SimpleSpanProcessor(RedactingSpanExporter(self.out, REDACTOR)))

    def span(
        self, act: Callable[[Span], Any], name: str = "pqvpn.connect", scope: str = "pqvpn", **options: Any
    ) -> ReadableSpan:
        span = self.provider.get_tracer(scope, **options.pop("tracer", {})).start_span(name, **options)
        act(span)
        span.end()
        assert leaks(encode_spans(self.raw.get_finished_spans()).SerializeToString()), "the test leaks nothing"
        (made,) = self.out.get_finished_spans()
        assert not leaks(encode_spans([made]).SerializeToString())
        assert LEAK not in made.to_json()
        return made


def fail(span: Span) -> None:
    try:
        try:
            raise KeyError(LEAK)
        except KeyError as cause:
            error = ValueError("hunter2")
            error.add_note(LEAK)
            raise error from cause
    except ValueError as error:
        span.record_exception(error)


CONTEXT = SpanContext(5, 6, True, trace_state=TraceState([("a", SECRET.hex())]))
PLACES: dict[str, Callable[[], ReadableSpan]] = {
    "resource attribute": lambda: Both(Resource({"service.name": LEAK})).span(lambda s: None),
    "resource schema": lambda: Both(Resource({}, f"https://example.org/{LEAK}")).span(lambda s: None),
    "scope name": lambda: Both().span(lambda s: None, scope=f"scope {LEAK}"),
    "scope version": lambda: Both().span(lambda s: None, tracer={"instrumenting_library_version": LEAK}),
    "scope attribute": lambda: Both().span(lambda s: None, tracer={"attributes": {"peer": LEAK}}),
    "scope schema": lambda: Both().span(lambda s: None, tracer={"schema_url": LEAK}),
    "span name": lambda: Both().span(lambda s: None, name=f"pqvpn.connect {LEAK}"),
    "attribute value": lambda: Both().span(lambda s: s.set_attribute("detail", LEAK)),
    "attribute not listed": lambda: Both().span(lambda s: s.set_attribute("own", "hunter2")),
    "value in a sequence": lambda: Both().span(lambda s: s.set_attribute("detail", ["a", LEAK])),
    "attribute key": lambda: Both().span(lambda s: s.set_attribute(LEAK, 1)),
    "nested map": lambda: Both().span(lambda s: s.set_attribute("detail", {"peer": {"detail": LEAK}})),
    "key of a nested map": lambda: Both().span(lambda s: s.set_attribute("detail", {LEAK: 1})),
    "bytes": lambda: Both().span(lambda s: s.set_attribute("detail", SECRET)),
    "event name": lambda: Both().span(lambda s: s.add_event(f"event {LEAK}")),
    "event attribute": lambda: Both().span(lambda s: s.add_event("drop", {"detail": LEAK})),
    "exception": lambda: Both().span(fail),
    "link attribute": lambda: Both().span(lambda s: None, links=[Link(SpanContext(1, 2, False), {"detail": LEAK})]),
    "status": lambda: Both().span(lambda s: s.set_status(Status(StatusCode.ERROR, f"why: {LEAK}"))),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_every_place_of_a_span(place: str) -> None:
    PLACES[place]()


def test_trace_state_goes() -> None:
    made = OtelRedactor(REDACTOR).span(ReadableSpan("x", CONTEXT, CONTEXT, CLEAN, links=[Link(CONTEXT)]))
    assert len(CONTEXT.trace_state) == 1
    contexts = [made.context, made.parent, made.links[0].context]
    assert [(c.trace_id, c.span_id, c.is_remote, len(c.trace_state)) for c in contexts if c] == [(5, 6, True, 0)] * 3


def test_what_is_not_secret_stays() -> None:
    def act(span: Span) -> None:
        span.set_attributes(
            {"peer": "beta", "seconds": 1.5, "detail": LEAK, "restarts": 3, "drops": ("mac1", "policy")}
        )
        span.add_event("drop", {"drop": "mac1"}, timestamp=7)
        span.set_status(Status(StatusCode.ERROR, "network.no_reply"))
        fail(span)

    both = Both()
    made = both.span(act, links=[Link(SpanContext(1, 2, False), {"peer": "beta"})])
    raw = both.raw.get_finished_spans()[0]
    assert dict(made.attributes or {}) == {
        "peer": "beta", "seconds": 1.5, "detail": REDACTED, "restarts": 3, "drops": ("mac1", "policy")
    }  # fmt: skip
    assert (made.name, made.kind, made.start_time, made.end_time) == (raw.name, raw.kind, raw.start_time, raw.end_time)
    assert (made.status.status_code, made.status.description) == (StatusCode.ERROR, "network.no_reply")
    assert made.get_span_context() == raw.get_span_context()
    assert [(e.name, e.timestamp, dict(e.attributes or {})) for e in made.events[:1]] == [("drop", 7, {"drop": "mac1"})]
    failure = dict(made.events[1].attributes or {})
    assert failure.pop("exception.escaped") == "False"
    assert failure["exception.type"] == "ValueError"
    assert failure["exception.message"] == REDACTED
    assert str(failure["exception.stacktrace"]).count("test_telemetry_redaction_otel.py:") == 2
    assert made.links[0].context == SpanContext(1, 2, False)
    assert made.instrumentation_scope == raw.instrumentation_scope
    assert made.resource.attributes == raw.resource.attributes


def test_counts_of_what_was_dropped_survive() -> None:
    def act(span: Span) -> None:
        span.set_attributes({"peer": "a", "detail": LEAK, "state": "c"})
        for _ in range(3):
            span.add_event("drop", {"peer": "a", "detail": "b", "state": "c"})

    limits = SpanLimits(max_attributes=2, max_events=2, max_links=1, max_event_attributes=1)
    made = Both(limits=limits).span(act, links=[Link(SpanContext(1, 2, False))] * 2)
    assert (made.dropped_attributes, made.dropped_events, made.dropped_links) == (1, 1, 1)
    assert made.events[0].dropped_attributes == 2
    link = Link(SpanContext(1, 2, False), BoundedAttributes(1, {"peer": "a", "state": "b"}))
    made = OtelRedactor(REDACTOR).span(ReadableSpan("x", SpanContext(1, 2, False), resource=CLEAN, links=[link]))
    assert made.links[0].dropped_attributes == 1


def test_records_of_one_resource_stay_together_and_are_scrubbed_once() -> None:
    both = Both(Resource({"service.name": LEAK}))
    for _ in range(2):
        both.provider.get_tracer("pqvpn").start_span("a").end()
    first, second = both.out.get_finished_spans()
    assert first.resource is second.resource
    assert first.instrumentation_scope is second.instrumentation_scope
    made = OtelRedactor(REDACTOR)
    for number in range(1000):  # of which none must be taken for another
        assert made.resource(Resource({"service.name": str(number)})).attributes["service.name"] == str(number)


# -- logs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def logs() -> Iterator[tuple[LoggerProvider, InMemoryLogRecordExporter]]:
    out = InMemoryLogRecordExporter()
    provider = LoggerProvider(CLEAN, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(RedactingLogExporter(out, REDACTOR)))
    yield provider, out
    provider.shutdown()


@pytest.mark.parametrize(
    "record",
    [
        {"body": f"text {LEAK}"}, {"body": SECRET}, {"body": {"detail": LEAK}}, {"body": ["a", [LEAK]]}, {"body": {LEAK: 1}},
        {"attributes": {"detail": LEAK}}, {"attributes": {LEAK: 1}}, {"attributes": {"detail": [{"x": "hunter2"}]}},
        {"attributes": {"own": "hunter2"}}, {"event_name": LEAK}, {"severity_text": LEAK},
        {"exception": ValueError(LEAK)}, {"body": "x", "exception": KeyError("hunter2")},
    ],
)  # fmt: skip
def test_every_place_of_a_log_record(
    logs: tuple[LoggerProvider, InMemoryLogRecordExporter], record: dict[str, Any]
) -> None:
    provider, out = logs
    provider.get_logger("pqvpn").emit(LogRecord(timestamp=5, severity_number=SeverityNumber.WARN, **record))
    (made,) = out.get_finished_logs()
    assert not leaks(encode_logs([made]).SerializeToString())
    assert LEAK not in made.to_json()
    assert made.log_record.exception is None
    assert (made.log_record.timestamp, made.log_record.severity_number) == (5, SeverityNumber.WARN)


def test_a_log_record_keeps_what_is_not_secret() -> None:
    given = LogRecord(
        timestamp=5, observed_timestamp=6, trace_id=7, span_id=8, severity_text="WARN", body="peer beta: network.no_reply",
        attributes=BoundedAttributes(2, {"peer": "beta", "state": "up", "seconds": 1.5}),
    )  # fmt: skip
    scope = InstrumentationScope("pqvpn", "0.1.0", "https://opentelemetry.io/schemas/1.42.0")
    record = ReadableLogRecord(given, CLEAN, scope)
    made = OtelRedactor(REDACTOR).log(record)
    assert encode_logs([made]) == encode_logs([record])
    assert made.dropped_attributes == 1
    assert given.attributes == {"state": "up", "seconds": 1.5}, "the original is not touched"


# -- metrics ---------------------------------------------------------------------------------------------------------


class Kept(MetricExporter):
    def __init__(self) -> None:
        super().__init__({}, {})
        self.collections: list[MetricsData] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        self.collections.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        pass


def measure(meter_provider: MeterProvider) -> None:
    meter = meter_provider.get_meter(f"pqvpn {LEAK}", attributes={"detail": LEAK})
    counted = {"peer": "beta", "detail": LEAK, LEAK: 1, "own": "hunter2"}
    meter.create_counter("pqvpn.drops", f"unit {LEAK}", f"text {LEAK}").add(3, counted)
    meter.create_histogram("pqvpn.rtt").record(0.5, counted)
    meter.create_histogram("pqvpn.wide").record(0.5, counted)
    meter.create_gauge("pqvpn.queue").set(7, counted)


def test_every_place_of_a_metric() -> None:
    out, raw = Kept(), Kept()
    readers = [PeriodicExportingMetricReader(each, 3_600_000) for each in (RedactingMetricExporter(out, REDACTOR), raw)]
    views = [
        View(instrument_name="pqvpn.rtt", attribute_keys={"peer"}),
        View(instrument_name="pqvpn.wide", aggregation=ExponentialBucketHistogramAggregation()),
    ]
    resource = Resource({"service.name": LEAK}, f"https://example.org/{LEAK}")
    provider = MeterProvider(
        readers, resource, exemplar_filter=AlwaysOnExemplarFilter(), views=views, shutdown_on_exit=False
    )
    measure(provider)
    provider.force_flush()
    provider.shutdown()
    before, after = raw.collections[0], out.collections[0]
    assert leaks(encode_metrics(before).SerializeToString())
    encoded = encode_metrics(after).SerializeToString()
    assert not leaks(encoded)
    assert b"pqvpn.drops" in encoded
    points = list(each_point(after))
    assert sum(len(point.exemplars) for point in points) >= 3
    for point in points:
        assert point.attributes["peer"] == "beta"
        assert all(exemplar.filtered_attributes == {} for exemplar in point.exemplars)
    assert [numbers(point) for point in points] == [numbers(point) for point in each_point(before)]


def each_point(data: MetricsData) -> Iterator[Any]:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield from metric.data.data_points


def numbers(point: Any) -> Sequence[Any]:
    other = ("attributes", "exemplars", "start_time_unix_nano", "time_unix_nano")
    shown = {name: value for name, value in vars(point).items() if name not in other}
    return [shown, [exemplar.value for exemplar in point.exemplars]]


def test_the_preferences_of_the_inner_exporter_hold() -> None:
    inner = Kept()
    inner._preferred_temporality = {int: AggregationTemporality.DELTA}
    assert RedactingMetricExporter(inner, REDACTOR)._preferred_temporality == {int: AggregationTemporality.DELTA}


# -- failing closed --------------------------------------------------------------------------------------------------


def test_a_record_that_cannot_be_rebuilt_is_left_out_and_counted() -> None:
    out = InMemorySpanExporter()
    exporter = RedactingSpanExporter(out, REDACTOR)
    good = ReadableSpan("a", SpanContext(1, 2, False), resource=CLEAN)
    broken: Any = ReadableSpan("b", SpanContext(1, 2, False), resource=CLEAN, events=[object()])  # type: ignore[list-item]
    exporter.export([good, broken, good])
    assert [span.name for span in out.get_finished_spans()] == ["a", "a"]
    assert exporter.otel.refused == 1
    metrics = RedactingMetricExporter(Kept(), REDACTOR)
    assert metrics.export(MetricsData([object()])) is MetricExportResult.FAILURE  # type: ignore[list-item]


def test_the_second_time_changes_nothing() -> None:
    span = Both().span(lambda s: (s.set_attributes({"detail": LEAK, "endpoint": "192.0.2.1:7", LEAK: 1}), fail(s)))
    assert encode_spans([OtelRedactor(REDACTOR).span(span)]) == encode_spans([span])
