"""Datagrams into an interface, to see whether whoever reads it does.

Owns how they are sent: out of that interface whatever the routes say, so that none goes anywhere else; without any
privilege. Waits for nothing.
"""

import socket
from typing import Final

_IP_UNICAST_IF: Final = 50
_PORT: Final = 40000
"""The first of the ports: the kernel spreads the queues of an interface by addresses and ports."""


def knock(interface: str, address: str, count: int) -> None:
    """Send `count` empty datagrams to an IPv4 address by way of `interface`, each to another port.

    Raises OSError: the interface is gone or down, or a packet filter forbids it. One that found the queue full is no error.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        index = socket.if_nametoindex(interface)
        sock.setsockopt(socket.IPPROTO_IP, _IP_UNICAST_IF, index.to_bytes(4, "big"))  # in network order
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        for number in range(count):
            sock.sendto(b"", (address, _PORT + number))
