"""One process carries two lanes: the guest has its own queue, keys and counters, and is let go without a trace."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import dataplane_rig as rig
import pytest

from lab import wait_for
from pqvpn.dataplane import commands, events
from pqvpn.dataplane import start as start_message
from pqvpn.dataplane.counters import Counters
from pqvpn.dataplane.events import Offloads
from pqvpn.dataplane.start import Start
from pqvpn.dataplane.worker import Worker
from pqvpn.host.udp import open_group

_PACKET = rig.VNET0 + bytes.fromhex("4500001c00000000401100000a0900010a090002") + bytes(8)


class Host:
    """Lane 0 in a thread, and what lane 1 would be given."""

    def __init__(self) -> None:
        self.group, self.memory = open_group(0, 2), Counters.create()
        self.counters = Counters(self.memory)
        self.tuns = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
        self.controls = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        self.crossover = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for tun, control in zip(self.tuns, self.controls, strict=True):
            tun[1].setblocking(False)
            control[0].settimeout(10)
        self.worker = Worker(self.start(0, dup=True), theirs)
        self.thread = threading.Thread(target=self.worker.run)
        self.thread.start()

    def start(self, lane: int, link: int = -1, *, dup: bool = False) -> Start:
        def given(descriptor: int) -> int:
            return os.dup(descriptor) if dup else descriptor

        return Start(
            lane=lane, lanes=2, tun=self.tuns[lane][1].fileno(), udp=given(self.group.sockets[1 + lane].fileno()),
            control=given(self.controls[lane][1].fileno()), counters=self.memory,
            crossover=tuple(-1 if lane == other else given(self.crossover[lane].fileno()) for other in range(2)),
            offloads=Offloads(), mtu=1432, ipv6=self.group.ipv6, waits=lane == 1, link=link,
        )  # fmt: skip

    def carry(self) -> socket.socket:
        """Give it lane 1; returns the supervisor's end of the guest's link."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(10)
        with theirs:
            start_message.send(self.link, self.start(1, theirs.fileno()))
        return ours

    def event(self, lane: int) -> events.Event:
        return events.decode(self.controls[lane][0].recv(1 << 16))

    def say(self, lane: int, *said: commands.Command) -> None:
        for command in said:
            self.controls[lane][0].send(commands.encode(command))

    def close(self) -> None:
        self.link.close()
        self.thread.join(10)
        self.worker.close()
        for pair in (*self.tuns, *self.controls, self.crossover):
            for end in pair:
                end.close()
        self.group.close()
        self.counters.close()
        os.close(self.memory)


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    try:
        assert isinstance(made.event(0), events.LaneReady)
        yield made
    finally:
        made.close()


def held(sock: socket.socket) -> int:
    """How many descriptors of this process are this socket."""
    place = os.readlink(f"/proc/self/fd/{sock.fileno()}")
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}") == place
    return found


def test_a_guest_moves_packets_and_is_let_go(host: Host) -> None:
    given = (host.tuns[1][1], host.controls[1][1], host.crossover[1], host.group.sockets[2])
    for _ in range(2):  # and comes again
        read = host.counters.totals(1)["tun_reads"]
        link = host.carry()
        ready = host.event(1)
        assert isinstance(ready, events.LaneReady)
        assert ready.lane == 1
        host.tuns[1][0].send(_PACKET)
        host.say(1, rig.routes())
        host.say(1, commands.Report())
        assert isinstance(host.event(1), events.Holding)
        assert host.counters.totals(1)["tun_reads"] == read, "it reads nothing before control said so"
        host.say(1, commands.Begin())
        assert [held(each) for each in given] == [2] * len(given)
        assert isinstance(host.event(1), events.WantSession), "its own packet, looked up in its own routes"
        assert host.counters.totals(1)["tun_reads"] > read
        link.shutdown(socket.SHUT_WR)
        assert link.recv(1) == b""
        link.close()
        assert [held(each) for each in given] == [1] * len(given), "closed before the link"
        host.tuns[1][0].send(_PACKET)
        progress = host.counters.progress("lane-0")
        host.link.send(start_message.POKE)
        wait_for("the host to go on", lambda was=progress: host.counters.progress("lane-0") != was)
        assert len(host.tuns[1][1].recv(100)) == len(_PACKET), "nobody reads a lane that was let go"
    assert host.counters.totals(0)["faults"] == 0


def test_its_death_is_its_own_only(host: Host) -> None:
    link = host.carry()
    assert isinstance(host.event(1), events.LaneReady)
    host.say(1, commands.Stop())
    assert link.recv(1) == b"", "told by its link"
    link.close()
    host.say(0, commands.Report())
    assert isinstance(host.event(0), events.Holding)
