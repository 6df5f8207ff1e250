"""Health and metrics over HTTP, with a real server: paths, formats, the token, and strangers."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pqvpn.observer import http

REPORT: dict[str, Any] = {
    "schema": 1,
    "node": {"name": "alpha", "state": "running"},
    "state": "ok",
    "items": [{"item": "tun.interface", "key": "", "state": "ok", "suppressed_by": ""}],
}


class Served:
    """An application on a TCP socket of the loopback, served by a thread."""

    def __init__(self, token: str | None) -> None:
        self.report = json.loads(json.dumps(REPORT))
        self.accepts: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = self.listener.getsockname()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(token,))
        self._thread.start()

    def _run(self, token: str | None) -> None:
        application = http.Application(lambda: self.report, self._metrics, token)
        self._task = self._loop.create_task(http.serve(application, self.listener))
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    def _metrics(self, accept: str) -> tuple[bytes, str]:
        self.accepts.append(accept)
        return b"# metrics\n", "text/plain; version=0.0.4"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(5.0)

    def raw(self, request: bytes, seconds: float = 5.0) -> bytes:
        with socket.create_connection(self.address, seconds) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(1 << 16):
                answer += part
        return answer

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{n.title()}: {v}" for n, v in headers.items())]
        head, _, body = self.raw("\r\n".join([*lines, "", ""]).encode()).partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in rest), body


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served(None)
    yield made
    made.close()


@pytest.fixture
def guarded() -> Iterator[Served]:
    made = Served("s3cret-token")
    yield made
    made.close()


def test_health_is_the_report(served: Served) -> None:
    status, headers, body = served.ask("/health")
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers
    assert json.loads(body) == REPORT


def test_head_has_the_headers_only(served: Served) -> None:
    _, get, body = served.ask("/health")
    status, headers, nothing = served.ask("/health", "HEAD")
    assert (status, headers, nothing) == (200, get, b"")
    assert int(get["content-length"]) == len(body)


def test_metrics_are_in_the_format_asked_for(served: Served) -> None:
    status, headers, body = served.ask("/metrics", accept="application/openmetrics-text")
    assert (status, body) == (200, b"# metrics\n")
    assert headers["content-type"] == "text/plain; version=0.0.4"
    assert served.accepts == ["application/openmetrics-text"]


@pytest.mark.parametrize(
    ("node", "state", "item", "suppressed", "live", "ready"),
    [
        ("running", "ok", "tun.interface", "", 200, 200),
        ("running", "warning", "peer", "", 200, 200),
        ("starting", "ok", "", "", 200, 503),
        ("running", "failing", "tun.interface", "", 200, 503),
        ("running", "failing", "node.control", "", 503, 503),
        ("running", "failing", "node.control", "another", 200, 503),
    ],
)
def test_live_and_ready(
    served: Served, node: str, state: str, item: str, suppressed: str, live: int, ready: int
) -> None:
    served.report["node"]["state"], served.report["state"] = node, state
    failing = state == "failing" and [{"item": item, "key": "", "state": "failing", "suppressed_by": suppressed}]
    served.report["items"] = failing or []
    assert served.ask("/livez")[0] == live
    status, _, body = served.ask("/readyz")
    assert status == ready
    assert json.loads(body)["failing"] == ([item] if failing and not suppressed else [])


@pytest.mark.parametrize("path", ["/", "/metrics/", "/health/../etc/passwd", "/%2e%2e", "/control"])
def test_other_paths_are_not_there(served: Served, path: str) -> None:
    status, headers, body = served.ask(path)
    assert status == 404
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["ok"] is False


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_refused(served: Served, method: str) -> None:
    status, headers, body = served.ask("/health", method)
    assert (status, headers["allow"]) == (405, "get, head")
    assert json.loads(body)["ok"] is False


@pytest.mark.parametrize(
    "given",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer"}, {"authorization": "Basic s3cret-token"},
     {"authorization": "s3cret-token"}],
)  # fmt: skip
def test_without_the_token_there_is_nothing(guarded: Served, given: dict[str, str]) -> None:
    for path in ("/health", "/metrics", "/livez", "/readyz", "/other"):
        status, headers, body = guarded.ask(path, **given)
        assert status == 401
        assert headers["www-authenticate"].startswith("bearer")
        assert b"alpha" not in body


def test_with_the_token_there_is(guarded: Served) -> None:
    assert guarded.ask("/health", authorization="Bearer s3cret-token")[0] == 200
    assert guarded.ask("/health", authorization="bearer  s3cret-token")[0] == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: nonsense\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"\r\n" * 10_000,
    ],
)
def test_what_is_no_request_is_turned_away(served: Served, request_: bytes) -> None:
    try:
        answer = served.raw(request_)
    except ConnectionResetError:
        answer = b""
    assert len(answer) < 10_000
    assert served.ask("/health")[0] == 200


def test_a_large_body_is_not_taken_in(served: Served) -> None:
    head = b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
    with socket.create_connection(served.address, 5.0) as connection:
        connection.sendall(head)
        sent = 0
        try:
            connection.settimeout(1.0)
            while sent < 64 << 20:
                sent += connection.send(b"x" * (1 << 16))
        except OSError:
            pass
    assert sent < 32 << 20
    assert served.ask("/health")[0] == 200


def test_those_who_only_hold_connections_are_let_go(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "DEADLINE", 0.3)
    idle = [socket.create_connection(served.address, 5.0) for _ in range(3 * http.MOST_CONNECTIONS)]
    try:
        for connection in idle[::2]:
            with_head = b"GET /health HTTP/1.1\r\nHo"
            try:
                connection.sendall(with_head)
            except OSError:
                continue
        began = time.monotonic()
        for connection in idle:
            connection.settimeout(5.0)
            try:
                while connection.recv(1024):
                    pass
            except ConnectionResetError:
                pass
        assert time.monotonic() - began < 3.0
    finally:
        for connection in idle:
            connection.close()
    assert served.ask("/health")[0] == 200


def test_a_failure_inside_is_no_answer_with_a_secret(served: Served) -> None:
    served.report = {"node": {}, "state": "ok"}  # no items: the probe fails
    status, _, body = served.ask("/readyz")
    assert status == 500
    assert b"items" not in body
    assert served.ask("/health")[0] == 200


class Switchboard:
    """Stands in for the observer's breakers."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str]] = []

    def rows(self) -> list[dict[str, Any]]:
        return [{"name": "otlp", "state": "closed"}]

    def act(self, name: str, action: str) -> dict[str, Any]:
        if name != "otlp":
            raise ValueError(name)
        self.acts.append((name, action))
        return {"name": name, "state": "open", "held": True}


async def _asked(application: http.Application, method: str, path: str, query: bytes = b"") -> tuple[int, Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": []}
    await application(scope, None, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_breakers_are_for_the_unix_socket_only() -> None:
    board = Switchboard()
    unix = http.Application(lambda: REPORT, lambda _: (b"", ""), breakers=board)
    tcp = http.Application(lambda: REPORT, lambda _: (b"", ""))
    assert asyncio.run(_asked(unix, "GET", "/breakers")) == (200, {"breakers": board.rows()})
    assert asyncio.run(_asked(unix, "POST", "/breakers", b"name=otlp&action=open"))[0] == 200
    assert board.acts == [("otlp", "open")]
    assert asyncio.run(_asked(unix, "POST", "/breakers", b"name=x&action=open"))[0] == 404
    assert asyncio.run(_asked(unix, "POST", "/health"))[0] == 405
    assert asyncio.run(_asked(tcp, "GET", "/breakers"))[0] == 404
    assert asyncio.run(_asked(tcp, "POST", "/breakers", b"name=otlp&action=open"))[0] == 404
