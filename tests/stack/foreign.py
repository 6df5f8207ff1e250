"""A foreign sender: OTLP records with a canary in every place that a record has, sent to the collector as they are.

Owns the records. Nothing of the node's own redaction has a part in this.
"""

import ssl
import time
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList

SERVICE = "pqvpn"


def pair(key: str, value: Any) -> KeyValue:
    """An attribute; `value`: a text, a number, bytes, a list or a mapping."""
    return KeyValue(key=key, value=_value(value))


def _value(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case str():
            return AnyValue(string_value=value)
        case int():
            return AnyValue(int_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[_value(each) for each in value]))
        case _:
            return AnyValue(kvlist_value=KeyValueList(values=[pair(k, v) for k, v in value.items()]))


def attributes(secret: Callable[[str], str], where: str, keys: Iterable[str]) -> list[KeyValue]:
    """A canary under keys that are not allowed, under one that is, in a key, and in values of every type."""
    return [
        pair("not.allowed", secret(f"{where} attribute that is not allowed")),
        pair(secret(f"{where} key"), "x"),
        pair("http.url", f"https://u:{secret(f'{where} url')}@example.net/"),
        pair("not.allowed.bytes", secret(f"{where} bytes").encode()),
        pair("not.allowed.list", [secret(f"{where} list"), 1]),
        pair("not.allowed.map", {"inner": secret(f"{where} map"), secret(f"{where} key of map"): 1}),
        *(pair(key, f"token={secret(f'{where} {key}')}") for key in keys),
        pair("pqvpn.drops", [f"secret: {secret(f'{where} allowed list')}"]),
    ]


def traces(secret: Callable[[str], str], trace_id: bytes, span_id: bytes) -> ExportTraceServiceRequest:
    """One span of a known kind and one of none, full of canaries."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add(schema_url=secret("resource schema of traces"))
    resource.resource.attributes.extend([pair("service.name", SERVICE), pair("service.instance.id", "id-f0e1d2c3")])
    resource.resource.attributes.extend(attributes(secret, "resource of traces", ("service.version",)))
    scope = resource.scope_spans.add(schema_url=secret("scope schema of traces"))
    scope.scope.CopyFrom(_scope(secret, "traces"))
    now = time.time_ns()
    for number, name in enumerate(("pqvpn.connect", secret("span name"))):
        span = scope.spans.add(
            trace_id=trace_id,
            span_id=bytes([number]) + span_id[1:],
            name=name,
            trace_state=f"k={secret('trace state')}",
            start_time_unix_nano=now - 1_000_000,
            end_time_unix_nano=now,
        )
        span.attributes.extend(attributes(secret, "span", ("pqvpn.reason", "pqvpn.peer", "pqvpn.detail", "session.id")))
        span.status.code = 2
        span.status.message = secret("status message")
        event = span.events.add(name=secret("event name"), time_unix_nano=now)
        event.attributes.extend(attributes(secret, "event", ("exception.type", "pqvpn.detail")))
        known = span.events.add(name="pqvpn.dropped", time_unix_nano=now)
        known.attributes.extend(attributes(secret, "known event", ("pqvpn.drop",)))
        link = span.links.add(trace_id=trace_id, span_id=span_id, trace_state=secret("trace state of link"))
        link.attributes.extend(attributes(secret, "link", ("pqvpn.detail",)))
    return request


def metrics(secret: Callable[[str], str]) -> ExportMetricsServiceRequest:
    """A known instrument, one of none, and a histogram with an exemplar, full of canaries."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add(schema_url=secret("resource schema of metrics"))
    resource.resource.attributes.extend([pair("service.name", SERVICE), pair("service.instance.id", "id-f0e1d2c3")])
    resource.resource.attributes.extend(attributes(secret, "resource of metrics", ("service.version",)))
    scope = resource.scope_metrics.add(schema_url=secret("scope schema of metrics"))
    scope.scope.CopyFrom(_scope(secret, "metrics"))
    now = time.time_ns()
    for name in ("pqvpn.peer.rtt", secret("metric name")):
        metric = scope.metrics.add(name=name, description=secret("metric description"), unit=secret("metric unit"))
        point = metric.gauge.data_points.add(as_double=1.5, time_unix_nano=now)
        point.attributes.extend(attributes(secret, "point", ("pqvpn.peer",)))
        point.attributes.append(pair("session.id", "5e" * 16))
    metric = scope.metrics.add(name="pqvpn.handshake.duration", unit="s")
    metric.histogram.aggregation_temporality = 2
    point = metric.histogram.data_points.add(
        time_unix_nano=now, count=1, sum=0.1, bucket_counts=[1, 0], explicit_bounds=[1.0]
    )
    exemplar = point.exemplars.add(
        time_unix_nano=now, as_double=0.1, trace_id=bytes(15) + b"\1", span_id=bytes(7) + b"\1"
    )
    exemplar.filtered_attributes.extend([pair("not.allowed", secret("exemplar"))])
    return request


def logs(secret: Callable[[str], str]) -> ExportLogsServiceRequest:
    """Records of known and unknown kinds with bodies of every type, full of canaries."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add(schema_url=secret("resource schema of logs"))
    resource.resource.attributes.extend([pair("service.name", SERVICE), pair("service.instance.id", "id-f0e1d2c3")])
    resource.resource.attributes.extend(attributes(secret, "resource of logs", ("service.version",)))
    scope = resource.scope_logs.add(schema_url=secret("scope schema of logs"))
    scope.scope.CopyFrom(_scope(secret, "logs"))
    bodies: list[Any] = [
        f"no session with beta: password={secret('body of a known sentence')}",
        secret("body alone"),
        {"inner": secret("body map"), secret("key of body map"): "x"},
        [secret("body list")],
        secret("body bytes").encode(),
    ]
    for number, body in enumerate(bodies):
        record = scope.log_records.add(time_unix_nano=time.time_ns(), severity_number=17)
        record.event_name = "handshake.failed" if number == 0 else secret("event name of a record")
        record.severity_text = secret("severity text")
        record.body.CopyFrom(_value(body))
        record.attributes.extend(attributes(secret, "record", ("pqvpn.detail", "pqvpn.peer", "exception.stacktrace")))
    return request


def _scope(secret: Callable[[str], str], where: str) -> InstrumentationScope:
    made = InstrumentationScope(name=secret(f"scope name of {where}"), version=secret(f"scope version of {where}"))
    made.attributes.extend(attributes(secret, f"scope of {where}", ("pqvpn.detail",)))
    return made


def post(url: str, request: Any, headers: dict[str, str] | None = None, trusted: ssl.SSLContext | None = None) -> int:
    """Send to `url` (with its path); the status of the answer. Raises HTTPError, which then holds the connection."""
    asked = urllib.request.Request(
        url, data=request.SerializeToString(), headers={"content-type": "application/x-protobuf", **(headers or {})}
    )
    with urllib.request.urlopen(asked, timeout=10, context=trusted) as answer:
        return int(answer.status)
