"""Facts to traces: which attempts are open, when one is over, and whether its tree is written.

Owns the table of open attempts (bounded, none older than the settings say), what is known of look-ups and sessions, and
the sampling: the share is decided by the trace id, so that both nodes decide alike; what failed is written in any case.
The shape of the trees is `attempts.py` and `roots.py`.
"""

from collections import OrderedDict
from typing import Final, TypeVar

from pqvpn.facts import (
    AnswerRefused,
    AnswerVerified,
    ChildEnded,
    CookieReceived,
    Crashed,
    Fact,
    HandshakeCompleted,
    HandshakeFailed,
    HandshakeSent,
    HandshakeStarted,
    PathMtuChanged,
    PathValidated,
    Resolved,
    ResolveFailed,
    Roamed,
)
from pqvpn.protocol.sampling import sampled
from pqvpn.reasons import Reason
from pqvpn.telemetry import context, names
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.signals import attributes
from pqvpn.telemetry.signals.attempts import EVENTS, Attempt
from pqvpn.telemetry.signals.roots import Roots
from pqvpn.telemetry.signals.settings import Settings
from pqvpn.telemetry.signals.spans import Draft, Place, Writer

_LOOK_UP_LASTS: Final = 10.0
_LEAST_OPEN: Final = 64
_REMEMBERED: Final = 1024
_SECOND: Final = 1_000_000_000
_PARTS: Final = (HandshakeSent, CookieReceived, AnswerVerified, AnswerRefused, HandshakeCompleted, HandshakeFailed)
"""What says that there is an attempt, if its beginning was not seen."""
_THINNED: Final = (Roamed, PathMtuChanged)
"""Roots that are sampled, since other nodes decide how many there are."""

V = TypeVar("V")


class Tracker:
    """The traces of one node. `lost`: attempts that were forgotten because too many were open."""

    def __init__(self, settings: Settings, writer: Writer) -> None:
        self._settings = settings
        self._writer = writer
        self._open: OrderedDict[str, Attempt] = OrderedDict()
        self._of_peer: dict[str, str] = {}  # key of the attempt that we have open with a peer
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._looked_up: OrderedDict[str, tuple[Draft, float]] = OrderedDict()
        self._sessions: OrderedDict[str, Place] = OrderedDict()  # written, so that a link to it leads somewhere
        self._previous: OrderedDict[str, str] = OrderedDict()  # peer -> session ID
        self._roots = Roots(self._root)
        self._most = max(_LEAST_OPEN, 2 * len(settings.peers))
        self.lost = 0

    def __len__(self) -> int:
        return len(self._open) + len(self._roots)

    def configure(self, peers: int) -> None:
        """So many peers are configured now."""
        self._most = max(_LEAST_OPEN, 2 * peers)

    def take(self, envelope: Envelope, fact: Fact) -> None:
        """A fact came in."""
        match fact:
            case HandshakeStarted():
                self._started(envelope, fact)
            case HandshakeCompleted(role="responder"):
                self._accepted(envelope, fact)
            case Resolved() | ResolveFailed():
                self._resolved(envelope, fact)
            case PathValidated():
                self._path_validated(envelope, fact)
            case ChildEnded():
                if fact.process == "control":
                    self._lose_all(envelope.time_ns, Reason.CHILD_DIED.code)
                self._roots.take(envelope, fact)
            case _:
                if not self._about_an_attempt(envelope, fact):
                    self._roots.take(envelope, fact)

    def expire(self, now: float) -> None:
        """End what is open for too long."""
        for key, attempt in list(self._open.items()):
            if now - attempt.opened >= self._settings.longest_attempt:
                attempt.end(attempt.last, "lost", Reason.CHILD_DIED.code)
                self._write(key, attempt)
        self._roots.expire(now)

    def close(self) -> None:
        """Write everything as it stands."""
        for key, attempt in list(self._open.items()):
            attempt.end(attempt.last, "unfinished")
            attempt.keep = True
            self._write(key, attempt)
        self._roots.close()

    # -- attempts ----------------------------------------------------------------------------------------------------

    def _started(self, envelope: Envelope, fact: HandshakeStarted) -> None:
        if not fact.attempt or fact.attempt in self._open or fact.attempt in self._ended:
            return
        former = self._of_peer.get(fact.peer)
        if former is not None and former != fact.attempt:
            self._open[former].end(envelope.time_ns, "lost", Reason.CHILD_DIED.code)
            self._write(former, self._open[former])
        attempt = Attempt.ours(envelope, fact.attempt, fact.peer, fact.trigger or "?")
        attempt.take(envelope, fact)
        self._with_history(attempt)
        looked_up, at = self._looked_up.pop(fact.peer, (None, 0.0))
        if looked_up is not None and envelope.now - at <= _LOOK_UP_LASTS:
            attempt.root.adopt(looked_up)
        self._add(fact.attempt, attempt)

    def _with_history(self, attempt: Attempt) -> None:
        previous = self._previous.get(attempt.peer)
        if previous is None:
            return
        attempt.root.attributes[names.SESSION_PREVIOUS_ID] = previous
        if previous in self._sessions:
            attempt.root.links.append(self._sessions[previous])

    def _accepted(self, envelope: Envelope, fact: HandshakeCompleted) -> None:
        attempt = Attempt.theirs(envelope, fact, self._writer.new_trace())
        self._with_history(attempt)
        attempt.take(envelope, fact)
        attempt.keep = bool(fact.attempt)  # the initiator has decided
        self._finish(attempt)

    def _add(self, key: str, attempt: Attempt) -> None:
        while len(self._open) >= self._most:
            oldest = next(iter(self._open))
            self._forget(oldest, self._open[oldest])
            self.lost += 1
        self._open[key] = attempt
        if attempt.span_id:
            self._of_peer[attempt.peer] = key

    def _about_an_attempt(self, envelope: Envelope, fact: Fact) -> bool:
        key = self._key_of(fact)
        attempt = self._open.get(key)
        if attempt is None and isinstance(fact, _PARTS) and key and key not in self._ended:
            attempt = Attempt.ours(envelope, key, fact.peer)
            attempt.root.start -= round((getattr(fact, "seconds", None) or 0.0) * _SECOND)
            self._add(key, attempt)
        if attempt is None:
            return False
        if isinstance(fact, Crashed):  # a trace of its own kind, below the attempt
            attempt.keep = True
            return False
        attempt.take(envelope, fact)
        if attempt.over:
            self._write(key, attempt)
        return True

    def _key_of(self, fact: Fact) -> str:
        """The key of the attempt that a fact is about; empty when it is about none."""
        attempt = getattr(fact, "attempt", "")
        if attempt:
            return str(attempt)
        if type(fact) in EVENTS:
            return self._of_peer.get(getattr(fact, "peer", ""), "")
        return ""

    def _lose_all(self, time: int, reason: str) -> None:
        for key, attempt in list(self._open.items()):
            attempt.end(max(time, attempt.last), "lost", reason)
            self._write(key, attempt)

    def _forget(self, key: str, attempt: Attempt) -> None:
        del self._open[key]
        if self._of_peer.get(attempt.peer) == key:
            del self._of_peer[attempt.peer]
        _remember(self._ended, key, None)

    def _write(self, key: str, attempt: Attempt) -> None:
        self._forget(key, attempt)
        self._finish(attempt)

    def _finish(self, attempt: Attempt) -> None:
        if attempt.session_id and not attempt.failed:
            _remember(self._previous, attempt.peer, attempt.session_id)
        if not (attempt.keep or attempt.failed or self._is_sampled(attempt.trace_id)):
            return
        place = self._writer.write(attempt.root, attempt.trace_id, attempt.span_id, attempt.parent)
        if attempt.session_id:
            _remember(self._sessions, attempt.session_id, place)

    # -- everything else ---------------------------------------------------------------------------------------------

    def _resolved(self, envelope: Envelope, fact: Resolved | ResolveFailed) -> None:
        end = envelope.time_ns
        draft = Draft(names.RESOLVE, end - round(fact.seconds * _SECOND))
        draft.attributes = attributes.common(envelope, fact) | attributes.of(fact)
        failed = isinstance(fact, ResolveFailed)
        draft.close(
            end, "failed" if failed else "completed", fact.reason.code if isinstance(fact, ResolveFailed) else ""
        )
        attempt = self._open.get(self._of_peer.get(fact.peer, ""))
        if attempt is not None:
            attempt.root.adopt(draft)
        elif failed:
            self._root(draft, fact)
        else:
            _remember(self._looked_up, fact.peer, (draft, envelope.now))

    def _path_validated(self, envelope: Envelope, fact: PathValidated) -> None:
        """The path is looked at while data moves, which may be long after the session's tree was written."""
        place = self._sessions.get(fact.session_id)
        if place is None:
            return
        draft = Draft(names.PATH_VALIDATE, envelope.time_ns - round(max(0.0, fact.rtt) * _SECOND))
        draft.attributes = attributes.common(envelope, fact) | attributes.of(fact)
        draft.close(envelope.time_ns, "completed")
        self._writer.write(draft, place.trace_id, parent=place)

    def _root(self, draft: Draft, fact: Fact) -> None:
        """Write a trace of its own, or one below the attempt it is about; linked to the session's."""
        attempt = getattr(fact, "attempt", "")
        if attempt:
            self._writer.write(draft, attempt, parent=Place(attempt, context.root_span_id(attempt)))
            return
        trace_id = getattr(fact, "trace_id", "") or self._writer.new_trace()
        if isinstance(fact, _THINNED) and not draft.error and not self._is_sampled(trace_id):
            return
        place = self._sessions.get(getattr(fact, "session_id", ""))
        if place is not None:
            draft.links.append(place)
        self._writer.write(draft, trace_id)

    def _is_sampled(self, trace_id: str) -> bool:
        return sampled(bytes.fromhex(trace_id), self._settings.sample)


def _remember(known: OrderedDict[str, V], key: str, value: V) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > _REMEMBERED:
        known.popitem(last=False)
