"""A collector that is open to others: TLS and a token; and what a badly configured stack looks like."""

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import foreign
import pytest
from receivers import Hook

from lab import wait_for
from lab.stacknodes import Site
from lab.stackservers import Options, Stack

pytestmark = [pytest.mark.stack, pytest.mark.netns]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, hook: Hook) -> Iterator[Site]:
    options = Options(
        factor=20, scrape="1s", webhook=hook.url, secure=True, queue_size=300, node_expires="10s", retry_most="1s"
    )
    with Stack(tmp_path_factory.mktemp("secure"), options) as stack, Site(stack) as made:
        made.start()
        yield made


def test_records_arrive_by_tls_with_a_token(site: Site) -> None:
    session = site.connect()["session_id"]
    wait_for("the trace", lambda: site.stack.find({"session.id": session}), 30.0, 0.3)


def test_without_tls_or_token_nothing_is_taken(site: Site) -> None:
    wait_for("series", lambda: site.stack.query("pqvpn_node_uptime_seconds"), 30.0)
    request = foreign.metrics(lambda _: "nothing")
    with pytest.raises((urllib.error.URLError, OSError)):
        foreign.post(site.stack.url("otlp_http", "/v1/metrics"), request)
    trusted = ssl.create_default_context(cafile=str(site.stack.folder / "secrets" / "ca.pem"))
    for headers in ({}, {"authorization": "Bearer wrong"}):
        asked = urllib.request.Request(
            site.stack.url("otlp_http", "/v1/metrics", "https"),
            data=request.SerializeToString(),
            headers={"content-type": "application/x-protobuf", **headers},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=10, context=trusted)
        assert refused.value.code == 401


def test_a_wrong_token_is_seen_on_both_sides(site: Site, hook: Hook) -> None:
    alpha = site.alpha
    alpha.down()
    alpha.set({"telemetry": site.endpoint(alpha, "wrong.headers")})
    alpha.up()

    def refused() -> bool:
        told = json.loads(alpha.cli("health", "--json", check=False).stdout)
        items = {each["item"]: each for each in told["items"]}
        found = items.get("telemetry.collector", {})
        return found.get("state") != "ok" and "telemetry.collector_refused" in json.dumps(found)

    wait_for("the node's health to say so", refused, 60.0, 0.5)
    wait_for("SenderRefused", lambda: hook.told("SenderRefused", "firing"), 60.0, 0.3)
    alpha.down()
    alpha.set({"telemetry": site.endpoint(alpha)})
    alpha.up()
    session = site.connect()["session_id"]
    wait_for("the trace", lambda: site.stack.find({"session.id": session}), 30.0, 0.3)
    wait_for("SenderRefused to end", lambda: hook.told("SenderRefused", "resolved"), 90.0, 0.5)


def test_a_full_queue_is_seen_and_loses_nothing(site: Site, hook: Hook) -> None:
    stack = site.stack
    stack.jaeger.kill()
    sessions, deadline = [], time.monotonic() + 60
    while time.monotonic() < deadline and not hook.told("QueueFull", "firing"):
        sessions.append(site.reconnect()["session_id"])
    assert hook.told("QueueFull", "firing")
    stack.jaeger.start()
    for session in sessions:
        wait_for(f"the trace of {session}", lambda session=session: stack.find({"session.id": session}), 60.0, 0.3)  # type: ignore[misc]
    wait_for("QueueFull to end", lambda: hook.told("QueueFull", "resolved"), 90.0, 0.5)
