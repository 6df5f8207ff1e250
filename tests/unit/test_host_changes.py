"""rtnetlink's news: what others change is news, what this node did itself is none, and nothing is a reason to raise."""

import random
import struct

import pytest

from pqvpn.host import changes

OWN, OTHER = 7, 3


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def link(index: int) -> bytes:
    return message(16, struct.pack("=BBHiII", 0, 0, 1, index, 0, 0))


def address(index: int) -> bytes:
    return message(20, struct.pack("=BBBBi", 2, 24, 0, 0, index))


def route(index: int, protocol: int = 4) -> bytes:
    attributes = struct.pack("=HH4s", 8, 1, bytes(4)) + struct.pack("=HHi", 8, 4, index)
    return message(24, struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, protocol, 0, 1, 0) + attributes)


@pytest.mark.parametrize("made", [link, address, route])
def test_others_changes_are_news_and_our_own_are_not(made: object) -> None:
    assert callable(made)
    assert changes.is_news(made(OTHER), OWN)
    assert not changes.is_news(made(OWN), OWN)
    assert changes.is_news(made(OWN) + made(OTHER), OWN)


def test_our_guards_are_no_news() -> None:
    assert not changes.is_news(route(OTHER, changes.PROTOCOL), OWN)


def test_anything_may_come() -> None:
    chance = random.Random(1)
    for _ in range(3000):
        data = bytearray(link(OTHER) + route(OTHER) + address(OWN))
        for _ in range(3):
            data[chance.randrange(len(data))] = chance.randrange(256)
        changes.is_news(bytes(data[: chance.randrange(len(data))]), OWN)


def test_the_numbers_are_those_of_netlink() -> None:
    from pqvpn.host import netlink

    assert changes.PROTOCOL == netlink.PROTOCOL


def test_a_socket_is_given_without_privileges() -> None:
    sock = changes.listen()
    assert sock is not None
    with sock:
        assert changes.drain(sock, "lo") in (True, False)
