"""Configuration into what the processes are told, and the difference between two configurations in words.

Owns the correspondence of settings and messages. Opens nothing and decides nothing.
"""

import datetime
import os
from dataclasses import fields, replace
from pathlib import Path

from pqvpn.config.schema import NodeConfig, Peer
from pqvpn.control.supervision import ErrorInfo, PeerSpec
from pqvpn.errors import ConfigErrors, PqvpnError
from pqvpn.host.clock import now
from pqvpn.protocol.settings import Timers
from pqvpn.resilience.limits import Limits
from pqvpn.resilience.registry import Settings
from pqvpn.resilience.restarts import RestartPolicy, When
from pqvpn.telemetry.redaction import without_secrets

_DEFAULT_MTU_IPV4 = 1432
_DEFAULT_MTU_IPV6 = 1412
_MOST_DEFAULT_LANES = 4
_LIMITS = tuple(f.name for f in fields(Limits))


def mtu(config: NodeConfig) -> int:
    """The interface's MTU: as configured, else what fits a 1500-byte path (PROTOCOL section 5)."""
    if config.node.mtu is not None:
        return config.node.mtu
    ipv6 = any(p.endpoint and p.endpoint.ip and p.endpoint.ip.version == 6 for p in config.peers)
    return _DEFAULT_MTU_IPV6 if ipv6 else _DEFAULT_MTU_IPV4


def lanes(config: NodeConfig) -> int:
    """The number of lanes: as configured, else one for every two cores (a second brought nothing on two busy ones)."""
    if config.node.lanes is not None:
        return config.node.lanes
    return max(1, min(_MOST_DEFAULT_LANES, len(os.sched_getaffinity(0)) // 2))


def timers(config: NodeConfig) -> Timers:
    """The protocol's time constants."""
    return Timers(**{f.name: getattr(config.timers, f.name) for f in fields(Timers)})


def peers(config: NodeConfig) -> tuple[PeerSpec, ...]:
    """Every configured peer."""
    return tuple(_peer(p) for p in config.peers)


def prefixes(config: NodeConfig) -> frozenset[str]:
    """Every network that is routed into the tunnel."""
    return frozenset(str(n) for p in config.peers for n in p.allowed_ips)


def addresses(config: NodeConfig) -> tuple[str, ...]:
    """The interface's own addresses (CIDR)."""
    return tuple(str(a) for a in config.node.addresses)


def errors(error: PqvpnError) -> tuple[ErrorInfo, ...]:
    """One error, or all of a configuration's, for transit."""
    found = error.errors if isinstance(error, ConfigErrors) else (error,)
    shown = without_secrets  # an operator may have written a key where it does not belong
    return tuple(
        ErrorInfo(e.reason.code, e.reason.text, shown(e.detail), shown(e.place), shown(e.remedy)) for e in found
    )


def changes(old: NodeConfig, new: NodeConfig) -> tuple[str, ...]:
    """What a reload changes, in words."""
    before = {p.name: p for p in old.peers}
    after = {p.name: p for p in new.peers}
    found = [f"peer {name} added" for name in after if name not in before]
    found += [f"peer {name} removed" for name in before if name not in after]
    found += [f"peer {name} changed" for name in after if name in before and _peer(after[name]) != _peer(before[name])]
    if old.breakers != new.breakers:
        found.append("breakers changed")
    if old.restart != new.restart:
        found.append("restart changed")
    if (old.health, old.health_token) != (new.health, new.health_token):
        found.append("health changed")
    if (old.crash_reports, old.crash_dsn) != (new.crash_reports, new.crash_dsn):
        found.append("crash_reports changed")
    return tuple(found)


def for_observer(old: NodeConfig, new: NodeConfig) -> bool:
    """Whether what an observer is told at its start only differs: another one is to take its place."""
    health = (old.health.listen, old.health_token) != (new.health.listen, new.health_token)
    return health or (old.crash_reports, old.crash_dsn) != (new.crash_reports, new.crash_dsn)


def restart_needed(old: NodeConfig, new: NodeConfig) -> tuple[str, ...]:
    """Settings that differ but are read at start only."""
    found = []
    for section in ("node", "timers", "log", "redact", "telemetry", "security", "offload"):
        before, after = getattr(old, section), getattr(new, section)
        found += [f"{section}.{k}" for k in type(before).model_fields if getattr(before, k) != getattr(after, k)]
    if old.card.peer_id != new.card.peer_id:
        found.append("node.private_key")
    if old.network_key != new.network_key:
        found.append("node.network_key_file")
    return tuple(dict.fromkeys(found))


def in_force(running: NodeConfig, new: NodeConfig) -> NodeConfig:
    """The running configuration with what a reload takes of a new one: peers, and every policy of what goes wrong."""
    return replace(
        running,
        peers=new.peers,
        restart=new.restart,
        breakers=new.breakers,
        health=new.health,
        health_token=new.health_token,
        crash_reports=new.crash_reports,
        crash_dsn=new.crash_dsn,
    )


def restart_policy(config: NodeConfig, component: str) -> RestartPolicy:
    """The policy of `control`, `observer` or `lanes`."""
    section = config.restart
    return RestartPolicy(
        when=When(getattr(section, component)),
        first=section.first_wait,
        longest=section.longest_wait,
        burst=section.burst,
        window=section.window,
        slow_every=section.slow_every,
        lived=section.lived,
    )


def breakers(config: NodeConfig) -> Settings:
    """[breakers] as the processes take it."""
    return Settings(**{f.name: getattr(config.breakers, f.name) for f in fields(Settings)})


def limits(config: NodeConfig) -> Limits:
    """[health] as the processes take it."""
    return Limits(**{name: getattr(config.health, name) for name in _LIMITS})


def has_aes_instructions() -> bool:
    """Whether the processor encrypts AES in hardware."""
    try:
        return " aes" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True


def _peer(peer: Peer) -> PeerSpec:
    return PeerSpec(
        peer_id=peer.id,
        name=peer.name,
        public_key=peer.card.public_key.raw,
        psk=peer.psk.expose() if peer.psk else None,
        endpoints=(str(peer.endpoint),) if peer.endpoint else (),
        allowed_ips=tuple(str(n) for n in peer.allowed_ips),
        keepalive=peer.keepalive,
        trace=peer.trace,
        allow_degraded=peer.allow_degraded,
        degraded_until=_until(peer.degraded_until),
    )


def _until(date: datetime.date | None) -> float | None:
    """The end of that day (UTC) on the node's clock, rounded so that one date gives one value."""
    if date is None:
        return None
    midnight = datetime.datetime.combine(date, datetime.time(), datetime.UTC) + datetime.timedelta(days=1)
    left = midnight.timestamp() - datetime.datetime.now(datetime.UTC).timestamp()
    return float(round(now() + left))
