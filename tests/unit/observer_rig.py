"""A real observer in this process: its link, its stores, its answers, its deliveries; the test is its supervisor.

Owns the start message with secrets that are canaries, the servers that it delivers to, and what a round of its work is: every
timer and every job of the worker once. Needs the main thread, whose signal it takes.
"""

import asyncio
import contextlib
import gzip
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
from signals_rig import example

from pqvpn.crypto.secret import Secret
from pqvpn.dataplane.counters import Counters
from pqvpn.facts import FACTS, LevelChanged, NodeStopped
from pqvpn.host import stacks
from pqvpn.observer import faults, process
from pqvpn.observer import start as starting
from pqvpn.observer.process import ObserverProcess
from pqvpn.resilience.limits import Limits
from pqvpn.resilience.registry import Settings
from pqvpn.telemetry import envelope, jsonlog
from pqvpn.telemetry.crashes import reading
from pqvpn.telemetry.export import Endpoint
from pqvpn.telemetry.export.endpoint import Target
from pqvpn.telemetry.redaction import Policy, Redactor
from tests.otlp.server import Collector

QUICK = 0.02
"""Seconds between two rounds of each timer, and between two tellings of one fault."""
_TOLD = tuple(kind for kind in FACTS.values() if kind not in (NodeStopped, LevelChanged))
_PATIENCE = 20.0
LIMITS = Limits(interval=QUICK)
_MIB = 1 << 20


class CrashServer:
    """Takes reports as a crash server does: it repeats their event id."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        ids = self.ids

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                packed = self.headers.get("content-encoding") == "gzip"
                found = reading.event_id(gzip.decompress(data) if packed else data)
                ids.append(found)
                body = json.dumps({"id": found}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.key = secrets.token_hex(16)
        self.dsn = f"http://{self.key}@127.0.0.1:{self._server.server_address[1]}/1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class House:
    """What an observer needs that outlives it: folders, servers, secrets, the supervisor's ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.crashes = CrashServer()
        self.collector = Collector().start()
        self.token, self.header = (f"canary-{secrets.token_hex(12)}" for _ in range(2))
        self.key = secrets.token_bytes(32)
        self.counters = Counters.create()
        self.ours, self.facts = envelope.link()
        self.words = stacks.make()
        self.unix = socket.socket(socket.AF_UNIX)
        self.place = str(folder / "health.sock")
        self.unix.bind(self.place)
        self.unix.listen(8)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        # made beforehand: what makes them is to fail in the observer only
        told = (*(example(kind) for kind in _TOLD), LevelChanged("control", "debug", 30.0))
        self.facts_told = [msgspec.msgpack.encode(envelope.stamped(fact, "control")) for fact in told]
        self.news = starting.pack_news(starting.News(Settings(), LIMITS, ("beta.example",)))

    @property
    def secrets(self) -> dict[str, bytes]:
        """What must be nowhere, by name."""
        texts = {"token": self.token, "header": self.header, "dsn": self.crashes.key}
        return {"pseudonym key": self.key, **{name: text.encode() for name, text in texts.items()}}

    def start(self) -> starting.ObserverStart:
        """The message for one more observer, with descriptors of its own."""
        url, header = self.collector.url, Secret(f"authorization: Bearer {self.header}".encode())
        endpoint = Endpoint(*(Target(f"{url}/v1/{s}", headers=header) for s in ("traces", "metrics", "logs")))
        return starting.ObserverStart(
            node=starting.Node("alpha", "pqvpn1alpha", "1", "pqvpn0", 1, ("beta",), 0.0),
            log=starting.LogSettings("debug", (), False, False, False, True, 64 << 10, 3600.0, _MIB),
            records=starting.RecordSettings(endpoint.pack(), {}, 1.0, 64 * _MIB, 3600.0, QUICK, QUICK),
            crashes=starting.CrashSettings(self.crashes.dsn.encode(), "test", "", None, 2.0, 8 * _MIB, 3600.0),
            health=starting.HealthSettings(LIMITS, self.token),
            addresses="mask",
            pseudonym_key=self.key,
            hosts=(),
            state_folder=str(self.state),
            link=self.ours.dup().detach(),
            counters=os.dup(self.counters),
            health_socket=self.unix.dup().detach(),
            health_tcp=self.tcp.dup().detach(),
            tcp_is_loopback=False,
            supervisor_pid=os.getppid(),
            breakers=Settings(),
            supervisor_words=os.dup(self.words),
        )

    def close(self) -> None:
        self.collector.stop()
        self.crashes.close()
        for end in (self.ours, self.facts, self.unix, self.tcp):
            end.close()
        os.close(self.counters)
        os.close(self.words)


class Observer:
    """One observer of a house, running in the loop of whoever makes it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.start = house.start()
        self.link, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        redactor = Redactor(Policy("mask", house.key))
        jsonlog.set_up("observer", "debug", redactor=redactor, text=False)
        self.process = ObserverProcess(self.start, self._theirs, redactor)
        self.running = asyncio.create_task(self.process.run(), name="observer")

    async def drive(self, asks: bool = True) -> list[bytes]:
        """Everything that it is called for, once; all that it answers, if it is asked."""
        for message in self.house.facts_told:
            self.house.facts.send(message)
        with contextlib.suppress(OSError):  # it may have ended
            self.link.send(b"p")
            self.link.send(self.house.news)
        answers = await self.answers() if asks else []
        await self.round()
        return answers

    async def answers(self) -> list[bytes]:
        """To every question over both sockets."""
        token = f"authorization: Bearer {self.house.token}"
        asked = [
            *(self.ask(f"GET {path} HTTP/1.1") for path in ("/livez", "/health", "/metrics", "/breakers", "/nothing")),
            self.ask("POST /breakers?name=otlp&action=reset HTTP/1.1"),
            self.ask("POST /breakers?name=nothing&action=open HTTP/1.1"),
            self.ask("GET /metrics HTTP/1.1", "accept: application/openmetrics-text"),
            self.ask("GET /health HTTP/1.1", token, tcp=True),
            self.ask("GET /health HTTP/1.1", "authorization: Bearer wrong", tcp=True),
            self.ask("nonsense"),
        ]
        return await asyncio.gather(*asked)

    async def ask(self, first: str, *more: str, tcp: bool = False) -> bytes:
        """One request on a connection of its own; what came back, if anything."""
        try:
            async with asyncio.timeout(2.0):
                opened = (
                    asyncio.open_connection(*self.house.tcp.getsockname())
                    if tcp
                    else asyncio.open_unix_connection(self.house.place)
                )
                reader, writer = await opened
                writer.write("\r\n".join((first, "host: a", *more, "", "")).encode())
                answer = await reader.read()
                writer.close()
                return answer
        except (OSError, TimeoutError):
            return b""

    async def round(self) -> None:
        """Every timer and every job once, beginning now; less, if it has ended."""
        for part in (1.5, 0.5):  # of the timers' own time; what the worker found out is taken up in the second
            await asyncio.sleep(part * QUICK)
            await self.until(lambda: self.idle or self.running.done())

    @property
    def idle(self) -> bool:
        """Whether the worker has nothing to do."""
        worker = self.process._worker
        return not worker._jobs and worker._busy_since is None

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                await asyncio.sleep(0.002)

    async def end(self) -> BaseException | None:
        """As the supervisor ends it; what ended it instead."""
        self.link.close()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.running
        except Exception as error:  # noqa: BLE001 - whatever it is, the test judges it
            return error
        finally:
            self._close()
        return None

    def _close(self) -> None:
        """What its process's end would close."""
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        loop = asyncio.get_running_loop()
        for end in (self._theirs, self.process._intake._end):
            loop.remove_reader(end)
            end.close()
        loop.remove_signal_handler(signal.SIGTERM)
        for descriptor in (self.start.counters, self.start.supervisor_words):
            os.close(descriptor)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Timers, hooks, levels and handlers of this process as they were."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, threading.excepthook, sys.unraisablehook
    periods = process.LAST_EVERY, faults.TOLD_EVERY
    known = {n: each.level for n, each in root.manager.loggerDict.items() if isinstance(each, logging.Logger)}
    alarm = signal.signal(signal.SIGALRM, lambda *_: None)  # an end may take long here
    process.LAST_EVERY, faults.TOLD_EVERY = QUICK, QUICK
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, alarm)
        root.handlers[:], root.level, threading.excepthook, sys.unraisablehook = before
        process.LAST_EVERY, faults.TOLD_EVERY = periods
        for name, level in known.items():
            logging.getLogger(name).setLevel(level)
