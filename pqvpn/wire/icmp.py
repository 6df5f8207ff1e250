"""ICMP errors about datagrams that we sent: what the network says, read from what a raw socket gives.

```
ICMP    | IP header 20.. | type 3 | code | .. 8 | our IPv4 header 20.. | our UDP header: source, destination, ... |
ICMPv6                   | type 1, 2 | code | .. 8 | our IPv6 header 40 | (fragment header 8) | our UDP header ...  |
```

Owns the layouts, bounds and words. Whoever can send to this host can send these, so what is read here is a hint and
nothing else; whether it speaks of a peer of ours is the caller's question.
"""

from typing import NamedTuple

from pqvpn.wire.address import Address

_IP, _IP6 = 20, 40
_ICMP_HEADER = 8
_ICMP, _UDP, _FRAGMENT = 1, 17, 44
_PORTS = 4
_UNREACHABLE4 = {
    0: "net_unreachable", 1: "host_unreachable", 2: "port_unreachable", 3: "port_unreachable", 4: "too_big",
    5: "net_unreachable", 6: "net_unreachable", 7: "host_unreachable", 8: "host_unreachable", 9: "prohibited",
    10: "prohibited", 11: "net_unreachable", 12: "host_unreachable", 13: "prohibited", 14: "prohibited",
    15: "prohibited",
}  # fmt: skip
_UNREACHABLE6 = {
    0: "net_unreachable", 1: "prohibited", 2: "net_unreachable", 3: "host_unreachable", 4: "port_unreachable",
    5: "prohibited", 6: "prohibited",
}  # fmt: skip
TYPES4 = (3,)  # destination unreachable, "fragmentation needed" among its codes
TYPES6 = (1, 2)  # destination unreachable, packet too big


class IcmpError(NamedTuple):
    """`kind`: a word of the fact `network.icmp`. `to`: where our datagram was to go; `port`: where it came from here."""

    kind: str
    to: Address
    port: int


def parse_icmp(packet: bytes) -> IcmpError | None:
    """An IPv4 packet with its header. None: not an error about a UDP datagram, or not whole enough to tell."""
    if len(packet) < _IP or packet[0] >> 4 != 4 or packet[9] != _ICMP:
        return None
    at = (packet[0] & 15) * 4
    if at < _IP or len(packet) < at + _ICMP_HEADER + _IP or packet[at] not in TYPES4:
        return None
    kind, inner = _UNREACHABLE4.get(packet[at + 1]), packet[at + _ICMP_HEADER :]
    header = (inner[0] & 15) * 4
    first = not (inner[6] & 0x1F or inner[7])  # later fragments have no ports
    if kind is None or inner[0] >> 4 != 4 or header < _IP or inner[9] != _UDP or not first:
        return None
    return _of_ports(kind, inner[16:20], inner[header : header + _PORTS])


def parse_icmp6(message: bytes) -> IcmpError | None:
    """An ICMPv6 message without its IPv6 header. None: as above."""
    if len(message) < _ICMP_HEADER + _IP6 or message[0] not in TYPES6:
        return None
    kind = "too_big" if message[0] == TYPES6[1] else _UNREACHABLE6.get(message[1])
    inner, header = message[_ICMP_HEADER:], _IP6
    following = inner[6]
    if following == _FRAGMENT and len(inner) >= header + 8 and not (inner[42] or inner[43] & 0xF8):
        following, header = inner[40], header + 8
    if kind is None or inner[0] >> 4 != 6 or following != _UDP:
        return None
    return _of_ports(kind, inner[24:40], inner[header : header + _PORTS])


def _of_ports(kind: str, ip: bytes, ports: bytes) -> IcmpError | None:
    if len(ports) < _PORTS:
        return None
    to = Address.of(ip, int.from_bytes(ports[2:], "big"))
    return IcmpError(kind, to, int.from_bytes(ports[:2], "big"))
