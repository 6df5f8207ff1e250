"""What points to the cause when a peer does not answer, from real networks: ICMP, refusals, lost fragments.

alpha 10.0.1.1 --veth1-- router --veth2-- 10.0.2.2 beta
"""

import base64
import json
from collections.abc import Iterator

import pytest
from flows import told, wait_told
from handmadepeer import HandmadePeer
from netparty import connected, make_nodes

from lab import Lab, wait_for
from lab.nodes import Node
from pqvpn.protocol import responder

pytestmark = [pytest.mark.netns, pytest.mark.needs("nft")]

_TIMERS = {"m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": "1s", "reassembly": "0.5s"}


@pytest.fixture
def pair() -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        a, router, b = lab.namespace("a"), lab.router("router"), lab.namespace("b")
        lab.link(a, router, ["10.0.1.1/24"], ["10.0.1.254/24"], names=("veth1", "veth1"))
        lab.link(b, router, ["10.0.2.2/24"], ["10.0.2.254/24"], names=("veth2", "veth2"))
        a.add_route("default", via="10.0.1.254")
        b.add_route("default", via="10.0.2.254")
        yield make_nodes(lab, a, b, "10.0.1.1", "10.0.2.2", {"timers": _TIMERS})


def _start(*nodes: Node) -> None:
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_running(30.0)


def test_a_closed_port_and_a_network_that_forbids_are_told(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    _start(alpha)
    wait_told(alpha, "network.icmp", peer="beta", kind="port_unreachable")
    rule = "add rule inet t f ip saddr 10.0.1.1 udp dport 51820 reject with icmp type admin-prohibited"
    chain = "add chain inet t f { type filter hook input priority 0 ; }"
    for command in ("add table inet t", chain, rule):
        beta.namespace.run(["nft", command])
    wait_told(alpha, "network.icmp", peer="beta", kind="prohibited")
    beta.namespace.run(["nft", "flush ruleset"])
    _start(beta)
    connected(alpha, beta)  # what ICMP said changed nothing


def test_another_network_key_is_told_by_the_side_that_is_called(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    key = alpha.folder / "network.key"
    key.touch(0o600)
    key.write_text(base64.b64encode(bytes(range(32))).decode() + "\n")
    alpha.set({"node": {"network_key_file": "network.key"}})
    _start(beta, alpha)
    wait_told(beta, "handshake.refused", peer="alpha", drop="mac1")
    assert told(alpha, "handshake.started", peer="beta")


def test_another_psk_is_told_by_the_side_that_is_called(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    psk = alpha.folder / "shared.psk"
    psk.touch(0o600)
    psk.write_text(base64.b64encode(bytes(range(1, 33))).decode() + "\n")
    alpha.set({"peer.beta": {"psk_file": "shared.psk"}})
    _start(beta, alpha)
    wait_told(beta, "handshake.refused", peer="alpha", drop="bad_handshake", named=True)


def test_lost_fragments_are_told(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    chain = "add chain inet t f { type filter hook input priority 0 ; }"
    longer = "add rule inet t f udp dport 51820 udp length > 600 drop"  # the two large fragments of M1, not the last
    for command in ("add table inet t", chain, longer):
        beta.namespace.run(["nft", command])
    _start(beta, alpha)
    lost = wait_told(beta, "handshake.fragments_lost", peer="alpha", timeout=20.0)
    assert (lost["have"], lost["want"]) == (1, 3)


def test_both_ends_tell_one_trace_when_both_want_it(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    alpha.set({"peer.beta": {"trace": True}})
    beta.set({"peer.alpha": {"trace": True}})
    _start(alpha, beta)
    connected(alpha, beta)

    def shared() -> bool:
        traces = [{r["session_id"]: r.get("trace_id") for r in told(n, "handshake.completed")} for n in (alpha, beta)]
        both = traces[0].keys() & traces[1].keys()
        return bool(both) and all(traces[0][each] and traces[0][each] == traces[1][each] for each in both)

    wait_for("both ends to tell the same trace", shared, 10.0)


def test_an_answer_of_the_peer_that_does_not_verify_is_a_span_with_its_reason(
    pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, beta = pair
    confirm = responder._confirm
    monkeypatch.setattr(responder, "_confirm", lambda *given: confirm(*given)[::-1])
    impostor = HandmadePeer(beta.namespace, beta)
    impostor.socket.settimeout(0.2)
    try:
        _start(alpha)
        impostor.answer(lambda: bool(told(alpha, "handshake.answer_refused", peer="beta")))
    finally:
        impostor.close()
    (line, *_) = told(alpha, "handshake.answer_refused", peer="beta")
    assert (line["code"], line["level"]) == ("handshake.bad_auth", "warning")
    log = alpha.folder / "state" / "log" / "pqvpn.log"
    wait_for("the observer to have it", lambda: log.exists() and '"handshake.answer_refused"' in log.read_text())
    alpha.down()  # ends the attempt, which is written then
    trace = json.loads(alpha.cli("diag", "trace", line["trace_id"], "--json").stdout)
    failed = [span for span in trace["spans"] if span["name"] == "pqvpn.handshake.verify"]
    assert [(span["status"], span["description"]) for span in failed] == [("error", "handshake.bad_auth")]


def test_packets_from_addresses_that_are_not_allowed_are_told_with_their_session(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    beta.set({"peer.alpha": {"allowed_ips": ["10.99.0.9/32"]}})
    _start(alpha, beta)
    session = wait_for("a session", lambda: alpha.peer("beta")["session_id"], 15.0)
    ours = alpha.status()["node"]["addresses"][0].split("/")[0]
    theirs = beta.status()["node"]["addresses"][0].split("/")[0]
    assert ours != theirs
    alpha.namespace.run(["ping", "-c", "2", "-i", "0.2", "-W", "1", theirs], check=False)
    refused = wait_told(beta, "inner.refused", peer="alpha", drop="source_not_allowed")
    assert refused["session_id"] in {record["session_id"] for record in told(beta, "handshake.completed")}
    assert session
