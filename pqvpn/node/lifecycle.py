"""A node's life: claim, open, spawn, configure the interface, supervise, reload, end.

Owns the order of these steps and the supervisor's event loop. It parses nothing from the network and touches no packet; what
control says on its link is all it listens to, besides signals and the ends of its children.
"""

import contextlib
import os
import selectors
import signal
import socket
import time
from pathlib import Path
from types import FrameType

from pqvpn.config import load as configuration
from pqvpn.config.schema import NodeConfig
from pqvpn.control import supervision
from pqvpn.control.supervision import ProcessInfo
from pqvpn.dataplane.counters import Counters
from pqvpn.errors import PqvpnError, reason_of
from pqvpn.facts import ConfigurationLoaded, Crashed, Fact, NodeStarted, NodeStopped
from pqvpn.host import clock, privileges, udp
from pqvpn.host.clock import now
from pqvpn.host.privileges import Capability
from pqvpn.node import lastwords, observing, state, takeover, translate, upgrade
from pqvpn.node.autopsy import Autopsy
from pqvpn.node.interface import NodeInterface
from pqvpn.node.mending import Acts, Mender
from pqvpn.node.service import Service
from pqvpn.node.sockets import SocketWatch
from pqvpn.node.spare import Spare
from pqvpn.node.staff import CONTROL, Belongings, Staff
from pqvpn.node.state import Code, State
from pqvpn.node.upgrade import SIGNALS, Upgrade
from pqvpn.node.watch import InterfaceWatch
from pqvpn.reasons import Reason
from pqvpn.resilience.boundary import Boundary
from pqvpn.resilience.registry import Action, Kind, Registry
from pqvpn.resilience.supervisor import Supervisor
from pqvpn.telemetry import jsonlog
from pqvpn.telemetry.crashes import boundary as crashes
from pqvpn.telemetry.crashes.telling import teller
from pqvpn.telemetry.redaction import Policy

_NOBODY = 0
"""The request number of a reload by SIGHUP, to which nobody waits for an answer."""
_GOODBYE = 0.4
"""Seconds that control and lanes have to end by themselves; all of a shutdown stays under one second."""
_AWAY = 15.0
"""Seconds for which control or a lane may be away before the service manager is left without a sign of life."""
_PUTS_AWAY = 2.0
"""Seconds that an observer which is to be replaced has to put its records away; it takes a tenth of that."""
_END = 0.7
"""Seconds after which what is left of a shutdown, the observer, is killed."""


class Node:
    """One running node. `api` is the listening control socket, `claim` the descriptor that holds the runtime folder.

    `resumed`: what the supervisor of another version left by an exec, which goes on here. `told`: the end that it told to
    an observer, which makes span and log record of it.
    """

    def __init__(
        self,
        path: Path,
        config: NodeConfig,
        api: socket.socket,
        claim: int,
        *,
        debug: bool = False,
        resumed: State | None = None,
    ) -> None:
        self._claim = claim
        self._resumed = resumed
        self._path = path
        self._config = config
        self._api = api
        self._debug = debug
        self._started_at = clock.process_started_at()
        self._parts: dict[str, float] = dict(resumed.parts) if resumed else {}
        self._selector = selectors.DefaultSelector()
        self._observing = observing.Observing(config, debug=debug, started_at=self._started_at)
        self._publish = self._observing.publish
        self._crash = crashes.Boundary(self._publish, lastwords.SUPERVISOR, now)
        self._edge = Boundary(teller(self._publish, lastwords.SUPERVISOR, self._crash.caught), now)
        self._autopsy = Autopsy()
        self._supervisor = Supervisor(self._selector, now, self._publish, self._processes_changed, self._autopsy)
        self._spare = Spare(self._selector, now, self._publish, self._processes_changed)
        self._lanes = translate.lanes(config)
        self._mtu = translate.mtu(config)
        self._service = Service(config, self._lanes, resumed.variables if resumed else None)
        self._stop_cause = ""
        self._up = False
        self.told: Crashed | None = None
        self._reload_wanted = False
        self._staff: Staff
        self._interface: NodeInterface
        self._mender: Mender
        self._sockets: SocketWatch
        self._watch: InterfaceWatch
        self._breakers = Registry(translate.breakers(config), now, self._breaker_changed, "supervisor")
        self._netlink = self._breakers.get(Kind.NETLINK)
        hand_over = self._hand_over
        self._upgrade = Upgrade(config.runtime_folder, path, self._selector, self._publish, hand_over)
        if not resumed:
            self._mark("load")
            self._publish(ConfigurationLoaded(len(config.peers), self._parts["load"]))

    @property
    def started(self) -> bool:
        """Whether it came up."""
        return self._up

    @property
    def redacting(self) -> Policy:
        """How its records are redacted: with the hosts that reloads brought."""
        return self._observing.policy

    def run(self) -> int:
        """Open, serve, and close everything again whatever happens."""
        self._crash.watch()
        self._observing.leave_words()
        self._held = takeover.resume(self._config, self._resumed) if self._resumed else self._service.open()
        self._staff = self._make_staff()
        self._care_for_interface()
        self._watch_signals()
        given_back = False
        try:
            if self._resumed:
                self._adopt(self._resumed)
            else:
                self._start()
            self._apply_policies()
            self._serve()
            return self._supervisor.fatal or self._edge.exit_code or 0
        except Exception as error:
            if (crash := lastwords.of(error, running=self.started)) is not None:
                self._publish(crash)  # for log and records; the report is made once the observer has ended
                self.told = crash if self._observing.process_link else None
            if self._upgrade.on_trial:  # the former version can do better
                self._upgrade.roll_back(f"{type(error).__name__} in the supervisor")
            given_back = self._resumed is not None and not self._resumed.refused and not self._upgrade.begun
            raise
        finally:
            if not given_back:  # else the former version goes on with everything as it was
                self._close()

    # -- start -------------------------------------------------------------------------------------------------------

    def _make_staff(self) -> Staff:
        given = Belongings(
            self._config,
            self._held,
            Counters(self._held.counters),
            self._api,
            self._lanes,
            self._mtu,
            self._started_at,
            self._debug,
        )
        return Staff(given, self._selector, self._supervisor, self._spare, self._observing, self._heard)

    def _care_for_interface(self) -> None:
        """Who sets it up, and who sees what becomes of it."""
        place = self._interface = NodeInterface(self._staff.given, self._supervisor.replace, self._service.keep)
        guarded = self._netlink.decorate
        self._mender = Mender(Acts(guarded(place.recreate), guarded(place.restore)), self._publish)
        self._sockets = SocketWatch(place.reopen_socket, self._publish)
        self._watch = InterfaceWatch(self._config.health.interval, self._publish, self._mender, self._netlink)

    def _start(self) -> None:
        self._observing.listen()
        self._mark("descriptors")
        self._drop_privileges()
        self._staff.start()
        self._mark("spawn")
        self._interface.open()
        self._mark("interface")
        self._tell_processes()
        self._staff.start_observer()

    def _adopt(self, left: State) -> None:
        """Go on where a supervisor of another version stopped."""
        for level in left.log_levels:
            jsonlog.set_level(*level)
        self._observing.resume(left.observing)
        self._drop_privileges()
        self._staff.adopt(left.children)
        self._up = True
        self._interface.open()
        self._tell_processes()
        self._upgrade.resume(left, self._staff.others(), self._staff.renewal_acts(self._upgrade.told))
        self._say_ready()

    def _hand_over(self, request: str, former: Code, refused: str) -> State:
        """Everything that the supervisor of another version needs; the spare ends. Raises PqvpnError when the
        configuration's file is not what runs: that version would read it."""
        written = configuration.load(self._path)
        if later := translate.restart_needed(self._config, written):
            detail = f"the configuration was changed in what takes a restart: {', '.join(later)}"
            raise PqvpnError(Reason.UPGRADE_REFUSED, detail)
        if written.health.listen != self._config.health.listen:  # that version gets our socket
            raise PqvpnError(Reason.UPGRADE_REFUSED, "health.listen was changed: pqvpn reload first")
        self._spare.close()
        privileges.keep_over_exec(self._capabilities())
        held = takeover.leave(self._config, self._held)
        return State(
            format=state.FORMAT,
            config=str(self._path.absolute()),
            debug=self._debug,
            parts=self._parts,
            claim=self._claim,
            api=self._api.fileno(),
            **held,
            observing=self._observing.leave(),
            children=self._staff.leave(),
            variables=self._service.manager.variables,
            request=request,
            former=former,
            began=self._upgrade.began,
            refused=refused,
            log_levels=jsonlog.settings(),
        )

    def _mark(self, part: str) -> None:
        self._parts[part] = round(now() - self._started_at - sum(self._parts.values()), 4)

    def _drop_privileges(self) -> None:
        privileges.keep_only(self._capabilities())
        privileges.forbid_inspection()

    def _capabilities(self) -> frozenset[Capability]:
        keep = {Capability.NET_ADMIN}
        if self._path.exists() and self._path.stat().st_uid != 0:
            keep.add(Capability.DAC_READ_SEARCH)  # a reload reads a configuration that belongs to another user
        return frozenset(keep)

    # -- serve -------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._stop_cause and self._supervisor.fatal is None and self._edge.exit_code is None:
            self._edge.call("loop", self._turn)
            if self._upgrade.on_trial and self._edge.unexpected is not None:
                raise self._edge.unexpected  # the former version can do better
            if pause := self._edge.pause():
                time.sleep(pause)

    def _turn(self) -> None:
        """Wait, then everything that is ready or due, each by itself: one that fails must not keep the others from it."""
        call = self._edge.call
        waiting = (
            self._supervisor.next_start(),
            self._watch.due,
            self._spare.due,
            self._service.due,
            self._upgrade.due,
        )
        due = min((t for t in waiting if t is not None), default=None)
        for key, _ in self._selector.select(None if due is None else max(0.0, due - now())):
            call("callback", key.data)
        call("children", self._supervisor.start_due)
        call("stand-ins", self._cover_lanes)
        call("spare", self._spare.refill)
        call("watch", self._look_if_due)
        call("service", lambda: self._service.look(now(), lambda: self._supervisor.progressing(_AWAY)))
        if self._upgrade.wanted:
            call("upgrade", self._upgrade.begin)
        call("upgrade", lambda: self._upgrade.look(now()))
        if self._reload_wanted:
            self._reload_wanted = False
            call("reload", lambda: self._reload(_NOBODY))

    def _look_if_due(self) -> None:
        if self._watch.look_if_due(self._interface.kernel, now()):
            self._autopsy.kills.look()
            self._sockets.seen(udp.lost(self._held.udp), now())

    def _watch_signals(self) -> None:
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._wakeup = (reading, writing)  # closed with the process
        self._selector.register(reading, selectors.EVENT_READ, lambda: reading.recv(64))
        for number in SIGNALS:
            signal.signal(number, self._signalled)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked by whoever executed us

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload_wanted = True
        elif number == upgrade.SIGNAL:
            self._upgrade.wanted = True
        elif self._stop_cause:
            self._edge.call("signal", self._supervisor.hurry)  # asked twice: no more time for goodbyes
        else:
            self._stop_cause = signal.Signals(number).name

    def _heard(self, message: supervision.ToSupervisor) -> None:
        match message:
            case supervision.ControlReady():
                self._ready()
            case supervision.ReloadRequested(request):
                self._reload(request)
            case supervision.LevelRequested(area, level, seconds):
                with contextlib.suppress(ValueError):  # control has refused what is not acceptable
                    jsonlog.set_level(area, level, seconds)
            case supervision.BreakerRequested(request, name, action):
                self._breakers.act(name, Action(action))
                self._tell_breakers(request)
            case supervision.StopRequested():
                self._stop_cause = "request"

    def _ready(self) -> None:
        if not self._staff.control_ready:
            self._mark("control")
            taken = round(sum(self._parts.values()), 3)
            self._publish(NodeStarted(self._config.node.interface, self._held.udp.port, taken, self._parts))
            self._say_ready()
        self._staff.control_ready = self._up = True
        self._tell_processes()
        self._tell_breakers()

    def _breaker_changed(self, fact: Fact) -> None:
        self._publish(fact)
        self._edge.call("breakers", self._tell_breakers)  # control not told is no failure of what the breaker guards

    def _tell_breakers(self, request: int = 0) -> None:
        self._staff.tell(supervision.SupervisorBreakers(tuple(self._breakers.rows()), request))

    def _say_ready(self) -> None:
        self._service.started(f"running on {self._config.node.interface}, UDP port {self._held.udp.port}", now())
        if self._observing.enabled:
            self._watch.begin(now())

    def _reload(self, request: int) -> None:
        self._service.reloading()
        try:
            self._apply_configuration(request)
        except Exception as error:
            refusal = PqvpnError(reason_of(error), type(error).__name__)
            self._staff.tell(supervision.ReloadRefused(request, translate.errors(refusal)))  # somebody waits for it
            raise
        finally:
            self._service.reloaded()

    def _apply_configuration(self, request: int) -> None:
        """Apply the configuration file's peers, or tell why not; the kernel's routes go first, since they can be refused."""
        try:
            new = configuration.load(self._path)
        except PqvpnError as error:
            self._staff.tell(supervision.ReloadRefused(request, translate.errors(error)))
            return
        # an operator asks for it: that the kernel refused before is no reason not to try, an operator's hold is
        self._breakers.good_news(Kind.NETLINK)
        try:
            self._observing.prepare(new)
            with self._netlink.guard():
                self._interface.follow(new)
        except Exception as error:
            self._observing.unprepare()
            self._interface.follow(self._config)
            if not isinstance(error, PqvpnError):
                raise
            self._staff.tell(supervision.ReloadRefused(request, translate.errors(error)))
            return
        old, self._config = self._config, translate.in_force(self._config, new)
        changed, later = translate.changes(old, new), translate.restart_needed(old, new)
        self._staff.given.config = self._config
        self._apply_policies()
        self._supervisor.good_news()
        settings, limits = translate.breakers(new), translate.limits(new)
        self._breakers.apply(settings)
        self._watch.set_interval(limits.interval)
        self._interface.be_patient(limits.netlink_timeout)
        self._observing.apply(self._config)
        if translate.for_observer(old, self._config):
            self._supervisor.renew(observing.NAME, self._observing.let_go, _PUTS_AWAY)
        self._staff.tell(
            supervision.Configure(
                request, translate.peers(new), changed, later, settings,
                limits.crypto_interval, limits.crypto_timeout, tuple(self._observing.policy.hosts),
            )
        )  # fmt: skip

    def _apply_policies(self) -> None:
        for name in self._supervisor.children:
            self._supervisor.apply(name, self._staff.policy(name))
        self._supervisor.watchdog.limit = self._config.restart.hang_after
        self._spare.enable(self._config.restart.spares)
        self._mender.enabled = self._sockets.enabled = self._config.health.mend

    def _cover_lanes(self) -> None:
        if self._staff.cover_lanes():
            self._tell_processes()

    def _processes_changed(self) -> None:
        self._edge.call("processes", self._tell_processes)  # control not told is no failure of whoever was started

    def _tell_processes(self) -> None:
        own = ProcessInfo("supervisor", os.getpid(), 0, self._started_at)
        children_ = [c for c in self._supervisor.children.values() if c.process is not None]
        running = [ProcessInfo(c.name, c.pid, c.restarts, c.started_at) for c in children_]
        self._staff.tell(supervision.Processes((own, *running, *self._spare.infos()), self._parts))

    # -- end ---------------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Control says goodbye while the lanes can still send, then the lanes end, then the interface, then the observer.

        The observer is last, so that it hears of everything, and has what time is left.
        """
        began, call = now(), self._edge.call
        lanes = [name for name in self._supervisor.children if name not in (CONTROL, observing.NAME)]
        steps = (
            self._service.ending,
            self._spare.close,
            lambda: self._staff.tell(supervision.Shutdown()),
            lambda: self._end(CONTROL),
            self._staff.let_lanes_go,
            lambda: self._end(*lanes),
            self._interface.release,
            lambda: self._say_stopped(began),
            self._observing.let_go,
            lambda: self._end(observing.NAME, seconds=max(0.05, _END - (now() - began))),
            self._observing.close,
            self._held.close,
        )
        for step in steps:
            call("close", step)

    def _say_stopped(self, began: float) -> None:
        if self._stop_cause:
            self._publish(NodeStopped(self._stop_cause, round(now() - began, 3)))

    def _end(self, *names: str, seconds: float = _GOODBYE) -> None:
        self._supervisor.end([name for name in names if name in self._supervisor.children], seconds)
