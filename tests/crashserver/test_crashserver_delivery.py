"""Delivery to a real crash server, and to all that may answer in its place: once, in order, when it is back."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pqvpn.crypto.secret import Secret
from pqvpn.facts import Crashed
from pqvpn.reasons import Reason
from pqvpn.telemetry.crashes import reading
from pqvpn.telemetry.crashes.delivery import Server, deliverer
from pqvpn.telemetry.crashes.recorder import CrashRecorder, Naming
from pqvpn.telemetry.envelope import stamped
from pqvpn.telemetry.export import Drainer
from pqvpn.telemetry.redaction import Policy
from pqvpn.telemetry.spool import Kind, Spool
from tests.crashserver.bugsink import Bugsink
from tests.crashserver.conftest import until

KINDS = ("exception", "signal", "killed", "out_of_memory", "hang", "startup")


def crash(kind: str = "exception", number: int = 0) -> Crashed:
    frames = ("pqvpn/control/process.py:100 in run", f"pqvpn/control/process.py:{200 + number} in step{number}")
    return Crashed(kind, "control", Reason.INTERNAL, "ValueError", frames[-1].partition(" in ")[0], frames, pid=7,
                   trace_id="ab" * 16)  # fmt: skip


class Desk:
    """A spool and a recorder on it; `send` begins delivery."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "crashes"
        self.spool = Spool(self.folder, 2 << 20, 86400.0)
        self.recorder = CrashRecorder(
            Policy("mask", b"k" * 32),
            Naming("alpha", "test"),
            self.keep,
            frozenset(("host.disk",)),
        )
        self.sending: list[Drainer] = []

    def keep(self, data: bytes) -> None:
        self.spool.append(Kind.CRASHES, data, 1)

    def report(self, *crashes: Crashed) -> list[str]:
        """Record these; the event ids of all on disk, oldest first."""
        for each in crashes:
            self.recorder.record(stamped(each, "control"), each)
        return [report.id for report in reading.reports(self.folder)[0]]

    def send(self, dsn: str, timeout: float = 5.0) -> Drainer:
        drainer = deliverer(self.spool, Server(Secret(dsn.encode()), timeout=timeout))
        drainer.start()
        self.sending.append(drainer)
        return drainer

    def waiting(self) -> int:
        return self.spool.backlog().records


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    for drainer in made.sending:
        drainer.stop(5.0)
    made.spool.close()


# -- the real one ----------------------------------------------------------------------------------------------------


def test_each_kind_arrives_once_grouped_and_readable(desk: Desk, crashserver: Bugsink) -> None:
    desk.recorder.health = (("host.disk", "failing"),)
    desk.recorder.note({"time": time.time(), "level": "warning", "component": "control", "message": "the last line"})
    told = desk.report(*(crash(kind, number) for number, kind in enumerate(KINDS)), crash("exception", 0))
    desk.send(crashserver.dsn)
    until(lambda: not desk.waiting())
    issues = crashserver.new_issues()
    assert len(issues) == len(KINDS)  # the last one is the first one's
    events = {e["event_id"].replace("-", ""): e["data"] for issue in issues for e in crashserver.events(issue)}
    assert sorted(events) == sorted(told)
    assert {event["tags"]["pqvpn.kind"] for event in events.values()} == set(KINDS)
    first = events[told[0]]
    (value,) = first["exception"]["values"]
    assert (value["type"], value["stacktrace"]["frames"][-1]["function"]) == ("ValueError", "step0")
    assert first["contexts"]["trace"]["trace_id"] == first["tags"]["trace_id"] == "ab" * 16
    assert first["contexts"]["health"] == {"host disk": "failing"}
    assert first["breadcrumbs"]["values"][-1]["message"] == "the last line"
    assert first["fingerprint"][0] == "node.internal"


def test_a_dead_server_is_waited_for_and_then_told_in_order_and_once(desk: Desk, crashserver: Bugsink) -> None:
    crashserver.stop()
    told = desk.report(*(crash("exception", 10 + number) for number in range(4)))
    drainer = desk.send(crashserver.dsn, timeout=2.0)
    until(lambda: drainer.state.failed >= 3)
    assert (drainer.state.reason, desk.waiting()) == (Reason.CRASH_SERVER_UNREACHABLE, 4)
    assert drainer.state.breaker == "open"
    crashserver.start()
    drainer.good_news()
    until(lambda: not desk.waiting())
    events = [event for issue in crashserver.new_issues() for event in crashserver.events(issue)]
    in_order = sorted(events, key=lambda event: event["ingested_at"])
    assert [event["event_id"].replace("-", "") for event in in_order] == told
    assert all(report.sent for report in reading.reports(desk.folder)[0])


def test_a_report_whose_answer_was_lost_is_one_event(desk: Desk, crashserver: Bugsink) -> None:
    told = desk.report(crash("exception", 20))
    with middle(crashserver, answers=False) as dsn:
        drainer = desk.send(dsn, timeout=1.0)
        until(lambda: drainer.state.failed >= 1)
        drainer.stop(5.0)
    desk.send(crashserver.dsn)
    until(lambda: not desk.waiting())
    events = [event for issue in crashserver.new_issues() for event in crashserver.events(issue)]
    assert [event["event_id"].replace("-", "") for event in events] == told


def test_a_loop_of_crashes_is_one_issue_with_a_count(desk: Desk, crashserver: Bugsink) -> None:
    for _ in range(200):
        desk.report(crash("exception", 30)) if _ == 199 else desk.recorder.record(
            stamped(crash("exception", 30), "control"), crash("exception", 30)
        )
    desk.send(crashserver.dsn)
    until(lambda: not desk.waiting())
    (issue,) = crashserver.new_issues()
    assert len(crashserver.events(issue)) == 3
    assert desk.recorder.left_out == 197


def test_a_wrong_dsn_is_told_by_its_code_and_the_report_kept(desk: Desk, crashserver: Bugsink) -> None:
    desk.report(crash("exception", 40))
    wrong = crashserver.dsn.replace("://", "://0")[: -len("1")] + "77"
    drainer = desk.send(wrong)
    until(lambda: drainer.state.failed >= 1)
    assert drainer.state.reason is Reason.CRASH_SERVER_REFUSED
    assert desk.waiting() == 1


@contextmanager
def middle(server: Bugsink, *, answers: bool) -> Iterator[str]:
    """A DSN that leads to the server by a way on which its answers are lost."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = int(server.url.rpartition(":")[2])

    def pump() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=relay, args=(near,), daemon=True).start()

    def relay(near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", port)) as far:
            near.settimeout(0.3)
            try:
                while data := near.recv(65536):
                    far.sendall(data)
            except OSError:
                pass
            far.settimeout(5.0)
            while answers and (data := far.recv(65536)):
                near.sendall(data)
            far.recv(65536)  # it has answered: the report is stored

    threading.Thread(target=pump, daemon=True).start()
    with listener:
        yield server.dsn.replace(f":{port}/", f":{listener.getsockname()[1]}/")
        listener.shutdown(socket.SHUT_RDWR)


# -- what else may answer --------------------------------------------------------------------------------------------


@contextmanager
def answering(handle: Callable[[BaseHTTPRequestHandler, str], None]) -> Iterator[tuple[str, list[str]]]:
    """A server that takes envelopes and answers as `handle` likes; (its DSN, event ids that came)."""
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            data = self.rfile.read(int(self.headers["content-length"]))
            found = reading.event_id(gzip.decompress(data) if self.headers["content-encoding"] == "gzip" else data)
            assert "sentry_key=abcdef0123" in self.headers["x-sentry-auth"]
            came.append(found)
            handle(self, found)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://abcdef0123@127.0.0.1:{server.server_port}/42", came
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reply(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("content-length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def good(request: BaseHTTPRequestHandler, event_id: str, **headers: str) -> None:
    reply(request, 200, json.dumps({"id": event_id}).encode(), **headers)


@pytest.mark.parametrize(
    "body", [b"", b"<html>log in</html>", b"{}", b"[]", b'{"id": null}', b'{"id": "' + b"0" * 32 + b'"}', b"\xff" * 999]
)
def test_only_a_crash_servers_answer_counts(desk: Desk, body: bytes) -> None:
    desk.report(crash())
    with answering(lambda request, _: reply(request, 200, body)) as (dsn, _):
        drainer = desk.send(dsn)
        until(lambda: drainer.state.failed >= 1)
    assert (drainer.state.reason, desk.waiting()) == (Reason.CRASH_SERVER_ANSWER, 1)


@pytest.mark.parametrize(
    ("status", "headers", "least"),
    [
        (429, {"Retry_After": "7"}, 7.0),
        (429, {"X_Sentry_Rate_Limits": "9:error:organization"}, 9.0),
        (429, {"X_Sentry_Rate_Limits": "60:transaction:key, 11::organization"}, 11.0),
        (429, {}, 60.0),
        (200, {"X_Sentry_Rate_Limits": "8:error;default:key"}, 8.0),
    ],
)
def test_a_server_that_wants_us_to_wait_is_waited_for(
    desk: Desk, status: int, headers: dict[str, str], least: float
) -> None:
    told = desk.report(crash("exception", 1), crash("exception", 2))
    with answering(lambda r, i: good(r, i, **headers) if status == 200 else reply(r, status, b"", **headers)) as (
        dsn,
        came,
    ):
        drainer = desk.send(dsn)
        until(lambda: bool(came))
        time.sleep(0.5)
        assert came == told[:1]
    wait = drainer._pacing.due(drainer._now())
    assert least - 3.0 < wait <= least
    assert desk.waiting() == (1 if status == 200 else 2)


@pytest.mark.parametrize(
    "limits", ["", "60:transaction;span:organization", "x:error", "nan:error", ",,,", "-5:error", ":" * 9]
)
def test_limits_that_do_not_concern_us_hold_nothing_up(desk: Desk, limits: str) -> None:
    told = desk.report(crash("exception", 1), crash("exception", 2))
    with answering(lambda request, event_id: good(request, event_id, X_Sentry_Rate_Limits=limits)) as (dsn, came):
        desk.send(dsn)
        until(lambda: not desk.waiting())
    assert came == told


def test_a_server_that_lies_about_waiting_silences_nobody_for_good(desk: Desk) -> None:
    desk.report(crash())
    with answering(lambda r, _: reply(r, 429, b"", X_Sentry_Rate_Limits="999999999:error", Retry_After="1e99")) as (
        dsn,
        _,
    ):
        drainer = desk.send(dsn)
        until(lambda: drainer.state.failed >= 1)
    assert drainer._pacing.due(drainer._now()) <= 300.0
    assert drainer.state.reason is Reason.CRASH_SERVER_BUSY


def test_a_server_that_hangs_costs_a_try_and_nothing_else(desk: Desk) -> None:
    release = threading.Event()
    desk.report(crash())
    with answering(lambda *_: release.wait(30) and None) as (dsn, _):
        drainer = desk.send(dsn, timeout=0.5)
        until(lambda: drainer.state.failed >= 1)
        began = time.monotonic()
        desk.report(crash("exception", 5))  # nobody waits for the server
        assert drainer.stop(2.0)
        assert time.monotonic() - began < 1.5
        release.set()
    assert (drainer.state.reason, desk.waiting()) == (Reason.CRASH_SERVER_UNREACHABLE, 2)


def test_what_a_server_never_takes_does_not_hold_back_the_others(desk: Desk) -> None:
    told = desk.report(crash("exception", 1), crash("exception", 2))
    with answering(lambda r, i: reply(r, 400, b"") if i == told[0] else good(r, i)) as (dsn, came):
        drainer = desk.send(dsn)
        until(lambda: not desk.waiting(), 30.0)
    assert came == [told[0]] * 3 + [told[1]]
    assert (drainer.state.refused, drainer.state.sent) == (1, 1)


def test_what_is_no_report_is_never_sent(desk: Desk) -> None:
    desk.spool.append(Kind.CRASHES, b"nonsense", 1)
    (told,) = desk.report(crash())
    with answering(good) as (dsn, came):
        desk.send(dsn)
        until(lambda: not desk.waiting(), 30.0)
    assert came == [told]


def test_a_name_that_no_certificate_proves_is_not_told_anything(desk: Desk) -> None:
    desk.report(crash())
    with answering(good) as (dsn, came):
        drainer = desk.send(dsn.replace("http:", "https:"))
        until(lambda: drainer.state.failed >= 1)
    assert (drainer.state.reason, came) == (Reason.CRASH_SERVER_TLS, [])


def test_the_environment_turns_nothing_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(good) as (dsn, came):
        monkeypatch.setenv("SENTRY_DSN", dsn)
        monkeypatch.setenv("SENTRY_SPOTLIGHT", dsn)
        monkeypatch.setenv("SENTRY_ENVIRONMENT", "of the environment")
        monkeypatch.setenv("SENTRY_RELEASE", "of the environment")
        desk = Desk(tmp_path)
        with desk.spool:
            desk.report(crash())
            (report,), _ = reading.reports(desk.folder)
        time.sleep(0.5)
    assert came == []
    assert (report.event["environment"], b"of the environment" in report.envelope) == ("test", False)


def test_the_dsn_is_shown_nowhere(desk: Desk) -> None:
    server = Server(Secret(b"http://abcdef0123@127.0.0.1:9/42"))
    assert "abcdef0123" not in repr(server) + repr(server.target())
    drainer = deliverer(desk.spool, server)
    assert "abcdef0123" not in repr(drainer.state)
