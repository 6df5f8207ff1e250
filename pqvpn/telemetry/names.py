"""Every name that a signal carries: spans, events, attributes, instruments and fields of log lines, each defined once.

Owns names, units, descriptions and bucket boundaries; docs/telemetry.md is written from it. OpenTelemetry's conventions
where they exist (`network.*`, `error.type`, `exception.*`, `service.*`, `session.id`, `process.*`), `pqvpn.*` elsewhere.
Needs no OpenTelemetry and knows not when a name is used: that is `signals/`.
"""

from dataclasses import dataclass
from typing import Final, Literal

Holds = Literal["word", "number", "flag", "id", "name", "address", "text", "words"]
"""word: of a closed list; number, flag; id: lower-case hex; name: given by the operator or by us; address: an IP address
or host name; text: free text; words: a list of words.
"""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute; `holds` says what its values are, for whoever must judge them."""

    name: str
    holds: Holds
    description: str


@dataclass(frozen=True, slots=True)
class Span:
    """One kind of span; `root`: it begins a trace of its own."""

    name: str
    description: str
    root: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of span event."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric. `buckets`: the explicit boundaries of a histogram."""

    name: str
    kind: Literal["counter", "updown", "gauge", "histogram"]
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class LogField:
    """One field of a line in the log files."""

    name: str
    description: str


_attributes: dict[str, Attribute] = {}
_spans: dict[str, Span] = {}
_events: dict[str, Event] = {}
_instruments: dict[str, Instrument] = {}


def _attribute(name: str, holds: Holds, description: str) -> str:
    assert name not in _attributes, name
    _attributes[name] = Attribute(name, holds, description)
    return name


def _span(name: str, description: str, *, root: bool = False) -> str:
    assert name not in _spans, name
    _spans[name] = Span(name, description, root)
    return name


def _event(name: str, description: str) -> str:
    assert name not in _events, name
    _events[name] = Event(name, description)
    return name


def _instrument(
    name: str,
    kind: Literal["counter", "updown", "gauge", "histogram"],
    unit: str,
    description: str,
    *attributes: str,
    buckets: tuple[float, ...] = (),
) -> Instrument:
    assert name not in _instruments, name
    _instruments[name] = Instrument(name, kind, unit, description, attributes, buckets)
    return _instruments[name]


# -- attributes ------------------------------------------------------------------------------------------------------

# conventions: resource
SERVICE_NAME: Final = _attribute("service.name", "name", "`pqvpn`, or what OTEL_SERVICE_NAME says")
SERVICE_VERSION: Final = _attribute("service.version", "name", "this version")
SERVICE_NAMESPACE: Final = _attribute("service.namespace", "name", "what OTEL_RESOURCE_ATTRIBUTES says")
SERVICE_INSTANCE_ID: Final = _attribute("service.instance.id", "name", "a stable pseudonym of this node")
DEPLOYMENT: Final = _attribute("deployment.environment.name", "name", "what OTEL_RESOURCE_ATTRIBUTES says")
SDK_NAME: Final = _attribute("telemetry.sdk.name", "name", "`opentelemetry`")
SDK_LANGUAGE: Final = _attribute("telemetry.sdk.language", "name", "`python`")
SDK_VERSION: Final = _attribute("telemetry.sdk.version", "name", "the SDK's version")
# conventions: elsewhere
SESSION_ID: Final = _attribute("session.id", "id", "the session")
SESSION_PREVIOUS_ID: Final = _attribute("session.previous_id", "id", "the session with this peer before it")
ERROR_TYPE: Final = _attribute("error.type", "word", "why it failed: the reason code, or an exception's type")
EXCEPTION_TYPE: Final = _attribute("exception.type", "name", "an exception's type, or a signal's name")
EXCEPTION_STACKTRACE: Final = _attribute("exception.stacktrace", "text", "places and functions, never texts")
NETWORK_PEER_ADDRESS: Final = _attribute("network.peer.address", "address", "the peer's outer address")
NETWORK_PEER_PORT: Final = _attribute("network.peer.port", "number", "the peer's outer UDP port")
NETWORK_LOCAL_PORT: Final = _attribute("network.local.port", "number", "the UDP port that the node listens on")
NETWORK_TRANSPORT: Final = _attribute("network.transport", "word", "`udp`")
NETWORK_TYPE: Final = _attribute("network.type", "word", "`ipv4` or `ipv6`, of the outer address")
NETWORK_DIRECTION: Final = _attribute("network.io.direction", "word", "`receive` or `transmit`")
NETWORK_INTERFACE: Final = _attribute("network.interface.name", "name", "the tunnel's interface")
SERVER_ADDRESS: Final = _attribute("server.address", "address", "the host name that was looked up")
PROCESS_PID: Final = _attribute("process.pid", "number", "the process that the record is about")
THREAD_NAME: Final = _attribute("thread.name", "name", "the thread")
# own: where and whose
COMPONENT: Final = _attribute(
    "pqvpn.component", "word", "the part of the node it is about: handshake, session, path, ..."
)
PROCESS: Final = _attribute("pqvpn.process", "name", "supervisor, control, observer, lane-0, ...")
LANE: Final = _attribute("pqvpn.lane", "name", "lane-0, lane-1, ...")
PEER: Final = _attribute("pqvpn.peer", "name", "the peer's name in the configuration")
ATTEMPT: Final = _attribute("pqvpn.attempt", "id", "the attempt to connect: the trace id of its spans")
CRASH_TRACE: Final = _attribute("pqvpn.crash.trace", "id", "the trace of a crash that is about no attempt: its own")
REASON: Final = _attribute("pqvpn.reason", "word", "reason code, explained in reasons.md")
DROP: Final = _attribute("pqvpn.drop", "word", "why a packet was discarded")
DROPS: Final = _attribute("pqvpn.drops", "words", "what was discarded while it lasted")
DETAIL: Final = _attribute("pqvpn.detail", "text", "what was met, in words")
WHY: Final = _attribute("pqvpn.why", "word", "why it ended, where that is no failure")
OUTCOME: Final = _attribute(
    "pqvpn.outcome", "word", "how it ended: completed, failed, abandoned, unanswered, lost, ..."
)
CAUSE: Final = _attribute("pqvpn.cause", "word", "what made it happen")
# own: handshakes
TRIGGER: Final = _attribute("pqvpn.trigger", "word", "why the attempt began: traffic, start, rekey, silence, ...")
ROLE: Final = _attribute("pqvpn.role", "word", "initiator or responder")
SUITE: Final = _attribute("pqvpn.suite", "word", "the session's algorithms")
POLICY: Final = _attribute("pqvpn.policy", "word", "full, or auth-plaintext")
MESSAGE: Final = _attribute("pqvpn.message", "word", "m1, m2 or m3")
NUMBER: Final = _attribute("pqvpn.number", "number", "the how manieth transmission, or try")
COOKIE: Final = _attribute("pqvpn.cookie", "flag", "sent with a cookie")
NAMED: Final = _attribute("pqvpn.named", "flag", "the sender says that it is this peer")
SHARED: Final = _attribute("pqvpn.sampled", "flag", "the peer takes part in this trace")
HAVE: Final = _attribute("pqvpn.fragments.have", "number", "fragments that arrived")
WANT: Final = _attribute("pqvpn.fragments.want", "number", "fragments of the whole message")
ASKED: Final = _attribute(
    "pqvpn.handshake.asked", "number", "responder: seconds from the first datagram of M1 to the M3 that came of it"
)
ANSWERED: Final = _attribute(
    "pqvpn.handshake.answered", "number", "responder: seconds from M1, whole and answered, to the M3 that came of it"
)
PARTIAL: Final = _attribute("pqvpn.partial", "flag", "the beginning was not seen: the observer was replaced meanwhile")
# own: values
SECONDS: Final = _attribute("pqvpn.seconds", "number", "how long, in seconds")
COUNT: Final = _attribute("pqvpn.count", "number", "how many")
RTT: Final = _attribute("pqvpn.rtt", "number", "round trip in seconds")
MTU_BEFORE: Final = _attribute("pqvpn.mtu.before", "number", "bytes of the largest inner packet before")
MTU_AFTER: Final = _attribute("pqvpn.mtu.after", "number", "bytes of the largest inner packet now")
MTU_LARGEST: Final = _attribute(
    "pqvpn.mtu.largest", "number", "bytes of the largest inner packet that the session allows"
)
STATE: Final = _attribute("pqvpn.state", "word", "the state now")
STATE_BEFORE: Final = _attribute("pqvpn.state.before", "word", "the state before")
VALIDATED: Final = _attribute("pqvpn.validated", "flag", "the path challenge was answered from there")
KIND: Final = _attribute("pqvpn.kind", "word", "which kind of ICMP message, or of crash")
ADDRESSES: Final = _attribute("pqvpn.addresses", "number", "addresses that a look-up found")
KEPT: Final = _attribute("pqvpn.addresses.kept", "number", "addresses known from before that stay in use")
PEERS: Final = _attribute("pqvpn.peers", "number", "configured peers")
CHANGES: Final = _attribute("pqvpn.changes", "text", "what a reload changed")
RESTART_NEEDED: Final = _attribute("pqvpn.restart_needed", "text", "changed settings that are read at start only")
ERRORS: Final = _attribute("pqvpn.errors", "number", "errors in the configuration")
PART: Final = _attribute("pqvpn.part", "word", "the step of the start")
PARTS: Final = _attribute("pqvpn.parts", "text", "seconds by step of the start")
STATUS: Final = _attribute("pqvpn.status", "name", "exit code, or the signal's name")
RESTARTS: Final = _attribute("pqvpn.restarts", "number", "how often the process had ended before")
PLACE: Final = _attribute("pqvpn.place", "text", "file and line of the code")
CHAIN: Final = _attribute("pqvpn.chain", "words", "types of the exceptions that led to it")
HANDLED: Final = _attribute("pqvpn.handled", "flag", "the process went on")
BREAKER: Final = _attribute("pqvpn.breaker", "name", "the circuit breaker")
KEY: Final = _attribute("pqvpn.guarded", "name", "what a breaker or a retry is about: a peer, a server")
OPERATION: Final = _attribute("pqvpn.operation", "name", "what is retried, or what a lane did")
ITEM: Final = _attribute("pqvpn.health.item", "name", "the health item")
TARGET: Final = _attribute("pqvpn.log.target", "name", "the area whose log level was set")
LEVEL: Final = _attribute("pqvpn.log.level", "word", "the log level")
LOGGER: Final = _attribute("pqvpn.logger", "name", "the logger of the standard library's package")
ACTION: Final = _attribute("pqvpn.error.class", "word", "what the node does: retry, fallback, shutdown or drop")
QUEUE: Final = _attribute("pqvpn.queue", "word", "which queue")
LOSS: Final = _attribute(
    "pqvpn.loss", "word", "where: link, facts, peers, attempts, full, redaction, sink, and what spool and export say"
)
SIGNAL: Final = _attribute("pqvpn.signal", "word", "traces, metrics or logs")

# -- spans -----------------------------------------------------------------------------------------------------------

CONNECT: Final = _span("pqvpn.connect", "an attempt to connect, from its beginning to the session in use", root=True)
REKEY: Final = _span("pqvpn.rekey", "the same, to replace the keys of a session that is in use", root=True)
ACCEPT: Final = _span(
    "pqvpn.accept",
    "a session that a peer asked for, from the arrival of its M1 as far as that is known, else of its M3; below its "
    "`pqvpn.connect` when it tells us",
    root=True,
)
RESOLVE: Final = _span(
    "pqvpn.resolve", "the look-up of the peer's name; a trace of its own when it fails by itself", root=True
)
M1: Final = _span(
    "pqvpn.handshake.m1",
    "one M1 to one endpoint, until it is answered or given up; repetitions are events; below `pqvpn.accept`: from the "
    "arrival of its first datagram to that of its last",
)
COOKIE_ROUND: Final = _span("pqvpn.handshake.cookie", "from M1 to the cookie that its repetition carries")
M2: Final = _span(
    "pqvpn.handshake.m2",
    "from M1 (with the cookie, if there was one) to the answer that verifies, or to the first of the peer's that fails; "
    "below `pqvpn.accept`: from M1, whole, to the arrival of the M3 that our answer led to",
)
VERIFY: Final = _span(
    "pqvpn.handshake.verify",
    "from the arrival of M2 to its being verified: decapsulation, and the making of M3; or to its failure, with the reason",
)
M3: Final = _span(
    "pqvpn.handshake.m3",
    "from the verified answer to M3: the session is made; below `pqvpn.accept`: from the arrival of M3 to the session",
)
FIRST_DATA: Final = _span("pqvpn.first_data", "from M3 to the first packet that authenticates; repetitions are events")
PATH_VALIDATE: Final = _span(
    "pqvpn.path.validate", "a path challenge that was answered; comes when data moves, maybe long after"
)
NODE_START: Final = _span("pqvpn.node.start", "the start of the node", root=True)
NODE_PART: Final = _span("pqvpn.node.start.part", "a step of the start")
NODE_STOP: Final = _span("pqvpn.node.stop", "the end of the node, from the request to it", root=True)
CONFIG_LOAD: Final = _span("pqvpn.config.load", "reading the configuration at start", root=True)
CONFIG_RELOAD: Final = _span("pqvpn.config.reload", "a reload of the configuration", root=True)
ROAM: Final = _span("pqvpn.roam", "a session's endpoint moved; until its path is validated", root=True)
PATH_CHANGE: Final = _span("pqvpn.path_change", "the largest packet of a path changed", root=True)
HEALTH: Final = _span("pqvpn.health.transition", "a health item changed its state", root=True)
CHILD_RESTART: Final = _span("pqvpn.child.restart", "from the end of a process to its successor", root=True)
CRASH: Final = _span("pqvpn.crash", "something ended that should not have", root=True)
BREAKER_CHANGE: Final = _span(
    "pqvpn.breaker.transition", "a circuit breaker changed, with no attempt under way", root=True
)
RETRIES: Final = _span(
    "pqvpn.retries", "an operation that failed, until it works again or is given up; each wait is an event", root=True
)

# -- events of spans -------------------------------------------------------------------------------------------------

SENT: Final = _event("pqvpn.sent", "a message went out; on its span from the second transmission on")
DROPPED: Final = _event("pqvpn.dropped", "something was discarded that this attempt waited for")
REFUSED: Final = _event("pqvpn.refused", "a handshake message of this peer, or in its name, was refused meanwhile")
FRAGMENTS: Final = _event("pqvpn.fragments_lost", "a message stayed incomplete")
ICMP: Final = _event("pqvpn.icmp", "the network says that datagrams do not arrive")
AGREED: Final = _event("pqvpn.agreed", "the session is in use")
BREAKER_CHANGED: Final = _event("pqvpn.breaker", "a circuit breaker changed its state meanwhile")
RETRY: Final = _event("pqvpn.retry", "an operation of this attempt is repeated, or ended")
PROBLEM: Final = _event("pqvpn.problem", "a failure that concerns this attempt")

# -- instruments -----------------------------------------------------------------------------------------------------

HANDSHAKE_BUCKETS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 45.0, 90.0)
LAG_BUCKETS: Final = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

UPTIME: Final = _instrument("pqvpn.node.uptime", "gauge", "s", "since the node started")
PEER_COUNT: Final = _instrument("pqvpn.peers", "updown", "{peer}", "configured peers by state", STATE)
SESSIONS: Final = _instrument(
    "pqvpn.sessions", "updown", "{session}", "sessions by their peer's state and suite", STATE, SUITE
)
HANDSHAKES: Final = _instrument(
    "pqvpn.handshakes", "counter", "{handshake}", "handshakes that ended; the reason is a code, or why one was abandoned",
    ROLE, OUTCOME, REASON,
)  # fmt: skip
HANDSHAKE_SECONDS: Final = _instrument(
    "pqvpn.handshake.duration", "histogram", "s", "from the first M1 to the first authenticated packet, or to giving up",
    TRIGGER, OUTCOME, buckets=HANDSHAKE_BUCKETS,
)  # fmt: skip
MESSAGES: Final = _instrument(
    "pqvpn.handshake.messages", "counter", "{message}", "M1 and M3 sent, repetitions too", MESSAGE
)
REKEYS: Final = _instrument("pqvpn.rekeys", "counter", "{handshake}", "replacements of a session's keys by us", OUTCOME)
PEER_RTT: Final = _instrument("pqvpn.peer.rtt", "gauge", "s", "round trip to the peer", PEER)
PEER_LOSS: Final = _instrument("pqvpn.peer.loss", "gauge", "1", "share of the peer's packets lost on the way", PEER)
PEER_MTU: Final = _instrument("pqvpn.peer.path_mtu", "gauge", "By", "largest inner packet that the path carries", PEER)
PEER_AGE: Final = _instrument("pqvpn.peer.handshake.age", "gauge", "s", "since the session's keys were agreed", PEER)
PEER_IO: Final = _instrument("pqvpn.peer.io", "counter", "By", "inner bytes", PEER, NETWORK_DIRECTION)
PEER_PACKETS: Final = _instrument("pqvpn.peer.packets", "counter", "{packet}", "inner packets", PEER, NETWORK_DIRECTION)
PACKET_DROPS: Final = _instrument("pqvpn.drops", "counter", "{packet}", "packets discarded", DROP)
REPLAYS: Final = _instrument("pqvpn.replay.rejected", "counter", "{packet}", "packets seen before, or too old to tell")
ERROR_COUNT: Final = _instrument(
    "pqvpn.errors", "counter", "{error}", "failures by what the node does and why", ACTION, REASON
)
LANES_RUNNING: Final = _instrument(
    "pqvpn.lane.running", "updown", "{lane}", "lanes that have a process of their own; the others are carried or gone"
)
LANE_BUSY: Final = _instrument("pqvpn.lane.busy", "gauge", "1", "share of one processor that a lane took", LANE)
LANE_OPERATIONS: Final = _instrument(
    "pqvpn.lane.operations", "counter", "{operation}", "reads, writes, turns and faults of a lane", LANE, OPERATION
)
QUEUE_DEPTH: Final = _instrument("pqvpn.queue.depth", "gauge", "{item}", "what waits in a queue", QUEUE)
CPU_TIME: Final = _instrument("process.cpu.time", "counter", "s", "processor time, user and system", PROCESS)
MEMORY: Final = _instrument("process.memory.usage", "updown", "By", "resident memory", PROCESS)
MEMORY_PSS: Final = _instrument(
    "pqvpn.process.memory.pss", "updown", "By", "memory, its share of common pages", PROCESS
)
DESCRIPTORS: Final = _instrument(
    "process.unix.file_descriptor.count", "updown", "{file_descriptor}", "open descriptors", PROCESS
)
RESTART_COUNT: Final = _instrument("pqvpn.process.restarts", "counter", "{restart}", "processes replaced", PROCESS)
BREAKER_CHANGES: Final = _instrument(
    "pqvpn.breaker.transitions",
    "counter",
    "{transition}",
    "changes of circuit breakers, by kind",
    BREAKER,
    STATE,
    CAUSE,
)
BREAKERS_OPEN: Final = _instrument(
    "pqvpn.breaker.open", "updown", "{breaker}", "circuit breakers that are open or half open, by kind", BREAKER
)
RETRY_COUNT: Final = _instrument(
    "pqvpn.retries", "counter", "{retry}", "waits of operations that failed (waiting), and how each series ended",
    OPERATION, OUTCOME, REASON,
)  # fmt: skip
CLOCK_JUMPS: Final = _instrument("pqvpn.clock.jumps", "counter", "{jump}", "jumps of the wall clock")
HEALTH_STATE: Final = _instrument(
    "pqvpn.health.state", "gauge", "{state}",
    "a health item as it was told last, for each reason it ever had: 0 ok or another reason, 1 warning, 2 failing, -1 unknown",
    ITEM, PEER, PROCESS, REASON,
)  # fmt: skip
LAG: Final = _instrument("pqvpn.control.lag", "histogram", "s", "how late control's loop was", buckets=LAG_BUCKETS)
FACTS_SEEN: Final = _instrument("pqvpn.telemetry.facts", "counter", "{fact}", "facts that became signals", COMPONENT)
LOST: Final = _instrument("pqvpn.telemetry.lost", "counter", "{record}", "records of telemetry that were lost", LOSS)
WRITTEN: Final = _instrument("pqvpn.telemetry.records", "counter", "{record}", "records handed to the spool", SIGNAL)

# -- lines of the log files ------------------------------------------------------------------------------------------

LOG_FIELDS: Final = (
    LogField("time", "UTC, RFC 3339, microseconds"),
    LogField("level", "debug, info, warning or error"),
    LogField("component", "the part of the node it is about: handshake, session, path, ..."),
    LogField("process", "supervisor, control, observer, lane-0, ..."),
    LogField("session_id", "the session, where one is known"),
    LogField("trace_id", "the trace: the attempt to connect"),
    LogField("span_id", "the span"),
    LogField("peer", "the peer's name in the configuration"),
    LogField("code", "reason code, explained in reasons.md"),
    LogField("event", "the fact's name"),
    LogField("message", "the same in words"),
    LogField("fields", "the fact's other fields"),
)

ATTRIBUTES: Final[frozenset[str]] = frozenset(_attributes)
"""The allow-list of keys: what is not here leaves no process."""
ATTRIBUTE_RECORDS: Final = tuple(_attributes.values())
SPANS: Final = tuple(_spans.values())
EVENTS: Final = tuple(_events.values())
INSTRUMENTS: Final = tuple(_instruments.values())

FIELDS: Final[dict[str, str]] = {
    "peer": PEER, "attempt": ATTEMPT, "trace_id": CRASH_TRACE, "session_id": SESSION_ID,
    "endpoint": NETWORK_PEER_ADDRESS, "trigger": TRIGGER,
    "message": MESSAGE, "number": NUMBER, "cookie": COOKIE, "sampled": SHARED, "drop": DROP, "drops": DROPS, "role": ROLE,
    "suite": SUITE, "seconds": SECONDS, "policy": POLICY, "reason": REASON, "detail": DETAIL, "why": WHY, "count": COUNT,
    "named": NAMED, "have": HAVE, "want": WANT, "state": STATE, "before": STATE_BEFORE, "validated": VALIDATED, "rtt": RTT,
    "after": MTU_AFTER, "largest": MTU_LARGEST, "kind": KIND, "host": SERVER_ADDRESS, "addresses": ADDRESSES, "kept": KEPT,
    "component": PROCESS, "peers": PEERS, "changes": CHANGES, "restart_needed": RESTART_NEEDED, "errors": ERRORS,
    "interface": NETWORK_INTERFACE, "listen": NETWORK_LOCAL_PORT, "parts": PARTS, "cause": CAUSE, "process": PROCESS,
    "pid": PROCESS_PID, "status": STATUS, "restarts": RESTARTS, "place": PLACE, "error": EXCEPTION_TYPE,
    "frames": EXCEPTION_STACKTRACE, "trace": EXCEPTION_STACKTRACE, "chain": CHAIN, "thread": THREAD_NAME,
    "handled": HANDLED, "breaker": BREAKER, "key": KEY, "operation": OPERATION, "outcome": OUTCOME, "item": ITEM,
    "target": TARGET, "value": LEVEL, "logger": LOGGER, "asked": ASKED, "answered": ANSWERED,
}  # fmt: skip
"""The attribute of each field of a told fact. An endpoint becomes address, port and type; `text` is a log's body, and
`severity` its severity."""
FIELDS_OF_EVENT: Final[dict[tuple[str, str], str]] = {("path.mtu", "before"): MTU_BEFORE}
"""Where a fact's field means something else than elsewhere."""
