"""An attempt to connect, read back from Jaeger: one trace across both nodes, whose parts add up and say what went wrong."""

import base64
import itertools
import secrets
import time
from typing import Any

import pytest
from conftest import Scene

from lab import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.netns]

LIMIT = 120.0

STEPS = ("pqvpn.handshake.m1", "pqvpn.handshake.m3", "pqvpn.first_data")
MORE = ("pqvpn.path.validate",)  # where the challenge was answered in time
_MILLISECOND = 1_000_000


def times(span: dict[str, Any]) -> tuple[int, int]:
    return int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])


def named(spans: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [span for span in spans if span["name"] == name]
    return found


def attempts(scene: Scene, since: float = 0.0, **tags: str) -> list[dict[str, Any]]:
    """Traces of attempts with these attributes, newest first. `since`: those that began later (seconds since 1970)."""
    found = scene.stack.find({key.replace("__", "."): value for key, value in tags.items()})
    began = {trace["traceID"]: min(span["startTime"] for span in trace["spans"]) for trace in found}  # microseconds
    later = [trace for trace in found if began[trace["traceID"]] >= since * 1e6]
    return sorted(later, key=lambda trace: -began[trace["traceID"]])


def whole(scene: Scene, session_id: str) -> list[dict[str, Any]]:
    """The trace of the attempt that made a session, once both nodes have told their part of it."""

    def complete() -> list[dict[str, Any]]:
        for trace in attempts(scene, session__id=session_id):
            spans = scene.stack.trace(trace["traceID"])
            if {"pqvpn.connect", "pqvpn.accept"} <= {span["name"] for span in spans}:
                return spans
        return []

    return wait_for(f"the trace of {session_id}", complete, LIMIT, 0.3)


@pytest.mark.parametrize("trigger", ["first", "operator"])
def test_an_attempt_is_one_trace_across_both_nodes(scene: Scene, trigger: str) -> None:
    status = scene.site.reconnect() if trigger == "operator" else scene.site.connect()
    spans = whole(scene, status["session_id"])
    by_id = {span["spanId"]: span for span in spans}
    root, accept = named(spans, "pqvpn.connect"), named(spans, "pqvpn.accept")
    assert not root.get("parentSpanId")
    assert {span["node"] for span in spans} == {root["node"], accept["node"]}
    assert root["node"] != accept["node"]
    assert accept["parentSpanId"] == root["spanId"]
    for span in spans:
        assert span["traceId"] == root["traceId"]
        assert span is root or span["parentSpanId"] in by_id, span["name"]
        assert span["service"] == "pqvpn"
    for name in STEPS:
        step = [s for s in spans if s["name"] == name and s["node"] == root["node"]]
        assert step, name
        assert step[-1]["parentSpanId"] == root["spanId"]
    assert root["tags"]["session.id"] == accept["tags"]["session.id"] == status["session_id"]
    assert root["tags"]["pqvpn.attempt"] == root["traceId"]
    assert root["tags"]["pqvpn.peer"] == "beta"
    assert accept["tags"]["pqvpn.peer"] == "alpha"
    assert root["tags"]["pqvpn.suite"].startswith("X-Wing")
    assert all(span.get("status", {}).get("code", 0) != 2 for span in spans if span["name"] != "pqvpn.handshake.m1")


def test_durations_add_up(scene: Scene) -> None:
    status = scene.site.reconnect()
    spans = whole(scene, status["session_id"])
    root = named(spans, "pqvpn.connect")
    steps = sorted(
        (s for s in spans if s.get("parentSpanId") == root["spanId"] and s["name"] in (*STEPS, *MORE)), key=times
    )
    begins, ends = times(root)
    assert times(steps[-1])[1] == ends
    for before, after in itertools.pairwise(steps):
        assert abs(times(after)[0] - times(before)[1]) < _MILLISECOND
    covered = sum(end - begin for begin, end in map(times, steps))
    assert covered <= ends - begins
    assert ends - begins - covered < 50 * _MILLISECOND  # from the decision to the first datagram
    for span in spans:
        assert times(span)[0] <= times(span)[1]


def test_a_failed_attempt_is_marked_at_the_step_that_failed(scene: Scene) -> None:
    alpha = scene.site.alpha
    keyed = alpha.folder / "other.psk"
    with_psk = alpha.config.read_text().replace("\n[peer.beta]\n", '\n[peer.beta]\npsk_file = "other.psk"\n')
    before, began = alpha.config.read_text(), time.time()
    keyed.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    keyed.chmod(0o600)
    try:
        alpha.config.write_text(with_psk)
        alpha.cli("reload")
        scene.site.poke()

        def failed() -> list[dict[str, Any]]:
            for trace in attempts(scene, began, error="true", pqvpn__peer="beta", pqvpn__outcome="failed"):
                spans = scene.stack.trace(trace["traceID"])
                if any(s["name"] == "pqvpn.connect" and s["tags"].get("pqvpn.outcome") == "failed" for s in spans):
                    return spans
            scene.site.poke()
            return []

        spans = wait_for("the trace of a failed attempt", failed, LIMIT, 0.5)
    finally:
        alpha.config.write_text(before)
        alpha.cli("reload")
        scene.site.connect()
    root = named(spans, "pqvpn.connect")
    assert root["status"]["code"] == 2
    assert root["tags"]["pqvpn.reason"] in ("network.no_reply", "handshake.psk", "handshake.bad_auth")
    assert root["tags"]["error.type"] == root["tags"]["pqvpn.reason"]
    last = max((s for s in spans if s.get("parentSpanId") == root["spanId"]), key=times)
    assert last["name"] == "pqvpn.handshake.m1"
    assert last["status"]["code"] == 2
    assert times(last)[1] == times(root)[1]
    assert any(event["name"] == "pqvpn.sent" for s in spans for event in s["events"])


def test_breakers_and_waits_are_events_of_the_attempt(scene: Scene) -> None:
    """A peer that is gone: its breaker opens, and the wait before the next try is told, at the attempt that failed."""
    site, began = scene.site, time.time()
    site.beta.namespace.down(site.link.far)
    try:

        def told() -> dict[str, list[dict[str, Any]]]:
            site.poke()
            found: dict[str, list[dict[str, Any]]] = {}
            for trace in attempts(scene, began, error="true", pqvpn__peer="beta"):
                for span in scene.stack.trace(trace["traceID"]):
                    for event in span["events"]:
                        found.setdefault(event["name"], []).append({**event, "span": span})
            return found if {"pqvpn.breaker", "pqvpn.retry"} <= found.keys() else {}

        found = wait_for("a breaker to open in a trace", told, LIMIT, 0.5)
    finally:
        site.beta.namespace.up(site.link.far)
        site.connect()
    opened = [e for e in found["pqvpn.breaker"] if e["tags"].get("pqvpn.state") == "open"]
    assert opened
    for event in (*opened, *found["pqvpn.retry"]):
        span = event["span"]
        assert span["name"] in ("pqvpn.connect", "pqvpn.rekey", *STEPS)
        assert span["tags"]["pqvpn.peer"] == "beta"
        assert times(span)[0] <= int(event["timeUnixNano"])
    waits = [e["tags"] for e in found["pqvpn.retry"] if "pqvpn.seconds" in e["tags"]]
    assert all(float(wait["pqvpn.seconds"]) > 0 for wait in waits)
