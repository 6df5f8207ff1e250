"""Single datagrams over loopback: our address that got one is reported, the source of ours is chosen, for both families."""

import select
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from pqvpn.host import datagrams, udp
from pqvpn.wire.address import Address

ONE, OTHER = bytes((127, 0, 0, 1)), bytes((127, 0, 0, 7))
SIX = bytes(15) + b"\1"


@pytest.fixture(params=[True, False], ids=["dual-stack", "ipv4-only"])
def node(request: pytest.FixtureRequest) -> Iterator[udp.UdpGroup]:
    group = udp.open_group(0, 1, ipv6=request.param)
    yield group
    group.close()


def friend(family: int, host: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.settimeout(5)
    return sock


def wait_for(sock: socket.socket) -> tuple[bytes, Address, bytes | None]:
    assert select.select([sock], [], [], 5)[0]
    received = datagrams.receive(sock)
    assert received is not None
    return received


HANDSHAKE = b"\x01" + bytes(20)  # the group gives type 1 to control's socket


@pytest.mark.parametrize("ours", [ONE, OTHER], ids=["first", "other"])
def test_ipv4_reports_the_address_that_was_called(node: udp.UdpGroup, ours: bytes) -> None:
    with friend(socket.AF_INET, "127.0.0.3") as caller:
        caller.sendto(HANDSHAKE, (socket.inet_ntoa(ours), node.port))
        data, source, local = wait_for(node.sockets[0])
    assert data == HANDSHAKE
    assert source.ip == bytes((127, 0, 0, 3))
    assert local == ours


@pytest.mark.parametrize("ours", [ONE, OTHER], ids=["first", "other"])
def test_ipv4_answers_from_the_address_chosen(node: udp.UdpGroup, ours: bytes) -> None:
    with friend(socket.AF_INET, "127.0.0.3") as caller:
        datagrams.send(node.sockets[0], b"answer", Address.of(bytes((127, 0, 0, 3)), caller.getsockname()[1]), ours)
        data, source = caller.recvfrom(100)
    assert (data, source) == (b"answer", (socket.inet_ntoa(ours), node.port))


def test_without_a_source_the_kernel_chooses(node: udp.UdpGroup) -> None:
    with friend(socket.AF_INET, "127.0.0.1") as caller:
        datagrams.send(node.sockets[0], b"x", Address.of(ONE, caller.getsockname()[1]), None)
        assert caller.recvfrom(100) == (b"x", ("127.0.0.1", node.port))


def test_ipv6_both_ways() -> None:
    node = udp.open_group(0, 1)
    assert node.ipv6
    with closing(node), friend(socket.AF_INET6, "::1") as caller:
        caller.sendto(HANDSHAKE, ("::1", node.port))
        data, source, local = wait_for(node.sockets[0])
        assert (data, source, local) == (HANDSHAKE, Address.of(SIX, caller.getsockname()[1]), SIX)
        datagrams.send(node.sockets[0], b"answer", source, local)
        data, back = caller.recvfrom(100)
        assert (data, back[:2]) == (b"answer", ("::1", node.port))


def test_nothing_waits(node: udp.UdpGroup) -> None:
    assert datagrams.receive(node.sockets[0]) is None


def test_a_datagram_that_is_too_long_is_cut(node: udp.UdpGroup) -> None:
    with friend(socket.AF_INET, "127.0.0.1") as caller:
        caller.sendto(b"\x01" * 9000, ("127.0.0.1", node.port))
        data, _, _ = wait_for(node.sockets[0])
    assert len(data) == 2048


def test_a_source_that_is_not_ours_is_refused_by_the_kernel(node: udp.UdpGroup) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - EINVAL or EADDRNOTAVAIL, as the kernel likes
        datagrams.send(node.sockets[0], b"x", Address.of(ONE, 9), bytes((192, 0, 2, 77)))


def test_an_ipv6_source_that_is_not_ours_is_refused_by_the_kernel() -> None:
    foreign = bytes((0x20, 1, 0x0D, 0xB8)) + bytes(11) + b"\7"
    with closing(udp.open_group(0, 1)) as node, pytest.raises(OSError):  # noqa: PT011
        datagrams.send(node.sockets[0], b"x", Address.of(SIX, 9), foreign)


def test_an_icmp_error_does_not_hide_the_next_datagram() -> None:
    """A connected socket gets "connection refused" for what it sent; the reader goes on to the datagram behind it."""
    with friend(socket.AF_INET, "127.0.0.1") as gone:
        dead = gone.getsockname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(dead)
        sock.send(b"to nobody")
        assert datagrams.receive(sock) is None
        with friend(socket.AF_INET, "127.0.0.1") as caller:
            sock.connect(caller.getsockname())
            caller.sendto(b"next", sock.getsockname())
            assert wait_for(sock)[0] == b"next"
