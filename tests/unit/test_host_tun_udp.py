"""Opening the TUN and the UDP group: fallbacks, refusals, steering."""

import contextlib
import fcntl
import socket
import threading

import pytest

from pqvpn.errors import NetworkError, TunError
from pqvpn.host import tun as tun_module
from pqvpn.host import udp as udp_module
from pqvpn.host.tun import open_tun
from pqvpn.host.udp import open_group
from pqvpn.node.descriptors import once_free
from pqvpn.reasons import Reason


def receivers(group: udp_module.UdpGroup, datagram: bytes, host: str = "127.0.0.1") -> list[int]:
    """Numbers of the sockets that got a datagram."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(datagram, (host, group.port))
    found = []
    for number, sock in enumerate(group.sockets):
        with contextlib.suppress(BlockingIOError):
            assert sock.recv(100) == datagram
            found.append(number)
    return found


@pytest.mark.parametrize("ipv6", [True, False])
def test_datagrams_reach_the_socket_that_their_first_bytes_name(ipv6: bool) -> None:
    group = open_group(0, 3, ipv6=ipv6)
    try:
        for host in ("127.0.0.1", "::1") if group.ipv6 else ("127.0.0.1",):
            for datagram, socket_number in (
                (b"\1aaa", 0), (b"\3aaa", 0), (b"\2", 0), (b"", 0), (b"\4", 0), (b"\4\0x", 1), (b"\4\1x", 2),
                (b"\4\x12x", 3), (b"\4\3x", 1), (b"\4\x0fx", 1), (b"\xff\0", 0),
            ):  # fmt: skip
                assert receivers(group, datagram, host) == [socket_number], datagram
    finally:
        group.close()


def test_without_steering_there_is_one_socket() -> None:
    group = open_group(0, 4, steering=False)
    try:
        assert len(group.sockets) == 5
        assert len(set(map(id, group.sockets))) == 1
        assert group.gro
        assert not group.steering
    finally:
        group.close()


def test_a_taken_port_is_named_even_when_the_holder_shares() -> None:
    group = open_group(0, 1)
    try:
        with pytest.raises(NetworkError) as caught:
            open_group(group.port, 1)
        assert caught.value.reason is Reason.ADDRESS_IN_USE
    finally:
        group.close()


def test_a_kernel_without_ipv6_or_abilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_module, "_has_ipv6", lambda: False)
    monkeypatch.setattr(udp_module, "UDP_SEGMENT", 9999)
    monkeypatch.setattr(udp_module, "UDP_GRO", 9999)
    monkeypatch.setattr(udp_module, "_SO_ATTACH_REUSEPORT_CBPF", 9999)
    monkeypatch.setattr(udp_module, "_SO_RCVBUFFORCE", 9999)
    group = open_group(0, 2)
    try:
        assert (group.ipv6, group.gso, group.gro, group.steering) == (False, False, False, False)
        assert group.sockets[0].family == socket.AF_INET
    finally:
        group.close()


def test_a_missing_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun_module, "DEVICE", "/nonexistent/tun")
    with pytest.raises(TunError) as caught:
        open_tun("pqtuntest")
    assert caught.value.reason is Reason.NO_TUN


@pytest.mark.parametrize("name", ["", "a" * 16, "pq%d", "a/b"])
def test_names_that_no_interface_has(name: str) -> None:
    with pytest.raises(TunError):
        open_tun(name)


@pytest.mark.netns
def test_an_interface_that_is_about_to_go_is_waited_for() -> None:
    """As after the death of a node whose processes have not closed everything yet."""
    first = open_tun("pqtuntest")
    assert not tun_module.stays("pqtuntest")
    with pytest.raises(TunError) as caught:
        once_free(lambda: open_tun("pqtuntest"), lambda: tun_module.stays("pqtuntest"), 0.1)
    assert caught.value.reason is Reason.INTERFACE_EXISTS
    seen = threading.Event()

    def open_again() -> tun_module.Tun:
        seen.set()
        return open_tun("pqtuntest")

    def go() -> None:
        seen.wait()
        first.close()

    threading.Thread(target=go).start()
    second = once_free(open_again, lambda: tun_module.stays("pqtuntest"), 60.0)
    second.close()


@pytest.mark.netns
def test_an_interface_that_stays_is_not_waited_for() -> None:
    made = open_tun("pqtuntest")
    try:
        fcntl.ioctl(made.queues[0], 0x400454CB, 1)  # TUNSETPERSIST
        assert tun_module.stays("pqtuntest")
        assert tun_module.stays("lo")
        assert not tun_module.stays("pqnobody")
        asked = []
        for name in ("pqtuntest", "lo"):
            with pytest.raises(TunError):
                once_free(lambda: asked.append(name) or open_tun(name), lambda: tun_module.stays(name), 600.0)  # noqa: B023
        assert asked == ["pqtuntest", "lo"]
    finally:
        fcntl.ioctl(made.queues[0], 0x400454CB, 0)
        made.close()


def test_a_port_that_is_about_to_be_free_is_waited_for() -> None:
    group = open_group(0, 1)
    tries = []

    def again() -> udp_module.UdpGroup:
        tries.append(1)
        if len(tries) == 3:
            group.close()
        return open_group(group.port, 1)

    once_free(again, patience=60.0).close()
    assert len(tries) == 3


@pytest.mark.netns
def test_an_existing_interface_is_left_alone() -> None:
    first = open_tun("pqtuntest", 2)
    try:
        assert len(first.queues) == 2
        for name in ("pqtuntest", "lo"):
            with pytest.raises(TunError) as caught:
                open_tun(name, 2)
            assert caught.value.reason is Reason.INTERFACE_EXISTS
    finally:
        first.close()


@pytest.mark.netns
def test_offloads_fall_back_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({"uso": False}, {"tso": False}, {"vnet": False}):
        found = open_tun("pqtuntest", **options)
        found.close()
        assert not any(getattr(found, name) for name in options)
    monkeypatch.setattr(tun_module, "_USO", 1 << 20)
    found = open_tun("pqtuntest")
    found.close()
    assert (found.vnet, found.tso, found.uso) == (True, True, False)


def shut_down(sock: socket.socket) -> None:
    with pytest.raises(OSError, match="not connected"):  # says the kernel, and does it
        sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(BrokenPipeError):
        sock.sendto(b"x", ("::ffff:127.0.0.1" if sock.family == socket.AF_INET6 else "127.0.0.1", 9))


@pytest.mark.parametrize("number", range(4))
def test_a_socket_that_was_shut_down_is_seen_and_replaced_in_its_place(number: int) -> None:
    group = open_group(0, 3)
    try:
        assert udp_module.lost(group) == ()
        old = group.sockets[number]
        shut_down(old)
        assert udp_module.lost(group) == (number,)
        group = udp_module.reopen(group, number)
        assert udp_module.lost(group) == ()
        assert receivers(group, b"\1") != [number], "the lost one is still where it was"
        old.close()
        named = {0: b"\1", 1: b"\4\0", 2: b"\4\1", 3: b"\4\2"}
        for wanted, datagram in named.items():
            assert receivers(group, datagram) == [wanted]
    finally:
        group.close()


def test_where_one_socket_serves_all_it_is_replaced_for_all() -> None:
    group = open_group(0, 3, steering=False)
    try:
        old = group.sockets[0]
        shut_down(old)
        assert udp_module.lost(group) == (0,)
        group = udp_module.reopen(group, 0)
        old.close()
        assert len(set(map(id, group.sockets))) == 1
        assert receivers(group, b"\1")[0] == 0
    finally:
        group.close()


def test_a_socket_that_was_closed_is_lost() -> None:
    group = open_group(0, 1)
    try:
        group.sockets[1].close()
        assert udp_module.lost(group) == (1,)
    finally:
        group.close()
