"""A hub with two peers and a network behind it: who may say what to whom, and what is passed on is whole.

p ---- hub ---- q
        |
       lan
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from netparty import check_tcp, check_udp, check_udp_joined, connected, family_of, no_offloads, start, unexpected

from lab import Lab, Namespace, wait_for
from lab.nodes import Node, make_node
from lab.traffic import ping

pytestmark = pytest.mark.netns

LAN4, LAN6 = "192.168.9.2", "fd09::2"
BOTH = pytest.mark.parametrize("version", [4, 6])
CHATTER = ("no_route",)  # what a router's kernel says to multicast groups by itself
PROHIBITED = {4: (3, 13), 6: (1, 1)}


@dataclass(frozen=True)
class Hub:
    hub: Node
    p: Node
    q: Node
    lan: Namespace

    @property
    def nodes(self) -> tuple[Node, Node, Node]:
        return self.hub, self.p, self.q


@pytest.fixture(scope="module")
def net() -> Iterator[Hub]:
    with Lab() as lab:
        middle, behind = lab.router("hub"), lab.namespace("lan")
        ends = [lab.namespace(name) for name in ("p", "q")]
        hub = make_node(lab, middle, "hub", ["10.7.0.1/24", "fd07::1/64"])
        spokes = []
        for i, end in enumerate(ends, 2):
            lab.link(end, middle, [f"10.0.{i}.2/24"], [f"10.0.{i}.1/24"])
            spoke = make_node(lab, end, end.name, [f"10.7.0.{i}/24", f"fd07::{i}/64"])
            # everything inside, other spokes included, lies behind the hub; it says which of them may be whom
            inside = ["10.7.0.0/24", "fd07::/64", "192.168.9.0/24", "fd09::/64"]
            spoke.add_peer(hub, f"10.0.{i}.1:51820", allow=inside)
            hub.add_peer(spoke)
            spokes.append(spoke)
        link = lab.link(middle, behind, ["192.168.9.1/24", "fd09::1/64"], [f"{LAN4}/24", f"{LAN6}/64"], mtu=1432)
        behind.add_route("10.7.0.0/24", via="192.168.9.1")
        behind.add_route("fd07::/64", via="fd09::1")
        no_offloads(middle, link.near)
        start(hub, *spokes)
        for spoke in spokes:
            connected(spoke, hub)
        yield Hub(hub, *spokes, behind)


def inner(version: int, number: int) -> str:
    return f"10.7.0.{number}" if version == 4 else f"fd07::{number}"


@BOTH
def test_peers_reach_each_other_through_the_hub(net: Hub, version: int) -> None:
    before = unexpected(net.nodes, *CHATTER)
    to = inner(version, 3)
    assert ping(net.p.namespace, to, 3).lost == 0
    check_tcp(net.p.namespace, net.q.namespace, to, 1 << 20)
    check_udp(net.p.namespace, net.q.namespace, to, (0, 1, 1200, 4000))
    assert unexpected(net.nodes, *CHATTER) == before


@BOTH
def test_a_network_behind_the_gateway_gets_whole_checksums(net: Hub, version: int) -> None:
    """The gateway's interface finishes partial checksums in software: a wrong start or sum loses the packet."""
    before = unexpected(net.nodes, *CHATTER)
    lan, spoke = (LAN4, LAN6)[version == 6], inner(version, 2)
    assert ping(net.p.namespace, lan, 3).lost == 0
    check_tcp(net.p.namespace, net.lan, lan, 1 << 20)
    check_tcp(net.lan, net.p.namespace, spoke, 1 << 20)
    check_udp(net.p.namespace, net.lan, lan, (0, 1, 99, 1200, 4000))
    check_udp(net.lan, net.p.namespace, spoke, (0, 1, 99, 1200, 4000))
    check_udp_joined(net.p.namespace, net.lan, lan, 500, 30)
    assert unexpected(net.nodes, *CHATTER) == before


@BOTH
def test_a_spoofed_inner_source_is_dropped_and_counted(net: Hub, version: int) -> None:
    before = net.hub.drops().get("source_not_allowed", 0)
    other, to = inner(version, 3), inner(version, 1)
    interface = net.hub.status()["node"]["interface"]
    with net.hub.namespace.capture(interface, watch=[b"spoofed by p"]) as seen:
        # q's address on p: the hub must not take it from there
        net.p.namespace.add_address("lo", f"{other}/{32 if version == 4 else 128}")
        try:
            with net.p.namespace.socket(family_of(to), socket.SOCK_DGRAM) as liar:
                wait_for("the address", lambda: liar.bind((other, 0)) is None)
                for _ in range(3):
                    liar.sendto(b"spoofed by p", (to, 9))
            wait_for("the drops", lambda: net.hub.drops().get("source_not_allowed", 0) == before + 3)
        finally:
            net.p.namespace.delete_address("lo", f"{other}/{32 if version == 4 else 128}")
        # a packet that comes through afterwards shows that the capture looked
        check_udp(net.p.namespace, net.hub.namespace, to, (10,))
    assert seen.hits[b"spoofed by p"] == 0
    assert seen.count >= 2


@BOTH
def test_an_unknown_destination_is_answered_as_prohibited(net: Hub, version: int) -> None:
    """From the hub: 10.7.0.9 is in the interface's network, but in nobody's allowed IPs."""
    before = net.hub.drops().get("no_route", 0)
    level, option = (socket.IPPROTO_IP, 11) if version == 4 else (socket.IPPROTO_IPV6, 25)  # IP_RECVERR, IPV6_RECVERR
    with net.hub.namespace.socket(family_of(inner(version, 9)), socket.SOCK_DGRAM) as asking:
        asking.setsockopt(level, option, 1)
        asking.settimeout(5)
        asking.sendto(b"anyone?", (inner(version, 9), 9))
        with pytest.raises(OSError, match=r"No route to host|Permission denied"):
            asking.recv(100)
        _, ancillary, _, _ = asking.recvmsg(100, 512, socket.MSG_ERRQUEUE)
    (error,) = [data for at, kind, data in ancillary if (at, kind) == (level, option)]
    _, _, kind, code = struct.unpack_from("=IBBB", error)
    assert (kind, code) == PROHIBITED[version]
    assert net.hub.drops()["no_route"] > before
