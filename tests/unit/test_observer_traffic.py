"""Whether lanes take packets out of the interface: the kernel's counters, and probes where nothing else shows it."""

import errno
import os
from collections.abc import Callable

import pytest

from pqvpn.facts import InterfaceObserved
from pqvpn.observer.checkbook import Checkbook
from pqvpn.observer.traffic import Traffic
from pqvpn.reasons import Reason
from pqvpn.resilience.health import Finding, Health, State
from pqvpn.resilience.limits import Limits

INTERVAL = 2.0


def _fail(name: str, error: Exception) -> None:
    raise error


class House:
    """A node whose lanes read every probe but where they are `stopped`. `refusal`: why none can be sent."""

    def __init__(self, lanes: int = 1, limits: Limits | None = None) -> None:
        self.now = 0.0
        self.reads = [0] * lanes
        self.stopped: set[int] = set()
        self.refusal: OSError | None = None
        self.sent: list[tuple[str, int]] = []
        self.health = Health(limits=limits or Limits())
        self.traffic = Traffic(self.health, limits or Limits(), lambda: tuple(self.reads), self._knock)
        self.book = Checkbook(lambda: 0.0, _fail)
        self.traffic.enter(self.book)
        self.seen = InterfaceObserved("pqvpn0", exists=True, up=True)

    def _knock(self, interface: str, count: int) -> None:
        if self.refusal:
            raise self.refusal
        self.sent.append((interface, count))
        for lane in range(len(self.reads)):
            self.reads[lane] += 0 if lane in self.stopped else 1

    def go_on(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += INTERVAL
            each()
            self.book.take(self.seen, self.now)
            self.book.run(self.now)

    def finding(self) -> Finding:
        (found,) = self.health.report(self.now)
        return found


def test_idle_lanes_are_probed_and_those_that_read_are_left_in_peace() -> None:
    house = House(lanes=2)
    house.go_on(60.0)
    assert house.finding().state is State.OK
    assert 10 <= len(house.sent) <= 30
    assert set(house.sent) == {("pqvpn0", 24)}
    house.sent.clear()

    def busy() -> None:
        house.reads = [count + 100 for count in house.reads]

    house.go_on(60.0, busy)
    assert house.sent == []
    assert house.finding().state is State.OK


def test_a_lane_that_takes_no_probe_is_told_after_the_timeout_and_clears() -> None:
    house = House(lanes=2)
    house.go_on(10.0)
    house.stopped = {1}
    house.go_on(6.0)
    assert house.finding().state is State.OK, "it may still come"
    house.go_on(10.0)
    found = house.finding()
    assert (found.state, found.reason) == (State.FAILING, Reason.TUN_STUCK)
    assert found.evidence.startswith("lane-1 took no packet in ")
    house.stopped.clear()
    house.go_on(12.0)
    assert house.finding().state is State.OK


def test_the_timeout_is_a_setting() -> None:
    house = House(limits=Limits(probe_timeout=60.0))
    house.go_on(10.0)
    house.stopped = {0}
    house.go_on(50.0)
    assert house.finding().state is State.OK
    house.traffic.limits = Limits(probe_timeout=5.0)
    house.go_on(10.0)
    assert house.finding().state is State.FAILING


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENODEV])
def test_where_no_probe_can_be_sent_silence_is_no_fault(number: int) -> None:
    house = House()
    house.go_on(10.0)
    house.stopped = {0}
    house.go_on(2 * INTERVAL)  # one waits to be taken, when no more can be sent
    house.refusal = OSError(number, os.strerror(number))
    house.go_on(60.0)
    found = house.finding()
    assert (found.state, found.evidence) == (State.OK, f"not probed: {os.strerror(number)}")


def test_an_interface_that_is_not_up_is_another_item_s_matter() -> None:
    house = House()
    house.seen = InterfaceObserved("pqvpn0", exists=True, up=False)
    house.stopped = {0}
    house.go_on(60.0)
    assert (house.sent, house.health.report(house.now)) == ([], ())


def test_an_interface_that_was_down_meanwhile_took_the_probes_with_it() -> None:
    house = House(limits=Limits(fail_scale=0.1))
    house.go_on(10.0)
    house.stopped = {0}
    house.go_on(2 * INTERVAL)
    house.seen = InterfaceObserved("pqvpn0", exists=True, up=False)
    house.go_on(20.0)
    house.seen = InterfaceObserved("pqvpn0", exists=True, up=True)
    house.go_on(2 * INTERVAL)
    assert house.finding().state is State.OK


def test_the_observer_that_stood_still_itself_accuses_nobody() -> None:
    house = House()
    house.go_on(10.0)
    house.now += 300.0
    house.go_on(10.0)
    assert house.finding().state is State.OK


def test_a_full_queue_is_told_although_it_cannot_be_probed() -> None:
    house = House()
    house.refusal = PermissionError(errno.EPERM, "no")
    for second in range(10):
        house.seen = InterfaceObserved("pqvpn0", True, True, tx_packets=5, tx_dropped=second * 10)
        house.go_on(INTERVAL)
    assert house.finding().reason is Reason.TUN_STUCK
    for second in range(10):  # a queue that overflows while lanes work is load, not a fault
        house.seen = InterfaceObserved("pqvpn0", True, True, tx_packets=5 + second, tx_dropped=1000 + second)
        house.go_on(INTERVAL)
    assert house.finding().state is State.OK
