"""A NAT between the nodes: it masquerades alpha, forgets its mappings, and gives alpha another port.

alpha 192.168.1.2 --veth0-- nat --veth1-- 10.0.0.2 beta     inside 10.7.0.0/24
"""

from collections.abc import Iterator

import pytest
from flows import flow, payloads, wait_told
from netparty import bring_up, connected, make_nodes

from lab import Lab, Namespace, wait_for
from lab.nodes import Node
from lab.traffic import ping

pytestmark = [pytest.mark.netns, pytest.mark.needs("nft")]

_FORGETS = 2  # seconds that the NAT keeps a mapping nobody uses
_KEEPALIVE = "1s"
_TIMERS = {"m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": "1s", "path_validation": "1s"}
_SETTINGS = {"timers": _TIMERS, "redact": {"addresses": "keep"}}  # logs are compared with real addresses


@pytest.fixture(scope="module")
def network() -> Iterator[tuple[Namespace, Node, Node]]:
    """The NAT and both nodes; beta knows no address of alpha, alpha keeps its mapping alive."""
    with Lab() as lab:
        a, nat, b = lab.namespace("a"), lab.router("nat"), lab.namespace("b")
        lab.link(a, nat, ["192.168.1.2/24"], ["192.168.1.1/24"], names=("veth0", "veth0"))
        lab.link(nat, b, ["10.0.0.1/24"], ["10.0.0.2/24"], names=("veth1", "veth0"))
        a.add_route("default", via="192.168.1.1")
        nat.masquerade("veth1", (40000, 40099))
        for timeout in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
            nat.sysctl(f"net/netfilter/{timeout}", _FORGETS)
        alpha, beta = make_nodes(lab, a, b, None, "10.0.0.2", _SETTINGS)
        alpha.set({"peer.beta": {"keepalive": _KEEPALIVE}})
        bring_up(alpha, beta)
        yield nat, alpha, beta


def _port(beta: Node) -> int:
    host, _, port = beta.peer("alpha")["endpoint"].rpartition(":")
    assert host == "10.0.0.1", "beta sees the NAT only"
    return int(port)


def test_reached_through_nat_both_ways(network: tuple[Namespace, Node, Node]) -> None:
    _, alpha, beta = network
    assert 40000 <= _port(beta) <= 40099
    assert ping(alpha.namespace, "10.7.0.2", 3).lost == 0
    assert ping(beta.namespace, "10.7.0.1", 3).lost == 0
    with flow(alpha, beta), flow(beta, alpha):
        pass


def test_nat_rebinds_during_transfers(network: tuple[Namespace, Node, Node]) -> None:
    nat, alpha, beta = network
    connected(alpha, beta)
    session = beta.peer("alpha")["session_id"]
    with flow(alpha, beta) as there, flow(beta, alpha) as back:
        for low in (41000, 42000):
            nat.masquerade("veth1", (low, low + 99))
            wait_for("beta to follow", lambda: low <= _port(beta) <= low + 99)  # noqa: B023 - called at once
            wait_told(beta, "path.roamed", session_id=session, endpoint=f"10.0.0.1:{_port(beta)}", validated=True)
            there.more()
            back.more()
    assert beta.peer("alpha")["session_id"] == session


def test_keepalive_keeps_the_mapping(network: tuple[Namespace, Node, Node]) -> None:
    """Silence is longer than the NAT's memory; then beta, which alone could not get in, speaks first."""
    nat, alpha, beta = network
    connected(alpha, beta)
    port, idle = _port(beta), alpha.namespace.capture("veth0")
    with idle:
        wait_for("several keepalives", lambda: len(list(payloads(idle.frames))) > 2 * _FORGETS, timeout=10 * _FORGETS)
    assert _port(beta) == port
    assert ping(beta.namespace, "10.7.0.1", 3).lost == 0
    # the same silence without keepalives closes the way: what keeps it open is nothing else
    (control,) = alpha.pids("control")
    alpha.config.write_text(alpha.config.read_text().replace(f'keepalive = "{_KEEPALIVE}"\n', ""))
    alpha.cli("reload")
    wait_for("the NAT to forget", lambda: not _mappings(nat), timeout=5 * _FORGETS)
    assert ping(beta.namespace, "10.7.0.1", 1, timeout=0.3).lost == 1
    assert alpha.pids("control") == [control]


def _mappings(nat: Namespace) -> list[str]:
    """UDP translations that the NAT remembers."""
    return [line for line in nat.run(["cat", "/proc/net/nf_conntrack"]).stdout.splitlines() if " udp " in line]
