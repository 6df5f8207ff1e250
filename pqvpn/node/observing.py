"""The supervisor's side of telemetry: the link for facts, the sockets of the observer, its start message.

Owns what outlives an observer, so that its successor goes on where it ended: both ends of the link and the listening
sockets. Reads no fact. Nothing here keeps a node from starting: what cannot be had is told and left out.
"""

import contextlib
import errno
import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from pqvpn import __version__
from pqvpn.config import paths
from pqvpn.config.schema import NodeConfig
from pqvpn.errors import NetworkError
from pqvpn.facts import Fact, Problem
from pqvpn.host import runtime, stacks
from pqvpn.identity import peer_id
from pqvpn.node import children, lastwords, translate
from pqvpn.observer import start as starting
from pqvpn.reasons import Reason
from pqvpn.resilience.supervisor import Process
from pqvpn.telemetry import envelope, jsonlog, last, redaction
from pqvpn.telemetry.publish import Publisher

NAME = "observer"
_STDERR = 2
_BACKLOG = 32
_CHOOSE = "choose a free port from 1024 on, or restart the node (pqvpn down, then pqvpn up)"
_VARIABLES = (
    "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER",
)  # fmt: skip


def policy_of(config: NodeConfig) -> redaction.Policy:
    """How this node's records are redacted; makes the state folder, as far as the disk allows."""
    folder = config.state_folder
    with contextlib.suppress(OSError):  # the observer tells of it; meanwhile the key is one of this run
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return redaction.load(folder, config.redact.addresses, hosts_of(config))


def hosts_of(config: NodeConfig) -> frozenset[str]:
    """The names of hosts in the configuration, which records tell as its `[redact]` says."""
    hosts = {p.endpoint.host for p in config.peers if p.endpoint and p.endpoint.ip is None}
    if config.telemetry.endpoint:
        hosts.add(urlsplit(config.telemetry.endpoint).hostname or "")
    if config.crash_dsn:
        hosts.add(urlsplit(config.crash_dsn.expose().decode("ascii", "replace")).hostname or "")
    return frozenset(hosts - {"", "localhost"})


class Observing:
    """Telemetry as the supervisor has it. Where it is off, facts go to standard error only."""

    def __init__(self, config: NodeConfig, *, debug: bool, started_at: float) -> None:
        """Raises TelemetryError when an `OTEL_*` variable asks for what cannot be given."""
        self._config = config
        self._debug = debug
        self._started_at = started_at
        self.policy = policy_of(config)
        self.enabled = config.telemetry.enabled
        if self.enabled:
            with contextlib.suppress(OSError):  # the observer tells of a disk that refuses
                last.begin(config.state_folder, time.time())
        self.quiet = self.enabled and config.log.file and _detached(config.runtime_folder)
        jsonlog.set_up(
            "supervisor",
            "debug" if debug else config.log.level,
            redactor=redaction.Redactor(self.policy),
            text=True if config.log.format == "text" else None,
            debug=debug,
            quiet=self.quiet,
        )
        self._endpoint = endpoint_of(config) if self.enabled else None
        self._link = envelope.link() if self.enabled else None
        self._words = stacks.make() if self.enabled else -1
        self._publisher = Publisher("supervisor", self._link[1] if self._link else None)
        self._unix: socket.socket | None = None
        self._tcp: socket.socket | None = None
        self._listens = config.health.listen  # what `_tcp` is for, whether it could be had or not
        self._prepared: socket.socket | None = None
        self.process_link: socket.socket | None = None

    def publish(self, fact: Fact) -> None:
        """The supervisor's `FactHook`."""
        self._publisher(fact)

    @property
    def facts(self) -> int:
        """The descriptor on which other processes publish, -1: there is none."""
        return self._link[1].fileno() if self._link else -1

    def leave_words(self) -> None:
        """Have the supervisor's own stacks written where the observer finds them after it."""
        if self._words >= 0:
            stacks.watch(self._words)

    def listen(self) -> None:
        """Open the health endpoint; before privileges are given up, since a port may be a low one."""
        if not self.enabled:
            return
        place = paths.health_socket(self._config.runtime_folder)
        try:
            self._unix = runtime.listen(place)
        except OSError as error:
            self.publish(Problem(Reason.KERNEL_REFUSED, "health", f"{place}: {error.strerror}"))
        self._open_tcp()

    def prepare(self, config: NodeConfig) -> None:
        """Open what the health endpoint shall listen on, for the next observer. Raises NetworkError when it cannot be had."""
        self.unprepare()
        wanted = config.health.listen
        if not self.enabled or wanted is None or wanted == self._listens:
            return
        try:
            self._prepared = _listen_tcp(wanted.host, wanted.port)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            if taken and self._tcp and self._tcp.getsockname()[1] == wanted.port:
                return  # by ourselves: it is free once the present observer has ended
            reason = Reason.ADDRESS_IN_USE if taken else Reason.KERNEL_REFUSED
            if error.errno in (errno.EACCES, errno.EPERM):  # the privilege for a low port is given up after the start
                reason = Reason.NO_PERMISSION
            detail = f"{wanted}: {error.strerror or error}"
            raise NetworkError(reason, detail, place="health.listen", remedy=_CHOOSE) from error

    def unprepare(self) -> None:
        """What was prepared is not wanted after all."""
        if self._prepared:
            self._prepared.close()
            self._prepared = None

    def _settle(self) -> None:
        """Listen where the configuration says by now. The former observer, which had the socket, too, has ended."""
        if self._listens == self._config.health.listen:
            return
        if self._tcp:
            self._tcp.close()
        self._listens = self._config.health.listen
        self._tcp, self._prepared = self._prepared, None
        if self._tcp is None:
            self._open_tcp()

    def _open_tcp(self) -> None:
        wanted = self._listens
        if wanted is None:
            return
        try:
            self._tcp = _listen_tcp(wanted.host, wanted.port)
        except OSError as error:
            self.publish(Problem(Reason.ADDRESS_IN_USE, "health", f"{wanted}: {error.strerror or error}"))

    def leave(self) -> list[int]:
        """The descriptors that outlive an observer, for the next supervisor; -1: none."""
        self._settle()
        ends = (*(self._link or (None, None)), self._unix, self._tcp)
        return [end.fileno() if end else -1 for end in ends]

    def resume(self, left: list[int]) -> None:
        """Take over what a former supervisor left, instead of `listen`."""
        here, there, unix, tcp = (socket.socket(fileno=place) if place >= 0 else None for place in left)
        if here and there and self._link:
            for end in self._link:
                end.close()
            self._link = here, there
            self._publisher = Publisher("supervisor", there)
        self._unix, self._tcp = unix, tcp

    def take_link(self, link: socket.socket) -> None:
        """The link to the observer that runs."""
        self.process_link = link

    def start(self, counters: int) -> Process:
        """Start an observer. Raises OSError."""
        self.let_go()
        if self.enabled:
            self._settle()
        waiting = children.spawn(children.OBSERVER)
        with waiting.becoming():
            starting.send(waiting.link, self._message(counters))
        self.process_link = waiting.link
        return waiting.process

    def poke(self) -> None:
        """Ask the observer for a sign of progress."""
        if self.process_link:
            children.poke(self.process_link)

    def apply(self, config: NodeConfig) -> None:
        """The configuration was changed, for this process, this observer (as far as one at work can take it) and the next."""
        self._config = config
        self.policy.learn(hosts_of(config))
        if self.process_link:
            news = starting.News(translate.breakers(config), translate.limits(config), tuple(self.policy.hosts))
            children.poke(self.process_link, starting.pack_news(news))

    def let_go(self) -> None:
        """Close the observer's link: it reads what is left and ends."""
        if self.process_link:
            self.process_link.close()
            self.process_link = None

    def close(self) -> None:
        """Close what was kept for observers; facts go to standard error only from here on."""
        self.let_go()
        for end in (*(self._link or ()), self._unix, self._tcp, self._prepared):
            if end:
                end.close()
        if self._unix:
            paths.health_socket(self._config.runtime_folder).unlink(missing_ok=True)

    def _message(self, counters: int) -> starting.ObserverStart:
        assert self._link is not None
        config, log = self._config, self._config.log
        return starting.ObserverStart(
            node=starting.Node(
                name=config.node.name,
                id=peer_id.to_text(config.card.peer_id),
                version=__version__,
                interface=config.node.interface,
                lanes=translate.lanes(config),
                peers=tuple(p.name for p in config.peers),
                started_at=self._started_at,
            ),
            log=starting.LogSettings(
                level="debug" if self._debug else log.level,
                levels=jsonlog.settings(),
                text=log.format == "text",
                debug=self._debug,
                quiet=self.quiet,
                file=log.file,
                rotate_size=log.rotate_size,
                rotate_age=log.rotate_age,
                keep_size=log.keep_size,
            ),
            records=self._records(),
            crashes=self._crashes(),
            health=starting.HealthSettings(
                limits=translate.limits(config),
                token=config.health_token.expose().decode() if config.health_token else None,
            ),
            addresses=self.policy.addresses,
            pseudonym_key=self.policy.key,
            hosts=tuple(self.policy.hosts),
            state_folder=str(config.state_folder),
            link=self._link[0].fileno(),
            counters=counters,
            health_socket=self._unix.fileno() if self._unix else -1,
            health_tcp=self._tcp.fileno() if self._tcp else -1,
            tcp_is_loopback=_is_loopback(self._tcp),
            supervisor_pid=os.getpid(),
            breakers=translate.breakers(config),
            supervisor_words=self._words,
        )

    def _crashes(self) -> starting.CrashSettings:
        section, dsn = self._config.crash_reports, self._config.crash_dsn
        return starting.CrashSettings(
            dsn=dsn.expose() if dsn else None,
            environment=section.environment,
            host=lastwords.host(self._config),
            ca_file=lastwords.ca_file(self._config),
            timeout=section.timeout,
            keep_size=section.keep_size,
            keep_age=section.keep_age,
        )

    def _records(self) -> starting.RecordSettings:
        telemetry = self._config.telemetry
        return starting.RecordSettings(
            endpoint=self._endpoint,
            environment=variables(),
            sample=telemetry.sample,
            spool_size=telemetry.spool_size,
            spool_age=telemetry.spool_age,
            flush_interval=telemetry.flush_interval,
            metrics_interval=telemetry.metrics_interval,
        )


def variables() -> dict[str, str]:
    """The operator's variables that records follow."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


def endpoint_of(config: NodeConfig) -> bytes | None:
    """Where records are sent, for the observer. Raises TelemetryError when a setting or a variable cannot be followed."""
    if config.telemetry.endpoint is None and not any(name.startswith("OTEL_") for name in os.environ):
        return None  # spares the import
    from pqvpn.telemetry.export import environment

    found = environment.endpoint_of(config.telemetry, config.telemetry_headers, os.environ, config.folder)
    return found.pack() if found else None


def _detached(folder: Path) -> bool:
    """Whether standard error is the file that `pqvpn up --detach` opens, which nobody rotates."""
    try:
        return os.path.samestat(os.fstat(_STDERR), os.stat(paths.log_file(folder), follow_symlinks=False))
    except OSError:
        return False


def _listen_tcp(host: str, port: int) -> socket.socket:
    """A listening socket at an address; a name but `localhost` is not looked up, since that may take its time."""
    address = "127.0.0.1" if host == "localhost" else host
    family, kind, protocol, _, place = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _is_loopback(listener: socket.socket | None) -> bool:
    if listener is None:
        return False
    host = str(listener.getsockname()[0])
    return host.startswith("127.") or host == "::1"
