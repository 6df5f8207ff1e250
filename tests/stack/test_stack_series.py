"""What strangers do changes no number of series: 10,000 handshakes of identities that nobody configured."""

import os
import socket
import urllib.request

import pytest
from conftest import Scene

from lab import wait_for
from lab.nodes import Node
from lab.stacknodes import OUTER
from pqvpn.config.load import load
from pqvpn.crypto.secret import Secret
from pqvpn.host.clock import now
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Transmit
from pqvpn.protocol.settings import NodeSettings, PeerSettings
from pqvpn.wire.address import Address

pytestmark = [pytest.mark.stack, pytest.mark.netns]

STRANGERS, EACH = 200, 50
MOST_NEW = 24
"""Series for reasons that had not occurred before."""
MOST_OF_A_NODE = 600


def first_messages(alpha: Node, count: int) -> list[list[bytes]]:
    """The datagrams of the first message of so many identities that beta does not know, each with beta's card in hand."""
    (beta,) = load(alpha.config).peers
    to = Address.parse(f"{OUTER[1]}:51820")
    found = []
    for _ in range(count):
        settings = NodeSettings(os.urandom(32), Secret(os.urandom(32)), mtu=1432)
        core = Core(settings, os.urandom, now())
        core.set_peers((PeerSettings(beta.id, beta.name, beta.card.public_key.raw, endpoints=(to,)),), now())
        effects = core.want_session(beta.id, now())
        found.append([each.datagram for each in effects if isinstance(each, Transmit)])
    return found


def series(scene: Scene) -> int:
    return int(scene.stack.value('count({job="pqvpn"})'))


def test_series_stay_bounded(scene: Scene) -> None:
    site = scene.site
    site.connect()
    wait_for("series of both nodes", lambda: scene.stack.value("count(pqvpn_node_uptime_seconds)") >= 2, 30.0)
    before, drops = series(scene), sum(site.beta.drops().values())
    messages = first_messages(site.alpha, STRANGERS)
    assert all(messages)
    stranger = site.lab.namespace("stranger")
    site.lab.link(stranger, site.beta.namespace, ["10.0.9.2/24"], ["10.0.9.1/24"])
    sent = 0
    for _ in range(EACH):
        with stranger.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:  # another source port each time
            for datagrams in messages:
                for datagram in datagrams:
                    out.sendto(datagram, ("10.0.9.1", 51820))
                sent += 1
    assert sent == 10_000
    wait_for("beta to discard them", lambda: sum(site.beta.drops().values()) > drops + 100, 30.0)
    shown = f'sum(pqvpn_drops_total{{instance="{_instance(scene, site.beta)}"}})'
    wait_for("drops to be shown", lambda: scene.stack.value(shown) > drops + 100, 30.0)
    after = series(scene)
    print(f"{sent} handshakes of {STRANGERS} strangers: {before} series before, {after} after")
    assert after - before <= MOST_NEW
    assert scene.stack.value('max(count by (instance) ({job="pqvpn"}))') < MOST_OF_A_NODE
    with urllib.request.urlopen(scene.stack.url("events", "/metrics")) as answer:
        assert answer.read().count(b"\npqvpn_seen") < 400
    site.connect()


def _instance(scene: Scene, node: Node) -> str:
    """What Prometheus calls a node."""
    page = node.cli("diag", "metrics", "--json", check=False).stdout
    found = {each["metric"]["instance"] for each in scene.stack.query("pqvpn_node_uptime_seconds")}
    told = {instance for instance in found if instance in page}
    return next(iter(told)) if len(told) == 1 else _by_peer(scene, node)


def _by_peer(scene: Scene, node: Node) -> str:
    other = "alpha" if node.name == "beta" else "beta"
    newest = scene.stack.query(f'pqvpn_peer_io_bytes_total{{pqvpn_peer="{other}"}}')
    return str(max(newest, key=lambda each: each["value"][0])["metric"]["instance"])
