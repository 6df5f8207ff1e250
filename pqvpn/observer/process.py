"""The observer process: facts in, records, health and answers out.

Owns the event loop, the timers and the order of an end. Reading facts has precedence and waits for nothing: whatever may
wait for the disk runs in `worker`. Each consumer of facts has a boundary of its own: one that fails is told and counted,
the others go on. Knows nothing of signals, spool or log lines beyond handing facts over.
"""

import asyncio
import contextlib
import functools
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

from pqvpn.dataplane.counters import Counters
from pqvpn.dataplane.routes import PROBE_ADDRESS
from pqvpn.facts import Fact, HealthChanged, LevelChanged, RetryEnded, RetryWaiting
from pqvpn.host.clock import now, spent
from pqvpn.host.kills import Kills
from pqvpn.host.knock import knock
from pqvpn.observer import crashes, http, machine, obituary
from pqvpn.observer import start as starting
from pqvpn.observer.checkbook import Checkbook
from pqvpn.observer.checks import Checks, Verdict
from pqvpn.observer.faults import Faults
from pqvpn.observer.intake import BATCH, Intake
from pqvpn.observer.keeping import Keeping
from pqvpn.observer.knowledge import Knowledge
from pqvpn.observer.progress import Progress
from pqvpn.observer.start import ObserverStart
from pqvpn.observer.traffic import Traffic
from pqvpn.observer.worker import Worker
from pqvpn.reasons import Reason
from pqvpn.resilience.backoff import Backoff
from pqvpn.resilience.health import Change, Finding, Health, Item, State
from pqvpn.resilience.limits import Limits
from pqvpn.telemetry import envelope, jsonlog, last, publish
from pqvpn.telemetry.crashes.boundary import Boundary
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.redaction import Redactor
from pqvpn.telemetry.signals import Readings

LAST_EVERY: Final = 2.0
GOODBYE: Final = 0.3
"""Seconds that an end may take: reading what is left, flushing, the last state."""
_LAST_WORD: Final = 1.0
"""Seconds after which an end that hangs is ended by the kernel (SIGALRM)."""
_ALONE: Final = 2.0
"""More of both when the supervisor is gone."""
_HTTP_AGAIN: Final = 1.0
_HTTP_LONGEST: Final = 30.0
_HTTP_LIVED: Final = 60.0
_REST: Final = 0.2
"""Seconds without reading facts after reading failed."""


class ObserverProcess:
    """One node's observer. `link` leads to the supervisor: its end is ours."""

    def __init__(self, start: ObserverStart, link: socket.socket, redactor: Redactor) -> None:
        began = now()
        self._start = start
        self._link = link
        self._redactor = redactor
        self._ended = asyncio.Event()
        self._crash = Boundary(self.publish, "observer", now)
        self._faults = Faults(self.publish, self._crash.caught, now)
        self._boundary = self._faults.boundary
        self._intake = Intake(socket.socket(fileno=start.link))
        self._counters = Counters(start.counters)
        self._limits = start.health.limits
        self._health = Health(limits=self._limits)
        self._checks = Checks(self._health, began, self._limits)
        self._book = Checkbook(spent, lambda name, error: self._faults.tell(f"check.{name}", error))
        self._traffic = Traffic(self._health, self._limits, self._tun_reads, _probe)
        self._progress = Progress(self._health, self._limits, began, lambda: self._checks.pids, self._counters.progress)
        self._lag = 0.0
        self._knowledge = Knowledge(start.node, redactor)
        self._worker = Worker(now, self._job_failed)
        self._looker = Worker(now, self._job_failed, "looks")
        self._folder = Path(start.state_folder)
        self._keeping = Keeping(start, redactor, self._counters, self._soon, self.publish, self._store_crashes)
        self._enter_checks()
        self._kills = Kills()
        self._last_refusal: tuple[Reason, str] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Serve until the supervisor closes the link or SIGTERM comes."""
        loop = self._loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self._faults.tell("loop", context.get("exception")))
        loop.add_signal_handler(signal.SIGTERM, self._ended.set)
        self._link.setblocking(False)
        loop.add_reader(self._link, self._from_supervisor)
        self._crash.watch()
        publish.relay(self.publish)
        self._worker.start()
        self._looker.start()
        self._worker.submit("open", self._keeping.open)
        loop.add_reader(self._start.link, self._readable)
        tasks = [asyncio.create_task(each) for each in (*self._timers(), *self._servers())]
        told = asyncio.create_task(self._ended.wait())
        done, _ = await asyncio.wait({told, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        loop.remove_reader(self._start.link)
        self._goodbye(now() + GOODBYE)
        if told not in done:  # without one of its tasks an observer only seems to live: a new one has all of them
            raise done.pop().exception() or RuntimeError("a task ended")

    def publish(self, fact: Fact) -> None:
        """A fact of the observer's own. Never raises."""
        with self._boundary("publish"):
            if fact.told:
                with contextlib.suppress(Exception):  # standard error is not the only place where it is told
                    jsonlog.publish(fact)
            self._take(envelope.stamped(fact, "observer"), fact)

    # -- facts -------------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            batch = list(self._intake.read(BATCH))
            self._from_supervisor()  # what it said before these facts were told: hosts among them must be known by now
            for stamped, fact in batch:
                self._take(stamped, fact)
        except Exception as error:  # noqa: BLE001 - facts wait in the kernel; what fails at once again must not take the processor
            self._faults.tell("link", error)
            if self._loop:
                self._loop.remove_reader(self._start.link)
                self._loop.call_later(_REST, self._read_again)

    def _read_again(self) -> None:
        if self._loop and not self._ended.is_set():
            self._loop.add_reader(self._start.link, self._readable)

    def _take(self, stamped: Envelope, fact: Fact) -> None:
        time_ = now()
        if isinstance(fact, LevelChanged):
            with self._boundary("levels"):
                self._set_level(fact)
        with self._boundary("health"):
            self._book.take(fact, time_)
        with self._boundary("state"):
            self._knowledge.take(stamped, fact, time_)
        with self._boundary("records"):
            self._keeping.take(stamped, fact, time_)

    def _set_level(self, fact: LevelChanged) -> None:
        with contextlib.suppress(ValueError):  # control refused it already if an operator asked for it
            jsonlog.set_level(fact.target, fact.value, fact.seconds)
            self._keeping.levels.change(fact.target, fact.value, now() + fact.seconds if fact.seconds else None)

    # -- timers ------------------------------------------------------------------------------------------------------

    def _timers(self) -> Iterator[Coroutine[Any, Any, None]]:
        records = self._start.records
        yield self._every(lambda: records.flush_interval, "flush", self._flush)
        yield self._every(lambda: records.metrics_interval, "metrics", self._collect)
        yield self._every(lambda: min(self._limits.interval, 1.0), "lag", self._tell_lag)
        yield self._every(lambda: self._limits.interval, "checks", self._check)
        yield self._every(lambda: LAST_EVERY, "last", self._write_last)

    async def _every(self, seconds: Callable[[], float], name: str, do: Callable[[], None]) -> None:
        """Do something again and again. Every timer measures how late the loop came to it."""
        while True:
            wait, due = _REST, float("inf")
            with self._boundary(name):
                wait = seconds()
                due = now() + wait
            await asyncio.sleep(wait)
            with self._boundary(name):
                self._lag = max(self._lag, now() - due)
                do()

    def _tell_lag(self) -> None:
        lag, self._lag = self._lag, 0.0
        self._checks.late("observer", lag, now())

    def _flush(self) -> None:
        jsonlog.tick()
        self._keeping.flush(now())
        self._worker.submit("store", self._keeping.store)

    def _collect(self) -> None:
        self._worker.submit("read", self._read)

    def _read(self) -> None:
        """In the worker: what the metrics show of the machine; the loop makes metrics of it."""
        lost = {"link": self._intake.total_lost(), "foreign": self._intake.foreign}
        readings = self._keeping.read(self._pids(), now(), lost)
        self._soon(lambda: self._observe(readings))

    def _observe(self, readings: Readings) -> None:
        with self._boundary("metrics"):
            self._keeping.records.observe(readings)

    def _check(self) -> None:
        time_ = now()
        self._keeping.records.settle()
        self._book.run(time_)
        self._keeping.crashes.see(self._findings())
        self._worker.submit("disk", self._look_at_disk)
        self._looker.submit("processes", self._look_at_processes)
        for change in self._health.changes(time_):
            self.publish(_told(change))
        self._knowledge.changed = True

    def _enter_checks(self) -> None:
        """Those that run by the clock: each reads something of the observer's own."""
        checks, keeping, add = self._checks, self._keeping, self._book.every_interval
        checks.enter(self._book)
        self._traffic.enter(self._book)
        self._progress.enter(self._book)
        add("node", lambda at: checks.check(at, self._udp_sends()))
        add("breakers", lambda at: checks.breakers(keeping.records.rows(), at))
        add("link", lambda at: checks.link(self._intake.total_lost(), at))
        add("records", lambda at: checks.records(self._kept(), self._worker.hung(at), at))
        add("collector", lambda at: checks.collector(keeping.records.sent(), at))
        add("crash_reports", lambda at: checks.crash_reports(keeping.crashes.sent(), at))

    def _kept(self) -> Verdict:
        if self._last_refusal is not None:
            reason, text = self._last_refusal
            return State.WARNING, reason, f"last state: {text}"
        return self._keeping.kept()

    def _pids(self) -> dict[str, int]:
        return {**self._checks.pids, "observer": os.getpid()}

    def _udp_sends(self) -> int:
        return sum(self._counters.totals(lane)["udp_sends"] for lane in range(self._start.node.lanes))

    def _tun_reads(self) -> list[int]:
        return [self._counters.totals(lane)["tun_reads"] for lane in range(self._start.node.lanes)]

    def _look_at_disk(self) -> None:
        """In the worker, which may wait for it; the loop draws the conclusions."""
        found = machine.disk(self._folder)
        self._soon(lambda: self._checks.disk(found, now()))

    def _look_at_processes(self) -> None:
        """In a thread that waits for no disk: this is to be known while one hangs."""
        found = machine.processes(self._pids())
        self._kills.look()
        self._soon(lambda: self._checks.processes(found, now()))

    def _write_last(self) -> None:
        if self._knowledge.changed:
            state = self._knowledge.last(self._findings(), now(), time.time_ns())
            self._worker.submit("last", lambda: self._store_last(state))

    def _store_last(self, state: dict[str, Any]) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            last.write(self._folder, state)
            self._last_refusal = None
        except OSError as error:
            self._last_refusal = machine.meaning(error.errno), error.strerror or type(error).__name__

    # -- answers -----------------------------------------------------------------------------------------------------

    def _servers(self) -> Iterator[Coroutine[Any, Any, None]]:
        records = self._keeping.records
        failed = functools.partial(self._faults.tell, "http")
        unix = http.Application(self._report, records.metrics_text, breakers=records, failed=failed)
        yield self._serve(unix, socket.socket(fileno=self._start.health_socket))
        if self._start.health_tcp >= 0:
            token = None if self._start.tcp_is_loopback else self._start.health.token
            tcp = http.Application(self._report, records.metrics_text, token, failed=failed)
            yield self._serve(tcp, socket.socket(fileno=self._start.health_tcp))

    async def _serve(self, application: http.Application, listener: socket.socket) -> None:
        listener.setblocking(False)
        waits, began = Backoff(_HTTP_AGAIN, _HTTP_LONGEST, shortest=_HTTP_AGAIN / 2), now()
        while True:
            try:
                await http.serve(application, listener.dup())
            except Exception as error:  # noqa: BLE001 - answers are not what the observer may die of
                self._faults.tell("http", error)
            wait = _HTTP_LONGEST
            with self._boundary("http"):
                if now() - began > _HTTP_LIVED and (tries := waits.reset()):
                    self.publish(RetryEnded("http", "", tries, "recovered"))
                wait = waits.next()
                self.publish(RetryWaiting("http", "", waits.tries, round(wait, 3), Reason.INTERNAL))
                began = now() + wait
            await asyncio.sleep(wait)

    def _report(self) -> dict[str, Any]:
        return self._knowledge.health(self._findings(), now(), time.time_ns())

    def _findings(self) -> tuple[Finding, ...]:
        return self._health.report(now())

    # -- faults and the end ------------------------------------------------------------------------------------------

    def _job_failed(self, name: str, error: Exception) -> None:
        self._soon(lambda: self._faults.tell(name, error))

    def _soon(self, do: Callable[[], None]) -> None:
        """Have something done in the loop, from any thread."""
        if self._loop:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(do)

    def _store_crashes(self) -> None:
        self._worker.submit("crashes", self._keeping.crashes.store)

    def _from_supervisor(self) -> None:
        while (message := self._word()) is not None:
            if not message:
                self._ended.set()
                return
            with self._boundary("supervisor"):
                self._obey(message)

    def _word(self) -> bytes | None:
        """The supervisor's next message; empty: it closed the link, None: there is none now."""
        try:
            return self._link.recv(starting.LARGEST_NEWS)
        except (
            BlockingIOError,
            ConnectionResetError,
        ):  # it closed without reading all: what it said before can be read
            return None
        except OSError:  # as good as closed; and readable for ever
            return b""

    def _obey(self, message: bytes) -> None:
        if (news := starting.news_of(message)) is not None:
            self._redactor.learn(news.hosts)
            self._keeping.records.apply(news.breakers)
            self._apply(news.limits)
        else:
            self._counters.show_progress("observer")
            self._progress.poked(now())

    def _apply(self, limits: Limits) -> None:
        """[health] was changed: each timer takes its new interval after the one that runs."""
        self._limits = self._health.limits = self._checks.limits = limits
        self._traffic.limits = self._progress.limits = limits

    def _goodbye(self, deadline: float) -> None:
        """Read what is left, then flush within the time that is left."""
        signal.setitimer(signal.ITIMER_REAL, _LAST_WORD)
        with self._boundary("last facts"):
            while now() < deadline - 0.6 * GOODBYE and (left := list(self._intake.read(BATCH))):
                for stamped, fact in left:
                    self._take(stamped, fact)
        with self._boundary("obituary"):
            if not self._knowledge.stopped and obituary.is_gone(self._start.supervisor_pid):
                deadline += _ALONE  # nobody waits for us, and nobody else can tell
                signal.setitimer(signal.ITIMER_REAL, _LAST_WORD + _ALONE)
                self._keeping.crashes.patience = crashes.ALONE
                self.publish(obituary.of_supervisor(self._start, self._kills))
        with self._boundary("close"):
            self._keeping.close(now())
        with self._boundary("last"):
            self._write_last()
        with self._boundary("end"):
            self._worker.submit("end", self._keeping.finish)
            self._worker.end(max(0.01, deadline - now()))


def _probe(interface: str, count: int) -> None:
    knock(interface, PROBE_ADDRESS, count)


def _told(change: Change) -> HealthChanged:
    finding = change.finding
    peer = finding.key if finding.item is Item.PEER else ""
    return HealthChanged(
        finding.name, str(finding.state), str(change.before), finding.reason, finding.evidence, peer=peer
    )
