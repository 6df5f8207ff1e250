"""What became of one try to send one record, and what answers of the OTLP services mean.

Owns the vocabulary between senders and drainer, and the reading of answers. An outcome's `detail` never holds what the
other side wrote: it might repeat a token.
"""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from pqvpn.reasons import Reason
from pqvpn.telemetry.spool.layout import Kind, Record

LARGEST_ANSWER: Final = 64 << 10
LONGEST_WAIT: Final = 300.0
"""Seconds that a collector may ask us to wait: one that lies must not silence a node for good."""
RECORD_HEADER: Final = "x-pqvpn-record"
"""The record's id in hex, as HTTP header and gRPC metadata: a receiver tells duplicates by it."""

_ANSWERS: Final[dict[int, tuple[Any, str, str]]] = {
    Kind.TRACES: (ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    Kind.METRICS: (ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
    Kind.LOGS: (ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
}


class Verdict(Enum):
    """What the drainer does with the record."""

    ACCEPTED = "accepted"  # go on with the next one
    LATER = "later"  # the same again, after a while
    NEVER = "never"  # the collector will not take this one


@dataclass(frozen=True, slots=True)
class Outcome:
    """`wait`: seconds the collector asked for, also when it accepted. `rejected`: items it took the record without.

    `uncertain`: the collector may have taken the record although we were not told.
    """

    verdict: Verdict
    reason: Reason | None = None
    detail: str = ""
    wait: float | None = None
    rejected: int = 0
    uncertain: bool = False


class Sender(Protocol):
    """Sends to one target. Used by one thread at a time, but for `abort`."""

    def send(self, record: Record) -> Outcome:
        """One try, within the target's timeout. Never raises."""

    def abort(self) -> None:
        """From another thread: let a try that is under way fail soon."""

    def close(self) -> None:
        """Give up the connection."""


def accepted(kind: int, body: bytes) -> Outcome:
    """What a protobuf answer to an accepted request says."""
    make, field, _ = _ANSWERS[kind]
    try:
        rejected = getattr(make.FromString(body).partial_success, field)
    except (DecodeError, UnicodeDecodeError):
        return nonsense("its answer is no OTLP")
    return Outcome(Verdict.ACCEPTED, rejected=max(0, rejected))


def accepted_json(kind: int, body: bytes) -> Outcome:
    """The same of a JSON answer, which some servers give to protobuf requests."""
    try:
        answer = json.loads(body)
        partial = answer.get("partialSuccess") or {}
        rejected = int(partial.get(_ANSWERS[kind][2]) or 0)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return nonsense("its answer is no OTLP")
    if set(answer) - {"partialSuccess"}:
        return nonsense("its answer is no OTLP")
    return Outcome(Verdict.ACCEPTED, rejected=max(0, rejected))


def nonsense(detail: str) -> Outcome:
    """What answered is no OTLP collector; the record is kept."""
    return Outcome(Verdict.LATER, Reason.COLLECTOR_ANSWER, detail, uncertain=True)


def unreachable(detail: str, *, uncertain: bool = False, wait: float | None = None) -> Outcome:
    """It does not answer now, or says that it cannot take anything now."""
    return Outcome(Verdict.LATER, Reason.COLLECTOR_UNREACHABLE, detail, wait, uncertain=uncertain)


def bounded_wait(seconds: float) -> float:
    """What a collector asked for, within reason."""
    return min(max(0.0, seconds), LONGEST_WAIT)
