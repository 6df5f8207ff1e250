"""A look at the interface from outside: whether the kernel still has it as it was configured.

Owns the questions, by rtnetlink, and what their answers mean. Changes nothing. Each question is about one thing (a link,
a destination), never a dump of all routes: a machine may have a million of them.
"""

import errno
import ipaddress
import socket
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pqvpn.facts import InterfaceObserved
from pqvpn.host._pyroute2 import NetlinkError

_IFF_UP: Final = 1
_RTM_F_FIB_MATCH: Final = 0x2000  # answer with the matching entry of the table, not with the resulting route
_UNICAST: Final = 1
_GONE: Final = (errno.ENODEV, errno.ENXIO)
_NO_ROUTE: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ESRCH, errno.EACCES, errno.EINVAL)
_BUDGET: Final = 0.01
"""Seconds for all routes of one look; those left over come first in the next."""


class Looker:
    """Looks at one interface on a netlink socket that somebody else owns."""

    def __init__(self, netlink: Any, index: int, name: str) -> None:
        self.netlink = netlink
        self._index = index
        self._name = name
        self._next = 0
        self._missing: dict[str, str] = {}

    def look(self, addresses: Sequence[str], prefixes: Iterable[str]) -> InterfaceObserved:
        """What is there of `addresses` (CIDR) and routes to `prefixes`. Raises NetlinkError or OSError."""
        try:
            link = self.netlink.link("get", index=self._index)[0]
        except NetlinkError as error:
            if error.code in _GONE:
                return InterfaceObserved(self._name, exists=False)
            raise
        if link.get("ifname") != self._name:  # renamed: to who looks for it by name it is gone
            return InterfaceObserved(self._name, exists=False)
        up = bool(link["flags"] & _IFF_UP)
        counts = link.get("stats64") or {}
        missing, conflict = self._addresses(addresses)
        if up:
            routes, foreign = self._routes(sorted(prefixes))
            missing, conflict = missing + routes, conflict or foreign
        return InterfaceObserved(
            self._name,
            exists=True,
            up=up,
            missing=tuple(missing),
            conflict=conflict,
            rx_packets=counts.get("rx_packets", 0),
            tx_packets=counts.get("tx_packets", 0),
            tx_dropped=counts.get("tx_dropped", 0),
        )

    def _addresses(self, wanted: Sequence[str]) -> tuple[list[str], str]:
        ours, others = set(), {}
        for each in self.netlink.get_addr():
            address = each.get("local") or each.get("address")
            if each["index"] == self._index:
                ours.add(address)
            else:
                others[address] = each["index"]
        interfaces = [ipaddress.ip_interface(a) for a in wanted]
        missing = [str(i) for i in interfaces if str(i.ip) not in ours]
        taken = next((str(i.ip) for i in interfaces if str(i.ip) in others), None)
        return missing, f"{_name_of(others[taken])} has {taken}, too" if taken else ""

    def _routes(self, prefixes: list[str]) -> tuple[list[str], str]:
        """(routes that are missing, one that leads elsewhere). What the budget left out keeps its last answer."""
        ends = time.monotonic() + _BUDGET
        self._missing = {prefix: found for prefix, found in self._missing.items() if prefix in prefixes}
        for number in range(len(prefixes)):
            prefix = prefixes[(self._next + number) % len(prefixes)]
            self._missing[prefix] = self._route(prefix)
            if time.monotonic() > ends:
                self._next = (self._next + number + 1) % len(prefixes)
                break
        missing = [f"route {prefix}" for prefix, found in self._missing.items() if found == "-"]
        foreign = next(
            (f"{p} is routed to {found}" for p, found in self._missing.items() if found not in ("", "-")), ""
        )
        return missing, foreign

    def _route(self, prefix: str) -> str:
        """Where a prefix leads: "" into the tunnel, "-" nowhere or by a wider route only, else another interface."""
        network = ipaddress.ip_network(prefix)
        probe = network.network_address
        if network.prefixlen == 0:  # some address that nothing but a default route leads to
            probe = ipaddress.ip_address("192.0.2.1" if network.version == 4 else "2001:db8::1")
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        try:
            found = self.netlink.route("get", dst=str(probe), family=family, flags=_RTM_F_FIB_MATCH)
        except NetlinkError as error:
            if error.code in _NO_ROUTE:
                return "-"
            raise
        entry = found[0]
        leads, length = entry.get("oif"), entry["dst_len"]
        if leads == self._index:
            return "" if length == network.prefixlen or entry["type"] != _UNICAST else "-"
        if length < network.prefixlen or leads is None:
            return "-"
        return "" if network.prefixlen == 0 and length else _name_of(leads)


def _name_of(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"
