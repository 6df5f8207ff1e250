"""Short traces of their own: starts, ends, reloads, moves, transitions, restarts, crashes.

Owns which fact makes which root span, and the two that wait for a second fact: a move until its path is validated, the
end of a process until its successor starts. What waits is bounded in number and time.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pqvpn.facts import (
    BreakerChanged,
    ChildEnded,
    ChildStarted,
    ConfigurationApplied,
    ConfigurationLoaded,
    ConfigurationRefused,
    Crashed,
    Fact,
    HealthChanged,
    NodeStarted,
    NodeStopped,
    PathMtuChanged,
    RetryEnded,
    RetryWaiting,
    Roamed,
)
from pqvpn.reasons import Reason
from pqvpn.telemetry import names
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.signals import attributes
from pqvpn.telemetry.signals.spans import Draft

MOST_WAITING: Final = 512
ROAM_WAITS: Final = 30.0
RESTART_WAITS: Final = 60.0
RETRIES_WAIT: Final = 3600.0
MOST_EVENTS: Final = 32
"""Of one series of tries: they say the same again and again."""
_SECOND: Final = 1_000_000_000

Done = Callable[[Draft, Fact], None]


@dataclass(slots=True)
class _Waiting:
    draft: Draft
    fact: Fact
    since: float
    seconds: float


class Roots:
    """Takes facts; `done` takes what is complete, with the fact it is about."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._waiting: OrderedDict[tuple[str, str], _Waiting] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, envelope: Envelope, fact: Fact) -> None:
        """A fact; most make nothing here."""
        match fact:
            case NodeStarted():
                self._done(_node_start(envelope, fact), fact)
            case NodeStopped():
                self._done(_lasted(names.NODE_STOP, envelope, fact, fact.seconds), fact)
            case ConfigurationLoaded():
                self._done(_lasted(names.CONFIG_LOAD, envelope, fact, fact.seconds), fact)
            case ConfigurationApplied():
                self._done(_lasted(names.CONFIG_RELOAD, envelope, fact, fact.seconds), fact)
            case ConfigurationRefused():
                self._done(_lasted(names.CONFIG_RELOAD, envelope, fact, 0.0, fact.reason.code), fact)
            case PathMtuChanged():
                self._done(_lasted(names.PATH_CHANGE, envelope, fact), fact)
            case HealthChanged():
                self._done(_lasted(names.HEALTH, envelope, fact, 0.0, _health_error(fact)), fact)
            case BreakerChanged():
                self._breaker(envelope, fact)
            case RetryWaiting():
                self._retrying(envelope, fact)
            case RetryEnded():
                self._retried(envelope, fact)
            case Crashed():
                self._done(_crash(envelope, fact), fact)
            case Roamed():
                self._roamed(envelope, fact)
            case ChildEnded():
                self._ended(envelope, fact)
            case ChildStarted():
                self._started(envelope, fact)
            case _:
                pass

    def expire(self, now: float) -> None:
        """Write what waited for too long."""
        for key, each in list(self._waiting.items()):
            if now - each.since >= each.seconds:
                del self._waiting[key]
                self._give_up(each, each.draft.start + round(each.seconds * _SECOND))

    def close(self) -> None:
        """Write everything that waits, as it stands."""
        for each in self._waiting.values():
            self._give_up(each, each.draft.start)
        self._waiting.clear()

    def _roamed(self, envelope: Envelope, fact: Roamed) -> None:
        key = ("roam", fact.session_id)
        if not fact.validated:
            draft = Draft(names.ROAM, envelope.time_ns, attributes.common(envelope, fact) | attributes.of(fact))
            self._wait(key, _Waiting(draft, fact, envelope.now, ROAM_WAITS))
            return
        before = self._waiting.pop(key, None)
        draft = before.draft if before else _lasted(names.ROAM, envelope, fact)
        draft.attributes |= attributes.of(fact)
        draft.close(envelope.time_ns, "completed")
        self._done(draft, fact)

    def _ended(self, envelope: Envelope, fact: ChildEnded) -> None:
        draft = Draft(names.CHILD_RESTART, envelope.time_ns, attributes.common(envelope, fact) | attributes.of(fact))
        draft.error = fact.reason.code
        self._wait(("child", fact.process), _Waiting(draft, fact, envelope.now, RESTART_WAITS))

    def _started(self, envelope: Envelope, fact: ChildStarted) -> None:
        before = self._waiting.pop(("child", fact.process), None)
        if before is None:
            return
        before.draft.attributes |= attributes.of(fact)
        before.draft.close(envelope.time_ns, "completed", before.draft.error)
        self._done(before.draft, before.fact)

    def _breaker(self, envelope: Envelope, fact: BreakerChanged) -> None:
        """An event of the series of tries that it is about, or a trace of its own."""
        series = self._waiting.get((fact.breaker, fact.key))
        if series is not None:
            series.draft.event(names.BREAKER_CHANGED, envelope.time_ns, attributes.of(fact))
            return
        error = fact.reason.code if fact.reason and fact.state == "open" else ""
        draft = _lasted(names.BREAKER_CHANGE, envelope, fact, 0.0, error)
        draft.event(names.BREAKER_CHANGED, envelope.time_ns, attributes.of(fact))
        self._done(draft, fact)

    def _retrying(self, envelope: Envelope, fact: RetryWaiting) -> None:
        key = (fact.operation, fact.key)
        series = self._waiting.get(key)
        if series is None:
            draft = Draft(names.RETRIES, envelope.time_ns, attributes.common(envelope, fact) | attributes.of(fact))
            draft.error = fact.reason.code if fact.reason else ""
            series = _Waiting(draft, fact, envelope.now, RETRIES_WAIT)
            self._wait(key, series)
        if len(series.draft.events) < MOST_EVENTS:
            series.draft.event(names.RETRY, envelope.time_ns, attributes.of(fact))

    def _retried(self, envelope: Envelope, fact: RetryEnded) -> None:
        series = self._waiting.pop((fact.operation, fact.key), None)
        draft = series.draft if series else _lasted(names.RETRIES, envelope, fact)
        draft.attributes |= attributes.of(fact)
        draft.event(names.RETRY, envelope.time_ns, attributes.of(fact))
        draft.close(envelope.time_ns, fact.outcome, draft.error)
        self._done(draft, fact)

    def _wait(self, key: tuple[str, str], waiting: _Waiting) -> None:
        former = self._waiting.pop(key, None)
        if former is not None:
            self._give_up(former, waiting.draft.start)
        elif len(self._waiting) >= MOST_WAITING:
            _, oldest = self._waiting.popitem(last=False)
            self._give_up(oldest, waiting.draft.start)
        self._waiting[key] = waiting

    def _give_up(self, waiting: _Waiting, time_ns: int) -> None:
        error = waiting.draft.error or Reason.NO_REPLY.code
        waiting.draft.close(time_ns, "unanswered", error)
        self._done(waiting.draft, waiting.fact)


def _lasted(name: str, envelope: Envelope, fact: Fact, seconds: float = 0.0, error: str = "") -> Draft:
    found = attributes.common(envelope, fact) | attributes.of(fact)
    draft = Draft(name, envelope.time_ns - round(max(0.0, seconds) * _SECOND), found)
    draft.end, draft.error = envelope.time_ns, error
    return draft


def _node_start(envelope: Envelope, fact: NodeStarted) -> Draft:
    """Parts follow one another; what they leave of the whole is at its end."""
    draft = _lasted(names.NODE_START, envelope, fact, max(fact.seconds, sum(fact.parts.values())))
    at = draft.start
    for part, seconds in fact.parts.items():
        child = draft.child(names.NODE_PART, at, attributes.common(envelope, fact) | {names.PART: part})
        at += round(seconds * _SECOND)
        child.end = at
    return draft


def _health_error(fact: HealthChanged) -> str:
    return fact.reason.code if fact.reason and fact.state == "failing" else ""


def _crash(envelope: Envelope, fact: Crashed) -> Draft:
    return _lasted(names.CRASH, envelope, fact, 0.0, fact.reason.code)
