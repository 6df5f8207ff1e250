"""One side's address changes while TCP connections run through the tunnel: the session follows, after a path challenge.

alpha --veth0-- beta      outside 10.0.0.0/24 and fd00:0:0:1::/64, inside 10.7.0.0/24
"""

from collections.abc import Iterator

import pytest
from flows import flow, in_parallel, wait_told
from netparty import bring_up, connected, make_nodes

from lab import Lab, wait_for
from lab.nodes import Node
from lab.traffic import ping

pytestmark = pytest.mark.netns

_TIMERS = {"m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": "1s", "path_validation": "1s"}
_SETTINGS = {"timers": _TIMERS, "redact": {"addresses": "keep"}}  # logs are compared with real addresses


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def pair(lab: Lab) -> tuple[Node, Node]:
    """Over IPv4; only alpha is told where the other is."""
    a, b = lab.namespace("a"), lab.namespace("b")
    lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"], names=("veth0", "veth0"))
    nodes = make_nodes(lab, a, b, None, "10.0.0.2", _SETTINGS)
    bring_up(*nodes)
    return nodes


@pytest.fixture(scope="module")
def pair_v6(lab: Lab) -> tuple[Node, Node]:
    """Over IPv6, to the inside as well; each knows where the other is."""
    a, b = lab.namespace("c"), lab.namespace("d")
    lab.link(a, b, ["fd00:0:0:1::1/64"], ["fd00:0:0:1::2/64"], names=("veth0", "veth0"))
    for namespace in (a, b):
        namespace.sysctl("net/ipv6/conf/veth0/accept_dad", 0)  # a new address serves at once
    inner = (["fd77::1/64"], ["fd77::2/64"])
    nodes = make_nodes(lab, a, b, "fd00:0:0:1::1", "fd00:0:0:1::2", _SETTINGS, inner=inner, names=("gamma", "delta"))
    bring_up(*nodes)
    return nodes


def _move(node: Node, old: str, new: str) -> None:
    """The host loses its address and gets another one, as with a new lease."""
    node.namespace.delete_address("veth0", old)
    node.namespace.add_address("veth0", new)


def _roams(moving: Node, staying: Node, old: str, new: str, host: str) -> None:
    """`moving` changes from address `old` to `new`, as `staying` sees it: host and port `host`."""
    connected(moving, staying)
    session = staying.peer(moving.name)["session_id"]
    with flow(moving, staying) as there, flow(staying, moving) as back:
        _move(moving, old, new)
        wait_told(staying, "path.roamed", session_id=session, endpoint=host, validated=True)
        there.more()
        back.more()
        assert staying.peer(moving.name)["endpoint"] == host
        assert moving.peer(staying.name)["session_id"] == staying.peer(moving.name)["session_id"] == session


def test_initiator_moves(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    assert alpha.peer("beta")["role"] == "initiator"
    _roams(alpha, beta, "10.0.0.1/24", "10.0.0.11/24", "10.0.0.11:51820")


def test_responder_moves(pair: tuple[Node, Node]) -> None:
    """Its session was bound to the address that it lost."""
    alpha, beta = pair
    assert beta.peer("alpha")["role"] == "responder"
    _roams(beta, alpha, "10.0.0.2/24", "10.0.0.12/24", "10.0.0.12:51820")


def test_new_handshake_goes_where_the_peer_is_now(pair: tuple[Node, Node]) -> None:
    """beta was never told an address of alpha, and alpha was told one that beta has left."""
    alpha, beta = pair
    for one, other in ((beta, alpha), (alpha, beta)):
        old = one.peer(other.name)["session_id"]
        one.ask("reconnect", peer=other.name)
        wait_for("a new session", lambda: one.peer(other.name)["session_id"] not in (old, None))  # noqa: B023
        connected(alpha, beta)
        assert one.peer(other.name)["role"] == "initiator"


def test_both_move_one_after_the_other(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    _roams(alpha, beta, "10.0.0.11/24", "10.0.0.21/24", "10.0.0.21:51820")
    _roams(beta, alpha, "10.0.0.12/24", "10.0.0.22/24", "10.0.0.22:51820")
    _roams(alpha, beta, "10.0.0.21/24", "10.0.0.1/24", "10.0.0.1:51820")


def test_either_side_moves_over_ipv6(pair_v6: tuple[Node, Node]) -> None:
    gamma, delta = pair_v6
    _roams(gamma, delta, "fd00:0:0:1::1/64", "fd00:0:0:1::11/64", "[fd00:0:0:1::11]:51820")
    _roams(delta, gamma, "fd00:0:0:1::2/64", "fd00:0:0:1::12/64", "[fd00:0:0:1::12]:51820")


def test_both_move_at_once(pair_v6: tuple[Node, Node]) -> None:
    """Neither can tell the other; each still knocks at what was configured, so that one return is enough."""
    gamma, delta = pair_v6
    connected(gamma, delta)
    in_parallel(
        lambda: _move(gamma, "fd00:0:0:1::11/64", "fd00:0:0:1::21/64"),
        lambda: _move(delta, "fd00:0:0:1::12/64", "fd00:0:0:1::2/64"),
    )
    gamma.ask("reconnect", peer="delta")
    wait_for("delta to follow", lambda: delta.peer("gamma")["endpoint"] == "[fd00:0:0:1::21]:51820")
    assert ping(gamma.namespace, "fd77::2", 3).lost <= 1
