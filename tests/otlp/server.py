"""A real OTLP receiver for tests: over HTTP or gRPC, with or without TLS, well or badly behaved.

Owns `Collector`, which can be stopped and started again on the same port. Everything it took is in `recorder`.
"""

import socket
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import grpc

from tests.otlp.certificates import Certificates
from tests.otlp.grpc_server import GrpcServer
from tests.otlp.http_server import HttpServer
from tests.otlp.recorder import Mode, Received, Recorder

Protocol = Literal["http/protobuf", "grpc"]


class Collector:
    """Listens on 127.0.0.1 from `start` to `stop`; as a context manager, within the block."""

    def __init__(
        self,
        protocol: Protocol = "http/protobuf",
        *,
        port: int = 0,
        certificates: Certificates | None = None,
        asks_for_certificate: bool = False,
        dump: Path | None = None,
    ) -> None:
        self.protocol = protocol
        self.recorder = Recorder(dump=dump)
        self.port = port or free_port()
        self._certificates = certificates
        self._asks = asks_for_certificate
        self._server: HttpServer | GrpcServer | None = None

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self._certificates else 'http'}://127.0.0.1:{self.port}"

    @property
    def received(self) -> list[Received]:
        """What was taken, over all starts."""
        return self.recorder.received

    def behave(self, mode: Mode, *, wait: float = 0.0, rejected: int = 1) -> None:
        """How the next requests are met."""
        self.recorder.mode, self.recorder.wait, self.recorder.rejected = mode, wait, rejected

    def start(self) -> "Collector":
        """Listen, also again after `stop`, on the same port."""
        self.recorder.stopping = threading.Event()
        if self.protocol == "grpc":
            self._server = GrpcServer(self.port, self.recorder, self._grpc_credentials())
        else:
            self._server = HttpServer(self.port, self.recorder, self._context())
        return self

    def stop(self) -> None:
        """As if it was killed."""
        if self._server:
            self._server.stop()
            self._server = None

    def _context(self) -> ssl.SSLContext | None:
        if not self._certificates:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificates.server.certificate, self._certificates.server.key)
        if self._asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._certificates.ca)
        return context

    def _grpc_credentials(self) -> Any:
        if not self._certificates:
            return None
        pair = (self._certificates.server.key.read_bytes(), self._certificates.server.certificate.read_bytes())
        ca = self._certificates.ca.read_bytes() if self._asks else None
        return grpc.ssl_server_credentials([pair], ca, self._asks)

    def __enter__(self) -> "Collector":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


__all__ = ["Collector", "Mode", "Received", "Recorder", "free_port"]
