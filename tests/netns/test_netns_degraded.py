"""The degraded mode between two real nodes: opt-in by both files, armed by both operators, and by nothing else.

alpha 10.0.0.1 --veth0-- 10.0.0.2 beta     inside 10.7.0.0/24
"""

import datetime
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from socket import AF_INET, SOCK_DGRAM

import pytest
from netparty import bring_up, make_nodes

from lab import Lab, Link, wait_for
from lab.nodes import Node

pytestmark = [pytest.mark.netns]

_MARK = b"this text is searched for on the outer link"
_TIMERS = {"m1_schedule": ["0s", "0.2s", "0.4s"], "m1_fresh_after": "0.6s"}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Link, Node, Node]]:
    """Two nodes whose files each allow the other to be degraded."""
    later = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=2)
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        link = lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
        alpha, beta = make_nodes(lab, a, b, "10.0.0.1", "10.0.0.2", {"timers": _TIMERS})
        for node, peer in ((alpha, "beta"), (beta, "alpha")):
            node.set({f"peer.{peer}": {"allow_degraded": ["auth-plaintext"]}})
            header = f"\n[peer.{peer}]\n"
            node.config.write_text(node.config.read_text().replace(header, f"{header}degraded_until = {later}\n"))
        bring_up(alpha, beta)
        yield link, alpha, beta


def _readable(link: Link, alpha: Node, beta: Node) -> bool:
    """Whether text that alpha sends to beta can be found on the outer link."""
    with (
        alpha.namespace.capture(link.near, watch=[_MARK]) as seen,
        alpha.namespace.socket(AF_INET, SOCK_DGRAM) as out,
        beta.namespace.socket(AF_INET, SOCK_DGRAM) as inside,
    ):
        inside.bind((beta.address, 5000))
        inside.settimeout(5)
        out.sendto(_MARK, (beta.address, 5000))
        assert inside.recv(2048) == _MARK
    return bool(seen.hits[_MARK])


def _security(node: Node, peer: str) -> str | None:
    return node.peer(peer)["security"]


def test_full_until_both_operators_arm_it(pair: tuple[Link, Node, Node]) -> None:
    link, alpha, beta = pair
    assert not _readable(link, alpha, beta)
    alpha.cli("peer", "degrade", "beta")
    wait_for("the full session to be given up", lambda: _security(alpha, "beta") is None, 10)
    alpha.poke(ip_address("10.7.0.2"))
    assert _security(beta, "alpha") != "auth-plaintext"  # nothing that alpha sends arms beta
    beta.cli("peer", "degrade", "alpha")
    wait_for("the degraded session", lambda: _security(alpha, "beta") == "auth-plaintext", 15)
    assert alpha.status()["node"]["security"] == "degraded"
    assert "crypto.degraded" in alpha.log()
    assert _readable(link, alpha, beta)
    for node, peer in ((alpha, "beta"), (beta, "alpha")):
        node.cli("peer", "degrade", peer, "--off")
    wait_for("full security again", lambda: _security(alpha, "beta") == "full", 15)
    assert alpha.status()["node"]["security"] == "full"
    assert not _readable(link, alpha, beta)


def test_refused_without_permission_in_the_file(pair: tuple[Link, Node, Node]) -> None:
    _, alpha, _ = pair
    text = alpha.config.read_text()
    kept = [line for line in text.splitlines() if not line.startswith(("allow_degraded", "degraded_until"))]
    alpha.config.write_text("\n".join(kept) + "\n")
    alpha.cli("reload")
    refused: subprocess.CompletedProcess[str] = alpha.cli("peer", "degrade", "beta", check=False)
    assert refused.returncode == 77
    assert "crypto.degrade_refused" in refused.stderr
