"""OTLP over real HTTP, on loopback. Owns the transport and its ways to misbehave."""

import contextlib
import gzip
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.message import DecodeError

from tests.otlp.recorder import Mode, Recorder

_PROTOBUF = "application/x-protobuf"
_SIGNALS = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def setup(self) -> None:
        if self.server.context:
            self.request.settimeout(5.0)
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
            self.request.settimeout(None)
        super().setup()
        self.server.live.add(self.connection)

    def finish(self) -> None:
        self.server.live.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()
        self.connection.close()

    def do_POST(self) -> None:
        recorder = self.server.recorder
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        mode, signal = recorder.meet(), _SIGNALS.get(self.path, "")
        if mode in _NOT_TAKEN:
            status, headers = _NOT_TAKEN[mode]
            if mode is Mode.BUSY and recorder.wait:
                headers = {"retry-after": f"{recorder.wait:.0f}"}
            self._say(status, b"Bearer sesame is what you said", "text/plain", headers)
            return
        if not signal or self.headers.get("content-type") != _PROTOBUF:
            self._say(404, b"", _PROTOBUF)
            return
        try:
            recorder.take(signal, body, {k.lower(): v for k, v in self.headers.items()})
        except DecodeError:
            self._say(400, b"", _PROTOBUF)
            return
        self._answer(mode, recorder.answer(signal))

    def _answer(self, mode: Mode, answer: bytes) -> None:
        stopping = self.server.recorder.stopping
        match mode:
            case Mode.HANG:
                stopping.wait()
            case Mode.LATE:
                stopping.wait(self.server.recorder.wait)
                self._say(200, answer, _PROTOBUF)
            case Mode.GARBAGE:
                self._say(200, b"\xff\xfe garbage", _PROTOBUF)
            case Mode.PAGE:
                self._say(200, b"<html>log in</html>", "text/html")
            case Mode.JSON:
                self._say(200, b'{"partialSuccess":{}}', "application/json")
            case Mode.EMPTY:
                self._say(200, b"", "")
            case Mode.HUGE:
                self._say(200, bytes(32 << 20), _PROTOBUF)
            case Mode.BOMB:
                self._say(200, gzip.compress(bytes(1 << 20)), _PROTOBUF, {"content-encoding": "gzip"})
            case Mode.CUT:
                self._raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\ncontent-type: application/x-protobuf\r\n\r\nx")
                self._end()
            case Mode.DRIP:
                self._raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\r\n")
                self._drip()
            case Mode.HEADERS:
                self._raw(b"HTTP/1.1 200 OK\r\nx-endless: ")
                self._drip()
            case _:
                self._say(200, answer, _PROTOBUF)

    def _drip(self) -> None:
        while not self.server.recorder.stopping.wait(0.05):
            self._raw(b"\0")

    def _say(self, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if content_type:
            self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self._raw(body)

    def _raw(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()

    def _end(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


_NOT_TAKEN: dict[Mode, tuple[int, dict[str, str]]] = {
    Mode.BUSY: (503, {}),
    Mode.FORBIDDEN: (401, {}),
    Mode.BAD: (400, {}),
    Mode.ERROR: (500, {}),
    Mode.REDIRECT: (307, {"location": "/v1/elsewhere"}),
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, recorder: Recorder, context: ssl.SSLContext | None) -> None:
        self.recorder = recorder
        self.context = context
        self.live: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, *_: Any) -> None:
        """A sender that went away, or a handshake that failed, is what tests are about."""


class HttpServer:
    """Serves from its making to `stop`."""

    def __init__(self, port: int, recorder: Recorder, context: ssl.SSLContext | None = None) -> None:
        self._server = _Server(port, recorder, context)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """As if it was killed: connections end, the port is free."""
        self._server.recorder.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._server.live):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
