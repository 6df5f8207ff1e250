"""Facts and readings to metrics: plain numbers, read by the instruments when they are collected.

Owns what each instrument shows, and the bounds of what it tells apart: peers by the configuration, everything else by
closed lists; what is not in them is `other`. Session IDs are never attributes. How metrics leave is `factory.py`.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from pqvpn.drops import DropReason
from pqvpn.facts import (
    BreakerChanged,
    ChildEnded,
    ClockJumped,
    Fact,
    HandshakeAbandoned,
    HandshakeCompleted,
    HandshakeFailed,
    HandshakeSent,
    HandshakeStarted,
    HealthChanged,
    NodeObserved,
    PeerObserved,
    RetryEnded,
    RetryWaiting,
)
from pqvpn.protocol.sampling import sampled
from pqvpn.reasons import Reason
from pqvpn.telemetry import context, names
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.names import Instrument
from pqvpn.telemetry.signals.factory import Factory
from pqvpn.telemetry.signals.readings import Readings
from pqvpn.telemetry.signals.settings import Settings
from pqvpn.telemetry.signals.spans import Place
from pqvpn.telemetry.signals.tallies import OTHER, Rising, Tally

FRESH: Final = 30.0
"""Seconds for which what control said of a peer is shown."""
MOST_PEERS: Final = 256
_REMEMBERED: Final = 1024
_DROPS: Final = frozenset(each.name.lower() for each in DropReason)
_WHY: Final = frozenset({"peer_was_quicker", "policy", "no_room", "removed", "shutdown"})
_TRIGGERS: Final = frozenset({"traffic", "start", "rekey", "silence", "keepalive", "operator", "lost"})
_STATES: Final = frozenset({"up", "connecting", "stale", "down"})
_MESSAGES: Final = frozenset({"m1", "m3"})
_ROLES: Final = frozenset({"initiator", "responder"})
_BREAKERS: Final = frozenset({"peer", "path", "crypto", "dns", "netlink", "otlp", "crash-reports"})
_OPERATIONS: Final = frozenset({"http", "restart"})
_BREAKER_STATES: Final = frozenset({"closed", "open", "half_open"})
_BREAKER_CAUSES: Final = frozenset(
    {"rate", "consecutive", "waited", "probe_failed", "probes_passed", "held_open", "held_closed", "reset"}
)
_RETRY_OUTCOMES: Final = frozenset({"recovered", "gave_up", "good_news"})
_HEALTH: Final = {"ok": 0, "warning": 1, "failing": 2}
_MOST_REASONS: Final = 8
_RECEIVE, _TRANSMIT = "receive", "transmit"

Points = Iterable[tuple[float, Mapping[str, str]]]


class Metrics:
    """The metrics of one node. `all_lost` gives what was lost here, by cause; `lost` is this module's part of it."""

    def __init__(self, settings: Settings, factory: Factory, all_lost: Callable[[], Mapping[str, int]]) -> None:
        self._settings = settings
        self._factory = factory
        self._lost_here = all_lost
        self._configured: frozenset[str] = frozenset()
        self.configure(settings.peers)
        self.lost = {"link": 0, "peers": 0}
        self._now = 0.0
        self._started_at: float | None = None
        self._lanes_running: float | None = None
        self._peers: dict[str, tuple[dict[str, Any], float]] = {}
        self._triggers: OrderedDict[str, str] = OrderedDict()
        self._open_breakers: dict[str, set[str]] = {}
        self._readings = Readings(0.0)
        self._busy: dict[str, float] = {}
        self._health: dict[tuple[str, str, str], dict[str, int]] = {}
        self._tallies: dict[str, Tally] = {}
        self._risings: dict[str, Rising] = {}
        self._duration = factory.histogram(names.HANDSHAKE_SECONDS)
        self._lag = factory.histogram(names.LAG)
        self._make()

    def configure(self, peers: Iterable[str]) -> None:
        """These peers are configured."""
        self._configured = frozenset(list(peers)[:MOST_PEERS])

    # -- what comes in -----------------------------------------------------------------------------------------------

    def take(self, envelope: Envelope, fact: Fact) -> None:
        """A fact came in."""
        self._now = max(self._now, envelope.now)
        self._tally(names.FACTS_SEEN).add(fact.area)
        reason = getattr(fact, "reason", None)
        if isinstance(reason, Reason) and fact.told and fact.level in ("warning", "error"):
            self._tally(names.ERROR_COUNT).add(reason.action.value, reason.code)
        self.lost["link"] += envelope.lost
        match fact:
            case PeerObserved():
                self._peer_observed(envelope, fact)
            case NodeObserved():
                self._node_observed(envelope, fact)
            case HandshakeStarted() | HandshakeSent():
                self._under_way(fact)
            case HandshakeCompleted() | HandshakeFailed() | HandshakeAbandoned():
                self._handshake_ended(fact)
            case ChildEnded():
                self._tally(names.RESTART_COUNT).add(fact.process)
            case BreakerChanged():
                self._breaker_changed(fact)
            case RetryWaiting():
                self._retried(fact.operation, "waiting", fact.reason)
            case RetryEnded():
                self._retried(fact.operation, _one_of(fact.outcome, _RETRY_OUTCOMES), fact.reason)
            case ClockJumped():
                self._tally(names.CLOCK_JUMPS).add()
            case HealthChanged():
                self._health_changed(fact)
            case _:
                pass

    def observe(self, readings: Readings) -> None:
        """What the observer read by itself."""
        before, self._readings = self._readings, readings
        self._now = max(self._now, readings.now)
        passed = readings.now - before.now
        for name, usage in readings.processes.items():
            self._rising(names.CPU_TIME).set((name,), usage.cpu)
            known = before.processes.get(name)
            if name in readings.lanes and known is not None and passed > 0:
                self._busy[name] = min(1.0, max(0.0, (usage.cpu - known.cpu) / passed))
        for lane, totals in readings.lanes.items():
            for operation, count in totals.items():
                if operation != "pid":
                    self._rising(names.LANE_OPERATIONS).set((lane, operation), count)
        for cause, count in readings.lost.items():
            if cause not in self._lost_here():
                self._rising(names.LOST).set((cause,), count)

    def _peer_observed(self, envelope: Envelope, fact: PeerObserved) -> None:
        """Control speaks of configured peers only: one that is new was added by a reload."""
        name = fact.peer
        allowed = self._allowed()
        if name not in allowed and (envelope.process != "control" or len(allowed) >= MOST_PEERS):
            self.lost["peers"] += 1
            return
        self._peers[name] = (fact.status, envelope.now)
        for which, word, direction in (
            (names.PEER_IO, "rx_bytes", _RECEIVE), (names.PEER_IO, "tx_bytes", _TRANSMIT),
            (names.PEER_PACKETS, "rx_packets", _RECEIVE), (names.PEER_PACKETS, "tx_packets", _TRANSMIT),
        ):  # fmt: skip
            self._rising(which).set((name, direction), _number(fact.status.get(word)))

    def _node_observed(self, envelope: Envelope, fact: NodeObserved) -> None:
        node = fact.status.get("node", {})
        uptime = _number(node.get("uptime_seconds"), -1.0)
        self._started_at = envelope.now - uptime if uptime >= 0 else None
        running = _number(node.get("lanes_running"), -1.0)
        self._lanes_running = running if running >= 0 else None
        self._lag.record(max(0.0, fact.lag))
        for name, count in fact.status.get("drops", {}).items():
            drop = name if name in _DROPS else OTHER
            self._rising(names.PACKET_DROPS).set((drop,), _number(count))

    def _under_way(self, fact: HandshakeStarted | HandshakeSent) -> None:
        if isinstance(fact, HandshakeSent):
            self._tally(names.MESSAGES).add(_one_of(fact.message, _MESSAGES))
            return
        self._triggers[fact.attempt] = _one_of(fact.trigger, _TRIGGERS)
        while len(self._triggers) > _REMEMBERED:
            self._triggers.popitem(last=False)

    def _handshake_ended(self, fact: HandshakeCompleted | HandshakeFailed | HandshakeAbandoned) -> None:
        outcome, reason, role = "completed", "", "initiator"
        if isinstance(fact, HandshakeFailed):
            outcome, reason = "failed", fact.reason.code
        elif isinstance(fact, HandshakeAbandoned):
            outcome, reason = "abandoned", _one_of(fact.why, _WHY)
        else:
            role = _one_of(fact.role, _ROLES)
        self._tally(names.HANDSHAKES).add(role, outcome, reason)
        if role != "initiator":
            return
        trigger = self._triggers.pop(fact.attempt, OTHER)
        if trigger == "rekey":
            self._tally(names.REKEYS).add(outcome)
        seconds = None if isinstance(fact, HandshakeAbandoned) else fact.seconds
        if seconds is not None:
            found = {names.TRIGGER: trigger, names.OUTCOME: outcome}
            self._duration.record(max(0.0, seconds), found, self._exemplar(fact.attempt))

    def _health_changed(self, fact: HealthChanged) -> None:
        """A reason that does not hold any more stays, at 0: whoever reads a point that vanished keeps its last value."""
        item, _, key = fact.item.partition(":")
        place = (item, fact.peer, "" if fact.peer else key)
        if place not in self._health and len(self._health) >= _REMEMBERED:
            return
        reasons = self._health.setdefault(place, {"": 0})
        reasons.update(dict.fromkeys(reasons, 0))
        while len(reasons) >= _MOST_REASONS:
            del reasons[next(each for each in reasons if each)]
        reasons[fact.reason.code if fact.reason else ""] = _HEALTH.get(fact.state, -1)

    def _breaker_changed(self, fact: BreakerChanged) -> None:
        kind, state = _one_of(fact.breaker, _BREAKERS), _one_of(fact.state, _BREAKER_STATES)
        self._tally(names.BREAKER_CHANGES).add(kind, state, _one_of(fact.cause, _BREAKER_CAUSES))
        self._open_breakers.setdefault(kind, set())
        if state == "closed":
            self._open_breakers[kind].discard(fact.key)
        elif len(self._open_breakers[kind]) < _REMEMBERED:
            self._open_breakers[kind].add(fact.key)

    def _retried(self, operation: str, outcome: str, reason: Reason | None) -> None:
        known = operation if operation in _BREAKERS or operation in _OPERATIONS else OTHER
        self._tally(names.RETRY_COUNT).add(known, outcome, reason.code if reason else "")

    def _exemplar(self, attempt: str) -> Context:
        """A context in which the measurement points to the attempt's trace, if that is written."""
        if not attempt or not sampled(bytes.fromhex(attempt), self._settings.sample):
            return Context()
        place = Place(attempt, context.root_span_id(attempt)).context()
        return set_span_in_context(NonRecordingSpan(place), Context())

    # -- what is shown -----------------------------------------------------------------------------------------------

    def _make(self) -> None:
        for counted in (
            names.HANDSHAKES, names.MESSAGES, names.REKEYS, names.PEER_IO, names.PEER_PACKETS, names.PACKET_DROPS,
            names.ERROR_COUNT, names.LANE_OPERATIONS, names.CPU_TIME, names.RESTART_COUNT, names.CLOCK_JUMPS,
            names.BREAKER_CHANGES, names.RETRY_COUNT, names.FACTS_SEEN, names.LOST,
        ):  # fmt: skip
            self._factory.observable(counted, lambda counted=counted: self._counts(counted))  # type: ignore[misc]
        shown: dict[Instrument, Callable[[], Points]] = {
            names.UPTIME: self._uptime,
            names.PEER_COUNT: self._states,
            names.SESSIONS: self._sessions,
            names.PEER_RTT: lambda: self._of_peers("rtt_ms", 1000),
            names.PEER_LOSS: lambda: self._of_peers("loss"),
            names.PEER_MTU: lambda: self._of_peers("path_mtu"),
            names.PEER_AGE: lambda: self._of_peers("handshake_age_seconds"),
            names.HEALTH_STATE: self._health_states,
            names.REPLAYS: self._replays,
            names.BREAKERS_OPEN: lambda: [
                (len(keys), {names.BREAKER: kind}) for kind, keys in self._open_breakers.items()
            ],
            names.LANES_RUNNING: lambda: [] if self._lanes_running is None else [(self._lanes_running, {})],
            names.LANE_BUSY: lambda: [(share, {names.LANE: lane}) for lane, share in self._busy.items()],
            names.QUEUE_DEPTH: lambda: [(n, {names.QUEUE: queue}) for queue, n in self._readings.queues.items()],
            names.MEMORY: lambda: self._of_processes("resident"),
            names.MEMORY_PSS: lambda: self._of_processes("pss"),
            names.DESCRIPTORS: lambda: self._of_processes("descriptors"),
            names.WRITTEN: lambda: [(n, {names.SIGNAL: k}) for k, n in self._factory.outlet.written.items()],
        }
        for instrument, observe in shown.items():
            self._factory.observable(instrument, observe)

    def _tally(self, instrument: Instrument) -> Tally:
        return self._tallies.setdefault(instrument.name, Tally())

    def _rising(self, instrument: Instrument) -> Rising:
        return self._risings.setdefault(instrument.name, Rising())

    def _counts(self, instrument: Instrument) -> Points:
        sums: dict[tuple[str, ...], float] = {}
        here = {(cause,): float(n) for cause, n in self._lost_here().items()} if instrument is names.LOST else {}
        rising = self._risings.get(instrument.name)
        if rising is not None and instrument in (names.PEER_IO, names.PEER_PACKETS):
            self._forget_old()
            rising.keep((peer, way) for peer in self._allowed() for way in (_RECEIVE, _TRANSMIT))
        tally = self._tallies.get(instrument.name)
        for counts in (tally.counts if tally else {}, rising.counts if rising else {}, here):
            for key, count in counts.items():
                sums[key] = sums.get(key, 0) + count
        return [(count, dict(zip(instrument.attributes, key, strict=True))) for key, count in sums.items()]

    def _uptime(self) -> Points:
        return [] if self._started_at is None else [(max(0.0, self._now - self._started_at), {})]

    def _known(self) -> list[tuple[str, dict[str, Any]]]:
        """The peers that control spoke of lately."""
        self._forget_old()
        return [(name, status) for name, (status, _) in self._peers.items()]

    def _forget_old(self) -> None:
        self._peers = {name: known for name, known in self._peers.items() if self._now - known[1] <= FRESH}

    def _allowed(self) -> frozenset[str]:
        return self._configured | self._peers.keys()

    def _states(self) -> Points:
        sums = dict.fromkeys(sorted(_STATES), 0)
        for _, status in self._known():
            state = _one_of(str(status.get("state")), _STATES)
            sums[state] = sums.get(state, 0) + 1
        return [(count, {names.STATE: state}) for state, count in sums.items()]

    def _sessions(self) -> Points:
        sums: dict[tuple[str, str], int] = {}
        for _, status in self._known():
            if status.get("session_id"):
                key = _one_of(str(status.get("state")), _STATES), str(status.get("suite"))
                sums[key] = sums.get(key, 0) + 1
        return [(count, {names.STATE: state, names.SUITE: suite}) for (state, suite), count in sums.items()]

    def _of_peers(self, word: str, divisor: float = 1) -> Points:
        values = ((name, status.get(word)) for name, status in self._known())
        return [(_number(value) / divisor, {names.PEER: name}) for name, value in values if value is not None]

    def _health_states(self) -> Points:
        self._forget_old()
        keys = [key for key in self._health if not key[1] or key[1] in self._allowed()]
        self._health = {key: self._health[key] for key in keys}
        return [
            (value, dict(zip(names.HEALTH_STATE.attributes, (*key, reason), strict=True)))
            for key, reasons in self._health.items()
            for reason, value in reasons.items()
        ]

    def _of_processes(self, word: str) -> Points:
        values = ((name, getattr(usage, word)) for name, usage in self._readings.processes.items())
        return [(value, {names.PROCESS: name}) for name, value in values if value is not None]

    def _replays(self) -> Points:
        rising = self._risings.get(names.PACKET_DROPS.name)
        return [(rising.counts.get((DropReason.REPLAY.name.lower(),), 0) if rising else 0, {})]


def _one_of(word: str, known: frozenset[str]) -> str:
    return word if word in known else OTHER


def _number(value: Any, default: float = 0.0) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default
