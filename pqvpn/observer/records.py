"""Signals and their store: what facts become beside log lines and health.

Owns the wiring of `telemetry/signals` (made in the loop, which owns them), the spool (written in the worker, which may
wait for the disk) and, where an endpoint is configured, the drainer with its thread. What signals hand over waits here,
bounded, until the worker has kept it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pqvpn.config.paths import SPOOL_FOLDER
from pqvpn.dataplane.counters import Counters
from pqvpn.facts import Fact, FactHook, NetworkChanged, PeerObserved
from pqvpn.host import clock
from pqvpn.observer.checks import Verdict
from pqvpn.observer.pacing import BreakerPacing
from pqvpn.observer.start import ObserverStart
from pqvpn.reasons import Reason
from pqvpn.resilience import registry
from pqvpn.resilience.health import State
from pqvpn.resilience.registry import Registry
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.logfiles.levels import Levels
from pqvpn.telemetry.redaction import Redactor
from pqvpn.telemetry.signals import Readings, Settings, Signals, usage
from pqvpn.telemetry.spool import Keeper, Kind

if TYPE_CHECKING:
    from pqvpn.telemetry.export import Drainer

MOST_WAITING: Final = 8 << 20
"""Bytes of batches that wait for a disk that does not answer."""
_PEER_GONE: Final = 60.0
_MOST_PEERS: Final = 512
_LAST_SEND: Final = 0.12
_LAST_TRY: Final = 0.05
_KINDS: Final = {"traces": Kind.TRACES, "metrics": Kind.METRICS, "logs": Kind.LOGS}


class Records:
    """The signals of one node and where they are kept. `publish` is called in the loop, `soon` from any thread."""

    def __init__(
        self,
        start: ObserverStart,
        redactor: Redactor,
        levels: Levels,
        counters: Counters,
        soon: Callable[[Callable[[], None]], None],
        publish: FactHook,
    ) -> None:
        self._start = start
        self._counters = counters
        self._soon = soon
        self._publish = publish
        settings = Settings(
            version=start.node.version,
            instance=redactor.text(start.node.id),
            peers=start.node.peers,
            sample=start.records.sample,
            environment=start.records.environment,
        )
        self._signals = Signals(settings, redactor, self._wait, levels.wanted)
        self._waiting: deque[tuple[Kind, bytes, int]] = deque()
        self._waiting_size = 0
        self._lock = threading.Lock()
        self._lost = 0
        self._peers: dict[str, float] = dict.fromkeys(start.node.peers, 0.0)
        self._guarding = threading.RLock()
        self._breakers = Registry(start.breakers, clock.now, self._publish_soon, "observer")
        self._keeper: Keeper | None = None
        self._drainer: Drainer | None = None
        self._known_losses = 0
        self.also: list[Callable[[], None]] = []  # other deliveries, told of good news

    # -- in the loop -------------------------------------------------------------------------------------------------

    def take(self, envelope: Envelope, fact: Fact, now: float) -> None:
        """Make signals of one fact."""
        if isinstance(fact, PeerObserved):
            self._see_peer(fact.peer, now)
        elif isinstance(fact, NetworkChanged):
            self.good_news()
        self._signals.record(envelope, fact)

    def flush(self) -> None:
        """Have spans and log records that wait encoded."""
        self._signals.flush()

    def observe(self, readings: Readings) -> None:
        """Take what was read, and have the metrics encoded."""
        self._signals.observe(readings)
        self._signals.collect()

    def metrics_text(self, accept: str) -> tuple[bytes, str]:
        """(body, content type) of `/metrics`."""
        return self._signals.prometheus_text(accept)

    def close(self) -> None:
        """Have everything encoded that is left."""
        self._signals.close()

    def kept(self) -> Verdict:
        """Whether records are kept."""
        keeper = self._keeper
        if keeper is None:
            return State.OK, None, ""
        if trouble := keeper.trouble:
            return State.WARNING, trouble.reason, trouble.detail
        losses = {cause: loss.records for cause, loss in keeper.losses.items() if loss.records}
        total = sum(losses.values()) + self._lost
        more, self._known_losses = total - self._known_losses, total
        if more > 0:
            causes = (
                ", ".join(f"{count} by {cause}" for cause, count in sorted(losses.items())) or "the disk is too slow"
            )
            return State.WARNING, Reason.RECORDS_DROPPED, f"{more} more: {causes}"
        return State.OK, None, ""

    def sent(self) -> Verdict | None:
        """How sending goes; None when nothing is sent, or was not tried yet."""
        if self._drainer is None or self._drainer.state.reachable is None:
            return None
        state = self._drainer.state
        if state.reachable:
            return State.OK, None, ""
        return State.WARNING, state.reason, f"{state.detail}; {state.backlog.records} batches wait".strip("; ")

    def _see_peer(self, peer: str, now: float) -> None:
        """Keep the signals' list of peers up to date, by what control speaks of."""
        new = peer not in self._peers and len(self._peers) < _MOST_PEERS
        if new or peer in self._peers:
            self._peers[peer] = now
        gone = [name for name, at in self._peers.items() if at and now - at > _PEER_GONE]
        for name in gone:
            del self._peers[name]
        if new or gone:
            self._signals.peers(self._peers)

    def _wait(self, kind: str, payload: bytes, items: int, /) -> None:
        with self._lock:
            self._waiting.append((_KINDS[kind], payload, items))
            self._waiting_size += len(payload)
            while self._waiting_size > MOST_WAITING:
                _, oldest, count = self._waiting.popleft()
                self._waiting_size -= len(oldest)
                self._lost += count

    # -- in the worker -----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the spool, and begin to send."""
        records = self._start.records
        folder = Path(self._start.state_folder) / SPOOL_FOLDER
        keeper = Keeper(folder, records.spool_size, records.spool_age, sends=records.endpoint is not None)
        if records.endpoint is not None:
            from pqvpn.telemetry.export import Drainer, Endpoint  # with its HTTP or gRPC client: only where it is used

            endpoint = Endpoint.unpack(records.endpoint)
            drainer = Drainer(keeper, endpoint, pacing=self.pacing(registry.Kind.OTLP))
            keeper.on_append = drainer.wake
            drainer.start()
            self._drainer = drainer
        self._keeper = keeper

    def store(self) -> None:
        """Keep what waits; while the disk refuses the spool holds it in memory."""
        with self._lock:
            batch = list(self._waiting)
            self._waiting.clear()
            self._waiting_size = 0
        try:
            if self._keeper and batch:
                self._keeper.append_many(batch)
            elif self._keeper:
                self._keeper.tidy()
        except Exception:  # it never does; if it does, what is gone is counted
            with self._lock:
                self._lost += sum(items for _, _, items in batch)
            raise

    def read(self, pids: dict[str, int], now: float, lost: dict[str, int]) -> Readings:
        """What the metrics show of processes, lanes and losses. `lost`: facts that did not get as far as here, by cause."""
        processes = {component: used for component, pid in pids.items() if (used := usage(pid))}
        lanes = {f"lane-{n}": self._counters.totals(n) for n in range(self._start.node.lanes)}
        losses = {f"spool.{cause}": loss.items for cause, loss in (self._keeper.losses if self._keeper else {}).items()}
        backlog = self._keeper.backlog() if self._keeper else None
        queues = {"spool": backlog.records} if backlog and self._drainer else {}
        return Readings(now, processes, lanes, queues, {**losses, **self._signals.lost, **lost, "disk": self._lost})

    def finish(self) -> None:
        """Keep what is left, send it if that is quick, and close."""
        self.store()
        self._send_the_last()
        if self._keeper:
            self._keeper.close()

    def _send_the_last(self) -> None:
        """That a node ends on purpose should be known where it is missed; the rest can wait for the next start."""
        if self._drainer is None or self._keeper is None:
            return
        deadline = time.monotonic() + _LAST_SEND
        while self._drainer.state.reachable and self._keeper.backlog().records and time.monotonic() < deadline:
            time.sleep(0.005)  # the drainer tells nobody when it is done
        self._drainer.stop(_LAST_TRY)

    def pacing(self, kind: registry.Kind) -> BreakerPacing:
        """What paces a delivery of this kind."""
        return BreakerPacing(kind, self._breakers.get(kind), clock.now, self._publish_soon, self._guarding)

    def _publish_soon(self, fact: Fact) -> None:
        """Called by the drainer, in its thread, among others."""
        self._soon(lambda: self._publish(fact))

    def rows(self) -> list[dict[str, Any]]:
        """Every breaker of the observer, as plain data."""
        with self._guarding:
            return self._breakers.rows()

    def act(self, name: str, action: str) -> dict[str, Any]:
        """Carry out what an operator wants of a breaker. Raises PqvpnError, ValueError when there is no such action."""
        with self._guarding:
            row = self._breakers.act(name, registry.Action(action))
        if row["state"] == "closed":
            self.good_news()
        return row

    def apply(self, settings: registry.Settings) -> None:
        """[breakers] was changed."""
        with self._guarding:
            self._breakers.apply(settings)

    def settle(self) -> None:
        """Have told what became half open by the passing of time."""
        with self._guarding:
            self._breakers.settle()

    def good_news(self) -> None:
        """The network changed, or an operator asks: try to send now."""
        for tell in self.also:
            tell()
        if self._drainer:
            self._drainer.good_news()
