"""Reachability by authenticated probes on real nodes: one whose packets arrive, and who gets none of ours.

alpha (10.7.0.1) --veth0-- beta (10.7.0.2); only alpha knows where the other is
"""

import collections
import ipaddress
import json
from collections.abc import Iterator
from typing import Any

import pytest
from netparty import make_pair

from lab import Lab, wait_for
from lab.nodes import Node

pytestmark = [pytest.mark.netns, pytest.mark.needs("nft")]

_SETTINGS = {
    "timers": {"rtt_interval": "500ms", "path_validation": "300ms"},
    "health": {"interval": "200ms", "fail_scale": 0.2, "recover_scale": 0.2},
}
_DROP = (
    "table ip way {\nchain come {\ntype filter hook input priority 0\nip saddr 10.0.0.1 udp dport 51820 drop\n}\n}\n"
)


@pytest.fixture
def pair() -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        yield make_pair(lab, settings=_SETTINGS).nodes


def beta_as_seen(alpha: Node) -> dict[str, Any]:
    answer = json.loads(alpha.cli("health", "--json", check=False).stdout)
    found: dict[str, Any] = collections.defaultdict(str)
    found.update(next((each for each in answer["items"] if each["item"] == "peer"), {}))
    return found


@pytest.mark.slow
def test_a_peer_that_gets_none_of_our_packets_is_told_though_its_own_arrive(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair

    def sees(state: str, words: str) -> dict[str, Any] | None:
        beta.poke(ipaddress.ip_address("10.7.0.1"))  # data of the peer, all the while
        found = beta_as_seen(alpha)
        return found if (found["state"], words in found["evidence"]) == (state, True) else None

    wait_for("a probe to be answered", lambda: sees("ok", "probe of the path answered 0 s ago"), timeout=20.0)
    beta.namespace.nft(_DROP)
    found = wait_for("the loss to be told", lambda: sees("warning", "probes of the path unanswered"), timeout=40.0)
    assert found["code"] == "network.one_way"
    shown = alpha.peer("beta")
    assert (shown["state"], shown["probes_unanswered"] >= 3) == ("up", True)
    assert shown["last_received_seconds"] < shown["probe_answered_seconds"]
    beta.namespace.nft("delete table ip way")
    wait_for("it to clear", lambda: sees("ok", "probe of the path answered"), timeout=40.0)
