"""Invariant: what a raw ICMP socket gives is an error about a UDP datagram of ours that stands in it, or None.

The first byte chooses the family.
"""

from pqvpn.wire.icmp import IcmpError, parse_icmp, parse_icmp6

_KINDS = {"port_unreachable", "host_unreachable", "net_unreachable", "prohibited", "too_big"}


def check(data: bytes) -> None:
    if not data:
        return
    family, packet = data[0] & 1, data[1:]
    found = (parse_icmp6 if family else parse_icmp)(packet)
    if found is None:
        return
    assert isinstance(found, IcmpError)
    assert found.kind in _KINDS
    assert 0 <= found.port <= 0xFFFF
    assert found.port.to_bytes(2, "big") + found.to.port.to_bytes(2, "big") in packet
    assert found.to.ip in packet
    assert len(found.to.ip) in (4, 16)
