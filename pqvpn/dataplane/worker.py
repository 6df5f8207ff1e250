"""The lane's event loop: wait, take commands, move packets.

Owns the order of work, the boundary that keeps an internal fault from ending the process, and what each command does.
A lane outlives control: with nobody sending commands it goes on with the keys it has until they expire. One process may
carry further lanes, whose own processes are gone, as guests: each with its own sockets, keys and counters, in its loop.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Final

from pqvpn.dataplane import events, faults
from pqvpn.dataplane import start as start_message
from pqvpn.dataplane.commands import (
    NO_SLOT,
    Begin,
    Command,
    EraseSession,
    InstallSession,
    Report,
    SelectSession,
    SendFrame,
    SetEndpoint,
    SetPathMtu,
    SetRoutes,
    Stop,
)
from pqvpn.dataplane.counters import SLOTS, Counters, Total
from pqvpn.dataplane.events import Held, Holding, LaneReady
from pqvpn.dataplane.inbound import Inbound
from pqvpn.dataplane.links import FRAME, parse_datagrams
from pqvpn.dataplane.outbound import Outbound
from pqvpn.dataplane.routes import Routes
from pqvpn.dataplane.start import Start
from pqvpn.dataplane.state import Lane
from pqvpn.drops import DropReason

_TELL_EVERY_NS: Final = 1_000_000_000
_CROSSOVER_MESSAGES: Final = 32  # taken before other work gets its turn
_PATIENCE: Final = 5.0
"""Seconds for which packets wait for what control has to say: on a machine that starves it takes some, and without it every
packet would be refused. One that is dead says nothing, and its successor comes sooner than this."""
_EVENTS: Final = 8  # of one wait; there are hardly more descriptors
_clock = time.clock_gettime_ns
_BURSTS: Final = int(Total.BURSTS)
_FAULTS: Final = int(Total.FAULTS)
_PID: Final = int(Total.PID)
_BOOTTIME: Final = time.CLOCK_BOOTTIME


class Worker:
    """One lane."""

    def __init__(self, start: Start, link: socket.socket, counters: Counters | None = None) -> None:
        """`counters`: the mapping of the process whose guest this lane is."""
        self._link = link
        self._counters = counters or Counters(start.counters)
        udp = socket.socket(fileno=start.udp)
        self.lane = Lane(start, udp, self._counters.words)
        self._start = start
        self.outbound = Outbound(self.lane)
        self.inbound = Inbound(self.lane)
        self.inbound.answer = self.outbound.one
        self._stopped = False
        self._begun = not start.waits
        self._faults = 0
        self._faults_told = 0
        self._fault_told_ns = 0
        self._lanes_by_fd = {fd: lane for lane, fd in self.lane.crossover.filenos()}
        self._poller = select.epoll()
        self._work: dict[int, Callable[[], None]] = {}
        self._reads = False  # as a guest: packets

    def run(self) -> None:
        """Serve until `Stop` comes or the link to the supervisor closes."""
        lane, poller = self.lane, self._poller
        control = lane.control.fileno()
        for fd in (control, self._link.fileno()):
            poller.register(fd, select.EPOLLIN)
        self._say_ready()
        work = self._work
        work |= {lane.tun: self.outbound.pump, lane.udp.fileno(): self.inbound.pump, control: self._obey}
        poll = poller.poll
        gc.collect()
        gc.freeze()
        gc.disable()  # nothing in a lane makes cycles; a pass over the heap would stall a burst
        self._wait_to_begin(poller)
        for fd in self._packet_descriptors():
            poller.register(fd, select.EPOLLIN)
        while not self._stopped:
            ready = poll(None, _EVENTS)
            lane.now_ns = _clock(_BOOTTIME)
            for fd, _ in ready:
                try:
                    act = work.get(fd)
                    if act is not None:
                        act()
                    else:
                        self._other(fd)
                except Exception as e:  # noqa: BLE001 - the boundary of the data plane: count, tell, go on
                    self._fault(e)
            lane.count(_BURSTS)

    def _say_ready(self) -> None:
        lane = self.lane
        lane.count(_PID, os.getpid() - lane.total(_PID))
        lane.tell(LaneReady(lane.number, lane.offloads))

    def _packet_descriptors(self) -> list[int]:
        lane = self.lane
        return [lane.tun, *self._lanes_by_fd, *((lane.udp.fileno(),) if self._start.reads_udp else ())]

    def _wait_to_begin(self, poller: select.epoll) -> None:
        """Obey, and leave packets in the kernel, until everything is here that they need."""
        deadline = time.monotonic() + _PATIENCE
        while not (self._begun or self._stopped) and (left := deadline - time.monotonic()) > 0:
            for fd, _ in poller.poll(left, _EVENTS):
                try:
                    act = self._work.get(fd)
                    if act is not None:
                        act()
                    else:
                        self._other(fd)
                except Exception as e:  # noqa: BLE001 - the same boundary as of packets
                    self._fault(e)

    def close(self) -> None:
        """Close the sockets; the process that runs a lane just ends instead."""
        self.lane.udp.close()
        self.lane.control.close()
        self.lane.crossover.close()
        self._poller.close()
        self._link.close()

    def _fault(self, e: Exception) -> None:
        """An internal error ended one burst. Its packets are gone; the lane is not."""
        self.outbound.abandon()
        lane = self.lane
        self._faults += 1
        lane.count(_FAULTS)
        lane.drop(DropReason.INTERNAL)
        if self._fault_told_ns and lane.now_ns - self._fault_told_ns < _TELL_EVERY_NS:
            return
        self._fault_told_ns = lane.now_ns
        more, self._faults_told = self._faults - self._faults_told, self._faults
        lane.tell(faults.event(lane.number, e, self._faults, more))

    def _other(self, fd: int) -> None:
        """The supervisor's link or another lane."""
        if fd == self._link.fileno():
            self._hear_supervisor()
            return
        lane = self._lanes_by_fd.get(fd)
        if lane is None:  # of a guest that was let go in this very turn
            return
        for _ in range(_CROSSOVER_MESSAGES):
            message = self.lane.crossover.receive(lane)
            if message is None:
                return
            if message[0] == FRAME:
                self.outbound.inject(message[1:], handed=True)
            else:
                self.inbound.inject(*parse_datagrams(message, self.lane.ipv6))

    def _hear_supervisor(self) -> None:
        try:
            if start_message.poked(self._link):
                self._counters.show_progress(f"lane-{self.lane.number}")
            else:
                self._take_in(start_message.receive(self._link))
        except EOFError:
            self._stopped = True

    # -- guests

    def _take_in(self, start: Start) -> None:
        """Carry another lane as well. One that cannot be carried closes its link, by which the supervisor knows."""
        link = socket.socket(fileno=start.link)
        try:
            os.close(start.counters)
            guest = Worker(start, link, self._counters)
        except Exception:
            link.close()
            raise
        lane = guest.lane
        acts = dict.fromkeys((*guest._lanes_by_fd, link.fileno()), guest._other)
        mine: dict[int, Callable[[], None]] = {fd: (lambda fd=fd, act=act: act(fd)) for fd, act in acts.items()}  # type: ignore[misc]
        mine |= {
            lane.tun: guest.outbound.pump,
            lane.udp.fileno(): guest.inbound.pump,
            lane.control.fileno(): guest._obey,
        }
        self._work |= {fd: (lambda act=act: self._serve(guest, act)) for fd, act in mine.items()}  # type: ignore[misc]
        for fd in (link.fileno(), lane.control.fileno()):
            self._poller.register(fd, select.EPOLLIN)
        guest._say_ready()

    def _serve(self, guest: "Worker", act: Callable[[], None]) -> None:
        """One turn of a guest, by the same boundary; before control said `Begin` it reads no packets."""
        lane = guest.lane
        lane.now_ns = self.lane.now_ns
        try:
            act()
        except Exception as e:  # noqa: BLE001 - the boundary of the data plane, for that lane
            guest._fault(e)
        lane.count(_BURSTS)
        if guest._stopped:
            self._let_go(guest)
        elif guest._begun and not guest._reads:
            guest._reads = True
            for fd in guest._packet_descriptors():
                self._poller.register(fd, select.EPOLLIN)

    def _let_go(self, guest: "Worker") -> None:
        """Forget a guest's keys and close what it had. The link is last: whoever sees it close may start another."""
        for slot in list(guest.lane.sessions):
            guest.lane.erase(slot)
        reading = guest._packet_descriptors() if guest._reads else []
        for fd in (*reading, guest._link.fileno(), guest.lane.control.fileno()):
            self._poller.unregister(fd)
        for fd in (
            *guest._lanes_by_fd,
            guest.lane.tun,
            guest.lane.udp.fileno(),
            guest._link.fileno(),
            guest.lane.control.fileno(),
        ):
            self._work.pop(fd, None)
        os.close(guest.lane.tun)
        guest.close()

    # -- commands

    def _obey(self) -> None:
        for command in self.lane.control.commands():
            self.apply(command)

    def apply(self, command: Command) -> None:
        """Do what control says."""
        lane = self.lane
        match command:
            case InstallSession():
                if 0 <= command.slot < SLOTS:
                    lane.install(command)
            case SelectSession():
                self._select(command)
            case SetEndpoint():
                session = lane.sessions.get(command.slot)
                if session is not None:
                    session.move_as_told(command.endpoint, command.source, command.budget)
            case EraseSession():
                lane.erase(command.slot)
            case SendFrame():
                self.outbound.send_frame(command)
            case SetPathMtu():
                lane.peer(command.peer).path_mtu = command.mtu
            case SetRoutes():
                self._route(command)
            case Report():
                self._report()
            case Begin():
                self._begun = True
            case Stop():
                for slot in list(lane.sessions):
                    lane.erase(slot)
                self._stopped = True

    def _select(self, command: SelectSession) -> None:
        peer = self.lane.peer(command.peer)
        peer.black_hole = command.black_hole
        session = None if command.slot == NO_SLOT else self.lane.sessions.get(command.slot)
        peer.session = session
        if session is not None:
            self.outbound.release(peer)
        elif command.black_hole:
            self.outbound.release(peer)  # what waits is refused one by one

    def _route(self, command: SetRoutes) -> None:
        """Take the new table; peers that are no longer in it lose what waited for them."""
        self.lane.routes = Routes(command.peers)
        known = {entry.peer for entry in command.peers}
        for number in [n for n in self.lane.peers if n not in known]:
            del self.lane.peers[number]

    def _report(self) -> None:
        lane = self.lane
        selected = {id(peer.session) for peer in lane.peers.values()}
        held = []
        for session in lane.sessions.values():
            i = session.install
            held.append(
                Held(
                    i.slot, i.peer, i.index_in, i.index_out, i.lanes, i.aead, i.policy, i.mtu, session.endpoint,
                    session.source, i.expires_at, i.session_id, i.peer_id, i.initiator, id(session) in selected,
                    session.receive_keys.expose(), session.send_keys.expose(),
                )
            )  # fmt: skip
        lane.tell(Holding(lane.number, tuple(held)))


def main(fd: int) -> int:
    """Run a lane whose link to the supervisor is descriptor `fd`; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's ^C is for the supervisor
    link = socket.socket(fileno=fd)
    try:
        start = start_message.receive(link)
    except EOFError:
        return 0
    try:
        worker = Worker(start, link)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        worker.run()
    except Exception as error:  # noqa: BLE001 - the process's boundary: told by type, then restarted
        with contextlib.suppress(OSError):
            os.write(start.control, events.encode(faults.event(start.lane, error, 1, handled=False)))
        return os.EX_SOFTWARE
    return 0
