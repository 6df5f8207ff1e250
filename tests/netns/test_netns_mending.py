"""What somebody takes from the interface comes back by itself, and the connection through it goes on."""

from collections.abc import Iterator

import pytest
from flows import flow, told
from netparty import make_pair

from lab import Lab, wait_for
from lab.nodes import Node
from lab.traffic import ping

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        made = make_pair(lab, settings={"health": {"interval": "500ms"}})
        yield made.nodes


def acted(node: Node, item: str) -> int:
    return len(told(node, "health.acted", item=item, outcome="mended"))


def answers(node: Node, address: str) -> bool:  # OSError while there is no route counts as "not yet"
    return ping(node.namespace, address, 1).lost == 0


def test_a_deleted_route_and_address_come_back(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    with flow(*pair) as there:
        alpha.namespace.delete_route("10.7.0.2/32", interface="pqvpn0")
        wait_for("the route to be put back", lambda: acted(alpha, "tun.addresses") == 1, timeout=15.0)
        there.more()
        alpha.namespace.delete_address("pqvpn0", "10.7.0.1/24")
        wait_for("the address to be put back", lambda: acted(alpha, "tun.addresses") == 2, timeout=15.0)
        there.more()


def test_an_interface_that_was_set_down_is_up_again(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    before = acted(alpha, "tun.interface")
    alpha.namespace.down("pqvpn0")
    wait_for("it to be up", lambda: acted(alpha, "tun.interface") > before, timeout=15.0)
    wait_for("an answer", lambda: answers(alpha, "10.7.0.2"), timeout=15.0)


def test_a_deleted_interface_is_made_anew_with_the_session_kept(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    before, session = acted(alpha, "tun.interface"), alpha.peer("beta")["session_id"]
    alpha.namespace.delete_link("pqvpn0")
    with pytest.raises(OSError, match="No route to host"):  # the guard: unreachable, not around the tunnel
        ping(alpha.namespace, "10.7.0.2", 1, timeout=0.5)
    wait_for("it to be made anew", lambda: acted(alpha, "tun.interface") > before, timeout=15.0)
    wait_for("an answer", lambda: answers(alpha, "10.7.0.2"), timeout=15.0)
    assert alpha.peer("beta")["session_id"] == session
    assert not told(alpha, "process.ended", process="lane-0")  # it was replaced on purpose
