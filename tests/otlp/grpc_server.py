"""OTLP over real gRPC, on loopback. Owns the transport and its ways to misbehave."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from tests.otlp.recorder import Mode, Recorder

_SIGNALS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
}
_NOT_TAKEN = {
    Mode.BUSY: grpc.StatusCode.UNAVAILABLE,
    Mode.FORBIDDEN: grpc.StatusCode.UNAUTHENTICATED,
    Mode.BAD: grpc.StatusCode.INVALID_ARGUMENT,
    Mode.ERROR: grpc.StatusCode.INTERNAL,
}


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def service(self, details: Any) -> Any:
        signal = _SIGNALS.get(details.method)
        if signal is None:
            return None
        headers = {key: value for key, value in details.invocation_metadata if isinstance(value, str)}
        return grpc.unary_unary_rpc_method_handler(
            lambda payload, context: self._export(signal, payload, headers, context)
        )

    def _export(self, signal: str, payload: bytes, headers: dict[str, str], context: Any) -> bytes:
        mode = self._recorder.meet()
        if mode in _NOT_TAKEN:
            if mode is Mode.BUSY and self._recorder.wait:
                context.set_trailing_metadata((("grpc-status-details-bin", _retry_in(self._recorder.wait)),))
            context.abort(_NOT_TAKEN[mode], "Bearer sesame is what you said")
        self._recorder.take(signal, payload, headers)
        match mode:
            case Mode.HANG:
                self._recorder.stopping.wait()
            case Mode.LATE:
                self._recorder.stopping.wait(self._recorder.wait)
            case Mode.GARBAGE:
                return b"\xff\xfe garbage"
            case Mode.CUT:
                context.abort(grpc.StatusCode.UNAVAILABLE, "")
        return self._recorder.answer(signal)


def _retry_in(seconds: float) -> bytes:
    delay = Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay=delay))
    return Status(code=14, details=[detail]).SerializeToString()


class GrpcServer:
    """Serves from its making to `stop`."""

    def __init__(self, port: int, recorder: Recorder, credentials: Any = None) -> None:
        self._recorder = recorder
        self._pool = ThreadPoolExecutor(8)
        options = (("grpc.so_reuseport", 0),)
        self._server = grpc.server(self._pool, handlers=(_Handler(recorder),), options=options)
        place = f"127.0.0.1:{port}"
        bind = self._server.add_secure_port if credentials else self._server.add_insecure_port
        self.port = bind(place, credentials) if credentials else bind(place)
        self._server.start()

    def stop(self) -> None:
        """As if it was killed: calls end, the port is free."""
        self._recorder.stopping.set()
        self._server.stop(None).wait()
        self._pool.shutdown()
