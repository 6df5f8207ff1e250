"""Signals with a clock of their own and a sink that decodes what it is given, for tests."""

import dataclasses
from typing import Any

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pqvpn import facts
from pqvpn.facts import Fact
from pqvpn.reasons import Reason
from pqvpn.telemetry import names
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.redaction import Policy, Redactor
from pqvpn.telemetry.signals import Settings, Signals

SESSION = "5e" * 16
TRACE = "0a" * 16
ENDPOINT = "192.0.2.7:51820"
SECOND = 1_000_000_000
STATUS = {
    "name": "beta", "state": "up", "rtt_ms": 12.5, "loss": 0.25, "rx_bytes": 1000, "tx_bytes": 2000, "rx_packets": 10,
    "tx_packets": 20, "session_id": SESSION, "suite": "X-Wing", "path_mtu": 1432,
    "handshake_age_seconds": 7.5,
}  # fmt: skip


class Sink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, bytes, int]] = []
        self.broken = False

    def __call__(self, kind: str, payload: bytes, items: int) -> None:
        if self.broken:
            raise OSError("the disk is full")
        self.batches.append((kind, payload, items))

    def spans(self) -> list[Any]:
        return [
            span
            for kind, payload, _ in self.batches
            if kind == "traces"
            for r in ExportTraceServiceRequest.FromString(payload).resource_spans
            for s in r.scope_spans
            for span in s.spans
        ]

    def logs(self) -> list[Any]:
        return [
            record
            for kind, payload, _ in self.batches
            if kind == "logs"
            for r in ExportLogsServiceRequest.FromString(payload).resource_logs
            for s in r.scope_logs
            for record in s.log_records
        ]

    def metrics(self) -> dict[str, Any]:
        """Of the latest batch, by name."""
        payload = [payload for kind, payload, _ in self.batches if kind == "metrics"][-1]
        request = ExportMetricsServiceRequest.FromString(payload)
        return {m.name: m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics}


class Node:
    """Signals with a clock of its own, fed with facts."""

    def __init__(self, **settings: Any) -> None:
        self.sink = Sink()
        self.now = 1000.0
        made: dict[str, Any] = {"version": "1.2.3", "instance": "node-1", "peers": ("beta", "gamma")} | settings
        redactor = Redactor(Policy(addresses="keep", key=b"k" * 32))
        self.signals = Signals(Settings(**made), redactor, self.sink, clock=lambda: self.now)

    def tell(
        self, fact: Fact, after: float = 0.0, process: str = "control", lost: int = 0, worked: float = 0.0
    ) -> None:
        self.now += after
        fields = msgspec.to_builtins(fact)
        self.signals.record(
            Envelope(
                event=fact.event, time_ns=self.time, now=self.now, process=process, pid=1, fields=fields, lost=lost,
                worked=worked,
                session_id=fields.get("session_id") or "", peer=fields.get("peer") or "",
                trace_id=fields.get("attempt") or "",
            ),
            fact,
        )  # fmt: skip

    @property
    def time(self) -> int:
        return 1_800_000_000 * SECOND + round(self.now * SECOND)

    def flush(self, after: float = 0.0) -> "Node":
        self.now += after
        self.signals.flush()
        return self

    def spans(self) -> list[Any]:
        return self.flush().sink.spans()

    def points(self, instrument: names.Instrument) -> dict[tuple[str, ...], Any]:
        """Of a new collection: value (or histogram point) by attribute values in the instrument's order."""
        self.signals.collect()
        metric = self.sink.metrics().get(instrument.name)
        if metric is None:
            return {}
        data = getattr(metric, metric.WhichOneof("data"))
        found = {}
        for point in data.data_points:
            of_point = attributes(point)
            assert set(of_point) <= set(instrument.attributes)
            key = tuple(str(of_point[name]) for name in instrument.attributes)
            found[key] = point if instrument.kind == "histogram" else (point.as_double or point.as_int)
        return found


def attributes(record: Any) -> dict[str, Any]:
    return {pair.key: plain(pair.value) for pair in record.attributes}


def plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [plain(v) for v in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def example(kind: type[Fact]) -> Fact:
    """A fact with every field filled."""
    values: dict[str, Any] = {
        "peer": "beta", "attempt": TRACE, "session_id": SESSION, "endpoint": ENDPOINT, "reason": Reason.NO_REPLY,
        "drops": ("mac1",), "parts": {"tun": 0.5, "control": 0.25}, "frames": ("pqvpn/a.py:3 in f",), "chain": ("KeyError",),
        "status": {} if kind in (facts.NodeObserved, facts.PeerObserved) else "SIGSEGV", "severity": "warning",
        "missing": (), "failed": (), "lost": (), "message": "m1", "role": "responder", "trigger": "traffic",
        "trace": "a.py:3 in f",
    }  # fmt: skip
    by_type = {"str": "word", "int": 3, "float": 0.5, "float | None": 0.5, "bool": True}
    types = {f.name: f.type.__name__ if isinstance(f.type, type) else str(f.type) for f in dataclasses.fields(kind)}
    return kind(**{name: values[name] if name in values else by_type[of] for name, of in types.items()})
