"""Nodes and traffic for the kernel tests: pairs of nodes at the ends of one link, and transfers that prove what arrived.

Owns the addresses that these tests use. Knows the VPN only by its command line and status.
"""

import concurrent.futures
import hashlib
import itertools
import random
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab import Lab, Link, Namespace, wait_for
from lab.nodes import Node, Settings, introduce, make_node
from lab.traffic import transfer

OUTER4 = ("10.0.0.1", "10.0.0.2")
OUTER6 = ("fd00::1", "fd00::2")
INNER4 = ("10.7.0.1", "10.7.0.2")
INNER6 = ("fd07::1", "fd07::2")
MIB = 1 << 20

_ports = itertools.count(5000)  # one never used before: what an earlier connection left cannot matter
_ETHTOOL = """
import fcntl, socket, struct, sys, ctypes
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    for command in (0x17, 0x1F, 0x24):  # transmit checksums, TSO, GSO
        value = ctypes.create_string_buffer(struct.pack("II", command, 0))
        fcntl.ioctl(any_socket, 0x8946, struct.pack("16sP16x", sys.argv[1].encode(), ctypes.addressof(value)))
"""


@dataclass(frozen=True)
class Pair:
    """Two nodes and the link between them."""

    a: Node
    b: Node
    link: Link

    @property
    def nodes(self) -> tuple[Node, Node]:
        return self.a, self.b


def make_pair(
    lab: Lab,
    *,
    settings: Settings | None = None,
    outer: tuple[str, str] = OUTER4,
    mtu: int = 1500,
    start_them: bool = True,
    **options: str,
) -> Pair:
    """Two nodes, `alpha` and `beta`, at the ends of one link, that run and have shaken hands.

    Only alpha knows the other's endpoint, `outer[1]`: both calling at once would end one of two sessions under packets.
    """
    ends = lab.namespace("alpha"), lab.namespace("beta")
    outers = [[f"{OUTER4[i]}/24", f"{OUTER6[i]}/64"] for i in (0, 1)]
    link = lab.link(*ends, *outers, mtu=mtu)
    inner = [[f"{INNER4[i]}/24", f"{INNER6[i]}/64"] for i in (0, 1)]
    a, b = make_nodes(lab, *ends, None, outer[1], settings, inner=(inner[0], inner[1]), **options)
    if start_them:
        bring_up(a, b)
    return Pair(a, b, link)


def make_nodes(
    lab: Lab,
    a: Namespace,
    b: Namespace,
    a_host: str | None,
    b_host: str | None,
    settings: Settings | None = None,
    *,
    inner: tuple[Sequence[str], Sequence[str]] = (("10.7.0.1/24",), ("10.7.0.2/24",)),
    names: tuple[str, str] = ("alpha", "beta"),
    **options: str,
) -> tuple[Node, Node]:
    """Two nodes that know each other, not started."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        made = [
            pool.submit(make_node, lab, namespace, name, addresses, settings=settings)
            for namespace, name, addresses in zip((a, b), names, inner, strict=True)
        ]
        alpha, beta = (each.result() for each in made)
    introduce(alpha, beta, a_host, b_host, **options)
    return alpha, beta


def start(*nodes: Node) -> None:
    """Start nodes side by side and wait until all run."""
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_running(30)


def bring_up(*nodes: Node) -> None:
    """Start nodes at the same time, and wait until they run and reach each other."""
    start(*nodes)
    connected(*nodes)


def connected(*nodes: Node) -> None:
    """Wait until every two nodes that are peers have the same session in use."""

    def agree(one: Node, other: Node) -> bool:
        here, there = (e["session_id"] for e in (one.peer(other.name), other.peer(one.name)))
        return here is not None and here == there

    for i, one in enumerate(nodes):
        for other in nodes[i + 1 :]:
            one.wait_for_peer(other.name)
            other.wait_for_peer(one.name)
            wait_for(f"{one.name} and {other.name} to agree", lambda: agree(one, other))  # noqa: B023 - called at once


def content(size: int, seed: int = 0) -> bytes:
    """Bytes without pattern, the same for the same arguments."""
    return random.Random(seed).randbytes(size)


def check_tcp(sender: Namespace, receiver: Namespace, address: str, size: int = 2 * MIB) -> None:
    """A file over TCP to `address` of `receiver` arrives as it was sent."""
    port = next(_ports)
    file = content(size, port)
    done = transfer(sender, receiver, address, lambda at: file[at : at + 262144], size, port=port, timeout=20)
    assert done.digest == hashlib.sha256(file).hexdigest()


def check_udp(sender: Namespace, receiver: Namespace, address: str, sizes: Iterable[int]) -> None:
    """Datagrams of `sizes` arrive whole, in order, and an answer of the same size comes back."""
    port = next(_ports)
    family = family_of(address)
    with receiver.socket(family, socket.SOCK_DGRAM) as far, sender.socket(family, socket.SOCK_DGRAM) as near:
        far.bind((address, port))
        for each in (far, near):
            each.settimeout(5)
        for size in sizes:
            near.sendto(content(size, size), (address, port))
            received, origin = far.recvfrom(65536)
            assert received == content(size, size), f"{size} bytes there"
            far.sendto(content(size, ~size), origin)
            assert near.recv(65536) == content(size, ~size), f"{size} bytes back"


def check_udp_joined(sender: Namespace, receiver: Namespace, address: str, segment: int, count: int) -> None:
    """One send of `count` segments (UDP_SEGMENT), the last a byte short, arrives as that many datagrams."""
    family, file = family_of(address), content(segment * count - 1, segment)
    with receiver.socket(family, socket.SOCK_DGRAM) as far, sender.socket(family, socket.SOCK_DGRAM) as near:
        far.bind((address, port := next(_ports)))
        far.settimeout(5)
        near.setsockopt(socket.SOL_UDP, 103, segment)
        near.connect((address, port))
        near.send(file)
        got = [far.recv(65536) for _ in range(count)]
    assert got == [file[at : at + segment] for at in range(0, len(file), segment)]


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def no_offloads(namespace: Namespace, interface: str) -> None:
    """Make an interface finish checksums and cut super-packets by itself: wrong partial checksums become visible."""
    namespace.run([sys.executable, "-c", _ETHTOOL, interface])


def unexpected(nodes: Sequence[Node], *expected: str) -> dict[str, dict[str, int]]:
    """What the nodes dropped for other reasons than `expected`."""
    seen = {node.name: {k: v for k, v in node.drops().items() if k not in expected} for node in nodes}
    return {name: drops for name, drops in seen.items() if drops}
