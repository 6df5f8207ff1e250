"""What the stack sends to: a receiver of Alertmanager's messages and a store of log records.

Owns two small HTTP servers on loopback, and the reading of what databases wrote. They keep everything, byte for byte, so
that it can be searched.
"""

import contextlib
import gzip
import http.server
import json
import os
import threading
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest


def written(path: Path) -> bytes:
    """What was written to a file: databases make files of gigabytes that are mostly holes."""
    parts = []
    with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            parts.append(os.pread(file.fileno(), end - at, at))
            at = end
    return b"".join(parts)


class _Receiver:
    """Keeps the bodies of all POSTs."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                packed = self.headers.get("content-encoding") == "gzip"
                outer.bodies.append(gzip.decompress(body) if packed else body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.port = self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Hook(_Receiver):
    """Where Alertmanager's messages go."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/alert"

    def messages(self, name: str) -> list[dict[str, Any]]:
        """Every alert of that name that was sent, firing or resolved."""
        sent = [json.loads(body) for body in list(self.bodies)]
        return [alert for message in sent for alert in message["alerts"] if alert["labels"]["alertname"] == name]

    def told(self, name: str, status: str, **labels: str) -> bool:
        """Whether an alert was sent with this status and these labels."""
        return any(
            alert["status"] == status and labels.items() <= alert["labels"].items() for alert in self.messages(name)
        )

    def groups(self) -> list[dict[str, str]]:
        """The labels that each message was grouped by."""
        return [json.loads(body)["groupLabels"] for body in list(self.bodies)]


class LogStore(_Receiver):
    """Where the collector sends log records."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def records(self) -> list[Any]:
        """Every record that arrived."""
        return [
            record
            for body in list(self.bodies)
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]
