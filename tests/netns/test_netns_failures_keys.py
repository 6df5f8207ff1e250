"""The peer is gone and the keys expire: packets are refused inside, nothing leaves, and it mends itself when the peer is back.

alpha --veth0-- beta      alpha's default route leads to beta outside as well: what is not in the tunnel would leave
"""

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from flows import flow, payloads, told, wait_replaced, wait_told
from netparty import bring_up, connected, make_nodes

from lab import Lab, wait_for
from lab.nodes import Node
from lab.traffic import ping

pytestmark = pytest.mark.netns

_TIMERS = {
    "m1_schedule": ["0s", "0.2s", "0.4s"],
    "m1_fresh_after": "0.6s",
    "m1_fresh_jitter": "0.1s",
    "attempt_gives_up": "3s",
    "rekey_after": "1.2s",
    "rekey_initiator_after": "1.6s",
    "rekey_jitter": "0.1s",
    "reject_after": "2.5s",
    "replaced_receives": "1s",
    "keepalive": "0.5s",
    "dead": "1s",
}
_MARKER = b"must-not-be-seen-outside"
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_ADMIN_PROHIBITED = {socket.AF_INET: (2, 3, 13), socket.AF_INET6: (3, 1, 1)}  # origin ICMP, type, code


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.link(a, b, ["10.0.0.1/24", "fd00:0:0:1::1/64"], ["10.0.0.2/24", "fd00:0:0:1::2/64"])
        a.add_route("default", via="10.0.0.2")
        a.add_route("::/0", via="fd00:0:0:1::2")
        inner = (["10.7.0.1/24", "fd77::1/64"], ["10.7.0.2/24", "fd77::2/64"])
        nodes = make_nodes(lab, a, b, "10.0.0.1", "10.0.0.2", {"timers": _TIMERS}, inner=inner)
        bring_up(*nodes)
        yield nodes


def _refusal(node: Node, address: str) -> tuple[int, int, int]:
    """Send datagrams until the kernel hears an ICMP error about one: its origin, type and code."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    level, option = (
        (socket.IPPROTO_IPV6, _IPV6_RECVERR) if family == socket.AF_INET6 else (socket.IPPROTO_IP, _IP_RECVERR)
    )
    with node.namespace.socket(family, socket.SOCK_DGRAM) as out:
        out.setsockopt(level, option, 1)
        out.connect((address, 9))
        out.settimeout(0.2)

        def probe() -> tuple[int, int, int] | None:
            try:
                out.send(_MARKER)
                out.recv(1)
            except OSError:  # the error itself is in the queue, with more to it
                pass
            _, ancillary, _, _ = out.recvmsg(2048, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            for its_level, kind, data in ancillary:
                if (its_level, kind) == (level, option):
                    _, origin, its_type, code = struct.unpack_from("=IBBB", data)
                    return origin, its_type, code
            return None

        return wait_for(f"an ICMP error about {address}", probe, timeout=5.0)


def test_keys_expire_and_the_peer_returns(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    connected(alpha, beta)
    with alpha.namespace.capture("veth0", watch=[_MARKER], limit=1 << 30) as outside:
        beta.kill("supervisor")  # without a goodbye
        assert beta.process is not None
        beta.process.wait(5.0)
        with _knocking(alpha):
            wait_told(alpha, "session.ended", why="expired")
        for family, address in ((socket.AF_INET, "10.7.0.2"), (socket.AF_INET6, "fd77::2")):
            assert _refusal(alpha, address) == _ADMIN_PROHIBITED[family]
        wait_replaced(alpha, "lane-0", alpha.kill("lane-0"))
        assert _refusal(alpha, "10.7.0.2") == _ADMIN_PROHIBITED[socket.AF_INET], "also by a lane that has just begun"
        peer = alpha.peer("beta")
        assert peer["state"] != "up"
        assert peer["reason"] is not None
        beta.up(30.0)
        # within one attempt's interval of M1s, and with the time that a busy machine takes
        wait_for("the way to be open again", lambda: ping(alpha.namespace, "10.7.0.2", 1, timeout=0.2).lost == 0, 5.0)
        assert ping(alpha.namespace, "fd77::2", 2).lost == 0
    assert outside.dropped == 0
    assert outside.hits[_MARKER] == 0
    connected(alpha, beta)


def test_link_is_cut_during_a_transfer(pair: tuple[Node, Node]) -> None:
    """Longer than the keys live: both ends are black holes meanwhile, and the connection goes on afterwards."""
    alpha, beta = pair
    connected(alpha, beta)
    before = len(told(alpha, "session.ended", why="expired"))
    with flow(alpha, beta, patience=30.0) as there:
        alpha.namespace.down("veth0")
        wait_told(alpha, "session.ended", before + 1, why="expired")
        alpha.namespace.up("veth0")
        alpha.namespace.add_route("default", via="10.0.0.2")
        there.more()
    connected(alpha, beta)


def test_silence_is_not_a_reason_to_handshake(pair: tuple[Node, Node]) -> None:
    """Without traffic keys expire quietly, nothing is sent about it, and nothing is refused later."""
    alpha, beta = pair
    connected(alpha, beta)
    wait_for(
        "no session", lambda: alpha.peer("beta")["session_id"] is None and beta.peer("alpha")["session_id"] is None
    )
    with alpha.namespace.capture("veth0") as outside:
        threading.Event().wait(1.5)  # more than one interval of M1s
    assert not list(payloads(outside.frames))
    # the first ones wait for the handshake that they ask for; one that overtakes its M3 is lost at the responder
    assert ping(alpha.namespace, "10.7.0.2", 3, timeout=1.0).lost <= 1


class _knocking:  # noqa: N801 - read as a verb
    """Keeps sending to the peer, so that its session is wanted."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with self._node.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not self._stop.wait(0.05):
                out.sendto(_MARKER, ("10.7.0.2", 9))
