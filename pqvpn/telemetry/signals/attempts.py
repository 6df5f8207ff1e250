"""One attempt to connect as a tree of drafts: which fact begins and ends which span.

Owns the shape of the tree, in both roles. On the way from M1 to the session in use the steps follow one another, so that
their durations add up to the attempt's: `m1` (with `cookie` and `m2` in it), `m3`, `first_data`. Which attempts there are,
and what becomes of a tree, is `traces.py`.
"""

from dataclasses import dataclass, field
from typing import Final

from pqvpn.facts import (
    AnswerRefused,
    AnswerVerified,
    BreakerChanged,
    CookieReceived,
    Fact,
    FragmentsLost,
    HandshakeAbandoned,
    HandshakeCompleted,
    HandshakeFailed,
    HandshakeRefused,
    HandshakeSent,
    HandshakeStarted,
    IcmpReceived,
    Problem,
    RetryEnded,
    RetryWaiting,
)
from pqvpn.telemetry import context, names
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.signals import attributes
from pqvpn.telemetry.signals.attributes import Attributes
from pqvpn.telemetry.signals.spans import Draft, Place

_SECOND: Final = 1_000_000_000
EVENTS: Final[dict[type[Fact], str]] = {
    AnswerRefused: names.DROPPED,
    HandshakeRefused: names.REFUSED,
    FragmentsLost: names.FRAGMENTS,
    IcmpReceived: names.ICMP,
    BreakerChanged: names.BREAKER_CHANGED,
    RetryWaiting: names.RETRY,
    RetryEnded: names.RETRY,
    Problem: names.PROBLEM,
}
"""Facts that are events on the step under way."""
_STEP_KEYS: Final = (names.COMPONENT, names.PROCESS, names.PEER)
_REKEY: Final = "rekey"


@dataclass(slots=True)
class Attempt:
    """One of ours, or (`parent`, or a trace of its own) one of the peer's. `opened`: CLOCK_BOOTTIME of its first fact."""

    trace_id: str
    peer: str
    root: Draft
    opened: float
    span_id: str = ""
    parent: Place | None = None
    session_id: str = ""
    step: Draft | None = None
    last: int = 0  # time of the latest fact
    asked: int = 0  # when the M1 that the answer answers went out
    tries: int = 0
    drops: set[str] = field(default_factory=set)
    unverified: bool = False  # an answer of the peer's failed: one has spans, further ones are events
    over: bool = False
    keep: bool = False  # whether it is sampled or not

    @property
    def failed(self) -> bool:
        """Whether it ended in an error."""
        return bool(self.root.error)

    # -- beginnings --------------------------------------------------------------------------------------------------

    @classmethod
    def ours(cls, envelope: Envelope, attempt: str, peer: str, trigger: str = "") -> "Attempt":
        """An attempt that we began, or (without a trigger) one whose beginning was not seen."""
        found: Attributes = {names.ATTEMPT: attempt, names.ROLE: "initiator"}
        if not trigger:
            found[names.PARTIAL] = True
        root = Draft(names.REKEY if trigger == _REKEY else names.CONNECT, envelope.time_ns, found)
        made = cls(attempt, peer, root, envelope.now, context.root_span_id(attempt), last=envelope.time_ns)
        root.attributes |= {names.COMPONENT: "handshake", names.PROCESS: envelope.process, names.PEER: peer}
        return made

    @classmethod
    def theirs(cls, envelope: Envelope, fact: HandshakeCompleted, trace_id: str) -> "Attempt":
        """A session that the peer asked for: below its own root when it told us the trace.

        Nothing is told of an M1 before its M3 verified: it is anybody's. When it came is known of the last ones answered.
        """
        parent = Place(fact.attempt, context.root_span_id(fact.attempt), remote=True) if fact.attempt else None
        arrived = envelope.time_ns - round(envelope.worked * _SECOND)
        root = Draft(names.ACCEPT, arrived, attributes.common(envelope, fact))
        made = cls(fact.attempt or trace_id, fact.peer, root, envelope.now, parent=parent, last=envelope.time_ns)
        found = attributes.endpoint(fact.endpoint) | {names.SESSION_ID: fact.session_id}
        if fact.asked is not None and fact.answered is not None:
            whole = arrived - round(fact.answered * _SECOND)
            made._begin(names.M1, arrived - round(fact.asked * _SECOND), found | {names.MESSAGE: "m1"})
            made._close_step(whole, "answered")
            made._begin(names.M2, whole, found | {names.MESSAGE: "m2"})
            made._close_step(arrived, "verified")
        made._begin(names.M3, arrived, found | {names.MESSAGE: "m3"})
        return made

    # -- facts -------------------------------------------------------------------------------------------------------

    def take(self, envelope: Envelope, fact: Fact) -> None:
        """A fact about this attempt."""
        time = self.last = envelope.time_ns
        match fact:
            case HandshakeStarted():
                self.root.attributes |= attributes.of(fact)
            case HandshakeSent():
                self._sent(time, fact)
            case CookieReceived():
                self._cookie(time, fact)
            case AnswerVerified():
                self._answered(time, fact, round(envelope.worked * _SECOND))
            case AnswerRefused():
                self._answer_refused(time, fact, round(envelope.worked * _SECOND))
            case HandshakeCompleted():
                self._completed(time, fact)
            case HandshakeFailed():
                self._failed(time, fact)
            case HandshakeAbandoned():
                self.root.attributes[names.WHY] = fact.why
                self.end(time, "abandoned")
            case _:
                self._event(time, fact)

    def end(self, time: int, outcome: str, error: str = "") -> None:
        """It is over, with the step under way."""
        if self.step is not None:
            self.step.close(time, outcome, error)
            self.step = None
        self.root.close(time, outcome, error)
        self.over = True

    # -- steps -------------------------------------------------------------------------------------------------------

    def _begin(self, name: str, time: int, found: Attributes) -> Draft:
        own = {key: value for key, value in self.root.attributes.items() if key in _STEP_KEYS}
        if self.session_id:
            own[names.SESSION_ID] = self.session_id
        self.step = self.root.child(name, time, own | found)
        return self.step

    def _close_step(self, time: int, outcome: str) -> None:
        if self.step is not None:
            self.step.close(time, outcome)
            self.step = None

    def _sent(self, time: int, fact: HandshakeSent) -> None:
        name = names.M1 if fact.message == "m1" else names.FIRST_DATA
        again = self.step is not None and self.step.name == name and fact.number > 1
        if again and self.step is not None:
            self.step.event(names.SENT, time, {names.NUMBER: fact.number, names.COOKIE: fact.cookie})
            return
        answered = self.step is not None and self.step.name == names.M3
        self._close_step(time, "completed" if answered else "unanswered")
        self.asked = time
        self.tries += fact.message == "m1"
        found = attributes.endpoint(fact.endpoint) | {names.MESSAGE: fact.message, names.COOKIE: fact.cookie}
        self._begin(name, time, found | ({names.NUMBER: self.tries} if fact.message == "m1" else {}))

    def _cookie(self, time: int, fact: CookieReceived) -> None:
        step = self.step or self._begin(names.M1, time, attributes.endpoint(fact.endpoint))
        round_ = step.child(names.COOKIE_ROUND, step.start, dict(step.attributes))
        round_.close(time, "completed")
        self.asked = time

    def _answered(self, time: int, fact: AnswerVerified, worked: int) -> None:
        self.session_id = fact.session_id
        self.root.attributes |= {names.SESSION_ID: fact.session_id, names.SHARED: fact.sampled}
        step = self.step or self._begin(names.M1, time, attributes.endpoint(fact.endpoint))
        self._close_step(time, "answered")
        found = {k: v for k, v in step.attributes.items() if k != names.OUTCOME} | {names.SESSION_ID: fact.session_id}
        m2 = step.child(names.M2, self.asked or step.start, found | {names.MESSAGE: "m2"})
        m2.child(names.VERIFY, time - worked, dict(m2.attributes)).close(time, "verified")
        m2.close(time, "verified")
        self._begin(names.M3, time, attributes.endpoint(fact.endpoint) | {names.MESSAGE: "m3"})

    def _answer_refused(self, time: int, fact: AnswerRefused, worked: int) -> None:
        """The M1 stays out. One that anybody can have sent is an event alone; and so are further ones of an attempt."""
        self.drops.add(fact.drop)
        if fact.reason is not None and not self.unverified:
            self.unverified = True
            step = self.step or self._begin(names.M1, time, attributes.endpoint(fact.endpoint))
            found = step.attributes | attributes.endpoint(fact.endpoint) | {names.MESSAGE: "m2", names.DROP: fact.drop}
            m2 = step.child(names.M2, self.asked or step.start, found)
            m2.child(names.VERIFY, time - worked, dict(found)).close(time, "refused", fact.reason.code)
            m2.close(time, "refused", fact.reason.code)
        self._event(time, fact)

    def _completed(self, time: int, fact: HandshakeCompleted) -> None:
        self.session_id = fact.session_id
        self.root.attributes |= attributes.of(fact)
        self.root.event(names.AGREED, time, {names.SESSION_ID: fact.session_id, names.ROLE: fact.role})
        self.end(time, "completed")

    def _failed(self, time: int, fact: HandshakeFailed) -> None:
        at = self.step or self.root
        for drop in fact.drops:
            if drop not in self.drops:
                at.event(names.DROPPED, time, {names.DROP: drop})
        self.root.attributes |= attributes.of(fact)
        self.end(time, "failed", fact.reason.code)

    def _event(self, time: int, fact: Fact) -> None:
        name = EVENTS.get(type(fact))
        if name is not None:
            (self.step or self.root).event(name, time, attributes.of(fact))
