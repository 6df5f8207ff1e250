"""The second line of redaction: what a foreign sender puts into any place of a record is not found behind the collector."""

import secrets
import urllib.request
from pathlib import Path

import foreign
import pytest
from conftest import Scene
from receivers import LogStore, written

from lab import wait_for
from lab.stackservers import Stack

pytestmark = pytest.mark.stack

LIMIT = 120.0


class Canaries:
    """A different random text for each place; base64 of 36 bytes, as keys and tokens look."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        made = secrets.token_urlsafe(36)
        self.places[made] = f"{place} ({len(self.places)})"
        return made

    def found_in(self, sinks: dict[str, bytes]) -> list[str]:
        return [
            f"{place} in {sink}"
            for text, place in self.places.items()
            for sink, content in sinks.items()
            if text.encode() in content or text.encode().hex().encode() in content
        ]


def page(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): written(path) for path in folder.rglob("*") if path.is_file()}


def sinks(stack: Stack, logs: LogStore, trace_id: str) -> dict[str, bytes]:
    """Everything behind the collector, with its queues and logs."""
    found = {f"log record {number}": body for number, body in enumerate(logs.bodies)}
    found |= files(stack.queues) | files(stack.folder / "spans")
    found |= {server.name: server.log.read_bytes() for server in stack.servers}
    found["metrics of nodes"] = page(stack.url("nodes", "/metrics"))
    found["metrics of events"] = page(stack.url("events", "/metrics"))
    found["trace"] = page(stack.url("jaeger_http", f"/api/traces/{trace_id}"))
    found["series"] = page(stack.url("prometheus", "/api/v1/label/__name__/values"))
    found["all series"] = page(stack.url("prometheus", '/api/v1/series?match[]={job=~".*pqvpn.*"}'))
    return found


def send(stack: Stack, canaries: Canaries, trace_id: bytes) -> None:
    base = stack.url("otlp_http", "/v1/")
    foreign.post(f"{base}traces", foreign.traces(canaries, trace_id, secrets.token_bytes(8)))
    foreign.post(f"{base}metrics", foreign.metrics(canaries))
    foreign.post(f"{base}logs", foreign.logs(canaries))


def test_no_canary_of_a_foreign_sender_passes(stack: Stack, logs: LogStore) -> None:
    canaries, trace_id, before = Canaries(), secrets.token_bytes(16), len(logs.bodies)
    send(stack, canaries, trace_id)
    wait_for("the trace", lambda: stack.trace(trace_id.hex()), LIMIT)
    wait_for("the log records", lambda: any(b"id-f0e1d2c3" in body for body in logs.bodies[before:]), LIMIT)
    wait_for("the series", lambda: stack.query('{instance="id-f0e1d2c3"}'), LIMIT)
    assert len(canaries.places) > 60
    assert canaries.found_in(sinks(stack, logs, trace_id.hex())) == []
    spans = stack.trace(trace_id.hex())
    assert {span["name"] for span in spans} == {"pqvpn.connect", "other"}
    for span in spans:
        assert {event["name"] for event in span["events"]} == {"pqvpn.dropped", "other"}
        assert not span.get("links")
        assert set(span["tags"]) <= {"pqvpn.peer", "pqvpn.reason", "pqvpn.detail", "pqvpn.drops"}


def test_queues_on_disk_hold_nothing_unredacted(stack: Stack, logs: LogStore) -> None:
    canaries, trace_id = Canaries(), secrets.token_bytes(16)
    stack.jaeger.kill()
    try:
        send(stack, canaries, trace_id)
        wait_for("spans in the queue", lambda: b"pqvpn.connect" in b"".join(files(stack.queues).values()), LIMIT)
        assert canaries.found_in(files(stack.queues)) == []
        for path in stack.queues.rglob("*"):
            assert path.stat().st_mode & 0o077 == 0
    finally:
        stack.jaeger.start()
    wait_for("the trace", lambda: stack.trace(trace_id.hex()), LIMIT)


def test_a_session_id_is_no_label(scene: Scene) -> None:
    session = scene.site.connect()["session_id"]
    send(scene.stack, Canaries(), secrets.token_bytes(16))
    wait_for("series", lambda: scene.stack.query('pqvpn_peer_io_bytes_total{pqvpn_peer="beta"}'), LIMIT)
    everything = page(scene.stack.url("prometheus", '/api/v1/series?match[]={__name__=~".%2B"}'))
    assert b"session_id" not in everything
    assert session.encode() not in everything
    assert b"5e5e5e5e" not in everything
