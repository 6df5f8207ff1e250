"""Allowed IPs: which peer an address belongs to, by longest prefix.

Owns the table and a bounded cache in front of it. One table serves both directions: destinations choose the peer, and a
source is good when it leads to the peer that sent it. One address is never a peer's: what is sent there from the inside
proves that a lane reads, and goes no further.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the observer reads the address only
    from pqvpn.dataplane.commands import PeerRoutes

NO_PEER: Final = -1
NOT_IP: Final = -2
PROBE: Final = -3
"""Where `PROBE_ADDRESS` leads."""
PROBE_ADDRESS: Final = "192.0.0.8"
"""IPv4's dummy address (RFC 7600): nobody's, by the registry neither a destination nor forwarded by anybody."""
_PROBED: Final = int.from_bytes(bytes(map(int, PROBE_ADDRESS.split("."))), "big")
_CACHE: Final = 4096


class Routes:
    """An immutable table with its cache; a change makes a new one."""

    def __init__(self, peers: "Iterable[PeerRoutes]" = ()) -> None:
        tables: dict[int, dict[int, dict[int, int]]] = {4: {}, 16: {}}
        for entry in peers:
            for prefix in entry.prefixes:
                bits = 8 * len(prefix.ip)
                masked = int.from_bytes(prefix.ip, "big") >> (bits - prefix.length)
                tables[len(prefix.ip)].setdefault(prefix.length, {})[masked] = entry.peer
        tables[4].setdefault(32, {})[_PROBED] = PROBE  # whatever network of a peer it lies in
        self._v4 = sorted(tables[4].items(), reverse=True)
        self._v6 = sorted(tables[16].items(), reverse=True)
        self.known4: dict[int, int] = {}  # what `find4` found; to be read in place of a call
        self._cache6: dict[tuple[int, int], int] = {}

    def find(self, ip: bytes) -> int:
        """The peer of an address of 4 or 16 bytes, `NO_PEER` when there is none."""
        bits = 8 * len(ip)
        number = int.from_bytes(ip, "big")
        for length, prefixes in self._v4 if bits == 32 else self._v6:
            peer = prefixes.get(number >> (bits - length))
            if peer is not None:
                return peer
        return NO_PEER

    def find4(self, number: int) -> int:
        """`find` for an IPv4 address as one big-endian integer, through the cache."""
        peer = self.known4.get(number)
        if peer is None:
            if len(self.known4) >= _CACHE:
                self.known4.clear()
            peer = self.known4[number] = self.find(number.to_bytes(4, "big"))
        return peer

    def find6(self, high: int, low: int) -> int:
        """`find` for an IPv6 address as two big-endian integers, through the cache."""
        peer = self._cache6.get((high, low))
        if peer is None:
            if len(self._cache6) >= _CACHE:
                self._cache6.clear()
            ip = high.to_bytes(8, "big") + low.to_bytes(8, "big")
            peer = self._cache6[high, low] = self.find(ip)
        return peer
