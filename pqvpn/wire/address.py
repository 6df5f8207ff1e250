"""Where a datagram came from or goes to: an IP address and a UDP port.

Owns the value, its one spelling (IPv4-mapped IPv6 is IPv4), its bytes in cookies and biscuits, its text and the
tuples of dual-stack sockets. Scopes of link-local addresses are not kept: such endpoints are not supported.
"""

import ipaddress
from typing import NamedTuple, Self

_MAPPED = bytes(10) + b"\xff\xff"


def fold(ip: bytes) -> bytes:
    """4 bytes for IPv4 and IPv4-mapped IPv6, 16 for other IPv6."""
    return ip[12:] if len(ip) == 16 and ip[:12] == _MAPPED else ip


class Address(NamedTuple):
    """`ip`: 4 or 16 bytes in network order, never IPv4-mapped; `port`: 0..65535. Build it with a reader below."""

    ip: bytes
    port: int

    @classmethod
    def of(cls, ip: bytes, port: int) -> Self:
        """An address with IPv4-mapped folded. Raises ValueError unless ip has 4 or 16 bytes and the port fits."""
        if len(ip) not in (4, 16) or not 0 <= port <= 0xFFFF:
            raise ValueError("an address has 4 or 16 bytes and a port of 16 bits")
        return cls(fold(bytes(ip)), port)

    @classmethod
    def from_socket(cls, sockaddr: tuple[str, int] | tuple[str, int, int, int]) -> Self:
        """From what recvfrom or recvmsg of an AF_INET or AF_INET6 socket returned."""
        host = sockaddr[0].partition("%")[0]
        return cls(fold(ipaddress.ip_address(host).packed), sockaddr[1])

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `192.0.2.1:51820` or `[2001:db8::1]:51820`. Raises ValueError; names are not resolved here."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not (port.isascii() and port.isdigit()) or (":" in host) != bracketed:
            raise ValueError("write an address as 192.0.2.1:51820 or [2001:db8::1]:51820")
        return cls.of(ipaddress.ip_address(host[1:-1] if bracketed else host).packed, int(port))

    @property
    def is_ipv6(self) -> bool:
        """Whether packets to it carry an IPv6 header."""
        return len(self.ip) == 16

    def host(self) -> str:
        """The IP address as text, without brackets."""
        return str(ipaddress.ip_address(self.ip))

    def packed(self) -> bytes:
        """ip || port u16 little-endian, 6 or 18 bytes: what cookies and biscuits are bound to (PROTOCOL 2, 4)."""
        return self.ip + self.port.to_bytes(2, "little")

    def to_socket(self) -> tuple[str, int, int, int]:
        """For sendto on a dual-stack AF_INET6 socket: IPv4 as `::ffff:a.b.c.d`."""
        return (self.host() if self.is_ipv6 else f"::ffff:{self.host()}", self.port, 0, 0)

    def network(self) -> bytes:
        """What rate limits count by: the IPv4 address (/32), or the first 8 bytes of an IPv6 one (/64)."""
        return self.ip[:8] if self.is_ipv6 else self.ip

    def __str__(self) -> str:
        return f"[{self.host()}]:{self.port}" if self.is_ipv6 else f"{self.host()}:{self.port}"
