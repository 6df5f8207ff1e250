"""The raw sockets for ICMP: none without the kernel's leave, and a filter that lets only our own errors in."""

import os
import socket
import struct

import pytest
from icmp_packets import UDP, icmp4, icmp6, quoted4

from pqvpn.host import icmp
from pqvpn.host.icmp import blocked4, blocked6, open_sockets, program4, program6
from pqvpn.wire.icmp import TYPES4, TYPES6

OURS = 51820


def run(program: bytes, packet: bytes) -> int:
    """What classic BPF makes of a packet: the bytes kept, 0 for none. Reading past its end keeps none."""
    steps = list(struct.iter_unpack("=HBBI", program))
    a = x = at = 0

    def load(place: int, size: int) -> int:
        if place + size > len(packet):
            raise IndexError
        return int.from_bytes(packet[place : place + size], "big")

    try:
        while True:
            code, yes, no, k = steps[at]
            at += 1
            match code:
                case 0xB1:
                    x = 4 * (load(k, 1) & 15)
                case 0x30 | 0x50:
                    a = load(k + (x if code == 0x50 else 0), 1)
                case 0x28 | 0x48:
                    a = load(k + (x if code == 0x48 else 0), 2)
                case 0x54:
                    a &= k
                case 0x64:
                    a <<= k
                case 0x0C:
                    a += x
                case 0x07:
                    x = a
                case 0x15:
                    at += yes if a == k else no
                case 0x05:
                    at += k
                case 0x06:
                    return k
                case _:
                    raise AssertionError(hex(code))
    except IndexError:
        return 0


def test_errors_about_our_port_pass_and_no_others() -> None:
    theirs = b"\0\1" + UDP[2:]
    assert run(program4(OURS), icmp4())
    assert run(program4(OURS), icmp4(words=6, quoted=quoted4(words=7) + UDP))
    assert not run(program4(OURS), icmp4(quoted=quoted4() + theirs))
    assert not run(program4(OURS), icmp4()[:49])
    assert run(program6(OURS), icmp6())
    assert run(program6(OURS), icmp6(following=44, between=bytes([17, 0, 0, 1]) + bytes(4)))
    assert not run(program6(OURS), icmp6(udp=theirs))
    assert not run(program6(OURS), icmp6(following=44, between=bytes(8), udp=theirs))


def test_types_that_are_no_errors_are_blocked() -> None:
    (mask,) = struct.unpack("=I", blocked4())
    assert {kind for kind in range(32) if not mask >> kind & 1} == set(TYPES4)
    words = struct.unpack("=8I", blocked6())
    assert {kind for kind in range(256) if not words[kind >> 5] >> (kind & 31) & 1} == set(TYPES6)


def test_without_permission_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(icmp.socket, "socket", refuse)
    assert open_sockets(OURS, ipv6=True) == ()


def test_a_socket_that_cannot_be_set_up_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(icmp, "_attach", refuse)
    before = len(os.listdir("/proc/self/fd"))
    assert open_sockets(OURS, ipv6=True) == ()
    assert len(os.listdir("/proc/self/fd")) == before


def test_reading_never_raises() -> None:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with a, b:
        assert icmp.receive(a) is None
        b.send(b"x")
        assert icmp.receive(a) == b"x"
    assert icmp.receive(a) is None
