"""How the node's processes are started: a fresh interpreter that waits, then one message that makes it what it is.

Owns command lines, environments and start messages. Descriptors travel with the message, so that a warm spare, imported and
waiting, becomes any lane or control in milliseconds. Never forks with keys: each child is a fresh interpreter, and nothing
secret is in its arguments or environment.
"""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from pqvpn.config.schema import NodeConfig
from pqvpn.control import supervision
from pqvpn.dataplane import start as lane_start
from pqvpn.host import stacks
from pqvpn.node import translate
from pqvpn.node.descriptors import Descriptors
from pqvpn.resilience.supervisor import Process
from pqvpn.telemetry import jsonlog
from pqvpn.telemetry.redaction import Policy

LANE, CONTROL, OBSERVER, SPARE = "pqvpn.dataplane", "pqvpn.control", "pqvpn.observer", "pqvpn.control.spare"
"""The modules that processes run."""
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ")


@dataclass(slots=True)
class Waiting:
    """A process that waits for its start message on the other end of `link`."""

    process: Process
    link: socket.socket

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.popen.poll() is None

    def end(self) -> None:
        """Let go of it: without its link it ends by itself."""
        self.link.close()
        os.close(self.process.last_words)

    def kill(self) -> None:
        """Have nothing left of it."""
        self.end()
        self.process.popen.kill()
        self.process.popen.wait()

    @contextlib.contextmanager
    def becoming(self) -> Iterator[None]:
        """While it is made what it shall be: when that fails, nothing is left of it."""
        try:
            yield
        except BaseException:
            self.kill()
            raise


def spawn(module: str) -> Waiting:
    """Start an interpreter that imports `module` and waits. Raises OSError."""
    ours, theirs = supervision.link()
    last_words = -1
    with theirs:
        try:
            last_words = stacks.make()
            popen = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no input in the arguments
                [sys.executable, "-I", "-m", module, str(theirs.fileno()), str(last_words)],
                pass_fds=(theirs.fileno(), last_words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={k: os.environ[k] for k in _KEPT_VARIABLES if k in os.environ},
                cwd="/",
            )
        except BaseException:
            ours.close()
            if last_words >= 0:
                os.close(last_words)
            raise
    return Waiting(Process(popen, last_words), ours)


def poke(link: socket.socket, message: bytes = lane_start.POKE) -> None:
    """Ask a process for a sign of progress; one that reads nothing shows none."""
    with contextlib.suppress(OSError):
        link.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def make_lane(link: socket.socket, lane: int, lanes: int, mtu: int, held: Descriptors, own_link: int = -1) -> None:
    """Make a lane of the process at the other end of `link`; the closing of its link ends it. Raises OSError.

    `own_link`: the process is a lane already and shall carry this one as well, until that link closes.
    """
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
        waits=True,
        link=own_link,
    )
    lane_start.send(link, message)


def make_control(
    waiting: Waiting,
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
) -> None:
    """Make control of a waiting process. `facts`: where it publishes, -1: nowhere. Raises OSError."""
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
        log_levels=jsonlog.settings(),
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
        breakers=translate.breakers(config),
        crypto_interval=config.health.crypto_interval,
        crypto_timeout=config.health.crypto_timeout,
    )
    supervision.send_start(waiting.link, message)
