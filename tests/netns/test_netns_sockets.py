"""A socket of the port that somebody shut down is opened anew, in its place, and the session goes on."""

import sys
from collections.abc import Iterator

import pytest
from flows import flow, told
from netparty import make_pair

from lab import Lab, wait_for
from lab.nodes import Node
from lab.traffic import ping

pytestmark = pytest.mark.netns

_SHUT_DOWN = """
import ctypes, os, socket, sys
pidfd, found = os.pidfd_open(int(sys.argv[1])), 0
for number in range(256):
    taken = ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, number, 0)  # pidfd_getfd
    if taken < 0:
        continue
    try:
        sock = socket.socket(fileno=taken)
    except OSError:
        os.close(taken)
        continue
    if sock.type == socket.SOCK_DGRAM and sock.family == socket.AF_INET6 and sock.getsockname()[1] == 51820:
        found += 1
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # not connected, says the kernel, and does it
            pass
print(found)
"""


def shut_down(node: Node, component: str) -> None:
    """What a debugger can do to a process: shut the socket down that it has of the node's port."""
    (pid,) = node.pids(component)
    assert node.namespace.run([sys.executable, "-c", _SHUT_DOWN, str(pid)]).stdout == "1\n"


def mended(node: Node) -> list[str]:
    acts = told(node, "health.acted", item="network.sockets", outcome="mended")
    return [line["fields"]["detail"] for line in acts]


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        yield make_pair(lab, settings={"health": {"interval": "300ms"}, "node": {"lanes": 2}}).nodes


@pytest.mark.parametrize("component", ["lane-0", "lane-1", "control"])
def test_it_is_opened_anew_and_the_connection_goes_on(pair: tuple[Node, Node], component: str) -> None:
    alpha, _ = pair
    session, before = alpha.peer("beta")["session_id"], len(mended(alpha))
    with flow(*pair) as there:
        shut_down(alpha, component)
        wait_for("it to be opened anew", lambda: len(mended(alpha)) > before, timeout=20.0)
        there.more()
    assert mended(alpha)[-1] == f"the socket of {component} was opened anew"
    assert alpha.peer("beta")["session_id"] == session
    assert not told(alpha, "process.ended", process=component), "it was replaced on purpose"


def test_handshakes_and_packets_reach_whom_they_are_for_afterwards(pair: tuple[Node, Node]) -> None:
    """Each fresh socket has the place of the one that was lost: the kernel steers by places."""
    alpha, beta = pair
    for node, other in (pair, pair[::-1]):
        session = node.peer(other.name)["session_id"]
        node.ask("reconnect", peer=other.name)
        wait_for("a new session", lambda: node.peer(other.name)["session_id"] not in (None, session))  # noqa: B023 - at once
    before = [node.drops() for node in pair]
    assert ping(alpha.namespace, "10.7.0.2", 50, interval=0.02).lost == 0
    assert ping(beta.namespace, "10.7.0.1", 50, interval=0.02).lost == 0
    assert [node.drops() for node in pair] == before
