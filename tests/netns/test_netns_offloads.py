"""Without an offload the tunnel is slower, not wrong: each switched off at one end, all at both, and any number of lanes."""

from collections.abc import Iterator

import pytest
from netparty import (
    INNER4,
    INNER6,
    Pair,
    check_tcp,
    check_udp,
    check_udp_joined,
    connected,
    make_pair,
    start,
    unexpected,
)

from lab import Lab

pytestmark = pytest.mark.netns

SWITCHES = ("tun_tso", "tun_uso", "udp_gso", "udp_gro", "steering")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Lab() as lab:
        yield make_pair(lab, start_them=False)


def restart(pair: Pair, off: tuple[str, ...], off_too: tuple[str, ...], lanes: int, lanes_too: int) -> None:
    """Run both nodes with these offloads off and so many lanes, alpha's first."""
    for node, switched, number in zip(pair.nodes, (off, off_too), (lanes, lanes_too), strict=True):
        node.down()
        node.set(
            {
                "offload": {name: "off" if name in switched else "auto" for name in SWITCHES},
                "node": {"lanes": number},
            }
        )
    start(*pair.nodes)
    connected(*pair.nodes)


def check_all(pair: Pair) -> None:
    """TCP and UDP both ways, IPv4 and IPv6, and joined datagrams, without a drop, also between lanes."""
    a, b = (node.namespace for node in pair.nodes)
    for near, far in (INNER4, INNER6):
        check_tcp(a, b, far, 1 << 20)
        check_tcp(b, a, near, 1 << 20)
        check_udp(a, b, far, (0, 1, 100, 1300, 5000))
        check_udp_joined(a, b, far, 700, 20)
        check_udp_joined(b, a, near, 701, 20)
    assert unexpected(pair.nodes) == {}


@pytest.mark.parametrize("switch", SWITCHES)
def test_one_side_does_without_one_offload(pair: Pair, switch: str) -> None:
    """One lane for most; steering needs several to matter."""
    lanes = 2 if switch == "steering" else 1
    restart(pair, (switch,), (), lanes, lanes)
    one, other = (node.status()["node"]["offloads"] for node in pair.nodes)
    assert one == {name: name != switch for name in SWITCHES}
    assert all(other.values())
    check_all(pair)


def test_both_sides_do_without_any(pair: Pair) -> None:
    restart(pair, SWITCHES, SWITCHES, 2, 2)
    assert [node.status()["node"]["offloads"] for node in pair.nodes] == [dict.fromkeys(SWITCHES, False)] * 2
    check_all(pair)


def test_one_side_without_any_meets_one_with_all(pair: Pair) -> None:
    restart(pair, (), SWITCHES, 1, 1)
    check_all(pair)


@pytest.mark.parametrize(("lanes", "lanes_too"), [(2, 2), (4, 4), (4, 1), (1, 3)])
def test_any_numbers_of_lanes_meet(pair: Pair, lanes: int, lanes_too: int) -> None:
    restart(pair, (), (), lanes, lanes_too)
    assert [node.status()["node"]["lanes"] for node in pair.nodes] == [lanes, lanes_too]
    assert [node.peer(peer)["lanes"] for node, peer in ((pair.a, "beta"), (pair.b, "alpha"))] == [
        min(lanes, lanes_too)
    ] * 2
    assert len(pair.a.pids("lane-")) == lanes
    for _ in range(2):  # other flows, other queues
        check_all(pair)
