"""Health and metrics over HTTP: /livez, /readyz, /health, /metrics.

Owns the paths, the answers' formats, the bearer token and the limits that keep strangers from using this process up:
connections, sizes of requests, time. /breakers is for the unix socket, which only the node's user can open. Uvicorn reads
and writes; there are no signal handlers and no access log. Knows nothing of what is healthy: it is given functions that
say so.
"""

import asyncio
import contextlib
import hmac
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec

from pqvpn.errors import PqvpnError
from pqvpn.observer._uvicorn import Config, H11Protocol, Server

MOST_CONNECTIONS: Final = 32
LARGEST_HEAD: Final = 16 << 10
DEADLINE: Final = 10.0
"""Seconds that a connection lives, whatever it does."""
_JSON: Final = b"application/json"
_PATHS: Final = ("/livez", "/readyz", "/health", "/metrics")
_METHODS: Final = ("GET", "HEAD")

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer = tuple[int, bytes, bytes]
"""Status, content type, body."""


class Breakers(Protocol):
    """What can be done with breakers."""

    def rows(self) -> list[dict[str, Any]]:
        """All of them."""

    def act(self, name: str, action: str) -> dict[str, Any]:
        """Open, close or reset one. Raises PqvpnError or ValueError."""


def _untold(_: Exception) -> None:
    pass


class Application:
    """The ASGI application. `report()` gives the content of `/health`, `metrics(accept)` (body, content type).

    `failed` hears of an answer that could not be made. `token` None: everybody who reaches the socket may ask. `breakers`
    None: there is no /breakers.
    """

    def __init__(
        self,
        report: Callable[[], dict[str, Any]],
        metrics: Callable[[str], tuple[bytes, str]],
        token: str | None = None,
        breakers: Breakers | None = None,
        failed: Callable[[Exception], None] = _untold,
    ) -> None:
        self._breakers = breakers
        self._report = report
        self._metrics = metrics
        self._failed = failed
        self._token = token.encode() if token else None

    async def __call__(self, scope: Scope, _: Any, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        try:
            status, kind, body = self._answer(scope, headers)
        except Exception as error:  # noqa: BLE001 - the request's boundary: who asked is answered, without the text
            self._failed(error)
            status, kind, body = _error(500, "this cannot be told now; the log says why")
        answered = [
            (b"content-type", kind),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        if status == 401:
            answered.append((b"www-authenticate", b'Bearer realm="pqvpn"'))
        if status == 405:
            answered.append((b"allow", ", ".join(_METHODS).encode()))
        answered.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": answered})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, scope: Scope, headers: dict[bytes, bytes]) -> Answer:
        if not self._allowed(headers):
            return _error(401, "this needs the bearer token of health.token_file")
        if scope["path"] == "/breakers" and self._breakers is not None:
            return _operate(self._breakers, scope)
        if scope["path"] not in _PATHS:
            return _error(404, f"there are {', '.join(_PATHS)}")
        if scope["method"] not in _METHODS:
            return _error(405, "only GET and HEAD are answered")
        if scope["path"] == "/metrics":
            body, kind = self._metrics(headers.get(b"accept", b"").decode("latin-1")[:1024])
            return 200, kind.encode("latin-1"), body
        report = self._report()
        if scope["path"] == "/health":
            return 200, _JSON, msgspec.json.encode(report)
        return _probe(scope["path"] == "/livez", report)

    def _allowed(self, headers: dict[bytes, bytes]) -> bool:
        if self._token is None:
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        right = hmac.compare_digest(given.strip(), self._token)
        return right and scheme.lower() == b"bearer"


def _operate(breakers: Breakers, scope: Scope) -> Answer:
    """GET: all of them. POST ?name=...&action=...: what an operator wants of one."""
    if scope["method"] != "POST":
        return 200, _JSON, msgspec.json.encode({"breakers": breakers.rows()})
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")[:1024]))
    try:
        return 200, _JSON, msgspec.json.encode(breakers.act(query.get("name", ""), query.get("action", "")))
    except (PqvpnError, ValueError):
        return _error(404, "no such breaker, or action")


def _probe(live: bool, report: dict[str, Any]) -> Answer:
    """Live: control reports. Ready: the node runs and nothing that it cannot do without is failing."""
    failing = [_named(i) for i in report["items"] if i["state"] == "failing" and not i["suppressed_by"]]
    ready = report["state"] != "failing" and report["node"]["state"] == "running"
    good = "node.control" not in failing if live else ready
    answer = {"ok": good, "state": report["state"], "node": report["node"]["state"], "failing": failing}
    return (200 if good else 503), _JSON, msgspec.json.encode(answer)


def _named(item: dict[str, Any]) -> str:
    return f"{item['item']}:{item['key']}" if item["key"] else str(item["item"])


def _error(status: int, detail: str) -> Answer:
    return status, _JSON, msgspec.json.encode({"ok": False, "detail": detail})


class _Connection(H11Protocol):
    """Uvicorn's connection with an end: too many are refused, and none outlives the deadline."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= MOST_CONNECTIONS:
            self._end: asyncio.TimerHandle | None = None
            self._refused = True
            transport.abort()
            return
        self._refused = False
        super().connection_made(transport)
        self._end = self.loop.call_later(DEADLINE, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end:
            self._end.cancel()
        if not self._refused:
            super().connection_lost(exc)


class _Server(Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are the process's own matter

    async def main_loop(self) -> None:
        await self._until_told()

    async def _until_told(self) -> None:
        self.told = asyncio.Event()
        await self.told.wait()

    def end(self) -> None:
        """Answer no more."""
        self.should_exit = self.force_exit = True
        if hasattr(self, "told"):
            self.told.set()


def server(application: Application) -> _Server:
    """A server for `application`; `serve(sockets=[...])` runs it, `end()` ends it."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what strangers send is no news
    config = Config(
        application,
        http=_Connection,
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        limit_concurrency=MOST_CONNECTIONS + 1,
        h11_max_incomplete_event_size=LARGEST_HEAD,
        timeout_keep_alive=1,
        timeout_graceful_shutdown=1,
        backlog=MOST_CONNECTIONS,
    )
    return _Server(config)


async def serve(application: Application, listener: socket.socket) -> None:
    """Answer on a listening socket until cancelled; closes it then."""
    running = server(application)
    serving = asyncio.ensure_future(running.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        running.end()
        await asyncio.wait({serving}, timeout=1.0)
