"""Small OTLP requests for tests."""

import struct

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pqvpn.telemetry.spool import Kind, Record
from pqvpn.telemetry.spool.layout import new_record


def spans(number: int = 0, count: int = 1) -> bytes:
    """A request of `count` spans whose trace id tells `number`."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for n in range(count):
        scope.spans.add(trace_id=struct.pack(">QQ", number, n), span_id=struct.pack(">Q", n + 1), name="pqvpn.connect")
    return request.SerializeToString()


def logs(text: str = "hello") -> bytes:
    """A request of one log record."""
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1).body.string_value = text
    return request.SerializeToString()


def metrics(value: int = 1) -> bytes:
    """A request of one data point."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="pqvpn.uptime")
    metric.gauge.data_points.add(as_int=value)
    return request.SerializeToString()


def record(kind: Kind = Kind.TRACES) -> Record:
    """A record of one item."""
    payload = {Kind.TRACES: spans, Kind.LOGS: logs, Kind.METRICS: metrics}[kind]()
    return new_record(kind, payload, 1, 1)
