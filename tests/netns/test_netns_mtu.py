"""Narrow paths: 1280 bytes from the start, narrowing in silence during a transfer, wide ones; and what the outer header shows."""

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from netparty import (
    INNER4,
    INNER6,
    MIB,
    OUTER4,
    OUTER6,
    Pair,
    check_tcp,
    check_udp,
    connected,
    content,
    make_pair,
    no_offloads,
    start,
    unexpected,
)

from lab import Lab, Namespace, wait_for
from lab.nodes import Node, introduce, make_node
from lab.traffic import ping, transfer

pytestmark = pytest.mark.netns

QUICK = {"timers": {"mtu_probe_timeout": "300ms", "mtu_confirm_interval": "500ms", "rtt_interval": "500ms"}}
IP_MTU, IP_MTU_DISCOVER, PMTUDISC_DO, PMTUDISC_OMIT = 14, 10, 2, 5


def outer_packets(frames: list[bytes]) -> list[bytes]:
    """The IPv4 packets between the two endpoints that were captured."""
    return [frame[14:] for frame in frames if frame[12:14] == b"\x08\x00" and frame[23] == 17]


def is_fragment(frame: bytes) -> bool:
    """Whether an Ethernet frame carries a piece of an IP packet."""
    if frame[12:14] == b"\x08\x00":
        return bool(struct.unpack_from("!H", frame, 20)[0] & 0x3FFF)
    return frame[12:14] == b"\x86\xdd" and frame[20] == socket.IPPROTO_FRAGMENT


def forwarding(router: Namespace, rule: str) -> None:
    """What a router does to the packets that it forwards, until the table `passing` is deleted."""
    router.nft(f"table ip passing {{\nchain forwarded {{\ntype filter hook forward priority 0\n{rule}\n}}\n}}\n")


@pytest.fixture(scope="module", params=[OUTER4, OUTER6], ids=["over-v4", "over-v6"])
def narrow(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A path of 1280 bytes; the nodes' interfaces keep their default of 1432 or 1412."""
    with Lab() as lab:
        pair = make_pair(lab, mtu=1280, outer=request.param, settings=QUICK)
        floor = 1280 - 68 if request.param is OUTER4 else 1280 - 88
        for node, peer in ((pair.a, "beta"), (pair.b, "alpha")):
            wait_for("the probes", lambda: floor - 16 < node.peer(peer)["path_mtu"] <= floor)  # noqa: B023 - called here
        for node in pair.nodes:
            searched(node)
        yield pair


def searched(node: Node) -> None:
    """Wait until no probe is too long for the link any more.

    The size fits as soon as the first try of some sizes is over; larger ones are tried twice more, 0.3 s apart at the most.
    """
    seen, since = -1, 0.0

    def silent() -> bool:
        nonlocal seen, since
        if (refused := node.drops().get("udp_send", 0)) != seen:
            seen, since = refused, time.monotonic()
        return time.monotonic() > since + 1.0

    wait_for("the search to be over", silent, 20.0, 0.05)


def test_tcp_adapts_to_a_path_of_1280_bytes(narrow: Pair) -> None:
    check_tcp(narrow.a.namespace, narrow.b.namespace, INNER4[1], MIB)
    check_tcp(narrow.b.namespace, narrow.a.namespace, INNER4[0], MIB)


def test_datagrams_that_are_too_big_are_answered_with_the_size_that_fits(narrow: Pair) -> None:
    fits = narrow.a.peer("beta")["path_mtu"]
    with narrow.a.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
        asking.connect((INNER4[1], 9))
        if asking.getsockopt(socket.IPPROTO_IP, IP_MTU) > fits:  # else the kernel learnt it before
            asking.send(bytes(1300))
        wait_for("the kernel to learn it", lambda: asking.getsockopt(socket.IPPROTO_IP, IP_MTU) == fits)


@pytest.mark.parametrize("back", [False, True])
def test_packets_that_routers_may_cut_are_cut(narrow: Pair, back: bool) -> None:
    """Without DF the sender hears of no size, for instance somebody behind this node (RFC 791)."""
    sender, receiver = reversed(narrow.nodes) if back else narrow.nodes
    before = [node.drops().get("too_big", 0) for node in narrow.nodes]
    with (
        receiver.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
        sender.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
    ):
        far.bind((receiver.address, 5602 + back))
        far.settimeout(5)
        near.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_OMIT)
        for size in (1000, 1212 - 28, 1300, 1404, 4000, 9000):
            near.sendto(content(size), (receiver.address, 5602 + back))
            assert far.recv(65536) == content(size)
    assert [node.drops().get("too_big", 0) for node in narrow.nodes] == before


def test_small_ipv6_packets_cross_a_path_of_1280_bytes(narrow: Pair) -> None:
    assert ping(narrow.a.namespace, INNER6[1], 2, payload=bytes(1100)).lost == 0


def test_every_ipv6_packet_of_1280_bytes_crosses(narrow: Pair) -> None:
    """IPv6 hosts may send 1280 bytes anywhere (RFC 8200 section 5), and this path carries 1212 or 1192 in one piece."""
    refused = narrow.a.drops().get("udp_send", 0)  # by probes that were too long
    assert ping(narrow.a.namespace, INNER6[1], 2, payload=bytes(1280 - 48)).lost == 0
    check_tcp(narrow.a.namespace, narrow.b.namespace, INNER6[1], MIB)
    assert narrow.a.drops().get("udp_send", 0) == refused


@pytest.mark.parametrize("back", [False, True])
def test_ipv6_packets_around_the_paths_size_cross_and_those_that_fit_in_one_piece(narrow: Pair, back: bool) -> None:
    sender, receiver, to = (narrow.b, narrow.a, INNER6[0]) if back else (narrow.a, narrow.b, INNER6[1])
    fits = sender.peer(receiver.name)["path_mtu"]
    for size in (fits - 17, fits - 1, fits, fits + 1, fits + 16, 1279, 1280):
        with sender.namespace.capture(narrow.link.far if back else narrow.link.near) as seen:
            assert ping(sender.namespace, to, 1, payload=bytes(size - 48)).lost == 0
        assert any(map(is_fragment, seen.frames)) == (size > fits), size


@pytest.mark.parametrize("back", [False, True])
def test_tcp_over_ipv6_crosses_a_path_of_1280_bytes(narrow: Pair, back: bool) -> None:
    sender, receiver, to = (narrow.b, narrow.a, INNER6[0]) if back else (narrow.a, narrow.b, INNER6[1])
    check_tcp(sender.namespace, receiver.namespace, to, MIB)


def test_the_handshakes_datagrams_are_short_enough_for_every_path(narrow: Pair) -> None:
    with narrow.a.namespace.capture(narrow.link.near) as seen:
        narrow.a.cli("peer", "reconnect", "beta")
        before = narrow.a.peer("beta")["session_id"]
        wait_for("a new session", lambda: narrow.a.peer("beta")["session_id"] != before or seen.count >= 7)
        connected(narrow.a, narrow.b)
    assert max(map(len, seen.frames)) <= 1294


def test_ends_with_different_defaults_use_the_smaller_and_tcp_fits_it_at_once() -> None:
    """Only alpha knows an IPv6 address of the other: 1412 there, 1432 here. Only a datagram has to be told."""
    with Lab() as lab:
        pair = make_pair(lab, outer=OUTER6)
        assert [node.status()["node"]["mtu"] for node in pair.nodes] == [1412, 1432]
        for near, far in (INNER4, INNER6):
            check_tcp(pair.a.namespace, pair.b.namespace, far, MIB)
            check_tcp(pair.b.namespace, pair.a.namespace, near, MIB)
        assert [node.peer(peer)["path_mtu"] for node, peer in ((pair.a, "beta"), (pair.b, "alpha"))] == [1412, 1412]
        assert unexpected(pair.nodes) == {}
        with pair.b.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
            asking.connect((INNER4[0], 9))
            asking.send(bytes(1432 - 28))
            wait_for("the kernel to learn it", lambda: asking.getsockopt(socket.IPPROTO_IP, IP_MTU) == 1412)
        assert unexpected(pair.nodes) == {"beta": {"too_big": 1}}


@pytest.fixture(scope="module")
def routed() -> Iterator[tuple[Pair, Namespace]]:
    """Two nodes with a router between that says nothing when a packet is too big."""
    with Lab() as lab:
        left, router, right = lab.namespace("alpha"), lab.router("router"), lab.namespace("beta")
        link = lab.link(left, router, ["10.0.1.2/24"], ["10.0.1.1/24"])
        other = lab.link(router, right, ["10.0.2.1/24"], ["10.0.2.2/24"])
        left.add_route("default", via="10.0.1.1")
        right.add_route("default", via="10.0.2.1")
        a = make_node(lab, left, "alpha", ["10.7.0.1/24", "fd07::1/64"], settings=QUICK)
        b = make_node(lab, right, "beta", ["10.7.0.2/24", "fd07::2/64"], settings=QUICK)
        introduce(a, b, None, "10.0.2.2")
        # a veth passes joined datagrams uncut; the router is to see each as it would be on a wire
        no_offloads(left, link.near)
        no_offloads(right, other.far)
        start(a, b)
        connected(a, b)
        yield Pair(a, b, link), router


@pytest.mark.needs("nft")
def test_congestion_marks_outside_are_carried_inside(routed: tuple[Pair, Namespace]) -> None:
    """RFC 6040: CE on the way appears inside on what can carry it; over a packet that cannot, it is a loss."""
    pair, router = routed
    forwarding(router, "udp dport 51820 ip ecn set ce")
    before = pair.b.drops().get("ecn_invalid", 0)
    try:
        with (
            pair.b.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
            pair.a.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
        ):
            far.bind((INNER4[1], 5600))
            far.settimeout(5)
            far.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            near.sendto(b"cannot", (INNER4[1], 5600))
            for ect in (1, 2):
                near.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x28 | ect)
                near.sendto(b"can", (INNER4[1], 5600))
                data, ancillary, _, _ = far.recvmsg(100, 64)
                assert data == b"can"
                assert ancillary[0][2][0] == 0x28 | 3
        wait_for("the loss to be counted", lambda: pair.b.drops().get("ecn_invalid", 0) == before + 1)
    finally:
        router.nft("delete table ip passing")


def test_the_outer_header_shows_ecn_but_no_class_and_forbids_fragments(routed: tuple[Pair, Namespace]) -> None:
    pair, _ = routed
    with (
        pair.a.namespace.capture(pair.link.near) as seen,
        pair.b.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
        pair.a.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
    ):
        far.bind((INNER4[1], 5601))
        far.settimeout(5)
        for tos in (0xB8, 0xB8 | 2):
            near.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
            near.sendto(bytes(1000), (INNER4[1], 5601))
            far.recv(2000)
    packets = outer_packets(seen.frames)
    assert {packet[1] for packet in packets if len(packet) > 1000} == {0, 2}
    for packet in packets:
        assert packet[1] & 0xFC == 0
        assert struct.unpack_from("!H", packet, 6)[0] == 0x4000


def test_the_segment_size_of_tcp_is_that_of_the_interface(routed: tuple[Pair, Namespace]) -> None:
    pair, _ = routed
    interface = pair.a.status()["node"]["interface"]
    with pair.a.namespace.capture(interface) as seen:
        check_tcp(pair.a.namespace, pair.b.namespace, INNER4[1], 1000)
        check_tcp(pair.a.namespace, pair.b.namespace, INNER6[1], 1000)
    syns = [f for f in seen.frames if (f[9] == 6 and f[33] & 2) or (f[0] >> 4 == 6 and f[6] == 6 and f[53] & 2)]
    sizes = {f[0] >> 4: struct.unpack_from("!H", f, (20 if f[0] >> 4 == 4 else 40) + 22)[0] for f in syns}
    assert sizes == {4: 1432 - 40, 6: 1432 - 60}


@pytest.mark.needs("nft")
def test_a_path_that_narrows_in_silence_is_found_and_the_transfer_goes_on(routed: tuple[Pair, Namespace]) -> None:
    pair, router = routed
    assert pair.a.peer("beta")["path_mtu"] == 1432
    narrowed = threading.Event()

    def parts(offset: int) -> bytes:
        if offset >= MIB and not narrowed.is_set():
            # what is longer than 1372 bytes vanishes in both directions, without any ICMP
            forwarding(router, "meta length > 1372 drop")
            narrowed.set()
        return file[offset : offset + 65536]

    file = content(3 * MIB, 9)
    try:
        done = transfer(pair.a.namespace, pair.b.namespace, INNER4[1], parts, len(file), timeout=15)
    finally:
        router.nft("delete table ip passing")
    assert done.digest == hashlib.sha256(file).hexdigest()
    assert narrowed.is_set()
    assert 1192 <= pair.a.peer("beta")["path_mtu"] <= 1372 - 68


def test_large_packets_cross_a_path_that_is_wide_enough() -> None:
    with Lab() as lab:
        pair = make_pair(lab, mtu=9000, settings={"node": {"mtu": 2040}})
        assert pair.a.peer("beta")["path_mtu"] == 2040
        with pair.a.namespace.capture(pair.link.near) as seen:
            for near, far in (INNER4, INNER6):
                check_tcp(pair.a.namespace, pair.b.namespace, far, MIB)
                check_tcp(pair.b.namespace, pair.a.namespace, near, MIB)
                check_udp(pair.a.namespace, pair.b.namespace, far, (1992, 2012, 6000))
                assert ping(pair.a.namespace, far, 2, payload=bytes(1980)).lost == 0
        # super-packets of 2040 bytes each fill outer packets of 2080 and UDP and IP headers
        assert any(len(packet) >= 2040 + 40 + 28 for packet in outer_packets(seen.frames))
        assert unexpected(pair.nodes) == {}
