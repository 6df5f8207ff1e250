"""The configuration is reloaded while another session's transfer goes on untouched; what is refused changes nothing.

beta 10.0.1.2 --veth1-- alpha --veth2-- 10.0.2.2 gamma      gamma calls nobody: it has no address of alpha
"""

import concurrent.futures
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows import Flow, both_ways, told, wait_replaced, wait_told
from netparty import bring_up, connected

from lab import Lab, wait_for
from lab.nodes import Node, introduce, make_node
from lab.traffic import ping

pytestmark = pytest.mark.netns

_TIMERS = {"m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": "1s"}


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Node, Node, Node]]:
    """alpha and beta are peers and run; gamma runs and knows alpha, which does not know it."""
    with Lab() as lab:
        a, b, c = (lab.namespace(name) for name in "abc")
        lab.link(a, b, ["10.0.1.1/24"], ["10.0.1.2/24"], names=("veth1", "veth0"))
        lab.link(a, c, ["10.0.2.1/24"], ["10.0.2.2/24", "10.0.2.3/24", "10.8.0.1/32"], names=("veth2", "veth0"))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            alpha, beta, gamma = pool.map(
                lambda each: make_node(lab, *each, settings={"timers": _TIMERS}),
                [(a, "alpha", ["10.7.0.1/24"]), (b, "beta", ["10.7.0.2/24"]), (c, "gamma", ["10.7.0.3/24"])],
            )
        introduce(alpha, beta, "10.0.1.1", "10.0.1.2")
        gamma.add_peer(alpha)
        gamma.start()
        bring_up(alpha, beta)
        gamma.wait_running()
        yield alpha, beta, gamma


@pytest.fixture
def three(nodes: tuple[Node, Node, Node]) -> tuple[Node, Node, Node]:
    """All three, with gamma among alpha's peers."""
    alpha, _, gamma = nodes
    if "peer.gamma" not in alpha.config.read_text():
        alpha.add_peer(gamma, "10.0.2.2:51820")
        alpha.cli("reload")
    connected(alpha, gamma)
    return nodes


@pytest.fixture
def transfer(nodes: tuple[Node, Node, Node]) -> Iterator[Flow]:
    """Between alpha and beta, both ways at once; its session is the same afterwards."""
    alpha, beta, _ = nodes
    connected(alpha, beta)
    with both_ways(alpha, beta) as there:
        yield there


def _routes(node: Node) -> set[str]:
    return set(node.namespace.run(["ip", "route", "show", "proto", "157"]).stdout.split("\n"))


def test_a_host_that_a_reload_brings_is_redacted_in_sentences(nodes: tuple[Node, Node, Node]) -> None:
    """A host's name is a word as any other: this one stands in the very record of the reload that brings it."""
    alpha, _, gamma = nodes
    before = alpha.config.read_text()
    log = alpha.folder / "state" / "log" / "pqvpn.log"
    places = (alpha.log_file, log)
    applied = [len(_applied(place)) for place in places]
    try:
        alpha.add_peer(gamma, "added:51820")
        assert "peer gamma added" in alpha.cli("reload").stdout
        for place, seen in zip(places, applied, strict=True):
            wait_for("the reload in the log", lambda: len(_applied(place)) > seen)  # noqa: B023 - called at once
            assert re.fullmatch(r"peer gamma host-[0-9a-f]{8}", _applied(place)[seen]), place
        (old,) = alpha.pids("control")
        os.kill(old, signal.SIGKILL)
        wait_replaced(alpha, "control", old)
    finally:
        alpha.config.write_text(before)
        alpha.cli("reload")
    for place, seen in zip(places, applied, strict=True):
        wait_for("the next reload", lambda: len(_applied(place)) > seen + 1)  # noqa: B023 - called at once
        assert not [line for line in _applied(place)[seen:] if "added" in line], place


def _applied(place: Path) -> list[str]:
    """What reloads changed, as a log says; the observer writes its own some time after the start."""
    text = place.read_text() if place.exists() else ""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line["fields"]["changes"] for line in lines if line["event"] == "config.applied"]


def test_peer_is_added(nodes: tuple[Node, Node, Node], transfer: Flow) -> None:
    alpha, _, gamma = nodes
    alpha.add_peer(gamma, "10.0.2.2:51820")
    assert "gamma" in alpha.cli("reload").stdout
    connected(alpha, gamma)  # called without waiting for traffic
    assert ping(alpha.namespace, "10.7.0.3", 3).lost == 0
    assert ping(gamma.namespace, "10.7.0.1", 3).lost == 0


def test_allowed_ips_come_and_go(three: tuple[Node, Node, Node], transfer: Flow) -> None:
    alpha, _, _ = three
    before, session = _routes(alpha), alpha.peer("gamma")["session_id"]
    alpha.set({"peer.gamma": {"allowed_ips": ["10.7.0.3/32", "10.8.0.0/24"]}})
    alpha.cli("reload")
    assert {line.strip() for line in _routes(alpha) - before if "unreachable" not in line} == {"10.8.0.0/24 dev pqvpn0"}
    assert ping(alpha.namespace, "10.8.0.1", 3).lost == 0
    alpha.set({"peer.gamma": {"allowed_ips": ["10.7.0.3/32"]}})
    alpha.cli("reload")
    assert _routes(alpha) == before
    assert alpha.peer("gamma")["session_id"] == session


def test_source_no_longer_allowed_is_dropped(three: tuple[Node, Node, Node], transfer: Flow) -> None:
    """The lanes check sources against the table in force: an established session does not help."""
    alpha, _, gamma = three
    alpha.set({"peer.gamma": {"allowed_ips": ["10.8.0.0/24"]}})
    alpha.cli("reload")
    before = alpha.drops().get("source_not_allowed", 0)
    assert ping(gamma.namespace, "10.7.0.1", 1, timeout=0.3).lost == 1
    wait_for("the drop to be counted", lambda: sum(alpha.drops().values()) > before)
    alpha.set({"peer.gamma": {"allowed_ips": ["10.7.0.3/32"]}})
    alpha.cli("reload")
    assert ping(gamma.namespace, "10.7.0.1", 3).lost == 0


def test_endpoint_changes(three: tuple[Node, Node, Node], transfer: Flow) -> None:
    """What runs goes on; the next handshake knocks at the new address, since the old one is gone."""
    alpha, _, gamma = three
    session = alpha.peer("gamma")["session_id"]
    alpha.set({"peer.gamma": {"endpoint": "10.0.2.3:51820"}})
    assert "gamma" in alpha.cli("reload").stdout
    assert alpha.peer("gamma")["session_id"] == session
    gamma.namespace.sysctl("net/ipv4/conf/veth0/promote_secondaries", 1)
    gamma.namespace.delete_address("veth0", "10.0.2.2/24")
    gamma.down()
    wait_for("the goodbye", lambda: alpha.peer("gamma")["session_id"] is None)
    gamma.up(30.0)
    wait_for("a way to gamma", lambda: ping(alpha.namespace, "10.7.0.3", 1, timeout=0.2).lost == 0)
    assert alpha.peer("gamma")["endpoint"] == "10.0.2.3:51820"


def test_invalid_file_changes_nothing(three: tuple[Node, Node, Node], transfer: Flow) -> None:
    alpha, _, _ = three
    text, routes = alpha.config.read_text(), _routes(alpha)
    alpha.set({"peer.gamma": {"allowed_ips": ["10.9.0.0/24", "nonsense"], "keepalive": "never"}, "node": {"lnaes": 2}})
    try:
        refused = alpha.cli("reload", check=False)
        assert refused.returncode == 78
        for wrong in ("nonsense", "never", "lnaes"):
            assert wrong in refused.stderr
        answer = json.loads(alpha.cli("reload", "--json", check=False).stderr)
        assert answer["ok"] is False
        assert len(answer["errors"]) == 3
    finally:
        alpha.config.write_text(text)
    assert _routes(alpha) == routes
    assert alpha.peer("gamma")["allowed_ips"] == ["10.7.0.3/32"]
    assert ping(alpha.namespace, "10.7.0.3", 3).lost == 0


def test_route_refused_by_the_kernel_changes_nothing(three: tuple[Node, Node, Node], transfer: Flow) -> None:
    """Of several new routes the kernel takes all but one."""
    alpha, _, _ = three
    text, routes = alpha.config.read_text(), _routes(alpha)
    alpha.namespace.sysctl("net/ipv6/conf/pqvpn0/disable_ipv6", 1)
    alpha.set({"peer.gamma": {"allowed_ips": ["10.7.0.3/32", "10.9.0.0/24", "fd99::/64"]}})
    refused = alpha.cli("reload", check=False)
    assert refused.returncode != 0
    assert "fd99::/64" in refused.stderr
    assert _routes(alpha) == routes
    assert "fd99" not in alpha.namespace.run(["ip", "-6", "route"]).stdout
    assert alpha.peer("gamma")["allowed_ips"] == ["10.7.0.3/32"]
    # the same file is taken once the kernel agrees
    alpha.namespace.sysctl("net/ipv6/conf/pqvpn0/disable_ipv6", 0)
    alpha.cli("reload")
    assert "fd99::/64 dev pqvpn0" in alpha.namespace.run(["ip", "-6", "route"]).stdout
    alpha.config.write_text(text)
    alpha.cli("reload")
    assert _routes(alpha) == routes


def test_signal_reloads(three: tuple[Node, Node, Node], transfer: Flow) -> None:
    alpha, _, _ = three
    applied, refused = len(told(alpha, "config.applied")), len(told(alpha, "config.refused"))
    alpha.set({"peer.gamma": {"allowed_ips": ["10.7.0.3/32", "10.8.0.0/24"]}})
    alpha.kill("supervisor", signal.SIGHUP)
    wait_told(alpha, "config.applied", applied + 1)
    assert alpha.peer("gamma")["allowed_ips"] == ["10.7.0.3/32", "10.8.0.0/24"]
    alpha.set({"peer.gamma": {"allowed_ips": ["nonsense"]}})
    alpha.kill("supervisor", signal.SIGHUP)
    wait_told(alpha, "config.refused", refused + 1)
    assert alpha.peer("gamma")["allowed_ips"] == ["10.7.0.3/32", "10.8.0.0/24"]
    alpha.set({"peer.gamma": {"allowed_ips": ["10.7.0.3/32"]}})
    alpha.cli("reload")


def test_peer_is_removed(three: tuple[Node, Node, Node], transfer: Flow) -> None:
    alpha, _, gamma = three
    connected(alpha, gamma)
    alpha.cli("peer", "remove", "gamma")
    assert "gamma" in alpha.cli("reload").stdout
    assert [peer["name"] for peer in alpha.status()["peers"]] == ["beta"]
    wait_for("gamma to hear of it", lambda: gamma.peer("alpha")["session_id"] is None)
    assert not any("10.7.0.3" in line for line in _routes(alpha))
    gamma.poke(gamma.interfaces[0].ip - 2)  # what it asks for now is not answered
    assert ping(gamma.namespace, "10.7.0.1", 1, timeout=0.3).lost == 1
