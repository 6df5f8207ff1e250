"""A collector that is open to others: TLS and a token; and what a badly configured stack looks like, on both sides."""

import json
import ssl
import urllib.request
from collections.abc import Iterator

import faults
import foreign
import pytest
from conftest import FACTOR, MOST
from ledger import Ledger
from receivers import Hook

from lab import wait_for
from lab.nodes import Node
from lab.stackdoor import Door
from lab.stacknodes import OTLP_INSIDE, Site
from lab.stackservers import Options, Stack

pytestmark = [pytest.mark.stack, pytest.mark.netns]

LIMIT = 180.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, hook: Hook) -> Iterator[Site]:
    options = Options(
        factor=FACTOR, most=MOST, scrape="1s", webhook=hook.url, secure=True, queue_size=300, node_expires="10s",
        retry_most="1s",
    )  # fmt: skip
    with Stack(tmp_path_factory.mktemp("secure"), options) as stack, Site(stack) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def ledger(site: Site) -> Iterator[Ledger]:
    with Ledger(site.stack, site.poke) as made:
        yield made
        for each in made.all:
            print(each)


def refusal(url: str, headers: dict[str, str], trusted: ssl.SSLContext | None) -> int:
    """The status with which a sender is refused, 0 when it gets none."""
    try:
        return foreign.post(url, foreign.metrics(lambda _: "nothing"), headers, trusted)
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            return error.code
    except OSError:
        return 0


def collector(node: Node) -> tuple[str, str]:
    """(state, reason) of the health item that says how sending goes."""
    told = node.cli("health", "--json", check=False).stdout
    items = json.loads(told)["items"] if told else ()
    return next(((i["state"], i.get("code", "")) for i in items if i["item"] == "telemetry.collector"), ("", ""))


def test_records_arrive_by_tls_with_a_token(site: Site) -> None:
    session = site.connect()["session_id"]
    wait_for("the trace", lambda: site.stack.find({"session.id": session}), LIMIT, 0.3)


def test_without_tls_or_token_nothing_is_taken(site: Site) -> None:
    trusted = ssl.create_default_context(cafile=str(site.stack.folder / "secrets" / "ca.pem"))
    plain, tls = (site.stack.url("otlp_http", "/v1/metrics", scheme) for scheme in ("http", "https"))
    token = (site.stack.folder / "secrets" / "tokens").read_text().strip()
    assert refusal(plain, {"authorization": f"Bearer {token}"}, None) in (0, 400)
    assert refusal(tls, {}, trusted) == 401
    assert refusal(tls, {"authorization": "Bearer wrong"}, trusted) == 401
    assert refusal(tls, {"authorization": f"Bearer {token}"}, trusted) == 200


def test_a_wrong_token_is_seen_on_both_sides(site: Site, ledger: Ledger) -> None:
    alpha = site.alpha
    with ledger.expect(LIMIT, SenderRefused={"reason": "telemetry.collector_refused"}) as phase:
        alpha.down()
        alpha.set({"telemetry": site.endpoint(alpha, "wrong.headers")})
        alpha.up(LIMIT)
        refused = "telemetry.collector_refused"
        wait_for("the node's health to say so", lambda: collector(alpha) == ("warning", refused), LIMIT, 0.3)
        phase.fire()
        alpha.down()
        alpha.set({"telemetry": site.endpoint(alpha)})
        alpha.up(LIMIT)
    session = site.connect()["session_id"]
    wait_for("the trace", lambda: site.stack.find({"session.id": session}), LIMIT, 0.3)
    wait_for("the node's health to be well", lambda: collector(alpha)[0] == "ok", LIMIT, 0.3)


def test_a_collector_out_of_reach_is_seen_on_both_sides(site: Site, ledger: Ledger) -> None:
    """The way from beta to the collector is closed: nothing comes of a node that never said that it ends."""
    silent = {"instance": faults.instance(site.beta), "severity": "critical"}
    with ledger.expect(LIMIT, NodeSilent=silent) as phase:
        site.doors[1].close()
        unreachable = ("warning", "telemetry.collector_unreachable")
        wait_for("the node's health to say so", lambda: collector(site.beta) == unreachable, LIMIT, 0.3)
        phase.fire()
        site.doors[1] = Door(site.beta.namespace, OTLP_INSIDE, site.stack.ports["otlp_http"])
    wait_for("the node's health to be well", lambda: collector(site.beta)[0] == "ok", LIMIT, 0.3)


def test_a_full_queue_is_seen_and_loses_nothing(site: Site, ledger: Ledger) -> None:
    """Jaeger is gone and the queue small: it fills, is full, refuses; the nodes say so, keep all, and deliver it in the end."""
    stack, sessions = site.stack, []
    exporter = {"exporter": "otlp_grpc/jaeger"}
    with ledger.expect(
        LIMIT,
        QueueFilling=exporter,
        QueueFull={**exporter, "reason": "telemetry.collector_refused"},
        CollectorRefuses={"receiver": "otlp", "transport": "http", "reason": "telemetry.collector_refused"},
    ) as phase:
        stack.jaeger.kill()

        def full() -> bool:
            if not phase.fired("QueueFull"):
                sessions.append(site.reconnect()["session_id"])
            return phase.fired("QueueFull") and "warning" in {collector(node)[0] for node in (site.alpha, site.beta)}

        wait_for("a full queue to be seen by a node, too", full, LIMIT, 0.1)
        phase.fire()
        stack.jaeger.start()
    for session in sessions:
        wait_for(f"the trace of {session}", lambda session=session: stack.find({"session.id": session}), LIMIT, 0.3)  # type: ignore[misc]


def test_all_alerts_end(ledger: Ledger) -> None:
    ledger.settled(LIMIT)
