"""Invariant: an address's text gives an address whose own text reads back as the same one, or a ValueError."""

from pqvpn.wire.address import Address

TOKENS = (
    b"[",
    b"]",
    b":",
    b"::",
    b"::ffff:",
    b"%eth0",
    b".",
    b"0",
    b"65535",
    b"65536",
    b"-1",
    b"\xd9\xa3",
    b"\xc2\xb2",
)


def check(data: bytes) -> None:
    try:
        address = Address.parse(data.decode("utf-8", "replace"))
    except ValueError:
        return
    assert len(address.ip) in (4, 16)
    assert 0 <= address.port <= 0xFFFF
    assert not (address.is_ipv6 and address.ip.startswith(bytes(10) + b"\xff\xff"))
    assert Address.parse(str(address)) == address
    assert Address.from_socket(address.to_socket()) == address
    assert len(address.packed()) == len(address.ip) + 2
