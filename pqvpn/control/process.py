"""The control process: sockets, clock and lanes on one side, the pure core on the other.

Owns the driver: what comes in is handed to the core, the effects that come out are carried out. Decides nothing about
peers or keys. A datagram that makes the core fail is abandoned and told; the process goes on.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from msgspec import structs

from pqvpn import __version__
from pqvpn.control import given, operations, status, supervision
from pqvpn.control.gates import Gates
from pqvpn.control.lanes import Lanes
from pqvpn.control.news import News
from pqvpn.control.resolver import Resolver
from pqvpn.control.selftests import SelfTests
from pqvpn.control.supervision import ControlStart, PeerSpec
from pqvpn.control.traffic import Traffic
from pqvpn.control.watch import Watch
from pqvpn.control.whose import NOBODY, Context, Whose, working_for
from pqvpn.dataplane import events, faults
from pqvpn.dataplane.counters import Counters
from pqvpn.drops import DropReason
from pqvpn.facts import FactHook, InnerRefused, NetworkChanged, Problem
from pqvpn.host import datagrams, icmp
from pqvpn.host.clock import now
from pqvpn.protocol import effects
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Activity, Effect, Trigger
from pqvpn.protocol.views import PeerView
from pqvpn.reasons import Reason
from pqvpn.resilience.boundary import Boundary
from pqvpn.telemetry import context
from pqvpn.telemetry.crashes import boundary as crashes
from pqvpn.telemetry.crashes.telling import teller
from pqvpn.wire.address import Address
from pqvpn.wire.icmp import parse_icmp, parse_icmp6

TICK = 0.25
"""Seconds between two readings of the lanes' counters."""
_SAMPLE_EVERY = 4
_REPORT_LIMIT = 1.0
_BATCH = 64
"""Datagrams read in one go, so that a flood does not starve the timers."""
_DROPS = frozenset(int(drop) for drop in DropReason)
_ICMP_BATCH = 32
"""ICMP errors read in one tick: they are evidence, and the kernel may drop what comes faster."""


class ControlProcess:
    """One node's control. `link` leads to the supervisor, `publish` takes facts."""

    def __init__(self, start: ControlStart, link: socket.socket, publish: FactHook) -> None:
        self.start = start
        self.link = link
        self.publish = publish
        self.boundary = crashes.Boundary(publish, "control", now)
        self.edge = Boundary(teller(publish, "control", self.boundary.caught, plain=True), now)
        self._renewing = False
        self.ended = asyncio.Event()
        self.tests = SelfTests()
        self.failed_tests = self.tests.at_start(start.crypto_timeout)
        self.counters = Counters(start.counters)
        self.udp = socket.socket(fileno=start.udp)
        self.lanes = Lanes([socket.socket(fileno=fd) for fd in start.lane_links], self.counters, self._event)
        self.traffic = Traffic(self.counters)
        self.gates = Gates(start.breakers, now, publish)
        self.resolver = Resolver(self._resolved, publish, self.gates.registry, self.failed)
        self.core = Core(given.node_settings(start, self.failed_tests), os.urandom, now(), self.gates)
        self.peers: dict[bytes, PeerSpec] = {}
        self.whose = Whose(self.core, self.lanes, self.peers)
        self.processes = supervision.Processes((), {})
        self.supervisor_breakers: tuple[dict[str, Any], ...] = ()
        self.watch = Watch(self)
        self.news = News(self._good_news, start.interface)
        self._icmp = [socket.socket(fileno=fd) for fd in start.icmp]
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._send_failure = ""
        self._reports: dict[int, tuple[events.Held, ...]] | None = None
        self._report_came = asyncio.Event()

    async def run(self) -> int:
        """Serve until the supervisor says `Shutdown` or goes away; returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self._failed_in_loop(context.get("exception")))
        self.boundary.watch()
        if self.failed_tests:
            self.publish(self.tests.problem(self.failed_tests, self.start.crypto_timeout))
        self.watch.begin()
        held = await self._ask_lanes() if self.start.restarted else {}
        self.configure(self.start.peers)
        for lane, sessions in held.items():
            self._adopt(lane, sessions)
        self.call(self.peers)
        if self.start.offloads.steering:  # else the one socket is lane 0's to read, and strays come from there
            loop.add_reader(self.udp, self._readable)
        self.link.setblocking(False)
        loop.add_reader(self.link, self._from_supervisor)
        api = operations.Operations(self)
        await api.start(socket.socket(fileno=self.start.api))
        supervision.send(self.link, supervision.ControlReady())
        self.operations = api
        self.news.listen(loop)
        ticker = asyncio.create_task(self._tick(), name="tick")
        await self.ended.wait()
        ticker.cancel()
        api.close()
        self.resolver.close()
        self.news.close()
        self.do(lambda: self.core.close(now()))
        self.lanes.close()
        return self.edge.exit_code or os.EX_OK

    async def _ask_lanes(self) -> dict[int, tuple[events.Held, ...]]:
        """What the lanes hold since before control's restart; a lane that does not answer soon is taken to hold nothing."""
        self._reports = {}
        self.lanes.ask_for_report()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REPORT_LIMIT):
                while len(self._reports) < self.start.lanes:
                    await self._report_came.wait()
                    self._report_came.clear()
        reports, self._reports = self._reports, None
        for sessions in reports.values():
            self.lanes.learn_numbers(sessions)
        return reports

    # -- inputs ------------------------------------------------------------------------------------------------------

    def configure(self, peers: tuple[PeerSpec, ...]) -> None:
        """Apply the complete set of peers at once."""
        self.peers = self.whose.peers = {p.peer_id: p for p in peers}
        self.gates.configure({p.peer_id: p.name for p in peers})
        self.lanes.configure({p.peer_id: p.allowed_ips for p in peers})
        self.do(lambda: self.core.set_peers(tuple(given.peer_settings(p) for p in peers), now()))
        self.resolver.configure({p.peer_id: p.endpoints for p in peers}, {p.peer_id: p.name for p in peers})

    def call(self, peers: Iterable[bytes]) -> None:
        """Begin handshakes with peers that can be reached and have no session, without waiting for traffic."""
        for peer in peers:
            if self.peers[peer].endpoints:
                self.do(lambda: self.core.want_session(peer, now(), trigger=Trigger.START), self.whose.peer(peer))  # noqa: B023

    def do(self, decide: Callable[[], list[Effect]], whose: Context = NOBODY, peer: bytes | None = None) -> None:
        """Let the core decide and carry its effects out: what fails is told and abandoned.

        `whose`: in whose service, as far as it is known beforehand. `peer`: whose sessions end, and are made anew, when it
        fails; None for what a stranger may have sent, who must not be able to end anything.
        """
        self._decide(decide, whose, peer)
        self._arm()

    def _for_slot(self, slot: int, decide: Callable[[], list[Effect]]) -> None:
        self.do(decide, self.whose.slot(slot), self.whose.owner(slot))

    def _decide(self, decide: Callable[[], list[Effect]], whose: Context = NOBODY, peer: bytes | None = None) -> None:
        with working_for(whose):
            try:
                decided = decide()
            except Exception as error:  # noqa: BLE001 - the boundary: one input must not end the process
                self.edge.record("core", error)
                self._renew(peer, error)
                return
            for effect in decided:
                with working_for(self.whose.effect(effect)):
                    try:
                        self._carry_out(effect)
                    except Exception as error:  # noqa: BLE001 - the same boundary
                        self.edge.record("core", error)
                        self._renew(self.whose.blamed(effect), error)
                        return

    def _renew(self, peer: bytes | None, error: Exception) -> None:
        """Core and lanes may no longer agree about this peer: end what is held with it and begin anew, once."""
        if peer is None or self._renewing or isinstance(error, OSError):
            return
        self._renewing = True
        try:
            self._decide(lambda: self.core.renew(peer, now()), self.whose.peer(peer))
        finally:
            self._renewing = False

    def _readable(self) -> None:
        for _ in range(_BATCH):
            try:
                received = datagrams.receive(self.udp)
            except OSError as error:
                self.edge.record("udp", error)
                break
            if received is None:
                break
            data, source, local = received
            whose = self.whose.datagram(data)
            with context.taking():
                self._decide(lambda: self.core.receive(data, source, local, now()), whose)  # noqa: B023 - called at once
        self._arm()  # once a batch: a flood of datagrams must not cost a look at every session each

    def _event(self, lane: int, event: events.Event) -> None:
        core, whose = self.core, self.whose
        match event:
            case events.FirstAuthenticated(slot):
                self._for_slot(slot, lambda: core.first_authenticated(slot, now()))
            case events.Roamed(slot, source, local, received):
                self._for_slot(slot, lambda: core.roamed(slot, source, local, received, now()))
            case events.ControlFrame(slot, body, source, local):
                self._for_slot(slot, lambda: core.control_frame(slot, body, source, local, now()))
            case events.WantSession(number):
                peer = self.lanes.peer_id(number)
                if peer is not None:
                    self.do(lambda: core.want_session(peer, now()), whose.peer(peer), peer)
            case events.KeysWorn(slot):
                self._for_slot(slot, lambda: core.worn(slot, now()))
            case events.StrayDatagram(datagram, source, local):
                self.do(lambda: core.receive(datagram, source, local, now()), whose.datagram(datagram))
            case events.Holding(_, sessions) if self._reports is not None:
                self._reports[lane] = sessions
                self._report_came.set()
            case events.Holding(_, sessions):
                self._adopt(lane, sessions)
            case events.LaneFault(_, where, count, _):
                self.gates.lane_fault(where)
                self.publish(Problem(Reason.INTERNAL, f"lane-{lane}", f"{where} ({count} times)"))
                if (crash := faults.crash_of(structs.replace(event, lane=lane))) is not None:
                    self.boundary.tell(crash)
            case events.InnerRefused(slot, drop, count):
                session_id, name, _ = whose.slot(slot)
                if name and drop in _DROPS:
                    self.publish(InnerRefused(name, session_id, DropReason(drop).name.lower(), count))

    def _adopt(self, lane: int, held: tuple[events.Held, ...]) -> None:
        life = self.start.timers.reject_after
        found = [replace(s, derived_at=s.expires_at - life) for s in self.lanes.adopt(lane, held)]
        if found:
            self.do(lambda: self.core.adopt(tuple(found), now(), self.lanes.selected()))
        self.lanes.bring_up_to_date(lane)

    def _good_news(self, cause: str, seconds: float) -> None:
        self.publish(NetworkChanged(cause, round(seconds, 3)))
        self.do(lambda: self.core.good_news(now()))
        self.resolver.good_news()

    def _resolved(self, peer: bytes, addresses: tuple[Address, ...]) -> None:
        self.do(lambda: self.core.set_endpoints(peer, addresses, now()), self.whose.peer(peer), peer)

    def _from_supervisor(self) -> None:
        try:
            message, descriptor = supervision.receive_as_control(self.link)
        except BlockingIOError:
            return
        except (EOFError, OSError):
            self.ended.set()
            asyncio.get_running_loop().remove_reader(self.link)
            return
        match message:
            case supervision.LaneReplaced(lane) if descriptor is not None:
                self._lane_replaced(lane, socket.socket(fileno=descriptor))
            case supervision.Poke():
                if not self.watch.stuck:  # else the watchdog is to see a process that needs another in its place
                    self.counters.show_progress("control")
            case supervision.Shutdown():
                self.ended.set()
            case _:
                self.operations.from_supervisor(message)

    def _lane_replaced(self, lane: int, end: socket.socket) -> None:
        for entry in self.lanes.replace(lane, end):
            slot = entry.session.slot
            self._for_slot(slot, lambda: self.core.lost(slot, now()))  # noqa: B023 - called at once

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while self.edge.exit_code is None:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            self._parts_of_tick(max(0.0, loop.time() - due))
        self.ended.set()

    def _parts_of_tick(self, late: float) -> None:
        call = self.edge.call
        self._ticks += 1
        call("activity", self._observe)
        call("icmp", self._read_icmp)
        call("timer", self._arm)
        call("news", self.news.tick)
        if self._ticks % _SAMPLE_EVERY == 0:
            call("traffic", lambda: self.traffic.sample(now(), self.slots()))
        call("watch", lambda: self.watch.tick(late))

    def _observe(self) -> None:
        for slot, entry in list(self.lanes.book.items()):
            seen = self.counters.activity(slot, entry.session.session_id)
            activity = Activity(
                received=seen.last_received_any,
                data_received=seen.last_received_data,
                sent=seen.last_sent_any,
                data_sent=seen.last_sent_data,
            )
            owner = entry.session.peer_id
            self._decide(lambda: self.core.observe(slot, activity, now()), NOBODY, owner)  # noqa: B023 - called at once

    def _read_icmp(self) -> None:
        for sock in self._icmp:
            parse = parse_icmp if sock.family == socket.AF_INET else parse_icmp6
            for _ in range(_ICMP_BATCH):
                packet = icmp.receive(sock)
                if packet is None:
                    break
                found = parse(packet)
                if found is not None and found.port == self.start.listen:
                    self._decide(lambda: self.core.icmp(found.kind, found.to, now()))  # noqa: B023 - called at once
                    self.operations.probing.icmp(found.kind, found.to)

    # -- what is shown -----------------------------------------------------------------------------------------------

    def node_status(self, views: tuple[PeerView, ...], time: float) -> dict[str, Any]:
        """All of `status` but the peers."""
        offloads = next(iter(self.lanes.offloads.values()), self.start.offloads or events.Offloads())
        return {
            "version": __version__,
            "node": status.node(self.start, self.processes, offloads, self.failed_tests, views, time),
            "processes": status.process_list(self.processes, time),
            "breakers": self.breakers(only_unusual=True),
            "drops": status.drops(self.counters.drops(), self.core.drops),
        }

    def peer_statuses(self, views: tuple[PeerView, ...], time: float) -> list[dict[str, Any]]:
        """The peers of `status`, in the order of `views`."""
        slots = self.slots()
        return [
            status.peer(
                view, self.peers[view.peer_id].allowed_ips, self.traffic, slots.get(view.peer_id, []), time,
                self.watch.since(view.peer_id),
            )
            for view in views
        ]  # fmt: skip

    def breakers(self, *, only_unusual: bool = False) -> list[dict[str, Any]]:
        """Those of this process, then the supervisor's; or only what is not closed, or is held."""
        others = [r for r in self.supervisor_breakers if not only_unusual or r["held"] or r["state"] != "closed"]
        return [*self.gates.registry.rows(only_unusual), *others]

    def slots(self) -> dict[bytes, list[tuple[int, bytes]]]:
        """(slot, session ID) of every installed session by peer."""
        found: dict[bytes, list[tuple[int, bytes]]] = {peer: [] for peer in self.peers}
        for slot, entry in self.lanes.book.items():
            found.setdefault(entry.session.peer_id, []).append((slot, entry.session.session_id))
        return found

    # -- effects -----------------------------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case effects.Transmit(datagram, to, source):
                self._transmit(datagram, to, source)
            case effects.Install():
                self.lanes.install(effect)
            case effects.SelectForSending():
                self.lanes.select(effect)
            case effects.Erase(slot, _):
                self._erase(slot)
            case effects.SendFrame():
                self.lanes.send_frame(effect)
            case effects.MoveEndpoint():
                self.lanes.move(effect)
            case effects.SetPathMtu():
                self.lanes.set_path_mtu(effect)
            case effects.Tell(fact):
                self.publish(fact)
            case effects.Surveyed():
                self.operations.probing.surveyed(effect)
            case effects.Failed(_, error):
                self.edge.record("core", error)

    def _transmit(self, datagram: bytes, to: Address, source: bytes | None) -> None:
        try:
            datagrams.send(self.udp, datagram, to, source)
        except OSError as error:
            self.core.drops[DropReason.UDP_SEND] += 1
            failure = f"{to}: {os.strerror(error.errno or 0)}"
            if failure != self._send_failure:  # once a cause, not once a retry
                self.publish(Problem(Reason.NO_ROUTE_OUT, "udp", failure, context.current().peer))
            self._send_failure = failure

    def _erase(self, slot: int) -> None:
        entry = self.lanes.book.get(slot)
        if entry:
            self.traffic.ended(entry.session.peer_id, slot, entry.session.session_id)
        self.lanes.erase(slot)

    def _arm(self) -> None:
        delay = TICK
        try:
            deadline = self.core.deadline()
            delay = TICK if deadline is None else max(0.0, deadline - now())
        except Exception as error:  # noqa: BLE001 - without a timer nothing would ever be due again
            self.edge.record("core", error)
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        self.do(lambda: self.core.tick(now()))

    def _failed_in_loop(self, error: object) -> None:
        self.failed("control", error)
        if pause := self.edge.pause():  # what is still to be read calls again at once: it must not take the processor
            time.sleep(pause)

    def failed(self, component: str, error: object) -> None:
        """What reached the event loop, a task or a request unexpectedly: told, and acted upon."""
        if isinstance(error, Exception):
            self.edge.failed(component, error)
