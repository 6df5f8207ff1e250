"""How control and the lanes are spawned: descriptors by inheritance, everything else in one message on a link.

Owns command lines, environments and start messages. Never forks with keys: each child is a fresh interpreter, and nothing secret
is in its arguments or environment.
"""

import os
import socket
import subprocess
import sys

from pqvpn.config.schema import NodeConfig
from pqvpn.control import supervision
from pqvpn.dataplane import start as lane_start
from pqvpn.node import translate
from pqvpn.node.descriptors import Descriptors
from pqvpn.observer import start as observer_start
from pqvpn.telemetry.redaction import Policy

_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ")


def _spawn(module: str, argument: int, descriptors: list[int]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module, no input in the arguments
        [sys.executable, "-I", "-m", module, str(argument)],
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={k: os.environ[k] for k in _KEPT_VARIABLES if k in os.environ},
        cwd="/",
    )


def spawn_lane(lane: int, lanes: int, mtu: int, held: Descriptors) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    """Start a lane; returns it and the supervisor's end of its link, whose closing ends it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    crossover = tuple(held.crossover[lane][o].fileno() if o != lane else -1 for o in range(lanes))
    sock = held.udp.sockets[1 + lane]
    message = lane_start.Start(
        lane=lane,
        lanes=lanes,
        tun=held.tun.queues[lane],
        udp=sock.fileno(),
        control=held.links[lane].lane.fileno(),
        counters=held.counters,
        crossover=crossover,
        offloads=held.offloads,
        mtu=mtu,
        ipv6=held.udp.ipv6,
        reads_udp=held.udp.steering or lane == 0,
    )
    given = [theirs.fileno(), message.tun, message.udp, message.control, message.counters]
    given += [fd for fd in crossover if fd >= 0]
    with theirs:
        lane_start.send(ours, message)
        return _spawn("pqvpn.dataplane", theirs.fileno(), given), ours


def spawn_control(
    config: NodeConfig,
    held: Descriptors,
    api: socket.socket,
    *,
    lanes: int,
    started_at: float,
    restarted: bool,
    debug: bool,
    facts: int,
    policy: Policy,
    quiet: bool,
) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    """Start control; returns it and the supervisor's end of its link. `facts`: where it publishes, -1: nowhere."""
    ours, theirs = supervision.link()
    udp = held.udp.sockets[0]
    message = supervision.ControlStart(
        name=config.node.name,
        peer_id=config.card.peer_id,
        seed=config.identity.seed.expose(),
        network_key=config.network_key.expose() if config.network_key else None,
        boot_id=os.urandom(8),
        peers=translate.peers(config),
        timers=translate.timers(config),
        lanes=lanes,
        mtu=translate.mtu(config),
        interface=config.node.interface,
        addresses=translate.addresses(config),
        listen=held.udp.port,
        log_level="debug" if debug else config.log.level,
        log_text=config.log.format == "text",
        debug=debug,
        aes_instructions=translate.has_aes_instructions(),
        udp=udp.fileno(),
        ipv6=held.udp.ipv6,
        api=api.fileno(),
        counters=held.counters,
        lane_links=tuple(link.control.fileno() for link in held.links),
        offloads=held.offloads,
        supervisor_pid=os.getpid(),
        started_at=started_at,
        restarted=restarted,
        sample=config.telemetry.sample if config.telemetry.enabled else 0.0,
        icmp=tuple(sock.fileno() for sock in held.icmp),
        facts=facts,
        redact_addresses=policy.addresses,
        redact_key=policy.key,
        redact_hosts=tuple(policy.hosts),
        quiet=quiet,
    )
    given = [theirs.fileno(), message.udp, message.api, message.counters, *message.lane_links, *message.icmp]
    given += [facts] if facts >= 0 else []
    with theirs:
        supervision.send(ours, message)
        return _spawn("pqvpn.control", theirs.fileno(), given), ours


def spawn_observer(message: observer_start.ObserverStart) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    """Start the observer; returns it and the supervisor's end of its link, whose closing ends it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    given = [theirs.fileno(), message.link, message.counters, message.health_socket]
    given += [message.health_tcp] if message.health_tcp >= 0 else []
    with theirs:
        try:
            observer_start.send(ours, message)
            return _spawn("pqvpn.observer", theirs.fileno(), given), ours
        except OSError:
            ours.close()
            raise
