"""Facts: frozen records of what happened, published by mechanisms and turned into signals elsewhere.

Owns the closed set of records, their stable names and the hook through which they pass. Knows no logger, no metric and
no span: `pqvpn.telemetry` consumes facts. A fact never carries a secret; addresses and peer names are given as they are
and redacted by the consumer. Times are seconds, sizes are bytes, identifiers are lower-case hex: `session_id` 32
digits, `attempt` 32 digits. An attempt's identifier is the trace id of its spans; the responder knows it only when it
was told and adopts it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from pqvpn.reasons import Reason


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened. `event` is its stable name, `area` the part of the node it is about (whose log level
    applies), `level` a `logging` level name. `told` False: it feeds signals and is never a log line of its own.
    """

    event: ClassVar[str] = "fact"
    area: ClassVar[str] = "node"
    level: ClassVar[str] = "info"
    told: ClassVar[bool] = True

    def fields(self) -> dict[str, Any]:
        """The record's fields by name, without those that are empty."""
        pairs = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value for name, value in pairs if value not in (None, "", ())}


FactHook = Callable[[Fact], None]


# -- handshakes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HandshakeStarted(Fact):
    """An attempt to connect began. `trigger`: traffic, start, rekey, silence, keepalive, operator, lost."""

    event = "handshake.started"
    area = "handshake"
    peer: str
    endpoint: str
    attempt: str = ""
    trigger: str = ""


@dataclass(frozen=True, slots=True)
class HandshakeSent(Fact):
    """M1 or M3 went out. `number` counts the transmissions of one message from 1; `cookie`: with a valid MAC2."""

    event = "handshake.sent"
    area = "handshake"
    level = "debug"
    peer: str
    attempt: str
    message: str  # m1, m3
    endpoint: str
    number: int
    cookie: bool = False


@dataclass(frozen=True, slots=True)
class CookieReceived(Fact):
    """The responder is in cookie mode and gave a cookie."""

    event = "handshake.cookie"
    area = "handshake"
    level = "debug"
    peer: str
    attempt: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class AnswerVerified(Fact):
    """An M2 verified: the session is agreed, and M3 goes out. `sampled`: both sides trace this attempt."""

    event = "handshake.answered"
    area = "handshake"
    level = "debug"
    peer: str
    attempt: str
    session_id: str
    endpoint: str
    sampled: bool = False


@dataclass(frozen=True, slots=True)
class AnswerRefused(Fact):
    """An M2 came for an attempt of ours and was refused. `drop`: the `DropReason`, lower case.

    `reason`: what it means when it was made by the peer that we called, which alone can read our M1; None: by anybody.
    """

    event = "handshake.answer_refused"
    area = "handshake"
    level = "warning"
    peer: str
    attempt: str
    drop: str
    endpoint: str
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class HandshakeCompleted(Fact):
    """A session was agreed. `role` is initiator or responder, `seconds` counts from the first M1 (initiator only).

    `attempt` is the trace id: our own as initiator, the adopted one as responder, empty when there is none. Responder:
    `asked`, `answered`: seconds before M3 came in that the first datagram of its M1 did, and that M1 was whole and
    answered; None where that is not known any more.
    """

    event = "handshake.completed"
    area = "handshake"
    peer: str
    session_id: str
    role: str
    suite: str
    endpoint: str
    seconds: float | None = None
    attempt: str = ""
    policy: str = "full"  # full, auth-plaintext
    asked: float | None = None
    answered: float | None = None


@dataclass(frozen=True, slots=True)
class HandshakeFailed(Fact):
    """An attempt was given up. `drops`: what was refused meanwhile, each `DropReason` once, lower case."""

    event = "handshake.failed"
    area = "handshake"
    level = "warning"
    peer: str
    reason: Reason
    endpoint: str = ""
    detail: str = ""
    attempt: str = ""
    seconds: float | None = None
    drops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HandshakeAbandoned(Fact):
    """An attempt ended with neither a session nor a failure. `why`: peer_was_quicker (its own attempt made a session),
    policy (another one is in force now), no_room, removed, shutdown.
    """

    event = "handshake.abandoned"
    area = "handshake"
    level = "debug"
    peer: str
    attempt: str
    why: str


@dataclass(frozen=True, slots=True)
class HandshakeRefused(Fact):
    """A handshake message was dropped that came from a configured peer's address or names a configured peer.

    Evidence, not proof: nothing acts on it, for anybody can send from anywhere. `count` since the last such record of
    the same peer, drop and `named` (at most one in 10 s each). `named`: the sender says that it is this peer.
    """

    event = "handshake.refused"
    area = "handshake"
    level = "warning"
    peer: str
    drop: str
    endpoint: str
    count: int = 1
    named: bool = False


@dataclass(frozen=True, slots=True)
class FragmentsLost(Fact):
    """A message from a peer's address stayed incomplete. `have` of `want` fragments arrived within the limit."""

    event = "handshake.fragments_lost"
    area = "handshake"
    level = "warning"
    peer: str
    message: str  # m1, m2
    have: int
    want: int
    endpoint: str
    attempt: str = ""


# -- sessions and paths ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionEnded(Fact):
    """A session's keys were erased. `why`: expired, replaced, closed, removed, lost."""

    event = "session.ended"
    area = "session"
    peer: str
    session_id: str
    why: str


@dataclass(frozen=True, slots=True)
class PeerStateChanged(Fact):
    """What `status` says of a peer changed. `state`, `before`: up, connecting, stale, down; `seconds` in `before`."""

    event = "peer.state"
    area = "session"
    peer: str
    state: str
    before: str
    seconds: float
    reason: Reason | None = None
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class Roamed(Fact):
    """A session's endpoint moved. `validated` once the path challenge was answered from there."""

    event = "path.roamed"
    area = "path"
    peer: str
    session_id: str
    endpoint: str
    validated: bool


@dataclass(frozen=True, slots=True)
class PathValidated(Fact):
    """The first path challenge of a session was answered. `rtt` in seconds."""

    event = "path.validated"
    area = "path"
    level = "debug"
    peer: str
    session_id: str
    endpoint: str
    rtt: float


@dataclass(frozen=True, slots=True)
class PathMtuChanged(Fact):
    """The largest inner packet that a peer's path carries changed, in bytes. `largest` is what the session allows."""

    event = "path.mtu"
    area = "path"
    peer: str
    session_id: str
    before: int
    after: int
    largest: int


@dataclass(frozen=True, slots=True)
class IcmpReceived(Fact):
    """The network says that our datagrams do not arrive at a peer's address. Evidence only: ICMP is not authenticated.

    `kind`: port_unreachable, host_unreachable, net_unreachable, prohibited, too_big. At most one in 10 s each.
    """

    event = "network.icmp"
    area = "path"
    level = "warning"
    peer: str
    kind: str
    endpoint: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class InnerRefused(Fact):
    """Packets that an authenticated peer sent were dropped. At most one in a second for each lane, session and drop."""

    event = "inner.refused"
    area = "data"
    level = "warning"
    peer: str
    session_id: str
    drop: str
    count: int


# -- names -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resolved(Fact):
    """A peer's name was looked up, with `addresses` answers after `seconds`."""

    event = "resolver.resolved"
    area = "resolver"
    level = "debug"
    peer: str
    host: str
    addresses: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ResolveFailed(Fact):
    """A look-up failed; the last known addresses (`kept`) stay in use. Told when the cause changes, not once a retry.

    The name is in `host` only: there it can be told from a word, and redacted.
    """

    event = "resolver.failed"
    area = "resolver"
    level = "warning"
    peer: str
    reason: Reason
    detail: str
    seconds: float
    kept: int = 0
    host: str = ""


# -- the node --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem(Fact):
    """A failure with its reason, not tied to one of the other records."""

    event = "problem"
    level = "warning"
    reason: Reason
    component: str
    detail: str = ""
    peer: str = ""
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class ConfigurationLoaded(Fact):
    """The configuration was read at start."""

    event = "config.loaded"
    area = "config"
    peers: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ConfigurationApplied(Fact):
    """A reload took effect. `restart_needed`: settings that changed but are read at start only."""

    event = "config.applied"
    area = "config"
    changes: str
    restart_needed: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ConfigurationRefused(Fact):
    """A reload was refused; nothing changed."""

    event = "config.refused"
    area = "config"
    level = "warning"
    reason: Reason
    errors: int


@dataclass(frozen=True, slots=True)
class NodeStarted(Fact):
    """The node answers and its interface is up. `parts`: seconds by step of the start."""

    event = "node.started"
    interface: str
    listen: int
    seconds: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeUpgraded(Fact):
    """Another version runs the node, under the sessions that were there. `seconds` since it was asked for."""

    event = "node.upgraded"
    before: str
    after: str
    seconds: float


@dataclass(frozen=True, slots=True)
class NodeStopped(Fact):
    """The node ended on purpose. `cause`: signal or request; `seconds` since it was asked to."""

    event = "node.stopped"
    cause: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ChildEnded(Fact):
    """A process of the node ended unexpectedly. `status`: exit code, or the signal's name."""

    event = "process.ended"
    area = "process"
    level = "error"
    process: str
    pid: int
    status: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class ChildStarted(Fact):
    """A process of the node was started; `restarts` counts the times it had ended before."""

    event = "process.started"
    area = "process"
    process: str
    pid: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Crashed(Fact):
    """Something ended that should not have: what a crash report is made of. Never an exception's text.

    `kind`: exception, signal, killed, out_of_memory, hang, startup. `error`: the exception's type or the signal's name;
    `chain`: the types of what caused it. `frames`: "pqvpn/control/process.py:88 in run", outermost first. `handled`:
    the process went on without the part that failed. `trace_id`: of a trace of its own, where it is about no attempt.
    """

    event = "crash"
    area = "process"
    level = "error"
    kind: str
    process: str
    reason: Reason
    error: str
    place: str = ""
    frames: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    thread: str = ""
    pid: int = 0
    handled: bool = False
    count: int = 1
    session_id: str = ""
    peer: str = ""
    attempt: str = ""
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class BreakerChanged(Fact):
    """A circuit breaker changed its state. `state`, `before`: closed, open, half_open. `breaker`: peer, path, dns, crypto,
    netlink, otlp, crash-reports; `key`: which one, where there are several. `cause`: rate, consecutive, waited,
    probe_failed, probes_passed, held_open and held_closed (by an operator), reset.
    """

    event = "breaker.changed"
    area = "resilience"
    level = "warning"
    breaker: str
    key: str
    state: str
    before: str
    cause: str
    reason: Reason | None = None
    peer: str = ""
    attempt: str = ""


@dataclass(frozen=True, slots=True)
class RetryWaiting(Fact):
    """An operation failed and is tried again after `seconds`. `number` counts its failures from 1. `operation`, `key`: as
    `breaker` and `key` of its breaker, where it has one.
    """

    event = "retry.waiting"
    area = "resilience"
    level = "debug"
    operation: str
    key: str
    number: int
    seconds: float
    reason: Reason | None = None
    peer: str = ""
    attempt: str = ""


@dataclass(frozen=True, slots=True)
class RetryEnded(Fact):
    """A retried operation ended. `outcome`: recovered, gave_up, good_news (the wait was cut short)."""

    event = "retry.ended"
    area = "resilience"
    operation: str
    key: str
    number: int
    outcome: str
    reason: Reason | None = None
    peer: str = ""
    attempt: str = ""


@dataclass(frozen=True, slots=True)
class NetworkChanged(Fact):
    """Waits are cut short and breakers forget: links, addresses or routes of this machine changed, or it slept.

    `cause`: changed, or resumed (after `seconds` of suspend).
    """

    event = "network.changed"
    area = "resilience"
    cause: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ClockJumped(Fact):
    """The wall clock moved against CLOCK_BOOTTIME by `seconds`. No key depends on it; only record times do."""

    event = "clock.jumped"
    level = "warning"
    seconds: float
    reason: Reason = Reason.CLOCK_JUMPED


@dataclass(frozen=True, slots=True)
class HealthChanged(Fact):
    """A health item changed its state. `state`, `before`: ok, warning, failing, unknown."""

    event = "health.changed"
    area = "health"
    level = "warning"
    item: str
    state: str
    before: str
    reason: Reason | None = None
    detail: str = ""
    peer: str = ""


@dataclass(frozen=True, slots=True)
class HealthActed(Fact):
    """A check failed and something was done about it. `outcome`: mended, refused; `detail`: what was done, or why not."""

    event = "health.acted"
    area = "health"
    level = "warning"
    item: str
    outcome: str
    detail: str
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class LevelChanged(Fact):
    """An operator set the level of an area (`*`: all); it falls back after `seconds`, None: it stays."""

    event = "log.level"
    area = "telemetry"
    target: str
    value: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class LogLine(Fact):
    """A record of the standard `logging` package. `place` is file:line; `error` the type of an exception, if any."""

    event = "log"
    area = "telemetry"
    text: str
    severity: str  # a logging level name, lower case
    logger: str
    place: str = ""
    error: str = ""
    trace: str = ""  # the exception's frames, never its text


# -- readings: they feed metrics, health and `diag`, and are no log lines --------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeObserved(Fact):
    """What control knows of the node, once a second: the objects `version`, `node`, `processes`, `drops` of `status`.

    `lag`: how late the event loop's tick was, in seconds.
    """

    event = "node.observed"
    told = False
    status: dict[str, Any]
    lag: float


@dataclass(frozen=True, slots=True)
class PeerObserved(Fact):
    """What control knows of one peer, once a second: its object of `status`."""

    event = "peer.observed"
    area = "session"
    told = False
    peer: str
    status: dict[str, Any]


@dataclass(frozen=True, slots=True)
class InterfaceObserved(Fact):
    """What the kernel says of the interface. `missing`: configured addresses and routes that are not there.

    `conflict`: another interface that holds one of our addresses or routes our networks elsewhere, in words. Packets as
    the kernel counts them: `tx` when a lane took one, `tx_dropped` when the queue to the lanes was full.
    """

    event = "interface.observed"
    area = "tun"
    told = False
    interface: str
    exists: bool
    up: bool = False
    missing: tuple[str, ...] = ()
    conflict: str = ""
    rx_packets: int = 0
    tx_packets: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True)
class SocketsObserved(Fact):
    """Which sockets of the UDP port somebody shut down or closed, by the process that uses each; empty: none any more."""

    event = "sockets.observed"
    area = "node"
    told = False
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CryptoChecked(Fact):
    """The known-answer tests ran. `failed`: primitives that did not give their known answer."""

    event = "crypto.checked"
    area = "crypto"
    told = False
    failed: tuple[str, ...] = ()
    seconds: float = 0.0


FACTS: dict[str, type[Fact]] = {
    kind.event: kind
    for kind in (
        HandshakeStarted, HandshakeSent, CookieReceived, AnswerVerified, AnswerRefused, HandshakeCompleted,
        HandshakeFailed, HandshakeAbandoned, HandshakeRefused, FragmentsLost, SessionEnded, PeerStateChanged, Roamed,
        PathValidated, PathMtuChanged, IcmpReceived, InnerRefused, Resolved, ResolveFailed, Problem, ConfigurationLoaded,
        ConfigurationApplied, ConfigurationRefused, NodeStarted, NodeUpgraded, NodeStopped, ChildEnded, ChildStarted,
        Crashed, BreakerChanged, RetryWaiting, RetryEnded, NetworkChanged, ClockJumped,
        HealthChanged, HealthActed, LevelChanged, LogLine, NodeObserved, PeerObserved, InterfaceObserved, SocketsObserved,
        CryptoChecked,
    )
}  # fmt: skip
"""Every kind of fact by its stable name."""
