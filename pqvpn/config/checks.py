"""What settings must be to each other: the checks that look at more than one value.

Owns the cross-checks. They run on whatever parsed well, so that they are told together with the errors of single
values. Asks the kernel one thing, whether an address is this host's; sends nothing.
"""

import datetime
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from pqvpn.config.fields import IPAddress, IPNetwork
from pqvpn.config.findings import Findings, Loc
from pqvpn.config.schema import (
    BreakersSection,
    CrashReportsSection,
    HealthSection,
    NodeSection,
    PeerSection,
    TelemetrySection,
    TimersSection,
)
from pqvpn.config.units import format_duration
from pqvpn.crypto.secret import Secret
from pqvpn.reasons import Reason


def check_node(findings: Findings, node: NodeSection) -> None:
    """Addresses given twice."""
    seen: dict[IPAddress, int] = {}
    for index, address in findings.numbered(("node", "addresses"), node.addresses):
        if (first := seen.setdefault(address.ip, index)) != index:
            loc = ("node", "addresses", index)
            findings.add(Reason.CONFIG_DUPLICATE_ADDRESS, loc, f"{address.ip} stands at [{first}] already")


def check_telemetry(findings: Findings, telemetry: TelemetrySection) -> None:
    """What leaves the host is encrypted, and settings that serve only an endpoint have one."""
    loc: Loc = ("telemetry",)
    if telemetry.endpoint is None:
        for name in ("headers_file", "ca_file", "certificate_file", "key_file"):
            if getattr(telemetry, name) is not None:
                findings.add(Reason.CONFIG_VALUE, (*loc, name), "it has no effect without endpoint", "give an endpoint")
        return
    plain = telemetry.endpoint.startswith("http://")
    if plain and not telemetry.insecure and not _is_loopback(urlsplit(telemetry.endpoint).hostname or ""):
        detail = "records would cross the network unencrypted"
        findings.add(Reason.CONFIG_TELEMETRY_PLAIN, (*loc, "endpoint"), detail)
    if (telemetry.certificate_file is None) != (telemetry.key_file is None):
        given = "key_file" if telemetry.certificate_file is None else "certificate_file"
        detail = "certificate_file and key_file go together"
        findings.add(Reason.CONFIG_VALUE, (*loc, given), detail, "give both, or neither")


def check_crash_reports(findings: Findings, section: CrashReportsSection, dsn: Secret | None) -> None:
    """The DSN is one, and reports leave the host encrypted. `dsn` None: there is none, or it cannot be read.

    The DSN is a secret: no finding shows any of it.
    """
    loc: Loc = ("crash_reports",)
    if section.dsn_file is None:
        for name in ("ca_file", "insecure", "host_name"):
            if getattr(section, name):
                findings.add(Reason.CONFIG_VALUE, (*loc, name), "it has no effect without dsn_file", "give a dsn_file")
    if dsn is None:
        return
    host = _host_of_dsn(dsn.expose().decode("ascii", "replace"))
    if host is None:
        detail = "the file does not hold a DSN: http(s)://KEY@HOST[:PORT]/PROJECT on one line"
        findings.add(Reason.CONFIG_DSN, (*loc, "dsn_file"), detail)
    elif dsn.expose().startswith(b"http:") and not section.insecure and not _is_loopback(host):
        findings.add(Reason.CONFIG_TELEMETRY_PLAIN, (*loc, "dsn_file"), "crash reports would leave unencrypted")


def _host_of_dsn(text: str) -> str | None:
    """The host of a DSN as Sentry defines it; None when the text is none."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    project = parts.path.rpartition("/")[2]
    numbered = project.isascii() and project.isdigit() and len(project) <= 20
    is_plain = text.isprintable() and " " not in text and not parts.query and not parts.fragment
    if parts.scheme not in ("http", "https") or not (parts.username and numbered and is_plain) or port == 0:
        return None
    return parts.hostname


_WORSE = (
    ("loop_late", "loop_stuck"),
    ("ends_warn", "ends_fail"),
    ("memory_warns", "memory_fails"),
    ("descriptors_warn", "descriptors_fail"),
)


def check_health(findings: Findings, health: HealthSection) -> None:
    """Health and metrics are open to this host only, or to those who know the token; a warning comes before a failure."""
    for warns, fails in _WORSE:
        if getattr(health, warns) > getattr(health, fails):
            detail = f"{warns} is more than {fails}"
            findings.add(Reason.CONFIG_VALUE, ("health", fails), detail, f"raise {fails} or lower {warns}")
    if health.listen is None or _is_loopback(health.listen.host) or health.token_file is not None:
        return
    findings.add(Reason.CONFIG_HEALTH_OPEN, ("health", "listen"), f"{health.listen} is not on loopback")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_peer(findings: Findings, name: str, peer: PeerSection, node: NodeSection, today: datetime.date) -> None:
    """One peer against this node and the calendar."""
    loc: Loc = ("peer", name)
    own = {address.ip for address in node.addresses}
    for index, network in findings.numbered((*loc, "allowed_ips"), peer.allowed_ips):
        if network.num_addresses == 1 and network.network_address in own:
            place = (*loc, "allowed_ips", index)
            findings.add(Reason.CONFIG_ALLOWED_OWN, place, f"{network.network_address} is in node.addresses")
    if peer.endpoint is not None and peer.endpoint.ip is not None:
        ip, port = peer.endpoint.ip, peer.endpoint.port
        if ip in own:
            detail = f"{ip} is in node.addresses, inside the tunnel"
            findings.add(Reason.CONFIG_ENDPOINT_OWN, (*loc, "endpoint"), detail)
        elif port == node.listen and is_of_this_host(ip):
            detail = f"{peer.endpoint} is where this node itself listens"
            findings.add(Reason.CONFIG_ENDPOINT_OWN, (*loc, "endpoint"), detail)
    _check_degraded(findings, loc, peer, today)


def _check_degraded(findings: Findings, loc: Loc, peer: PeerSection, today: datetime.date) -> None:
    if not peer.allow_degraded:
        if peer.degraded_until is not None:
            detail = "it has no effect without allow_degraded"
            findings.add(Reason.CONFIG_VALUE, (*loc, "degraded_until"), detail, "remove it")
        return
    if peer.degraded_until is None:
        detail = "allow_degraded is given without degraded_until"
        findings.add(Reason.CONFIG_DEGRADED_UNTIL, (*loc, "allow_degraded"), detail)
    elif peer.degraded_until < today:
        detail = f"{peer.degraded_until} is past"
        findings.add(Reason.CONFIG_DEGRADED_UNTIL, (*loc, "degraded_until"), detail)


def is_of_this_host(ip: IPAddress) -> bool:
    """Whether the kernel would deliver packets for `ip` to this host.

    Connecting a UDP socket sends nothing; towards an own address the kernel chooses that same address as the source.
    """
    if ip.is_loopback:
        return True
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.connect((str(ip), 9))
            return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == ip
    except OSError:
        return False


def check_endpoints(findings: Findings, node: NodeSection, peers: Mapping[str, PeerSection]) -> None:
    """Endpoints that only the tunnel itself would lead to.

    Our datagrams' mark takes them around a route of length 0 and around no other: a datagram to an endpoint inside the
    peer's own allowed IPs would come back to us as a packet for that peer. Likewise when it goes through another peer whose
    own endpoint leads back. Whether the host has a better route is not asked: it may be gone tomorrow.
    """
    for name, peer in peers.items():
        ip = peer.endpoint.ip if peer.endpoint is not None else None
        if ip is None or any(address.ip == ip for address in node.addresses):  # that one has a reason of its own
            continue
        own = next((a.network for a in node.addresses if a.network.prefixlen and ip in a.network), None)
        way = [f"node.addresses has {own}"] if own is not None else _way_back(peers, name)
        if way:
            findings.add(Reason.CONFIG_ENDPOINT_INSIDE, ("peer", name, "endpoint"), f"{ip}: {', '.join(way)}")


def _way_back(peers: Mapping[str, PeerSection], start: str) -> list[str]:
    """The networks over which a datagram to the endpoint of `start` comes back to it; empty when it does not."""
    name, way, seen = start, list[str](), set[str]()
    while name not in seen:
        seen.add(name)
        endpoint = peers[name].endpoint
        if endpoint is None or endpoint.ip is None:
            return []
        taken = next(
            ((other, n) for other, p in peers.items() for n in p.allowed_ips if n.prefixlen and endpoint.ip in n), None
        )
        if taken is None:
            return []
        name = taken[0]
        way.append(f"peer.{name}.allowed_ips has {taken[1]}")
    return way if name == start else []


class _Claim(NamedTuple):
    network: IPNetwork
    peer: str
    place: int


def check_overlaps(findings: Findings, peers: Mapping[str, PeerSection]) -> None:
    """Inner addresses claimed by two peers.

    Ranges either nest or are disjoint: in the order of their first address, wider first, everything that holds a range
    is on the stack when it comes.
    """
    claims = [
        _Claim(network, name, index)
        for name, peer in peers.items()
        for index, network in findings.numbered(("peer", name, "allowed_ips"), peer.allowed_ips)
    ]
    claims.sort(key=lambda claim: (claim.network.version, int(claim.network.network_address), claim.network.prefixlen))
    around: list[_Claim] = []
    for claim in claims:
        while around and not _holds(around[-1].network, claim.network):
            around.pop()
        other = next((wider for wider in reversed(around) if wider.peer != claim.peer), None)
        if other is not None:
            detail = f"{claim.network} overlaps {other.network} of peer.{other.peer}.allowed_ips[{other.place}]"
            findings.add(Reason.CONFIG_ALLOWED_OVERLAP, ("peer", claim.peer, "allowed_ips", claim.place), detail)
        around.append(claim)


def _holds(wider: IPNetwork, network: IPNetwork) -> bool:
    return wider.version == network.version and network.network_address in wider


def check_identities(findings: Findings, ids: Iterable[tuple[str, bytes]], own: bytes | None) -> None:
    """Peers that are this node, and one identity under two names. `ids`: peer IDs by name; `own`: ours when known."""
    seen: dict[bytes, str] = {}
    for name, peer_id in ids:
        loc = ("peer", name, "card")
        if peer_id == own:
            findings.add(Reason.CONFIG_PEER_SELF, loc, "the card is the one of this node")
        if (first := seen.setdefault(peer_id, name)) != name:
            findings.add(Reason.CONFIG_PEER_DUPLICATE, loc, f"peer.{first} has the same card")


def check_timers(findings: Findings, timers: TimersSection) -> None:
    """Timers that must not overtake each other."""
    jitter = timers.rekey_jitter
    ordered = (
        ("rekey_after", timers.rekey_after, "rekey_initiator_after", timers.rekey_initiator_after),
        ("rekey_after + rekey_jitter", timers.rekey_after + jitter, "reject_after", timers.reject_after),
        ("m1_schedule's last", timers.m1_schedule[-1], "m1_fresh_after", timers.m1_fresh_after),
        ("m1_fresh_after", timers.m1_fresh_after, "attempt_gives_up", timers.attempt_gives_up),
        ("m3_schedule's last", timers.m3_schedule[-1], "m3_gives_up", timers.m3_gives_up),
        ("biscuit_age", timers.biscuit_age, "biscuit_key_rotates", timers.biscuit_key_rotates),
        ("keepalive", timers.keepalive, "dead", timers.dead),
    )
    for lower_name, lower, upper_name, upper in ordered:
        if lower > upper:
            detail = f"{lower_name} ({format_duration(lower)}) is more than {upper_name} ({format_duration(upper)})"
            findings.add(Reason.CONFIG_TIMER, ("timers", upper_name), detail, f"raise {upper_name} or lower the other")


def check_breakers(findings: Findings, breakers: BreakersSection) -> None:
    """A breaker's shortest wait is not above its longest."""
    if breakers.open_for > breakers.open_longest:
        lower, upper = format_duration(breakers.open_for), format_duration(breakers.open_longest)
        detail = f"open_for ({lower}) is more than open_longest ({upper})"
        findings.add(Reason.CONFIG_TIMER, ("breakers", "open_longest"), detail, "raise open_longest or lower open_for")
