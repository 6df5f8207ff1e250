"""Records of OpenTelemetry, rebuilt without what must not get out; and exporters that pass on nothing else.

Owns every place of a span, a log record and a metric where a text or a value can stand: names, attributes with their keys,
events, links, status, resource, scope, schema, trace state, bodies, exemplars. What is not copied here does not leave. The
counts of what was dropped survive. A record that cannot be rebuilt is left out and counted, never passed on as it was.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import (
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status

from pqvpn.telemetry.redaction.scrub import Redactor

_SCHEMA = "https://opentelemetry.io/schemas/"
_REMEMBERED = 64
T = TypeVar("T")


class OtelRedactor:
    """Rebuilds records. Resources and scopes are few and are remembered."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._resources: dict[int, tuple[Resource, Resource]] = {}
        self._scopes: dict[int, tuple[InstrumentationScope, InstrumentationScope]] = {}
        self.refused = 0
        """Records that could not be rebuilt, and were left out."""

    def span(self, span: ReadableSpan) -> ReadableSpan:
        """A span of which every place was looked at."""
        status = span.status
        return ReadableSpan(
            name=self._redactor.text(span.name),
            context=_plain(span.context),
            parent=_plain(span.parent),
            resource=self.resource(span.resource),
            attributes=self.attributes(span._attributes),  # the property hides how many were dropped
            events=self._list(span._events, self._event),
            links=self._list(span._links, self._link),
            kind=span.kind,
            status=Status(status.status_code, self._redactor.text(status.description) if status.description else None),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=self.scope(span.instrumentation_scope),
        )

    def log(self, record: ReadableLogRecord) -> ReadableLogRecord:
        """A log record; an exception in it goes, since the SDK would make attributes of its text."""
        given = record.log_record
        made = copy.copy(given)  # keeps times and ids; the constructor would ask the current context for them
        made.context = Context()
        made.exception = None
        made.body = self._redactor.body(given.body)
        made.attributes = self.attributes(given.attributes)
        made.severity_text = self._redactor.text(given.severity_text) if given.severity_text else None
        made.event_name = self._redactor.text(given.event_name) if given.event_name else None
        return ReadableLogRecord(
            log_record=made,
            resource=self.resource(record.resource),
            instrumentation_scope=self.scope(record.instrumentation_scope),
            limits=record.limits,
        )

    def metrics(self, data: MetricsData) -> MetricsData:
        """A collection of metrics."""
        return MetricsData([self._resource_metrics(each) for each in data.resource_metrics])

    def attributes(self, attributes: Mapping[str, Any] | None) -> BoundedAttributes:
        """Attributes with the count of those that were dropped before."""
        made = BoundedAttributes(attributes=self._redactor.fields(attributes or {}))
        made.dropped = attributes.dropped if isinstance(attributes, BoundedAttributes) else 0
        return made

    def resource(self, resource: Resource) -> Resource:
        """A resource; the same one for the same one, so that records of one process stay one batch."""
        return _remembered(self._resources, resource, self._resource)

    def scope(self, scope: InstrumentationScope | None) -> InstrumentationScope | None:
        """An instrumentation scope."""
        return None if scope is None else _remembered(self._scopes, scope, self._scope)

    def _resource(self, resource: Resource) -> Resource:
        return Resource(self._redactor.fields(resource.attributes or {}), _schema(resource.schema_url))

    def _scope(self, scope: InstrumentationScope) -> InstrumentationScope:
        return InstrumentationScope(
            self._redactor.text(scope.name),
            self._redactor.value("version", scope.version) if scope.version else scope.version,
            _schema(scope.schema_url),
            self._redactor.fields(scope.attributes or {}),
        )

    def _list(self, given: Any, one: Callable[[T], T]) -> BoundedList[T]:
        made = BoundedList.from_seq(None, [one(each) for each in given])
        made.dropped = getattr(given, "dropped", 0)
        return made

    def _event(self, event: Event) -> Event:
        return Event(self._redactor.text(event.name), self.attributes(event.attributes), event.timestamp)

    def _link(self, link: Link) -> Link:
        return Link(cast(SpanContext, _plain(link.context)), self.attributes(link._attributes))

    def _resource_metrics(self, given: ResourceMetrics) -> ResourceMetrics:
        scopes = [
            ScopeMetrics(
                scope=cast(InstrumentationScope, self.scope(each.scope)),
                metrics=[self._metric(metric) for metric in each.metrics],
                schema_url=_schema(each.schema_url),
            )
            for each in given.scope_metrics
        ]
        return ResourceMetrics(self.resource(given.resource), scopes, _schema(given.schema_url))

    def _metric(self, metric: Metric) -> Metric:
        points: Any = [self._point(point) for point in metric.data.data_points]
        return Metric(
            name=self._redactor.text(metric.name),
            description=self._redactor.text(metric.description) if metric.description else metric.description,
            unit=self._redactor.text(metric.unit) if metric.unit else metric.unit,
            data=dataclasses.replace(metric.data, data_points=points),
        )

    def _point(self, point: Any) -> Any:
        # Exemplars hold what a view took away: they keep value, time and ids only.
        exemplars = [dataclasses.replace(each, filtered_attributes={}) for each in point.exemplars]
        return dataclasses.replace(point, attributes=self.attributes(point.attributes), exemplars=exemplars)

    def each(self, records: Sequence[T], rebuild: Callable[[T], T]) -> list[T]:
        """Records rebuilt; one that fails is left out and counted."""
        made: list[T] = []
        for record in records:
            try:
                made.append(rebuild(record))
            except Exception:  # noqa: BLE001 - fails closed
                self.refused += 1
        return made


class RedactingSpanExporter(SpanExporter):
    """Passes rebuilt spans to `inner`."""

    def __init__(self, inner: SpanExporter, redactor: Redactor) -> None:
        self.inner = inner
        self.otel = OtelRedactor(redactor)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Rebuild and pass on."""
        return self.inner.export(self.otel.each(spans, self.otel.span))

    def shutdown(self) -> None:
        """Pass on."""
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Pass on."""
        return self.inner.force_flush(timeout_millis)


class RedactingLogExporter(LogRecordExporter):
    """Passes rebuilt log records to `inner`."""

    def __init__(self, inner: LogRecordExporter, redactor: Redactor) -> None:
        self.inner = inner
        self.otel = OtelRedactor(redactor)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Rebuild and pass on."""
        return self.inner.export(self.otel.each(batch, self.otel.log))

    def shutdown(self) -> None:
        """Pass on."""
        self.inner.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Pass on."""
        return self.inner.force_flush(timeout_millis)


class RedactingMetricExporter(MetricExporter):
    """Passes rebuilt metrics to `inner`, with the temporality and aggregation that `inner` prefers."""

    def __init__(self, inner: MetricExporter, redactor: Redactor) -> None:
        super().__init__(inner._preferred_temporality, inner._preferred_aggregation)
        self.inner = inner
        self.otel = OtelRedactor(redactor)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Rebuild and pass on; a collection that cannot be rebuilt is not sent."""
        made = self.otel.each([metrics_data], self.otel.metrics)
        return self.inner.export(made[0], timeout_millis, **kwargs) if made else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Pass on."""
        return self.inner.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Pass on."""
        self.inner.shutdown(timeout_millis, **kwargs)


def _remembered(known: dict[int, tuple[T, T]], given: T, make: Callable[[T], T]) -> T:
    # By identity: hashing a resource costs more than scrubbing it. The entry holds the original, so its id stays taken.
    entry = known.get(id(given))
    if entry is None:
        if len(known) >= _REMEMBERED:
            known.clear()
        entry = known[id(given)] = (given, make(given))
    return entry[1]


def _plain(context: SpanContext | None) -> SpanContext | None:
    """A span's context without trace state, which comes from elsewhere and holds anything."""
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


def _schema(url: str | None) -> str:
    """OpenTelemetry's own schemas only."""
    return url if url and url.startswith(_SCHEMA) and len(url) < 2 * len(_SCHEMA) else ""
