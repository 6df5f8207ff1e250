"""OTLP over gRPC: one call a record, on one channel.

Owns the channel, its credentials and the meaning of status codes. Payloads pass as they are, undecoded. `grpc` is heavy
and is imported when the first record is sent.
"""

import contextlib
import os
from pathlib import Path
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from pqvpn import __version__
from pqvpn.reasons import Reason
from pqvpn.telemetry.export import outcome
from pqvpn.telemetry.export.endpoint import Target
from pqvpn.telemetry.export.outcome import LARGEST_ANSWER, RECORD_HEADER, Outcome, Verdict
from pqvpn.telemetry.spool.layout import Kind, Record
from pqvpn.telemetry.store import wire

_METHODS: Final[dict[int, str]] = {
    Kind.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Kind.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Kind.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_BUSY: Final = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "OUT_OF_RANGE", "DATA_LOSS")
_REFUSED: Final = ("UNAUTHENTICATED", "PERMISSION_DENIED")
_BAD_RECORD: Final = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED")
_TLS_WORDS: Final = ("ssl_error", "handshake", "certificate")
_NOT_FOUND: Final = ("errors resolving", "dns resolution failed")
_NOT_SENT: Final = ("failed to connect",)
_STATUS_DETAILS: Final = "grpc-status-details-bin"
_RETRY_INFO: Final = b"google.rpc.RetryInfo"


class GrpcSender:
    """Sends to one target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._channel: Any = None
        self._call: Any = None

    def send(self, record: Record) -> Outcome:
        """One try. Never raises."""
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would write addresses to standard error, unredacted
        import grpc

        try:
            channel = self._channel = self._channel or self._made(grpc)
        except (OSError, ValueError) as error:
            detail = f"a certificate or key file cannot be used ({type(error).__name__})"
            return Outcome(Verdict.LATER, Reason.COLLECTOR_TLS, detail)
        # payload and answer are bytes already
        method = channel.unary_unary(_METHODS[record.kind], request_serializer=None, response_deserializer=None)
        metadata = (*self._target.header_pairs(), (RECORD_HEADER, record.id.hex()))
        try:
            self._call = method.future(record.payload, timeout=self._target.timeout, metadata=metadata)
            return outcome.accepted(record.kind, self._call.result())
        except grpc.RpcError as error:
            return self._failed(error)
        except grpc.FutureCancelledError:
            return outcome.unreachable("the call was cancelled", uncertain=True)
        finally:
            self._call = None

    def abort(self) -> None:
        """Cancel the call."""
        if (call := self._call) is not None:
            call.cancel()

    def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _made(self, grpc: Any) -> Any:
        scheme, _, place = self._target.url.partition("://")
        options = (
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),  # the drainer's business
            ("grpc.max_receive_message_length", LARGEST_ANSWER),
            ("grpc.primary_user_agent", f"pqvpn/{__version__}"),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        )
        is_gzip = self._target.compression == "gzip"
        compression = grpc.Compression.Gzip if is_gzip else grpc.Compression.NoCompression
        if scheme == "http":
            return grpc.insecure_channel(place, options=options, compression=compression)
        target = self._target
        credentials = grpc.ssl_channel_credentials(
            _read(target.ca_file), _read(target.key_file), _read(target.certificate_file)
        )
        return grpc.secure_channel(place, credentials, options=options, compression=compression)

    def _failed(self, error: Any) -> Outcome:
        code = error.code().name
        detail = f"it answers with status {code}"
        wait = _retry_info(error.trailing_metadata() or ())
        if code in _REFUSED:
            return Outcome(Verdict.LATER, Reason.COLLECTOR_REFUSED, detail)
        if code == "RESOURCE_EXHAUSTED" and wait is not None:
            return outcome.unreachable(detail, wait=wait)
        if code in _BAD_RECORD:
            return Outcome(Verdict.NEVER, Reason.COLLECTOR_REFUSED, detail)
        if code in _BUSY:
            self.close()  # the next try begins with a new connection
            return self._busy(code, detail, wait, f"{error.details()} {error.debug_error_string()}".lower())
        return outcome.nonsense(detail)

    def _busy(self, code: str, detail: str, wait: float | None, text: str) -> Outcome:
        """gRPC tells a failed connection by its text only, which is looked at and not kept."""
        if any(words in text for words in _NOT_FOUND):
            return outcome.unreachable("its name does not resolve")
        if self._target.url.startswith("https") and any(word in text for word in _TLS_WORDS):
            return Outcome(Verdict.LATER, Reason.COLLECTOR_TLS, "the TLS handshake fails")
        if any(words in text for words in _NOT_SENT):
            return outcome.unreachable("no connection can be made")
        if code == "DEADLINE_EXCEEDED":
            return outcome.unreachable(f"no answer within {self._target.timeout:g} s", uncertain=True)
        return outcome.unreachable(detail, uncertain=wait is None, wait=wait)


def _read(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


def _retry_info(metadata: Any) -> float | None:
    """The delay of a google.rpc.RetryInfo in the status: Status.details (3) are Any (type 1, value 2), its delay is 1."""
    for key, value in metadata:
        if key != _STATUS_DETAILS:
            continue
        with contextlib.suppress(wire.WireError, DecodeError):
            for detail in wire.messages(memoryview(bytes(value)), 3):
                if bytes(wire.last(detail, 1)).endswith(_RETRY_INFO):
                    delay = Duration.FromString(bytes(wire.last(wire.last(detail, 2), 1)))
                    return outcome.bounded_wait(delay.seconds + delay.nanos / 1e9)
    return None
