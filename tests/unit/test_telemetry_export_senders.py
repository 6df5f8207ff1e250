"""One try to send one record, over real HTTP and gRPC, to collectors that behave, and to all kinds that do not."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pqvpn.crypto.secret import Secret
from pqvpn.reasons import Reason
from pqvpn.telemetry.export.drainer import sender_of
from pqvpn.telemetry.export.endpoint import SIGNALS, Target
from pqvpn.telemetry.export.outcome import Outcome, Sender, Verdict
from pqvpn.telemetry.spool import Kind
from tests.otlp import certificates
from tests.otlp.payloads import record
from tests.otlp.server import Collector, Mode, free_port

PROTOCOLS = ("http/protobuf", "grpc")
LATER, NEVER, ACCEPTED = Verdict.LATER, Verdict.NEVER, Verdict.ACCEPTED


@pytest.fixture(params=PROTOCOLS)
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    with Collector(request.param) as started:
        yield started


@pytest.fixture
def http() -> Iterator[Collector]:
    with Collector() as started:
        yield started


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


def target(collector: Collector, kind: Kind = Kind.TRACES, **more: object) -> Target:
    path = "" if collector.protocol == "grpc" else f"/v1/{SIGNALS[kind]}"
    return Target(collector.url + path, collector.protocol, **({"timeout": 5.0} | more))


@contextmanager
def sending(to: Target) -> Iterator[Sender]:
    sender = sender_of(to)
    try:
        yield sender
    finally:
        sender.close()


def sent(to: Target, kind: Kind = Kind.TRACES) -> Outcome:
    with sending(to) as sender:
        return sender.send(record(kind))


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("kind", SIGNALS)
def test_each_signal_arrives_with_headers_and_id(collector: Collector, kind: Kind, compression: str) -> None:
    made = record(kind)
    headers = Secret(b"Authorization: Bearer sesame\nx-tenant: a")
    with sending(target(collector, kind, headers=headers, compression=compression)) as sender:
        assert sender.send(made) == Outcome(ACCEPTED)
    (got,) = collector.received
    assert (got.signal, got.record, got.items) == (SIGNALS[kind], made.id.hex(), 1)
    assert got.request.SerializeToString() == made.payload
    assert got.headers["authorization"] == "Bearer sesame"
    assert got.headers["x-tenant"] == "a"


def test_one_connection_serves_many(http: Collector) -> None:
    with sending(target(http)) as sender:
        for _ in range(20):
            assert sender.send(record()).verdict is ACCEPTED
        assert len(http._server._server.live) == 1


def test_what_was_rejected_is_told(collector: Collector) -> None:
    collector.behave(Mode.PARTIAL, rejected=3)
    assert sent(target(collector)) == Outcome(ACCEPTED, rejected=3)


@pytest.mark.parametrize(
    ("mode", "verdict", "reason"),
    [
        (Mode.BUSY, LATER, Reason.COLLECTOR_UNREACHABLE),
        (Mode.FORBIDDEN, LATER, Reason.COLLECTOR_REFUSED),
        (Mode.BAD, NEVER, Reason.COLLECTOR_REFUSED),
        (Mode.GARBAGE, LATER, Reason.COLLECTOR_ANSWER),
        (Mode.CUT, LATER, Reason.COLLECTOR_UNREACHABLE),
    ],
)
def test_answers_mean_what_they_say(collector: Collector, mode: Mode, verdict: Verdict, reason: Reason) -> None:
    collector.behave(mode)
    with sending(target(collector)) as sender:
        found = sender.send(record())
        assert (found.verdict, found.reason) == (verdict, reason)
        assert found.detail
        assert "sesame" not in found.detail
        collector.behave(Mode.OK)
        assert sender.send(record()).verdict is ACCEPTED  # the same sender recovers


@pytest.mark.parametrize(
    ("mode", "verdict", "reason"),
    [
        (Mode.PAGE, LATER, Reason.COLLECTOR_ANSWER),
        (Mode.HUGE, LATER, Reason.COLLECTOR_ANSWER),
        (Mode.REDIRECT, LATER, Reason.COLLECTOR_ANSWER),
        (Mode.BOMB, LATER, Reason.COLLECTOR_ANSWER),
        (Mode.ERROR, LATER, Reason.COLLECTOR_UNREACHABLE),
        (Mode.JSON, ACCEPTED, None),
        (Mode.EMPTY, ACCEPTED, None),
    ],
)
def test_answers_of_http(http: Collector, mode: Mode, verdict: Verdict, reason: Reason | None) -> None:
    http.behave(mode)
    found = sent(target(http))
    assert (found.verdict, found.reason) == (verdict, reason)
    assert mode is not Mode.REDIRECT or http.recorder.seen == 1


@pytest.mark.parametrize("mode", [Mode.HANG, Mode.DRIP, Mode.HEADERS])
def test_a_try_ends_in_time_however_slowly_the_answer_drips(http: Collector, mode: Mode) -> None:
    http.behave(mode)
    began = time.monotonic()
    found = sent(target(http, timeout=0.6))
    assert 0.5 < time.monotonic() - began < 4.0
    assert (found.verdict, found.reason, found.uncertain) == (LATER, Reason.COLLECTOR_UNREACHABLE, True)
    assert "0.6 s" in found.detail


def test_a_call_ends_in_time() -> None:
    with Collector("grpc") as collector:
        collector.behave(Mode.HANG)
        began = time.monotonic()
        found = sent(target(collector, timeout=0.6))
        assert 0.5 < time.monotonic() - began < 4.0
        assert (found.reason, found.uncertain) == (Reason.COLLECTOR_UNREACHABLE, True)


def test_an_abort_from_another_thread_ends_a_try_at_once(collector: Collector) -> None:
    collector.behave(Mode.HANG)
    with sending(target(collector, timeout=30.0)) as sender:
        found: list[Outcome] = []
        thread = threading.Thread(target=lambda: found.append(sender.send(record())))
        thread.start()
        collector.recorder.wait_for(lambda r: r.received)
        began = time.monotonic()
        sender.abort()
        thread.join(5.0)
        assert time.monotonic() - began < 0.5
        assert found[0].verdict is LATER


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nobody_listens(protocol: str) -> None:
    found = sent(Target(f"http://127.0.0.1:{free_port()}", protocol, timeout=5.0))
    assert (found.verdict, found.reason, found.uncertain) == (LATER, Reason.COLLECTOR_UNREACHABLE, False)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_name_that_does_not_resolve(protocol: str) -> None:
    found = sent(Target("https://certificate.invalid:4318", protocol, timeout=5.0))
    assert (found.reason, found.detail) == (Reason.COLLECTOR_UNREACHABLE, "its name does not resolve")
    assert not found.uncertain


_QUIET = """
import sys
from pqvpn.telemetry.export import Target
from pqvpn.telemetry.export.drainer import sender_of
from tests.otlp.payloads import record
sender = sender_of(Target(sys.argv[1], "grpc", ca_file=sys.argv[2], timeout=5.0))
print(sender.send(record()).reason.code)
sender.close()
"""


def test_grpc_writes_nothing_to_standard_error(made: certificates.Certificates) -> None:
    """It would be lines that nobody redacts. In a process of its own: where grpc was not imported before."""
    with Collector("grpc", certificates=made) as collector:
        command = [sys.executable, "-c", _QUIET, collector.url, str(made.stranger_ca)]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (told.stdout, told.stderr) == ("telemetry.collector_tls\n", "")


def test_how_long_a_busy_collector_asks_to_wait(collector: Collector) -> None:
    collector.behave(Mode.BUSY, wait=7.0)
    assert sent(target(collector)).wait == 7.0
    collector.behave(Mode.BUSY, wait=10.0**9)
    assert sent(target(collector)).wait == 300.0
    collector.behave(Mode.BUSY)
    assert sent(target(collector)).wait is None


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("asks", [False, True])
def test_tls_with_and_without_a_certificate_of_ours(made: certificates.Certificates, protocol: str, asks: bool) -> None:
    ours = {"certificate_file": str(made.client.certificate), "key_file": str(made.client.key)} if asks else {}
    with Collector(protocol, certificates=made, asks_for_certificate=asks) as collector:
        assert sent(target(collector, ca_file=str(made.ca), **ours)).verdict is ACCEPTED
        for wrong in ({"ca_file": str(made.stranger_ca)}, {"ca_file": "/nowhere/ca.pem"}, {}):
            found = sent(target(collector, **(ours | wrong)))
            assert (found.verdict, found.reason) == (LATER, Reason.COLLECTOR_TLS), found
        if asks:
            found = sent(target(collector, ca_file=str(made.ca)))
            assert found.verdict is LATER
            assert found.reason in (Reason.COLLECTOR_TLS, Reason.COLLECTOR_UNREACHABLE)


def test_tls_to_one_who_does_not_speak_it(http: Collector) -> None:
    found = sent(Target(http.url.replace("http:", "https:") + "/v1/traces", timeout=5.0))
    assert (found.verdict, found.reason) == (LATER, Reason.COLLECTOR_TLS)


def test_the_wrong_protocol_is_told() -> None:
    with Collector("grpc") as collector:
        found = sent(Target(collector.url + "/v1/traces", "http/protobuf", timeout=5.0))
        assert (found.verdict, found.reason) == (LATER, Reason.COLLECTOR_ANSWER), found


def test_the_wrong_path_is_told_and_the_record_kept(http: Collector) -> None:
    found = sent(Target(f"{http.url}/v1/nothing", timeout=5.0))
    assert (found.verdict, found.reason) == (LATER, Reason.COLLECTOR_REFUSED)
    assert "404" in found.detail


ANSWERS = {
    "nothing": b"",
    "noise": bytes(range(256)) * 10,
    "no status": b"HTTP/1.1\r\n\r\n",
    "a strange status": b"HTTP/1.1 999 What\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\ncontent-length: many\r\ncontent-type: application/x-protobuf\r\n\r\n\xff",
    "bad chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nxx",
    "a million headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000 + b"\r\n",
    "a long header": b"HTTP/1.1 200 OK\r\na: " + b"b" * 1_000_000 + b"\r\n\r\n",
    "an early answer": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "a json bomb": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + b"[" * 60_000,
    "json of others": b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"ok": true}',
    "an end in the middle of the headers": b"HTTP/1.1 200 OK\r\nserver: x",
    "no length": b"HTTP/1.1 200 OK\r\n\r\n",
    "json that is wrong": b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"partialSuccess": [1]}',
}


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that says this to whatever it hears first, once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):  # the sender may go away first
                connection.recv(65536)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5.0)


@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_answers_the_record_is_kept_and_nothing_is_raised(name: str) -> None:
    with answering(ANSWERS[name]) as port:
        found = sent(Target(f"http://127.0.0.1:{port}/v1/traces", timeout=3.0))
    assert found.verdict is LATER, found
    assert found.reason in (Reason.COLLECTOR_ANSWER, Reason.COLLECTOR_UNREACHABLE)


def test_proxies_and_credentials_of_the_environment_are_not_used(
    http: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password sesame\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert sent(target(http)).verdict is ACCEPTED
    assert "authorization" not in http.received[0].headers


def test_no_thread_and_no_descriptor_is_left(http: Collector) -> None:
    with sending(target(http)) as sender:
        sender.send(record())
        threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
        for mode in (Mode.OK, Mode.CUT, Mode.FORBIDDEN, Mode.PAGE, Mode.OK) * 5:
            http.behave(mode)
            sender.send(record())
        assert threading.active_count() <= threads + 4  # the server's own
        assert len(os.listdir("/proc/self/fd")) <= files + 8
