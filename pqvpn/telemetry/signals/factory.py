"""The only maker of OpenTelemetry's providers, and the only way out for what they make.

Owns resource, limits, identifiers and the `Outlet`: everything is redacted, encoded as OTLP and handed to one sink. No
provider is global, no propagator is set, no thread is started, nothing happens at exit. Knows nothing of facts.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from opentelemetry import version as opentelemetry_version
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits, LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk._logs._internal import ReadableLogRecord
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import MetricReader, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from pqvpn.telemetry import names
from pqvpn.telemetry.redaction import Redactor
from pqvpn.telemetry.redaction.otel import OtelRedactor
from pqvpn.telemetry.signals.settings import KINDS, Settings, Sink

SCOPE: Final = "pqvpn"
MOST_PENDING: Final = 4096
"""Spans, and log records, that wait for the next flush; further ones are lost and counted."""
_MOST_EVENTS: Final = 128
_LONGEST_VALUE: Final = 4096
_TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS: Final = "application/openmetrics-text"

Observe = Callable[[], Iterable[tuple[float, Mapping[str, str]]]]
"""Gives (value, attributes) of everything that an instrument shows now."""


class Ids(IdGenerator):
    """Identifiers: random ones, or the one that was asked for, once."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self.next_trace = 0
        self.next_span = 0

    def random_trace_id(self) -> int:
        """A new one."""
        return self._random.getrandbits(128) or 1

    def generate_trace_id(self) -> int:
        """The trace id of the next root."""
        made, self.next_trace = self.next_trace, 0
        return made or self.random_trace_id()

    def generate_span_id(self) -> int:
        """The id of the next span."""
        made, self.next_span = self.next_span, 0
        return made or self._random.getrandbits(64) or 1


class Outlet:
    """Redacts, encodes, hands over, counts: `written` by kind, `lost` by cause. Nothing raises."""

    def __init__(self, redactor: Redactor, sink: Sink) -> None:
        self.redacting = OtelRedactor(redactor)
        self._sink = sink
        self.written = dict.fromkeys(sorted(KINDS), 0)
        self.lost = {"redaction": 0, "sink": 0, "full": 0}

    def spans(self, spans: Sequence[ReadableSpan]) -> None:
        """Hand over spans as one batch."""
        clean = self.redacting.each(spans, self.redacting.span)
        self._hand_over("traces", clean, encode_spans, len(spans), len(clean))

    def logs(self, records: Sequence[ReadableLogRecord]) -> None:
        """Hand over log records as one batch."""
        clean = self.redacting.each(records, self.redacting.log)
        self._hand_over("logs", clean, encode_logs, len(records), len(clean))

    def metrics(self, data: MetricsData) -> None:
        """Hand over one collection of metrics."""
        clean = self.redacting.each([data], self.redacting.metrics)
        points = _points(data)
        self._hand_over("metrics", clean[0] if clean else None, encode_metrics, points, points if clean else 0)

    def _hand_over(self, kind: str, records: Any, encode: Callable[[Any], Any], given: int, left: int) -> None:
        self.lost["redaction"] += given - left
        if not left:
            return
        try:
            self._sink(kind, encode(records).SerializeToString(), left)
        except Exception:  # noqa: BLE001 - a sink that fails costs the batch, which is counted, and nothing else
            self.lost["sink"] += left
        else:
            self.written[kind] += left


def _points(data: MetricsData) -> int:
    return sum(
        len(metric.data.data_points) for r in data.resource_metrics for s in r.scope_metrics for metric in s.metrics
    )


class _PendingSpans(SpanProcessor):
    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        if len(self._spans) < MOST_PENDING:
            self._spans.append(span)
        else:
            self._outlet.lost["full"] += 1

    def take(self) -> list[ReadableSpan]:
        taken, self._spans = self._spans, []
        return taken


class _PendingLogs(LogRecordProcessor):
    def __init__(self, outlet: Outlet, resource: Resource) -> None:
        self._outlet = outlet
        self._resource = resource
        self._records: list[ReadableLogRecord] = []

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        if len(self._records) < MOST_PENDING:
            made = ReadableLogRecord(
                log_record.log_record, self._resource, log_record.instrumentation_scope, log_record.limits
            )
            self._records.append(made)
        else:
            self._outlet.lost["full"] += 1

    def take(self) -> list[ReadableLogRecord]:
        taken, self._records = self._records, []
        return taken

    def shutdown(self) -> None:
        """Nothing to end."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


class _OutletReader(MetricReader):
    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: Any) -> None:
        self._outlet.metrics(metrics_data)

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        """Nothing to end."""


class _PageReader(PrometheusMetricReader):
    """The metrics page: a sink like the others, so what it shows is redacted first."""

    def __init__(self, outlet: Outlet, registry: CollectorRegistry) -> None:
        self._outlet = outlet
        super().__init__(registry=registry, scope_info_enabled=False)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> None:
        clean = self._outlet.redacting.each([metrics_data], self._outlet.redacting.metrics)
        if clean:
            super()._receive_metrics(clean[0], timeout_millis)
        else:
            self._outlet.lost["redaction"] += _points(metrics_data)


class Factory:
    """Everything of OpenTelemetry's SDK that one node has."""

    def __init__(self, settings: Settings, redactor: Redactor, sink: Sink) -> None:
        self.kinds = _kinds(settings)
        self.ids = Ids()
        self.outlet = Outlet(redactor, sink)
        self._registry = CollectorRegistry(auto_describe=False)
        self._reader = _OutletReader(self.outlet)
        made = _resource(settings)
        self._spans, self._logs = _PendingSpans(self.outlet), _PendingLogs(self.outlet, made)
        tracers = TracerProvider(ALWAYS_ON, made, False, id_generator=self.ids, span_limits=_span_limits())
        tracers.add_span_processor(self._spans)
        loggers = LoggerProvider(made, False, log_record_limits=LogRecordLimits(_MOST_EVENTS, _LONGEST_VALUE))
        loggers.add_log_record_processor(self._logs)
        readers = (self._reader, _PageReader(self.outlet, self._registry))
        self._meters = MeterProvider(readers, made, TraceBasedExemplarFilter(), False)
        self.tracer = tracers.get_tracer(SCOPE, settings.version)
        self.logger = loggers.get_logger(SCOPE, settings.version)
        self._meter: Meter = self._meters.get_meter(SCOPE, settings.version)

    def observable(self, instrument: names.Instrument, observe: Observe) -> None:
        """Make an instrument that asks for its values when they are collected."""

        def callback(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, attributes) for value, attributes in observe()]

        make: Any = {
            "counter": self._meter.create_observable_counter,
            "updown": self._meter.create_observable_up_down_counter,
            "gauge": self._meter.create_observable_gauge,
        }[instrument.kind]
        make(instrument.name, callbacks=[callback], unit=instrument.unit, description=instrument.description)

    def histogram(self, instrument: names.Instrument) -> Histogram:
        """Make a histogram with the boundaries of its definition."""
        return self._meter.create_histogram(
            instrument.name,
            unit=instrument.unit,
            description=instrument.description,
            explicit_bucket_boundaries_advisory=list(instrument.buckets),
        )

    def collect(self) -> None:
        """Hand over all metrics of now."""
        if "metrics" in self.kinds:
            self._reader.collect()

    def flush(self) -> None:
        """Hand over what waits."""
        if spans := self._spans.take():
            self.outlet.spans(spans)
        if records := self._logs.take():
            self.outlet.logs(records)

    def page(self, accept: str) -> tuple[bytes, str]:
        """The metrics page and its content type."""
        if _OPENMETRICS in accept:
            text = generate_openmetrics(self._registry, version="1.0.0")  # type: ignore[no-untyped-call]
            return text, f"{_OPENMETRICS}; version=1.0.0; charset=utf-8"
        return generate_latest(self._registry), _TEXT_TYPE

    def close(self) -> None:
        """End the meters; nothing else has an end."""
        self._meters.shutdown()


def _span_limits() -> SpanLimits:
    return SpanLimits(
        max_span_attributes=_MOST_EVENTS,
        max_events=_MOST_EVENTS,
        max_links=_MOST_EVENTS,
        max_event_attributes=_MOST_EVENTS,
        max_link_attributes=_MOST_EVENTS,
        max_attribute_length=_LONGEST_VALUE,
        max_span_attribute_length=_LONGEST_VALUE,
    )


def _kinds(settings: Settings) -> frozenset[str]:
    """What is wanted, less what the operator's variables turn off."""
    given = settings.environment
    if given.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return frozenset()
    off = {kind for kind in settings.kinds if given.get(f"OTEL_{kind.upper()}_EXPORTER", "").strip().lower() == "none"}
    return settings.kinds - off


def _resource(settings: Settings) -> Resource:
    """Whose signals these are. Of OTEL_RESOURCE_ATTRIBUTES the keys that may be told are taken, the rest is left out."""
    given: dict[str, str] = {}
    for pair in settings.environment.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, equals, value = pair.partition("=")
        if equals and key.strip() in names.ATTRIBUTES:
            given[key.strip()] = unquote(value.strip())
    name = settings.environment.get("OTEL_SERVICE_NAME", "").strip() or given.get(names.SERVICE_NAME, "")
    own = {
        names.SERVICE_NAME: name or "pqvpn",
        names.SERVICE_VERSION: settings.version,
        names.SERVICE_INSTANCE_ID: settings.instance,
        names.SDK_NAME: "opentelemetry",
        names.SDK_LANGUAGE: "python",
        names.SDK_VERSION: opentelemetry_version.__version__,
    }
    return Resource(given | own)
