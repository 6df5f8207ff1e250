"""What a node depends on, on the loopback of its namespace: name server, collector, crash server; each well or ill.

Owns the listening sockets and the threads that serve them; they end with `stop`. Each speaks as little of its protocol as a
node needs to be content (tests/crashserver/ and tests/stack/ have real servers). Knows no node.
"""

import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from lab.namespaces import Namespace

COLLECTOR, CRASHES, DNS = 4318, 9000, 53
DSN: Final = f"http://0123456789abcdef0123456789abcdef@127.0.0.1:{CRASHES}/1"
ILLNESSES: Final = ("dead", "hanging", "nonsense")
_LOOPBACK: Final = "127.0.0.1"
_A: Final = 1
_POLL: Final = 0.05


class WebServer:
    """An HTTP server that can be `well`, `dead` (nobody listens), `hanging` (takes requests, answers none) or answer
    `nonsense`. `taken`: requests that it answered well.
    """

    def __init__(self, namespace: Namespace, port: int) -> None:
        self._namespace, self._port = namespace, port
        self._server: ThreadingHTTPServer | None = None
        self._release = threading.Event()
        self.state = "dead"
        self.taken = 0

    def become(self, state: str) -> None:
        """Change its state; requests that hang are let go."""
        self._release.set()
        self._release = threading.Event()
        self.state = state
        if state == "dead":
            self.stop()
        elif self._server is None:
            self._listen()

    def stop(self) -> None:
        """Close it; nobody listens any more."""
        self._release.set()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def _listen(self) -> None:
        self._server = ThreadingHTTPServer((_LOOPBACK, self._port), _handler(self), bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.socket.close()
        self._server.socket = self._namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._server.server_bind()
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(_POLL,), daemon=True, name="server").start()

    def answer(self, body: bytes) -> tuple[bytes, str] | None:
        """Body and content type of the answer; None: none comes."""
        state, release = self.state, self._release
        if state == "hanging":
            release.wait()
            return None
        if state == "nonsense":
            return b"<html><body>Please log in to the hotel's network.</body></html>", "text/html"
        self.taken += 1
        if self._port == COLLECTOR:
            return b"", "application/x-protobuf"
        return json.dumps({"id": json.loads(body.partition(b"\n")[0])["event_id"]}).encode(), "application/json"


def _handler(server: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            answer = server.answer(body)
            if answer is None:
                self.close_connection = True
                return
            data, kind = answer
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    return Handler


class NameServer:
    """Answers A for some names while it lives. `asked`: how often it answered."""

    def __init__(self, namespace: Namespace, names: Mapping[str, str]) -> None:
        self._namespace, self._names = namespace, names
        self._socket: socket.socket | None = None
        self.asked = 0

    def start(self) -> None:
        """Answer from now on."""
        self._socket = self._namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((_LOOPBACK, DNS))
        self._socket.settimeout(_POLL)
        threading.Thread(target=self._serve, args=(self._socket,), daemon=True, name="names").start()

    def stop(self) -> None:
        """Nobody listens any more."""
        opened, self._socket = self._socket, None
        if opened is not None:
            time.sleep(2 * _POLL)  # its thread sees that it is not the one any more
            opened.close()

    def _serve(self, opened: socket.socket) -> None:
        while self._socket is opened:
            try:
                query, asker = opened.recvfrom(512)
            except TimeoutError:
                continue
            except OSError:
                return
            opened.sendto(self._answer(query), asker)
            self.asked += 1

    def _answer(self, query: bytes) -> bytes:
        labels, at = [], 12
        while size := query[at]:
            labels.append(query[at + 1 : at + 1 + size].decode())
            at += 1 + size
        question = query[12 : at + 5]
        (kind,) = struct.unpack_from("!H", query, at + 1)
        address = self._names.get(".".join(labels).lower())
        found = kind == _A and address is not None
        code = 0x8180 if address else 0x8183  # no such name
        head = query[:2] + struct.pack("!5H", code, 1, int(found), 0, 0)
        if not found or address is None:
            return head + question
        return head + question + struct.pack("!HHHIH", 0xC00C, _A, 1, 1, 4) + socket.inet_aton(address)
