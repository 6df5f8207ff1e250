"""Breakers of real nodes: seen, held and reset by an operator; a peer that comes back is found; a changed network is noticed.

alpha (10.7.0.1) --veth0-- beta (10.7.0.2)      beta does not know where alpha is, and calls nobody by itself
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from netparty import bring_up, connected, make_nodes

from lab import Lab, wait_for
from lab.nodes import Node

pytestmark = pytest.mark.netns

_SETTINGS = {
    "timers": {
        "m1_schedule": ["0s", "0.3s"], "m1_fresh_after": "0.5s", "attempt_gives_up": "1s", "keepalive": "1s", "dead": "2s",
    },
    "breakers": {"consecutive": 2, "open_for": "2s", "open_longest": "4s"},
}  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
        alpha, beta = make_nodes(lab, a, b, None, "10.0.0.2", _SETTINGS)
        bring_up(alpha, beta)
        yield alpha, beta


def breakers(node: Node) -> dict[str, dict[str, Any]]:
    rows = json.loads(node.cli("breaker", "list", "--json").stdout)["breakers"]
    return {row["name"]: row for row in rows}


def facts(node: Node, event: str) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in node.log().splitlines() if line.startswith("{"))
    return [line["fields"] | {"event": event} for line in lines if line.get("event") == event]


def test_an_operator_sees_holds_and_resets(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    connected(alpha, beta)
    rows = breakers(alpha)
    assert {"peer/beta", "netlink", "crypto/encapsulate"} <= rows.keys()
    assert {row["state"] for row in rows.values()} == {"closed"}
    assert "held open" in alpha.cli("breaker", "open", "peer/beta").stdout
    refused = alpha.cli("peer", "reconnect", "beta", check=False)
    assert refused.returncode
    assert "resilience.breaker_open" in refused.stderr
    beta.kill("control")  # nothing of the session is lost, and alpha calls nobody
    assert "peer/beta" in alpha.cli("status", "--breakers").stdout.splitlines()[1]

    def told() -> bool:
        items = json.loads(alpha.cli("health", "--json", check=False).stdout)["items"]
        held = [i for i in items if i["item"] == "resilience.breaker" and i["key"] == "peer/beta"]
        return any(item["state"] == "warning" for item in held)

    wait_for("health to tell of the hold", told)
    alpha.cli("breaker", "reset", "peer/beta")
    alpha.cli("peer", "reconnect", "beta")
    connected(alpha, beta)
    wait_for("health to be silent again", lambda: not told())


def test_a_wrong_name_finds_the_right_one(pair: tuple[Node, Node]) -> None:
    answer = pair[0].cli("breaker", "open", "peer/bete", check=False)
    assert answer.returncode
    assert "peer/beta" in answer.stderr


def test_netlink_held_open_refuses_a_reload_and_nothing_else(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    alpha.cli("breaker", "open", "netlink")
    refused = alpha.cli("reload", check=False)
    assert "resilience.breaker_open" in refused.stderr
    connected(alpha, beta)
    alpha.cli("breaker", "reset", "netlink")
    alpha.cli("reload")


def test_a_reload_changes_the_policy(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    alpha.set({"breakers": {"consecutive": 3}})
    assert "breakers changed" in alpha.cli("reload").stdout
    shown = json.loads(alpha.cli("config", "show", "--effective", "--json").stdout)["settings"]
    found = {(s["section"], s["name"]): (s["value"], s["source"]) for s in shown}
    assert found["breakers", "consecutive"] == ("3", "file")
    assert found["breakers", "window"] == ('"30s"', "default")
    alpha.set({"breakers": {"consecutive": 2}})
    alpha.cli("reload")


def test_a_peer_that_is_gone_opens_its_breaker_and_is_found_again(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    connected(alpha, beta)
    beta.down()

    def call() -> bool:
        alpha.poke(beta.interfaces[0].ip)
        return breakers(alpha)["peer/beta"]["state"] != "closed"

    wait_for("the breaker to open", call, timeout=30)
    assert any(f["breaker"] == "peer" and f["state"] == "open" for f in facts(alpha, "breaker.changed"))
    beta.start()
    beta.wait_running()
    alpha.wait_for_peer("beta", timeout=4 + 2 + 4)
    assert breakers(alpha)["peer/beta"]["state"] == "closed"


def test_a_changed_network_is_noticed(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    before = len(facts(alpha, "network.changed"))
    alpha.namespace.run(["ip", "address", "add", "10.0.9.1/24", "dev", "veth0"])
    wait_for("the change to be told", lambda: len(facts(alpha, "network.changed")) > before, timeout=10)
