"""What a test's OTLP receiver got, and how it is to behave.

Owns the record of requests, decoded, with their record ids; knows no transport.
"""

import base64
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

REQUESTS = {
    "traces": traces.ExportTraceServiceRequest,
    "metrics": metrics.ExportMetricsServiceRequest,
    "logs": logs.ExportLogsServiceRequest,
}
ANSWERS = {
    "traces": traces.ExportTraceServiceResponse,
    "metrics": metrics.ExportMetricsServiceResponse,
    "logs": logs.ExportLogsServiceResponse,
}
_REJECTED = {"traces": "rejected_spans", "metrics": "rejected_data_points", "logs": "rejected_log_records"}


class Mode(Enum):
    """What is done with a request."""

    OK = "ok"
    HANG = "hang"  # taken, never answered
    BUSY = "busy"  # 503 or UNAVAILABLE, with what `wait` says
    FORBIDDEN = "forbidden"  # 401 or UNAUTHENTICATED
    BAD = "bad"  # 400 or INVALID_ARGUMENT: this request will never do
    ERROR = "error"  # 500 or INTERNAL
    GARBAGE = "garbage"  # 200 with bytes that are no protobuf
    PARTIAL = "partial"  # 200, `rejected` items were not taken
    LATE = "late"  # taken, the answer comes after `wait` seconds
    CUT = "cut"  # taken, the connection ends in the middle of the answer
    # HTTP only
    PAGE = "page"  # 200 with a web page
    JSON = "json"  # 200 with an answer in JSON
    EMPTY = "empty"  # 200 without a word
    HUGE = "huge"  # 200 with an answer of many megabytes
    DRIP = "drip"  # 200 with a body that never ends, a byte at a time
    HEADERS = "headers"  # an endless line of headers, a byte at a time
    REDIRECT = "redirect"  # 307 to another path
    BOMB = "bomb"  # 200 with a compressed answer


@dataclass(frozen=True)
class Received:
    """One request that was taken."""

    record: str
    signal: str
    request: Any
    headers: dict[str, str]

    @property
    def items(self) -> int:
        """Spans, log records or data points in it."""
        return count(self.signal, self.request)


def count(signal: str, request: Any) -> int:
    """Spans, log records or metrics in a request."""
    group, scope, items = {
        "traces": ("resource_spans", "scope_spans", "spans"),
        "metrics": ("resource_metrics", "scope_metrics", "metrics"),
        "logs": ("resource_logs", "scope_logs", "log_records"),
    }[signal]
    return sum(len(getattr(s, items)) for g in getattr(request, group) for s in getattr(g, scope))


@dataclass
class Recorder:
    """Shared by a server's threads. `received` holds what was taken, whether or not the sender was told so."""

    mode: Mode = Mode.OK
    wait: float = 0.0
    rejected: int = 1
    dump: Path | None = None
    received: list[Received] = field(default_factory=list)
    seen: int = 0  # requests of any outcome
    stopping: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, signal: str, payload: bytes, headers: dict[str, str]) -> None:
        """A request was read and is taken. Raises DecodeError."""
        request = REQUESTS[signal].FromString(payload)
        record = headers.get("x-pqvpn-record", "")
        if self.dump:
            line = {
                "time_ns": time.time_ns(),
                "record": record,
                "signal": signal,
                "items": count(signal, request),
                "mode": self.mode.value,
                "payload": base64.b64encode(payload).decode(),
            }
            with self.dump.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        with self._changed:
            self.received.append(Received(record, signal, request, headers))
            self._changed.notify_all()

    def meet(self) -> Mode:
        """A request came; how to behave."""
        with self._changed:
            self.seen += 1
            self._changed.notify_all()
        return self.mode

    def answer(self, signal: str) -> bytes:
        """What is said to a request that was taken."""
        found = ANSWERS[signal]()
        if self.mode is Mode.PARTIAL:
            setattr(found.partial_success, _REJECTED[signal], self.rejected)
            found.partial_success.error_message = "not those"
        return found.SerializeToString()

    def records(self) -> Counter[str]:
        """How often each record id was taken."""
        return Counter(each.record for each in self.received)

    def wait_for(self, condition: Any, seconds: float = 20.0) -> None:
        """Until `condition(self)` holds. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), seconds):
                raise TimeoutError(f"{len(self.received)} taken, {self.seen} seen")
