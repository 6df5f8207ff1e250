"""Crash reports as the observer makes them: from `Crashed` facts to the spool, and to a server where one is configured.

Owns the wiring of `telemetry/crashes`: `take`, `note` and `see` belong to the loop and wait for nothing, `open`, `store`
and `finish` to the worker, which may wait for the disk and loads Sentry's SDK with the first crash. What waits between
them is bounded. Once the supervisor has ended by an exception of its own it reports that itself (`node/lastwords.py`).
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pqvpn.config.paths import CRASHES_FOLDER
from pqvpn.crypto.secret import Secret
from pqvpn.errors import TelemetryError
from pqvpn.facts import Crashed, Fact
from pqvpn.host.clock import now
from pqvpn.observer.pacing import BreakerPacing
from pqvpn.observer.start import ObserverStart
from pqvpn.reasons import Reason
from pqvpn.resilience import registry
from pqvpn.resilience.health import Finding, Item, State
from pqvpn.telemetry.crashes import remember
from pqvpn.telemetry.crashes.recorder import CrashRecorder, Naming, Noted
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.logfiles.lines import Line
from pqvpn.telemetry.redaction import Policy
from pqvpn.telemetry.spool import Keeper, Kind

if TYPE_CHECKING:
    from pqvpn.telemetry.export import Drainer

MOST_WAITING: Final = 256
SUPERVISOR: Final = "supervisor"
_LAST_SEND: Final = 0.05
ALONE: Final = 1.5
"""Seconds for what was not sent when the observer ends: with the node, and when it is the last one left."""
_LAST_TRY: Final = 0.05
_MEMORY: Final = 1 << 20


class Crashes:
    """The crash reports of one node. `pacing` makes what paces delivery; `wake` has `store` called soon."""

    def __init__(
        self,
        start: ObserverStart,
        policy: Policy,
        pacing: Callable[[registry.Kind], BreakerPacing],
        wake: Callable[[], None],
    ) -> None:
        settings = self._settings = start.crashes
        self._folder = Path(start.state_folder)
        self._pacing = pacing
        self._wake = wake
        self.patience = _LAST_SEND
        self._waiting: deque[Noted] = deque(maxlen=MOST_WAITING)
        self._lock = threading.Lock()
        self._keeper: Keeper | None = None
        self._drainer: Drainer | None = None
        self._refusal: Reason | None = None
        self._recorder = CrashRecorder(
            policy,
            Naming(start.node.name, settings.environment, settings.host),
            self._keep,
            frozenset(item.code for item in Item),
            self._folder / remember.NAME,
        )

    # -- in the loop -------------------------------------------------------------------------------------------------

    def take(self, envelope: Envelope, fact: Fact) -> None:
        """Have a report made of a crash."""
        if not isinstance(fact, Crashed):
            return
        if SUPERVISOR == fact.process == envelope.process and not fact.handled:
            return  # it reports its own end by itself
        with self._lock:
            self._waiting.append(self._recorder.noted(envelope, fact))
        self._wake()

    def note(self, envelope: Envelope, line: Line) -> None:
        """A log line was made."""
        names = ("level", "process", "event", "peer", "code")
        told: dict[str, Any] = {name: line[name] for name in names if name in line}
        self._recorder.note(
            {
                "time": envelope.time_ns / 1e9,
                "component": line.get("component", ""),
                "message": line.get("message", ""),
                **told,
            }
        )

    def see(self, findings: tuple[Finding, ...]) -> None:
        """Health as it is shown now."""
        worst: dict[str, str] = {}
        for each in findings:  # worst first; peers are left out, their names are in the lines
            worst.setdefault(each.item.code, str(each.state))
        self._recorder.health = tuple(worst.items())

    def sent(self) -> tuple[State, Reason | None, str] | None:
        """How sending goes; None when nothing is sent, or was not tried yet."""
        if self._refusal is not None:
            return State.WARNING, self._refusal, ""
        if self._drainer is None or self._drainer.state.reachable is None:
            return None
        state = self._drainer.state
        if state.reachable:
            return State.OK, None, ""
        return State.WARNING, state.reason, f"{state.detail}; {state.backlog.records} reports wait".strip("; ")

    def good_news(self) -> None:
        """The network changed, or an operator asks: try to send now."""
        if self._drainer:
            self._drainer.good_news()

    # -- in the worker -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the spool, and begin to send."""
        settings = self._settings
        folder = self._folder / CRASHES_FOLDER
        sends = settings.dsn is not None
        keeper = Keeper(folder, settings.keep_size, settings.keep_age, memory=_MEMORY, sends=sends)
        if settings.dsn is not None:
            self._deliver(keeper, Secret(settings.dsn))
        self._keeper = keeper
        self.store()

    def _deliver(self, keeper: Keeper, dsn: Secret) -> None:
        from pqvpn.telemetry.crashes.delivery import Server, deliverer  # with the SDK: only where it is used

        server = Server(dsn, self._settings.ca_file, self._settings.timeout)
        try:
            drainer = deliverer(keeper, server, pacing=self._pacing(registry.Kind.CRASHES))
        except TelemetryError as error:
            self._refusal = error.reason
            return
        keeper.on_append = drainer.wake
        drainer.start()
        self._drainer = drainer

    def store(self) -> None:
        """Make reports of what waits."""
        if self._keeper is None:
            return
        while True:
            with self._lock:
                if not self._waiting:
                    break
                noted = self._waiting.popleft()
            self._recorder.make(noted)
        self._keeper.tidy()

    def finish(self) -> None:
        """Keep what is left, send it if that is quick, and close."""
        self.store()
        if self._keeper is None:
            return
        if self._drainer:
            deadline = now() + self.patience
            while self._keeper.backlog().records and self._drainer.state.reachable is not False and now() < deadline:
                time.sleep(0.005)  # the drainer tells nobody when it is done
            self._drainer.stop(_LAST_TRY)
        self._keeper.close()

    def _keep(self, data: bytes) -> None:
        if self._keeper:
            self._keeper.append(Kind.CRASHES, data, 1)


def traced(envelope: Envelope, fact: Fact) -> tuple[Envelope, Fact]:
    """A crash with the trace it belongs to: the attempt's in whose service it happened, else one of its own.

    The report and the trace find each other by its id.
    """
    if not isinstance(fact, Crashed) or fact.attempt:
        return envelope, fact
    if fact.trace_id:  # the supervisor's own end, which it reports by this id
        return msgspec.structs.replace(envelope, trace_id=fact.trace_id), fact
    if envelope.trace_id:
        found = replace(fact, attempt=envelope.trace_id)
        return envelope, replace(
            found, session_id=fact.session_id or envelope.session_id, peer=fact.peer or envelope.peer
        )
    trace_id = os.urandom(16).hex()
    return msgspec.structs.replace(envelope, trace_id=trace_id), replace(fact, trace_id=trace_id)
