"""What strangers do changes no number of series: 10,000 handshakes of identities that nobody configured."""

import os
import socket
import urllib.request

import faults
import pytest
from conftest import Scene

from lab import wait_for
from lab.nodes import Node
from lab.stacknodes import OUTER, Site
from pqvpn.config.load import load
from pqvpn.crypto.secret import Secret
from pqvpn.host.clock import now
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Transmit
from pqvpn.protocol.settings import NodeSettings, PeerSettings
from pqvpn.wire.address import Address

pytestmark = [pytest.mark.stack, pytest.mark.netns]

STRANGERS, EACH = 200, 50
LIMIT = 120.0
MOST_NEW = 60
"""Series for reasons that had not occurred before. A label of a stranger's choice would make thousands."""
LEAST = 50
"""Drops to wait for: many datagrams find no room, or are one of several parts."""
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
    """Of these nodes only: those of nodes that have gone end in their own time."""
    instances = "|".join(faults.instance(node) for node in (scene.site.alpha, scene.site.beta))
    return int(scene.stack.value(f'count({{job="pqvpn",instance=~"{instances}"}})'))


class Strangers:
    """A host that beta reaches, and what it sends there."""

    def __init__(self, site: Site) -> None:
        self._messages = first_messages(site.alpha, STRANGERS)
        assert all(self._messages)
        self._host = site.lab.namespace("stranger")
        site.lab.link(self._host, site.beta.namespace, ["10.0.9.2/24"], ["10.0.9.1/24"])
        self.sent = 0

    def send(self, rounds: int) -> None:
        """Each of them, again and again, from another source port each time."""
        for _ in range(rounds):
            with self._host.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                for datagrams in self._messages:
                    for datagram in datagrams:
                        out.sendto(datagram, ("10.0.9.1", 51820))
                    self.sent += 1


def discarded(scene: Scene, strangers: Strangers, rounds: int) -> None:
    """Send, and wait until beta's drops show it, at the node and in Prometheus."""
    beta = scene.site.beta
    shown = f'sum(pqvpn_drops_total{{instance="{faults.instance(beta)}"}})'
    drops, begin = sum(beta.drops().values()), scene.stack.value(shown)
    strangers.send(rounds)
    wait_for("beta to discard them", lambda: sum(beta.drops().values()) > drops + LEAST, LIMIT, 0.2)
    wait_for("drops to be shown", lambda: scene.stack.value(shown) > begin + LEAST, LIMIT, 0.2)


def test_series_stay_bounded(scene: Scene) -> None:
    scene.site.connect()
    strangers = Strangers(scene.site)
    discarded(scene, strangers, 2)  # each reason for which they are discarded has a series of its own
    before = series(scene)
    discarded(scene, strangers, EACH - 2)
    assert strangers.sent == 10_000
    after = series(scene)
    print(f"{strangers.sent} handshakes of {STRANGERS} strangers: {before} series before most of them, {after} after")
    assert after - before <= MOST_NEW
    assert scene.stack.value('max(count by (instance) ({job="pqvpn"}))') < MOST_OF_A_NODE
    with urllib.request.urlopen(scene.stack.url("events", "/metrics")) as answer:
        assert answer.read().count(b"\npqvpn_seen") < 400
    scene.site.connect()
