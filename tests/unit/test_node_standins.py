"""Who carries a lane that loops: real processes and links, the stand-in's part played by the test."""

import selectors
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from pqvpn.facts import Fact, Problem
from pqvpn.host.clock import now
from pqvpn.node.standins import StandIns
from pqvpn.reasons import Reason
from pqvpn.resilience.restarts import RestartPolicy
from pqvpn.resilience.supervisor import Process, Supervisor

POLICY = RestartPolicy(burst=1, slow_every=30.0, lived=10.0)


class House:
    def __init__(self, lanes: int) -> None:
        self.facts: list[Fact] = []
        self.time = 0.0
        self.selector = selectors.DefaultSelector()
        self.supervisor = Supervisor(self.selector, lambda: now() + self.time, self.facts.append, lambda: None)
        self.spawned: list[subprocess.Popen[bytes]] = []
        self.carried: list[tuple[int, int, socket.socket]] = []
        self.refuses = False
        self.stand_ins = StandIns(self.supervisor, self._carry, self.facts.append)
        self.lanes = lanes
        for lane in range(lanes):
            self.supervisor.add(f"lane-{lane}", lambda lane=lane: self._start(lane), POLICY)  # type: ignore[misc]

    def _start(self, lane: int) -> Process:
        self.stand_ins.take_back(lane)
        self.spawned.append(subprocess.Popen(["sleep", "60"]))
        return Process(self.spawned[-1])

    def _carry(self, lane: int, host: int, link: socket.socket) -> None:
        if self.refuses:
            raise OSError(11, "full")
        self.carried.append((lane, host, link.dup()))

    def pid(self, lane: int) -> int:
        return self.supervisor.children[f"lane-{lane}"].pid

    def kill(self, lane: int) -> None:
        """Kill a lane's process and let the supervisor see it."""
        process = self.supervisor.children[f"lane-{lane}"].process
        assert process is not None
        process.popen.send_signal(signal.SIGKILL)
        for key, _ in self.selector.select(10.0):
            key.data()

    def loop(self, lane: int) -> None:
        """Kill it until it is tried rarely."""
        while self.pid(lane):
            self.kill(lane)

    def look(self) -> bool:
        return self.stand_ins.look(self.lanes)

    def who(self) -> list[tuple[int, int]]:
        return [(lane, host) for lane, host, _ in self.carried]

    def told(self, reason: Reason) -> int:
        return sum(isinstance(fact, Problem) and fact.reason is reason for fact in self.facts)

    def due(self) -> None:
        self.time += 31.0
        self.supervisor.start_due()

    def close(self) -> None:
        self.stand_ins.close()
        for _, _, link in self.carried:
            link.close()
        self.supervisor.hurry()
        self.supervisor.end(list(self.supervisor.children), 5.0)
        for process in self.spawned:
            process.wait()
        self.selector.close()


@pytest.fixture
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    made = House(getattr(request, "param", 2))
    yield made
    made.close()


def test_a_lane_that_loops_is_carried_until_its_next_try(house: House) -> None:
    house.kill(1)
    assert not house.look(), "one that is replaced needs nobody"
    house.loop(1)
    assert house.look()
    assert house.who() == [(1, 0)]
    assert house.told(Reason.FEWER_LANES) == 1
    assert house.supervisor.children["lane-1"].covered
    assert not house.look()
    house.due()
    assert house.pid(1) == 0, "never two at a time: the stand-in has not let go"
    assert house.told(Reason.KERNEL_REFUSED) == 1
    link = house.carried[0][2]
    assert link.recv(1) == b"", "it was asked to"
    link.close()
    house.time += 1.1
    house.supervisor.start_due()
    assert house.pid(1)
    assert not house.supervisor.children["lane-1"].covered
    assert not house.look()


def test_a_stand_in_that_dies_soon_is_not_followed_before_the_next_try(house: House) -> None:
    house.loop(1)
    house.look()
    house.kill(0)
    assert house.look()
    assert house.pid(0), "it is replaced"
    assert house.who() == [(1, 0)], "but what killed it may be what it carried"
    house.due()
    assert house.pid(1), "a dead stand-in holds nothing up"
    house.kill(1)
    house.look()
    assert house.who() == [(1, 0), (1, 0)]


def test_a_stand_in_that_lived_long_is_followed(house: House) -> None:
    house.loop(1)
    house.look()
    house.time += 11.0
    house.kill(0)
    house.look()
    assert house.who() == [(1, 0), (1, 0)]


def test_a_stand_in_that_lets_go_by_itself_is_seen(house: House) -> None:
    house.loop(1)
    house.look()
    house.carried[0][2].close()
    assert house.look()
    assert not house.supervisor.children["lane-1"].covered
    assert house.who() == [(1, 0)]


@pytest.mark.parametrize("house", [4], indirect=True)
def test_lanes_share_the_burden(house: House) -> None:
    house.loop(1)
    house.look()
    house.loop(3)
    house.look()
    assert house.who() == [(1, 0), (3, 2)]


def test_when_all_loop_nobody_carries(house: House) -> None:
    house.loop(0)
    house.loop(1)
    house.look()
    house.look()
    assert not house.who()
    assert house.told(Reason.NO_LANES) == 1
    house.due()
    house.look()
    house.loop(0)
    house.loop(1)
    house.look()
    assert house.told(Reason.NO_LANES) == 2, "told anew"


def test_one_that_cannot_be_carried_is_told_and_tried_again(house: House) -> None:
    house.refuses = True
    house.loop(0)
    assert not house.look()
    assert house.told(Reason.KERNEL_REFUSED) == 1
    assert not house.supervisor.children["lane-0"].covered
    house.refuses = False
    house.due()
    house.kill(0)
    house.look()
    assert house.who() == [(0, 1)]
