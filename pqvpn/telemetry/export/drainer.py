"""Sends what is in the spool, in order, each record until the collector has it.

Owns the thread, the decision what becomes of a record, and the counts. At least once: a record counts as sent when the
collector said so, and is sent again after a crash or an answer that never came, with the same id. Waiting costs nobody
anything: the observer looks at `state`, a frozen value that needs no lock. Nothing that a collector does ends the thread.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from pqvpn.errors import reason_of
from pqvpn.reasons import Reason
from pqvpn.telemetry.export.endpoint import Target
from pqvpn.telemetry.export.outcome import Outcome, Sender, Verdict
from pqvpn.telemetry.export.pacing import OnChange, Paces, Pacing
from pqvpn.telemetry.spool import Backlog, Keeper, Record, RecordId, Spool
from pqvpn.telemetry.spool.writer import uptime

GOODBYE: Final = 0.4
"""Seconds that `stop` waits for the thread."""
_IDLE: Final = 5.0
_AFTER_A_FAULT: Final = 1.0
"""Seconds of rest when the thread itself failed: what failed once may fail at once again."""
_TRIES_OF_A_REFUSED_RECORD: Final = 3
_MOST_REFUSED_IN_A_ROW: Final = 8
"""A collector that refuses one record after the other is set up wrong, or is none: from here on records are kept."""
REFUSED_CAUSE, REJECTED_CAUSE = "refused", "rejected"


@dataclass(frozen=True, slots=True)
class ExportState:
    """How sending goes. `reachable` None: not tried yet; `since`: uptime of its last change; `next_try`: uptime.

    Counts since the start: records `sent`; tries that `failed`; records that were accepted in part (`partial`), without
    `rejected` items; records `refused` for good; records sent again though the collector may have had them (`duplicates`).
    """

    reachable: bool | None = None
    since: float = 0.0
    reason: Reason | None = None
    detail: str = ""
    breaker: str = "closed"
    next_try: float = 0.0
    backlog: Backlog = field(default_factory=Backlog)
    sent: int = 0
    failed: int = 0
    partial: int = 0
    rejected: int = 0
    refused: int = 0
    duplicates: int = 0


class Targets(Protocol):
    """Where records go by their kind, such as an `Endpoint`."""

    def of(self, kind: int) -> Target | None:
        """None: records of this kind are not sent."""


def sender_of(target: Target) -> Sender:
    """The sender for a target; its client library is loaded with the first one."""
    if target.protocol == "grpc":
        from pqvpn.telemetry.export.grpc import GrpcSender

        return GrpcSender(target)
    from pqvpn.telemetry.export.http import HttpSender

    return HttpSender(target)


class Drainer:
    """Drains `spool` to `endpoint` from `start` to `stop`. `on_change`: told when its breaker changes state."""

    def __init__(
        self,
        spool: Spool | Keeper,
        endpoint: Targets,
        *,
        on_change: OnChange | None = None,
        pacing: Paces | None = None,
        make: Callable[[Target], Sender] = sender_of,
        now: Callable[[], float] = uptime,
    ) -> None:
        self._spool = spool
        self._endpoint = endpoint
        self._make = make
        self._now = now
        self._pacing: Paces = pacing or Pacing(on_change)
        self._senders: dict[Target, Sender] = {}
        self._sending: Sender | None = None
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drainer", daemon=True)
        self._state = ExportState(since=now())
        self._refused_in_a_row = 0
        self._tries: tuple[RecordId | None, int, bool] = (None, 0, False)  # of the record in hand; any uncertain
        self._news = False

    # -- from any thread ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> ExportState:
        """How sending goes, as of the last event."""
        return self._state

    def start(self) -> None:
        """Begin. The spool's `on_append` should be `wake`."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    def good_news(self) -> None:
        """The network changed, or an operator asks: do not wait for the next try."""
        self._news = True
        self._wake.set()

    def stop(self, seconds: float = GOODBYE) -> bool:
        """End; whether the thread ended within so many seconds. What was not sent stays in the spool."""
        self._stopped.set()
        self._wake.set()
        if sending := self._sending:
            sending.abort()
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - the thread's boundary: even what paces the tries has failed
                self._state = replace(
                    self._state, reachable=False, reason=reason_of(error), detail=type(error).__name__
                )
                self._stopped.wait(_AFTER_A_FAULT)
        for sender in self._senders.values():
            sender.close()

    def _turn(self) -> None:
        """Send what there is, tell, and wait for more."""
        self._wake.clear()
        try:
            wait = self._drain()
        except Exception as error:  # noqa: BLE001 - a fault of ours: as if the collector could not be had
            wait = self._note(Outcome(Verdict.LATER, reason_of(error), type(error).__name__))
        self._tell()
        self._wake_within(wait)

    def _wake_within(self, seconds: float) -> None:
        """Wait; new records end the wait only when none is waiting for its next try."""
        until = self._now() + seconds
        retrying = self._pacing.due(self._now()) > 0
        while not self._stopped.is_set() and (left := until - self._now()) > 0:
            if not self._wake.wait(min(left, _IDLE)):
                self._tell()
                continue
            if not retrying or self._news:
                break
            self._wake.clear()
        if self._news:
            self._news = False
            self._pacing.good_news()

    def _drain(self) -> float:
        """Send until there is no more, or one must wait; returns for how long."""
        for record in self._spool.unsent():
            if self._stopped.is_set():
                return 0.0
            wait = self._pacing.due(self._now())
            if wait:
                return wait
            target = self._endpoint.of(record.kind)
            if target is None:
                self._spool.sent(record.id)
                continue
            if wait := self._settle(record, self._try(record, target)):
                return wait
        return _IDLE

    def _try(self, record: Record, target: Target) -> Outcome:
        sender = self._sending = self._senders.get(target) or self._make(target)
        self._senders[target] = sender
        try:
            return sender.send(record)
        except Exception as error:  # noqa: BLE001 - a mistake of ours: one record must not keep the others back
            return Outcome(Verdict.NEVER, reason_of(error), type(error).__name__)
        finally:
            self._sending = None

    def _settle(self, record: Record, outcome: Outcome) -> float:
        """What becomes of the record; returns seconds to wait before the next try."""
        if self._stopped.is_set() and outcome.verdict is not Verdict.ACCEPTED:
            return 0.0  # we cut it short ourselves
        known, tries, uncertain = self._tries
        tries = tries + 1 if known == record.id else 1
        uncertain = known == record.id and uncertain
        self._tries = (record.id, tries, uncertain or outcome.uncertain)
        if outcome.verdict is Verdict.ACCEPTED:
            self._accepted(record, outcome, uncertain)
            return outcome.wait or 0.0
        gives_up = tries >= _TRIES_OF_A_REFUSED_RECORD and self._refused_in_a_row < _MOST_REFUSED_IN_A_ROW
        if outcome.verdict is Verdict.NEVER and gives_up:
            self._refused(record, outcome)
            return 0.0
        return self._note(outcome)

    def _accepted(self, record: Record, outcome: Outcome, uncertain: bool) -> None:
        state = self._state
        self._spool.sent(record.id)
        self._refused_in_a_row = 0
        self._pacing.worked()
        if outcome.wait:
            self._pacing.hold(self._now(), outcome.wait)
        if outcome.rejected:
            self._spool.count_loss(REJECTED_CAUSE, 0, min(outcome.rejected, record.items or outcome.rejected))
        self._state = replace(
            state,
            reachable=True,
            since=state.since if state.reachable else self._now(),
            reason=Reason.RECORDS_DROPPED if outcome.rejected else None,
            detail=f"the collector rejected {outcome.rejected} of {record.items} items" if outcome.rejected else "",
            breaker=str(self._pacing.state),
            next_try=0.0,
            sent=state.sent + 1,
            partial=state.partial + (outcome.rejected > 0),
            rejected=state.rejected + outcome.rejected,
            duplicates=state.duplicates + uncertain,
        )
        self._tell()

    def _refused(self, record: Record, outcome: Outcome) -> None:
        """The collector answers, and will never take this one: it stays on disk for `pqvpn diag`, and counts as lost."""
        self._refused_in_a_row += 1
        self._spool.drop(record.id, REFUSED_CAUSE, record.items)
        self._note(outcome)
        self._pacing.worked()
        self._state = replace(self._state, refused=self._state.refused + 1)

    def _note(self, outcome: Outcome) -> float:
        now, state = self._now(), self._state
        wait = self._pacing.failed(now, outcome.reason, outcome.wait)
        self._state = replace(
            state,
            reachable=False,
            since=now if state.reachable is not False else state.since,
            reason=outcome.reason,
            detail=outcome.detail,
            breaker=str(self._pacing.state),
            next_try=now + wait,
            failed=state.failed + 1,
        )
        self._tell()
        return wait

    def _tell(self) -> None:
        self._state = replace(self._state, backlog=self._spool.backlog(), breaker=str(self._pacing.state))
