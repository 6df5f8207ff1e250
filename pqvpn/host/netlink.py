"""The interface's addresses, MTU and routes, by rtnetlink.

Owns what the kernel is told about our interface, and the **guard**: an `unreachable` route with a worse metric
behind each of our routes, which outlives the process, so that even a vanished interface sends nothing past the
tunnel. Knows no peers and no keys, only prefixes. The guard's metric is derived from the node's configuration path:
leftovers of a killed node are told from those of another node without a state file.

A prefix of length 0 goes into a table of its own behind a rule that our own marked datagrams skip (as wg-quick
does), since otherwise the tunnel's datagrams would be routed into the tunnel.
"""

import errno
import ipaddress
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from socket import AF_INET, AF_INET6
from typing import Any

from pqvpn.errors import NetworkError, TunError
from pqvpn.facts import InterfaceObserved
from pqvpn.host._pyroute2 import NetlinkError
from pqvpn.host.interface_look import Looker
from pqvpn.host.marks import guard_metric, routing_mark
from pqvpn.host.rtnetlink import PATIENCE, Netlink
from pqvpn.reasons import Reason

PROTOCOL = 157
"""rtm_protocol of every route we make (unassigned in rtnetlink.h)."""

_ALREADY = (errno.EEXIST,)
_GONE = (errno.ENOENT, errno.ESRCH, errno.ENODEV)
_RULE_PRIORITY = 5200
_RULE_PAIRS = 10_000
_MAIN_TABLE = 254
_IFF_MULTICAST = 0x1000
_NO_LINK_LOCAL = {"attrs": [["AF_INET6", {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", 1]]}]]}  # IN6_ADDR_GEN_MODE_NONE
_INVERT = 2  # FIB_RULE_INVERT


def gso_max_size(mtu: int) -> int:
    """The largest super-packet whose segments, sealed, still go out in one UDP send, bytes.

    A send takes 65,479 bytes of datagrams; a full one is `mtu` and 40 bytes of overhead long and carries at most
    `mtu` - 52 bytes of a TCP stream with timestamps. 321: the kernel keeps room for the longest headers
    (MAX_TCP_HEADER) below the limit.
    """
    segments = 65479 // (mtu + 40)
    return min(65536, segments * (mtu - 52) + 321)


@contextmanager
def _refusals(what: str, tolerate: tuple[int, ...] = ()) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code in tolerate:
            return
        detail = f"{what}: {error}"
        if error.code == errno.EPERM:
            raise TunError(Reason.NO_PERMISSION, detail) from error
        raise NetworkError(Reason.KERNEL_REFUSED, detail) from error
    except TimeoutError as error:
        raise NetworkError(Reason.KERNEL_SILENT, what) from error
    except OSError as error:
        raise NetworkError(Reason.KERNEL_REFUSED, f"{what}: {error.strerror}") from error


class Interface:
    """The kernel's side of one TUN interface. Every method raises NetworkError or TunError when the kernel refuses, or has
    not answered for `patience` seconds.

    `identity` is the real path of the node's configuration.
    """

    def __init__(self, name: str, identity: str, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._mark = routing_mark(identity)
        self._metric = guard_metric(identity)
        self._routes: frozenset[str] = frozenset()
        self._networks: frozenset[str] = frozenset()
        self._addresses: tuple[str, ...] = ()
        self._netlink: Any = Netlink(patience)
        try:
            self._index = _index_of(self._netlink, name)
        except BaseException:
            self._netlink.close()
            raise
        self._looker = Looker(self._netlink, self._index, name)

    def configure(self, addresses: Iterable[str], mtu: int) -> None:
        """Set addresses (CIDR) and MTU and bring the interface up."""
        self._addresses = tuple(addresses)
        interfaces = [ipaddress.ip_interface(a) for a in self._addresses]
        with self._asking("keep the kernel from talking into the tunnel by itself"):
            # no link-local address, hence no router solicitations; no multicast, hence no listener reports
            self._netlink.link("set", index=self._index, IFLA_AF_SPEC=_NO_LINK_LOCAL, flags=0, change=_IFF_MULTICAST)
        with self._asking("set the largest super-packet"):
            self._netlink.link("set", index=self._index, IFLA_GSO_MAX_SIZE=gso_max_size(mtu))
        with self._asking("set the interface up"):
            self._netlink.link("set", index=self._index, mtu=mtu, txqlen=1000, state="up")
        for interface in interfaces:
            with self._asking(f"add address {interface}", _ALREADY):
                self._netlink.addr(
                    "add",
                    index=self._index,
                    address=str(interface.ip),
                    prefixlen=interface.network.prefixlen,
                    # no duplicate-address detection: nobody on a point-to-point link could answer
                    **({"flags": 0x02} if interface.version == 6 else {}),
                )
        self._networks = frozenset(str(i.network) for i in interfaces)

    def set_mtu(self, mtu: int) -> None:
        """Change the interface's MTU, bytes."""
        with self._asking(f"set MTU {mtu}"):
            self._netlink.link("set", index=self._index, mtu=mtu)

    def set_routes(self, prefixes: Iterable[str]) -> None:
        """Make the routes to `prefixes` (CIDR), guards first; remove those of an earlier call that are not among them."""
        wanted = frozenset(prefixes)
        for prefix in sorted((wanted | self._networks) - self.guards()):
            self._guard("replace", prefix)
        for prefix in sorted(wanted - self._routes):
            self._route("replace", prefix)
            self._routes |= {prefix}  # at once: when the kernel refuses a later one, the caller takes this one back
        for prefix in sorted(self._routes - wanted):
            self._route("del", prefix)
            self._routes -= {prefix}
        for prefix in sorted(self.guards() - wanted - self._networks):
            self._guard("del", prefix)
        self._rules(wanted)

    def restore(self, mtu: int) -> None:
        """Set everything again as it was set: what somebody else took away comes back."""
        self.configure(self._addresses, mtu)
        for prefix in sorted(self._routes):
            self._route("replace", prefix)
        self.set_routes(self._routes)  # guards and rules

    def look(self) -> InterfaceObserved:
        """Whether the kernel still has the interface, its addresses and its routes as they were set; changes nothing."""
        with self._asking("look at the interface"):
            return self._looker.look(self._addresses, self._routes)

    def guards(self) -> frozenset[str]:
        """Prefixes behind which a guard of this node stands."""
        with self._asking("read the routes"):
            return frozenset(_guards(self._netlink, self._metric))

    def release(self) -> None:
        """Remove guards and rules; interface and routes go with the last TUN descriptor."""
        self._rules(frozenset())
        for prefix in sorted(self.guards()):
            self._guard("del", prefix)

    def be_patient(self, seconds: float) -> None:
        """Wait so long for an answer from now on."""
        self._patience = self._netlink.patience = seconds

    def close(self) -> None:
        """Close the netlink socket; changes nothing."""
        self._netlink.close()

    def _table(self, network: Any) -> int:
        return self._mark if network.prefixlen == 0 else _MAIN_TABLE

    def _route(self, verb: str, prefix: str) -> None:
        network = ipaddress.ip_network(prefix)
        with self._asking(f"{verb} route {prefix}", _GONE if verb == "del" else ()):
            self._netlink.route(
                verb,
                dst=prefix,
                oif=self._index,
                proto=PROTOCOL,
                family=_family(network),
                table=self._table(network),
            )

    def _guard(self, verb: str, prefix: str) -> None:
        network = ipaddress.ip_network(prefix)
        with self._asking(f"{verb} guard {prefix}", _GONE if verb == "del" else ()):
            _change_guard(self._netlink, verb, prefix, self._metric, self._table(network))

    def _rules(self, prefixes: frozenset[str]) -> None:
        wanted: frozenset[int] = frozenset(AF_INET6 if ":" in p else AF_INET for p in prefixes if p.endswith("/0"))
        with self._asking("set the rules"):
            present = _families_with_rules(self._netlink, self._mark)  # also those of a killed predecessor
            for family in wanted - present:
                _change_rules(self._netlink, "add", family, self._mark)
            for family in present - wanted:
                _change_rules(self._netlink, "del", family, self._mark)

    @contextmanager
    def _asking(self, what: str, tolerate: tuple[int, ...] = ()) -> Iterator[None]:
        try:
            with _refusals(what, tolerate):
                yield
        except NetworkError as error:
            if isinstance(error.__cause__, OSError):  # it may still hold the answer, or be of no use any more
                self._reopen(what)
            raise

    def _reopen(self, what: str) -> None:
        with suppress(OSError):
            self._netlink.close()
        with _refusals(what):
            self._netlink = Netlink(self._patience)
        self._looker.netlink = self._netlink


def remove_guards(identity: str) -> tuple[str, ...]:
    """Remove what a killed node left behind; returns the prefixes. `identity` as in `guard_metric`."""
    metric = guard_metric(identity)
    with Netlink() as netlink:
        with _refusals("read the routes"):
            found = dict(_guards(netlink, metric))
        for prefix, table in found.items():
            with _refusals(f"remove guard {prefix}", _GONE):
                _change_guard(netlink, "del", prefix, metric, table)
            if prefix.endswith("/0"):
                _change_rules(netlink, "del", AF_INET6 if ":" in prefix else AF_INET, routing_mark(identity))
        return tuple(sorted(found))


def _index_of(netlink: Any, name: str) -> int:
    with _refusals("look for the interface"):
        found: list[int] = netlink.link_lookup(ifname=name)
    if not found:
        raise TunError(Reason.NO_TUN, f"interface {name} is gone", place=name)
    return found[0]


def _guards(netlink: Any, metric: int) -> dict[str, int]:
    found = {}
    for family, everything in ((AF_INET, "0.0.0.0"), (AF_INET6, "::")):  # noqa: S104 - a prefix, nothing is bound
        for route in netlink.get_routes(family=family, proto=PROTOCOL):
            if route.get("priority") == metric:
                found[f"{route.get('dst') or everything}/{route['dst_len']}"] = route.get("table")
    return found


def _change_guard(netlink: Any, verb: str, prefix: str, metric: int, table: int) -> None:
    family = _family(ipaddress.ip_network(prefix))
    netlink.route(verb, dst=prefix, type="unreachable", proto=PROTOCOL, priority=metric, family=family, table=table)


def _families_with_rules(netlink: Any, mark: int) -> frozenset[int]:
    """Address families whose default route goes into the table of this node."""
    return frozenset(
        family
        for family in (AF_INET, AF_INET6)
        for rule in netlink.get_rules(family=family)
        if rule.get("FRA_TABLE") == mark
    )


def _change_rules(netlink: Any, verb: str, family: int, mark: int) -> None:
    priority = _RULE_PRIORITY + 2 * (mark % _RULE_PAIRS)  # a pair of its own: nodes end independently of each other
    with _refusals(f"{verb} rule", _ALREADY + _GONE):
        # whatever main knows better than a default route stays as it is
        netlink.rule(verb, family=family, priority=priority, table=_MAIN_TABLE, FRA_SUPPRESS_PREFIXLEN=0)
    with _refusals(f"{verb} rule", _ALREADY + _GONE):
        # everything but our own datagrams
        netlink.rule(verb, family=family, priority=priority + 1, fwmark=mark, table=mark, flags=_INVERT)


def _family(network: Any) -> int:
    return AF_INET if network.version == 4 else AF_INET6
