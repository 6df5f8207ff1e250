"""One question to a node or to a bundle: its knowledge and its records, read when they are needed.

Owns which of the two is asked. Everything that `pqvpn diag` shows comes from one of these, so that a bundle on another
machine gives the same answers.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from pqvpn.diag.knowledge import Knowledge, Peer
from pqvpn.diag.nearest import by_prefix, nearest
from pqvpn.diag.records import NANO, Event, Records, event_of, events_of
from pqvpn.diag.rules import diagnose
from pqvpn.diag.verdicts import Diagnosis
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason
from pqvpn.telemetry import names
from pqvpn.telemetry.store import LogRecord, MetricRecord, SpanRecord

SPANS_MOST = 20_000
POINTS_MOST = 100_000


class Inquiry:
    """`know` gathers the knowledge; `follow` gives log records as they come, where that is possible."""

    def __init__(
        self,
        records: Records,
        know: Callable[[], Knowledge],
        follow: Callable[..., Iterator[LogRecord]] | None = None,
    ) -> None:
        self.records = records
        self._know = know
        self._follow = follow

    @cached_property
    def known(self) -> Knowledge:
        """Everything known at the moment of the first question."""
        return self._know()

    @cached_property
    def diagnosis(self) -> Diagnosis:
        """The verdicts over it."""
        return diagnose(self.known)

    def peer(self, name: str) -> Peer:
        """A peer by its name. Raises PqvpnError with the nearest known ones."""
        known = [peer.name for peer in self.known.peers]
        found = next((peer for peer in self.known.peers if peer.name == name), None)
        if found is None:
            raise _unknown(Reason.CONFIG_NO_SUCH_PEER, "peer", name, known)
        return found

    def trace(self, given: str) -> list[SpanRecord]:
        """The spans of the trace whose ID begins so. Raises PqvpnError when none or several do."""
        given = given.lower()
        if len(given) == 32 and (found := self.records.spans(trace_id=given, limit=SPANS_MOST)):
            return found
        spans = self.records.spans(limit=SPANS_MOST)
        trace_id = _only("trace", given, [span.trace_id for span in spans])
        return [span for span in spans if span.trace_id == trace_id]

    def last_attempt(self) -> list[SpanRecord]:
        """The spans of the newest attempt to connect. Raises PqvpnError when none is recorded."""
        order = (names.REKEY, names.ACCEPT, names.CONNECT)
        roots = [span for span in self.records.spans(limit=SPANS_MOST) if span.name in order]
        newest = max(roots, key=lambda span: (order.index(span.name), span.start_ns), default=None)
        if newest is None:
            raise PqvpnError(Reason.USAGE, "no attempt to connect is recorded as a trace")
        return self.records.spans(trace_id=newest.trace_id, limit=SPANS_MOST)

    def session(self, given: str) -> tuple[str, tuple[Event, ...], list[SpanRecord]]:
        """A session's full ID, its events and its spans. Raises PqvpnError when no or several IDs begin so."""
        live = [str(peer.status.get("session_id") or "") for peer in self.known.peers]
        full = _only("session", given, [*(event.session_id for event in self.known.events), *live])
        events = events_of(self.records.logs(session_id=full, limit=2000))
        return full, events, self.records.spans(session_id=full, limit=2000)

    def logs(
        self,
        *,
        session: str = "",
        peer: str = "",
        component: str = "",
        level: str = "",
        since: float | None = None,
        limit: int = 1000,
    ) -> Sequence[Event]:
        """The newest recorded facts that fit, oldest first; `since` in seconds before now. A session's ID may be cut."""
        if peer:
            self.peer(peer)
        found = self.records.logs(
            since_ns=0 if since is None else int((self._now() - since) * NANO),
            session_id=self.session(session)[0] if session else "",
            peer=peer,
            component=component,
            level=level,
            limit=limit,
        )
        return events_of(found)

    def _now(self) -> float:
        return time.time() if self._follow else self.known.now

    def follow(self, *, session: str = "", peer: str = "", component: str = "", level: str = "") -> Iterator[Event]:
        """Recorded facts as they come, until somebody ends it."""
        if self._follow is None:
            raise PqvpnError(Reason.USAGE, "a bundle does not grow", remedy="leave out --follow")
        for record in self._follow(session_id=session, peer=peer, component=component, level=level):
            yield event_of(record)

    def metrics(self, name: str = "", since: float | None = None) -> list[MetricRecord]:
        """Points of one instrument, or of all, of the last seconds of what is recorded."""
        newest = self.known.at
        return self.records.metrics(
            name, since_ns=0 if since is None else int((newest - since) * NANO), limit=POINTS_MOST
        )


def _only(kind: str, given: str, known: Sequence[str]) -> str:
    found = by_prefix(given, known)
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(each[:12] for each in found[:5])
        raise PqvpnError(Reason.USAGE, f"{len(found)} {kind}s begin with {given!r}: {shown}", remedy="give more digits")
    raise _unknown(Reason.USAGE, kind, given, [each for each in known if each])


def _unknown(reason: Reason, kind: str, given: str, known: Sequence[str]) -> PqvpnError:
    near = nearest(given, known)
    detail = f"no {kind} {given!r} is known here"
    if not near:
        return PqvpnError(reason, f"{detail}; nothing is recorded of any")
    return PqvpnError(reason, detail, remedy=f"known are, nearest first: {', '.join(near)}")
