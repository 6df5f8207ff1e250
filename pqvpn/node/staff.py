"""The node's processes: how each is started with what it needs, the links to them, and how they change hands in an upgrade.

Owns the supervisor's ends of their links. When one is started, and whether again, is the supervisor's matter; what control
says is handed on.
"""

import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pqvpn import __version__
from pqvpn.config.schema import NodeConfig
from pqvpn.control import supervision
from pqvpn.dataplane.counters import Counters
from pqvpn.facts import Problem
from pqvpn.node import children, descriptors, observing, renewal, state, translate
from pqvpn.node.adopted import AdoptedChild
from pqvpn.node.descriptors import Descriptors
from pqvpn.node.observing import Observing
from pqvpn.node.spare import Spare
from pqvpn.node.standins import StandIns
from pqvpn.reasons import Reason
from pqvpn.resilience.restarts import RestartPolicy
from pqvpn.resilience.supervisor import Process, Supervisor

CONTROL: Final = "control"
_PATIENCE: Final = {CONTROL: 2.0, observing.NAME: 10.0}
"""By how much more than a lane others may take before they count as hung: no packet waits for them."""
_OBSERVED_AFTER: Final = 1.0
"""Seconds for which the observer lets the tunnel come up first; what happens meanwhile waits in the kernel."""


@dataclass(slots=True)
class Belongings:
    """What processes are started with. `config` changes with a reload."""

    config: NodeConfig
    held: Descriptors
    counters: Counters
    api: socket.socket
    lanes: int
    mtu: int
    started_at: float
    debug: bool


class Staff:
    """The processes of one node. `heard` takes each message of control, `control_ready`: one has served before."""

    def __init__(
        self,
        given: Belongings,
        selector: selectors.BaseSelector,
        supervisor: Supervisor,
        spare: Spare,
        observer: Observing,
        heard: Callable[[supervision.ToSupervisor], None],
    ) -> None:
        self.given = given
        self.control_ready = False
        self._selector = selector
        self._supervisor = supervisor
        self._spare = spare
        self._observing = observer
        self._heard = heard
        self._control: socket.socket | None = None
        self._lanes: dict[int, socket.socket] = {}
        self._linked: set[int] = set()  # lanes to which control had its first link
        self._versions: dict[str, str] = {}
        self._stand_ins = StandIns(supervisor, self._carry, observer.publish)

    @property
    def names(self) -> list[str]:
        """Lanes and control, in the order in which they are replaced by an upgrade; the observer last."""
        lanes = [lane_name(lane) for lane in range(self.given.lanes)]
        return [*lanes, CONTROL, *([observing.NAME] if self._observing.enabled else [])]

    def start(self) -> None:
        """Start control and lanes. Raises OSError when the kernel refuses."""
        for name in (CONTROL, *(lane_name(lane) for lane in range(self.given.lanes))):
            self._supervisor.add(name, self._starter(name), self.policy(name))

    def start_observer(self) -> None:
        """Start the observer a little later."""
        if self._observing.enabled:
            name = observing.NAME
            self._supervisor.add_unessential(name, self._starter(name), _OBSERVED_AFTER, self.policy(name))

    def policy(self, name: str) -> RestartPolicy:
        """Whether and when a process is started again."""
        component = "lanes" if name.startswith("lane-") else name
        return translate.restart_policy(self.given.config, component)

    def tell(self, message: supervision.ToControl, descriptor: int | None = None) -> None:
        """Send control a message, if one runs."""
        if self._control is None:
            return
        try:
            supervision.send(self._control, message, descriptor)
        except OSError as error:  # control is ending; its successor starts with everything
            detail = f"control takes no messages: {error.strerror}"
            self._observing.publish(Problem(Reason.KERNEL_REFUSED, "supervisor", detail))

    def cover_lanes(self) -> bool:
        """Have lanes that live carry those that are tried rarely; whether anything changed."""
        return self._stand_ins.look(self.given.lanes)

    def let_lanes_go(self) -> None:
        """Close the links of lanes: they end."""
        self._stand_ins.close()
        for end in self._lanes.values():
            end.close()

    # -- starts ------------------------------------------------------------------------------------------------------

    def _starter(self, name: str) -> Callable[[], Process]:
        def start() -> Process:
            if name == CONTROL:
                process, poke = self._start_control()
            elif name == observing.NAME:
                process, poke = self._observing.start(self.given.held.counters), self._observing.poke
            else:
                process, poke = self._start_lane(int(name.removeprefix("lane-")))
            self._versions[name] = __version__
            self._watched(name, poke)
            return process

        return start

    def _start_control(self) -> tuple[Process, Callable[[], None]]:
        self._forget_control()
        waiting, given = self._spare.take(children.CONTROL), self.given
        with waiting.becoming():
            children.make_control(
                waiting,
                given.config,
                given.held,
                given.api,
                lanes=given.lanes,
                started_at=given.started_at,
                restarted=self.control_ready,
                debug=given.debug,
                facts=self._observing.facts,
                policy=self._observing.policy,
                quiet=self._observing.quiet,
            )
        self._hear(waiting.link)
        return waiting.process, lambda: children.poke(waiting.link, supervision.POKE)

    def _start_lane(self, lane: int) -> tuple[Process, Callable[[], None]]:
        self._stand_ins.take_back(lane)  # two that send with the same keys would use counters twice
        if lane in self._linked:
            self._replace_link(lane)
        self._linked.add(lane)
        waiting = self._spare.take(children.LANE)
        with waiting.becoming():
            children.make_lane(waiting.link, lane, self.given.lanes, self.given.mtu, self.given.held)
        self._lanes[lane] = waiting.link
        return waiting.process, lambda: children.poke(waiting.link)

    def _replace_link(self, lane: int) -> None:
        """Give control a fresh link to a lane whose process died: nothing meant for the dead one is in it."""
        if lane in self._lanes:
            self._lanes.pop(lane).close()
        links = self.given.held.links
        old, links[lane] = links[lane], descriptors.LaneLink.make()
        old.close()
        self.tell(supervision.LaneReplaced(lane), links[lane].control.fileno())

    def _carry(self, lane: int, host: int, link: socket.socket) -> None:
        """Have the process of lane `host` carry `lane` until the other end of `link` closes. Raises OSError."""
        self._replace_link(lane)
        given = self.given
        children.make_lane(self._lanes[host], lane, given.lanes, given.mtu, given.held, link.fileno())

    def _watched(self, name: str, poke: Callable[[], None]) -> None:
        patience = _PATIENCE.get(name, 1.0)
        self._supervisor.watch(name, lambda: self.given.counters.progress(name), poke, patience)

    # -- control's words -----------------------------------------------------------------------------------------------

    def _hear(self, link: socket.socket) -> None:
        link.setblocking(False)  # one that hangs must not hold the supervisor up
        self._control = link
        self._selector.register(link, selectors.EVENT_READ, self._from_control)

    def _forget_control(self) -> None:
        if self._control:
            self._selector.unregister(self._control)
            self._control.close()
            self._control = None

    def _from_control(self) -> None:
        assert self._control is not None
        try:
            message = supervision.receive_as_supervisor(self._control)
        except BlockingIOError:
            return
        except (EOFError, OSError, ValueError):  # gone, or not itself any more
            self._forget_control()  # its end is seen by the process's own descriptor
            return
        self._heard(message)

    # -- upgrades ------------------------------------------------------------------------------------------------------

    def leave(self) -> list[state.ChildState]:
        """The processes that run, for the next supervisor. Raises OSError when a stand-in does not let its guest go."""
        for lane in range(self.given.lanes):
            self._stand_ins.take_back(lane)
        left = []
        for child in self._supervisor.children.values():
            link = self._link(child.name)
            if child.process is not None and link is not None:
                version = self._versions.get(child.name, __version__)
                words = child.process.last_words
                left.append(
                    state.ChildState(
                        child.name, child.pid, child.started_at, child.restarts, link.fileno(), words, version
                    )
                )
        return left

    def adopt(self, left: list[state.ChildState]) -> None:
        """Take the processes over that a former supervisor left, and start those that it had lost. Raises OSError."""
        self.control_ready = True  # lanes hold sessions of a control before ours
        self._linked = set(range(self.given.lanes))
        found = {child.name: child for child in left}
        for name in self.names:
            if name not in found:
                self._supervisor.add_unessential(name, self._starter(name), 0.0, self.policy(name))
                self._supervisor.children[name].essential = name != observing.NAME
                continue
            child = found[name]
            link = socket.socket(fileno=child.link)
            process = Process(AdoptedChild(child.pid), child.last_words)
            essential = name != observing.NAME
            self._supervisor.adopt(
                name, self._starter(name), process, child.started_at, child.restarts, essential=essential
            )
            self._versions[name] = child.version
            self._watched(name, self._take_link(name, link))

    def others(self) -> list[str]:
        """The processes that run code of another version, in the order in which they are replaced."""
        return [name for name in self.names if self._versions.get(name, __version__) != __version__]

    def renewal_acts(self, told: Callable[[str], None]) -> renewal.Acts:
        """What it takes to replace them one by one; `told` hears of each."""
        supervisor = self._supervisor
        return renewal.Acts(
            spare_waits=self._spare.waits,
            spare_died=lambda: self._spare.deaths > 0,
            replace=supervisor.replace,
            pid=lambda name: supervisor.children[name].pid,
            well=supervisor.watchdog.begun,
            told=told,
        )

    def _take_link(self, name: str, link: socket.socket) -> Callable[[], None]:
        if name == CONTROL:
            self._hear(link)
            return lambda: children.poke(link, supervision.POKE)
        if name == observing.NAME:
            self._observing.take_link(link)
            return self._observing.poke
        self._lanes[int(name.removeprefix("lane-"))] = link
        return lambda: children.poke(link)

    def _link(self, name: str) -> socket.socket | None:
        if name == CONTROL:
            return self._control
        if name == observing.NAME:
            return self._observing.process_link
        return self._lanes.get(int(name.removeprefix("lane-")))


def lane_name(lane: int) -> str:
    """The name of a lane's process."""
    return f"lane-{lane}"
