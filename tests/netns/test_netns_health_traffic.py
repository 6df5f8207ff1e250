"""What stands still in real nodes: probes through the interface, progress of lanes and supervisor; and no probe leaks.

alpha (10.7.0.1, two lanes; all of IPv4 leads to beta) --veth-- beta (IPv6 inside only)
"""

import collections
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from netparty import bring_up, make_nodes

from lab import Lab, wait_for
from lab.nodes import Node

pytestmark = pytest.mark.netns

_REFUSED = "not probed: Operation not permitted"
_SETTINGS = {
    "health": {
        "interval": "200ms",
        "probe_timeout": "1s",
        "progress_timeout": "1s",
        "fail_scale": 0.2,
        "recover_scale": 0.2,
    },
    "restart": {"hang_after": "60s"},  # what stands still is to be told here, not replaced
}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
        inner = (["10.7.0.1/24", "fd07::1/64"], ["fd07::2/64"])
        alpha, beta = make_nodes(lab, a, b, None, None, _SETTINGS, inner=inner)
        alpha.set({"node": {"lanes": 2}, "peer.beta": {"endpoint": "10.0.0.2:51820"}})
        alpha.set({"peer.beta": {"allowed_ips": ["0.0.0.0/0", "fd07::2/128"]}})
        bring_up(alpha, beta)
        yield alpha, beta


def hangs(node: Node, code: str, key: str = "") -> bool:
    found = item(node, code, key)
    return (found["state"], found["code"]) == ("failing", "node.no_progress")


def item(node: Node, code: str = "tun.traffic", key: str = "") -> dict[str, Any]:
    answer = json.loads(node.cli("health", "--json", check=False).stdout)
    found: dict[str, Any] = collections.defaultdict(str)
    found.update(next((each for each in answer["items"] if (each["item"], each["key"]) == (code, key)), {}))
    return found


@contextlib.contextmanager
def stopped(node: Node, component: str) -> Iterator[None]:
    pid = node.kill(component, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_probes_pass_on_an_idle_node_and_go_no_further(pair: tuple[Node, Node]) -> None:
    """On beta as well, which has no IPv4 address at all inside."""
    alpha, _ = pair
    for node in pair:
        wait_for("the item to be well", lambda: item(node)["state"] == "ok", timeout=20.0)  # noqa: B023 - at once
        wait_for("probes to be seen", lambda: tx_packets(node) >= 10, timeout=30.0)  # noqa: B023 - at once
        assert item(node)["evidence"] == ""
        assert not {"no_route", "not_ip", "too_big"} & node.drops().keys()
    taken, sent = tx_packets(alpha), alpha.peer("beta")["tx_packets"]
    wait_for("more probes", lambda: tx_packets(alpha) >= taken + 10, timeout=30.0)
    assert alpha.peer("beta")["tx_packets"] == sent, "no probe is a peer's"


@pytest.mark.parametrize("lane", ["lane-0", "lane-1"])
def test_a_lane_that_stands_still_is_told(pair: tuple[Node, Node], lane: str) -> None:
    alpha, _ = pair
    wait_for("the item to be well", lambda: item(alpha)["state"] == "ok", timeout=20.0)
    with stopped(alpha, lane):
        found = wait_for(
            "the lane to be told", lambda: item(alpha) if item(alpha)["state"] == "failing" else None, 20.0
        )
        assert found["code"] == "tun.stuck"
        assert found["evidence"].startswith(f"{lane} took no packet in "), found["evidence"]
        assert alpha.cli("health", check=False).returncode == 2
        wait_for("its progress to be told", lambda: hangs(alpha, "node.progress", lane), timeout=20.0)
    wait_for("it to clear", lambda: item(alpha)["state"] == "ok", timeout=20.0)
    wait_for("progress", lambda: item(alpha, "node.progress", lane)["state"] == "ok", timeout=20.0)


def test_a_supervisor_that_stands_still_is_told(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    with stopped(alpha, "supervisor"):
        wait_for("the supervisor to be told", lambda: hangs(alpha, "node.supervisor"), timeout=20.0)
        assert not hangs(alpha, "node.progress", "lane-0"), "nobody asked it for a sign"
    wait_for("it to clear", lambda: item(alpha, "node.supervisor")["state"] == "ok", timeout=20.0)


@pytest.mark.needs("nft")
def test_a_packet_filter_is_no_fault_of_a_lane(pair: tuple[Node, Node]) -> None:
    """Where the kernel refuses a probe, silence says nothing; that it is not probed is told."""
    alpha, _ = pair
    rule = 'oifname "pqvpn0" ip daddr 192.0.0.8 drop'
    alpha.namespace.nft(f"table ip inside {{\nchain sent {{\ntype filter hook output priority 0\n{rule}\n}}\n}}\n")
    try:
        wait_for("the refusal to be told", lambda: item(alpha)["evidence"] == _REFUSED, timeout=20.0)
        assert item(alpha)["state"] == "ok"
    finally:
        alpha.namespace.nft("delete table ip inside")
    wait_for("probes to pass again", lambda: item(alpha)["evidence"] == "", timeout=20.0)


def tx_packets(node: Node) -> int:
    """Packets that lanes took out of the interface, by the kernel's count."""
    lines = node.namespace.run(["cat", "/proc/net/dev"]).stdout.splitlines()
    return next(int(line.split()[10]) for line in lines if line.strip().startswith("pqvpn0:"))
