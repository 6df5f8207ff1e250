"""Everything that two hosts may say to each other goes through the tunnel, unharmed and without a drop."""

import socket
from collections.abc import Iterator

import pytest
from netparty import (
    INNER4,
    INNER6,
    OUTER4,
    OUTER6,
    Pair,
    check_tcp,
    check_udp,
    check_udp_joined,
    content,
    family_of,
    make_pair,
    unexpected,
)

from lab import Lab, wait_for
from lab.nodes import Node
from lab.traffic import ping

pytestmark = pytest.mark.netns

INNER = pytest.mark.parametrize("inner", [INNER4, INNER6], ids=["v4", "v6"])
LARGE = (1433, 2800, 9000, 30000, 65000)  # fragmented by the inner host


@pytest.fixture(scope="module", params=[OUTER4, OUTER6], ids=["over-v4", "over-v6"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with Lab() as lab:
        made = make_pair(lab, outer=request.param, settings={"node": {"mtu": 1412}})
        yield made
        assert unexpected(made.nodes) == {}
        for node in made.nodes:
            assert node.down() < 3


@INNER
def test_pings_of_all_sizes_come_back(pair: Pair, inner: tuple[str, str]) -> None:
    for size in (0, 1, 56, 1200, 1364, 3000):
        for node, to in zip(pair.nodes, inner[::-1], strict=True):
            assert ping(node.namespace, to, 2, payload=bytes(size)).lost == 0


@INNER
def test_files_cross_both_ways(pair: Pair, inner: tuple[str, str]) -> None:
    a, b = (node.namespace for node in pair.nodes)
    check_tcp(a, b, inner[1])
    check_tcp(b, a, inner[0])


@INNER
def test_datagrams_of_all_sizes_arrive_from_nothing_to_fragments(pair: Pair, inner: tuple[str, str]) -> None:
    fits = pair.a.status()["node"]["mtu"] - (28 if inner is INNER4 else 48)
    sizes = [*range(40), 511, 512, fits - 17, fits - 16, fits - 1, fits, fits + 1, *LARGE]
    check_udp(pair.a.namespace, pair.b.namespace, inner[1], sizes)


@INNER
@pytest.mark.parametrize(("segment", "count"), [(2, 64), (100, 64), (1200, 50), (1384, 2), (1357, 47)])
def test_joined_datagrams_arrive_one_by_one(pair: Pair, inner: tuple[str, str], segment: int, count: int) -> None:
    if inner is INNER6:
        segment = min(segment, pair.a.status()["node"]["mtu"] - 48)
    check_udp_joined(pair.a.namespace, pair.b.namespace, inner[1], segment, count)


@INNER
def test_a_burst_of_mixed_sizes_arrives_complete(pair: Pair, inner: tuple[str, str]) -> None:
    datagrams = [content(i * 37 % 1300, i) for i in range(200)]
    with (
        pair.b.namespace.socket(family_of(inner[1]), socket.SOCK_DGRAM) as far,
        pair.a.namespace.socket(family_of(inner[1]), socket.SOCK_DGRAM) as near,
    ):
        far.bind((inner[1], 5003))
        far.settimeout(5)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for datagram in datagrams:
            near.sendto(datagram, (inner[1], 5003))
        assert sorted(far.recv(2000) for _ in datagrams) == sorted(datagrams)


def test_status_counts_what_crossed(pair: Pair) -> None:
    fields = ("tx_packets", "rx_packets", "tx_bytes", "rx_bytes")

    def counters(node: Node, peer: str) -> list[int]:
        status = node.peer(peer)
        return [status[field] for field in fields]

    for node, peer in ((pair.a, "beta"), (pair.b, "alpha")):
        before = counters(node, peer)
        check_udp(pair.a.namespace, pair.b.namespace, INNER4[1], [1000] * 5)
        expected = [was + more for was, more in zip(before, (5, 5, 5 * 1028, 5 * 1028), strict=True)]
        # a packet is counted after it was passed on
        wait_for(f"the counters to reach {expected}", lambda: counters(node, peer) == expected)  # noqa: B023 - called here
    after = pair.a.peer("beta"), pair.b.peer("alpha")
    for later in after:
        assert later["post_quantum"]
        assert later["security"] == "full"
        assert later["last_received_seconds"] < 5
    assert after[0]["session_id"] == after[1]["session_id"]
    assert {peer["role"] for peer in after} == {"initiator", "responder"}
