"""A collector that is open to others: TLS and a token; and what a badly configured stack looks like, on both sides."""

import contextlib
import datetime
import json
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import faults
import foreign
import pytest
from conftest import FACTOR, MOST
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ledger import Ledger
from receivers import Hook

from lab import wait_for
from lab.nodes import Node
from lab.stackdoor import Door
from lab.stacknodes import OTLP_INSIDE, Site
from lab.stackservers import Options, Stack
from tests.otlp import certificates

pytestmark = [pytest.mark.stack, pytest.mark.netns]

LIMIT = 180.0
GRPC_INSIDE = 4317
MISTRUST = ("warning", "telemetry.collector_tls")


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


@pytest.mark.parametrize(("mistake", "protocol"), [("name", "http/protobuf"), ("authority", "grpc")])
def test_a_certificate_that_does_not_verify_is_seen(site: Site, tmp_path: Path, mistake: str, protocol: str) -> None:
    """The collector has a name that its certificate does not have, or one of an authority that the node does not trust."""
    alpha, usual = site.alpha, {**site.endpoint(site.alpha), "protocol": "http/protobuf"}
    port = GRPC_INSIDE if protocol == "grpc" else OTLP_INSIDE
    right = {**usual, "protocol": protocol, "endpoint": f"https://127.0.0.1:{port}"}
    wrong = (
        {**right, "endpoint": f"https://localhost:{port}"} if mistake == "name" else {**right, "ca_file": "other.pem"}
    )
    (alpha.folder / "other.pem").write_bytes(certificates.make(tmp_path / "others").ca.read_bytes())
    with Door(alpha.namespace, GRPC_INSIDE, site.stack.ports["otlp_grpc"]):
        restart(alpha, wrong)
        wait_for("the node's health to say so", lambda: collector(alpha) == MISTRUST, LIMIT, 0.3)
        assert mistrusts(alpha)
        session = site.connect()["session_id"]
        restart(alpha, right)
        wait_for("what was kept", lambda: site.stack.find({"session.id": session}), LIMIT, 0.3)
        wait_for("the node's health to be well", lambda: collector(alpha)[0] == "ok", LIMIT, 0.3)
        if right != usual:
            restart(alpha, usual)


def restart(node: Node, telemetry: Mapping[str, Any]) -> None:
    """Stop it, and start it with other settings."""
    node.down()
    node.set({"telemetry": telemetry})
    node.up(LIMIT)


def mistrusts(node: Node) -> bool:
    """Whether the node's own page of metrics has what an alert can be made of."""
    wanted = ('pqvpn_health_item="telemetry.collector"', f'pqvpn_reason="{MISTRUST[1]}"')
    lines = [line for line in faults.metrics(node).splitlines() if line.startswith("pqvpn_health_state{")]
    return any(all(label in line for label in wanted) and line.split()[1] == "1.0" for line in lines)


def test_an_expired_certificate_is_seen_on_both_sides(site: Site, ledger: Ledger) -> None:
    """It was good when the nodes started: nothing comes of any node, and each says why."""
    nodes = (site.alpha, site.beta)
    silent = {"instance": faults.instance(site.alpha), "severity": "critical"}
    wanted = {"NodeSilent": silent, "NoTelemetry": {"severity": "critical"}}
    with ledger.expect(LIMIT, **wanted) as phase, expired(site.stack):
        session = site.reconnect()["session_id"]
        wait_for("health to say so", lambda: {collector(node) for node in nodes} == {MISTRUST}, LIMIT, 0.3)
        phase.fire()
    wait_for("what was kept", lambda: site.stack.find({"session.id": session}), LIMIT, 0.3)
    wait_for("health to be well", lambda: {collector(node)[0] for node in nodes} == {"ok"}, LIMIT, 0.3)


@contextlib.contextmanager
def expired(stack: Stack) -> Iterator[None]:
    """The collector begins anew with a certificate of its own authority that was good until a moment ago."""
    place = stack.folder / "secrets" / "collector.pem"
    before = place.read_bytes()
    place.write_bytes(_older(place.parent, before))
    try:
        begin_anew(stack)
        yield
    finally:
        place.write_bytes(before)
        begin_anew(stack)


def begin_anew(stack: Stack) -> None:
    stack.collector.kill()
    stack.collector.start()


def _older(folder: Path, pem: bytes) -> bytes:
    """The same certificate, signed by the same authority, for the hours before the last one."""
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    good = x509.load_pem_x509_certificate(pem)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(good.subject)
        .issuer_name(ca.subject)
        .public_key(good.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=2))
        .not_valid_after(now - datetime.timedelta(hours=1))
    )
    for each in good.extensions:
        made = made.add_extension(each.value, each.critical)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


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
