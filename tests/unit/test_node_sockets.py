"""Sockets of the port that are lost: when one is opened anew, and what is told."""

import pytest

from pqvpn.errors import NetworkError
from pqvpn.facts import Fact, HealthActed, SocketsObserved
from pqvpn.node.sockets import SocketWatch
from pqvpn.reasons import Reason


class World:
    """Looks every two seconds. `helps`: a socket that was opened anew is not lost any more."""

    def __init__(self, *, helps: bool = True, refuse: bool = False) -> None:
        self.now = 0.0
        self.lost: set[int] = set()
        self.helps, self.refuse = helps, refuse
        self.done: list[tuple[float, int]] = []
        self.told: list[Fact] = []
        self.watch = SocketWatch(self.reopen, self.told.append)

    def reopen(self, number: int) -> None:
        self.done.append((self.now, number))
        if self.refuse:
            raise NetworkError(Reason.NO_PERMISSION, "no")
        if self.helps:
            self.lost.discard(number)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 2.0
            self.watch.seen(tuple(sorted(self.lost)), self.now)

    def acted(self) -> list[tuple[str, str, Reason | None]]:
        return [(f.outcome, f.detail, f.reason) for f in self.told if isinstance(f, HealthActed)]

    def seen(self) -> list[tuple[str, ...]]:
        return [f.lost for f in self.told if isinstance(f, SocketsObserved)]


def test_nothing_lost_is_nothing_told() -> None:
    world = World()
    world.look(20)
    assert (world.done, world.told) == ([], [])


def test_one_that_is_lost_for_two_looks_is_opened_anew_and_that_is_told() -> None:
    world = World()
    world.lost = {2}
    world.look()
    assert world.done == []
    world.look(3)
    assert world.done == [(4.0, 2)]
    assert world.acted() == [("mended", "the socket of lane-1 was opened anew", Reason.SOCKET_LOST)]
    assert world.seen() == [("lane-1",), ("lane-1",), ()], "lost, then none any more, once"


def test_one_that_is_well_again_by_itself_is_left_alone() -> None:
    world = World()
    for _ in range(5):
        world.lost = {0}
        world.look()
        world.lost = set()
        world.look()
    assert world.done == []


def test_several_are_opened_one_at_a_time() -> None:
    world = World()
    world.lost = {0, 1, 3}
    world.look(2)
    assert [number for _, number in world.done] == [0]
    world.look(60)
    assert [number for _, number in world.done] == [0, 1, 3]


def test_what_does_not_help_is_tried_less_and_less_often() -> None:
    world = World(helps=False)
    world.lost = {1}
    world.look(300)
    assert 8 < len(world.done) < 60


def test_a_refusal_is_told_once_a_cause() -> None:
    world = World(refuse=True)
    world.lost = {1}
    world.look(100)
    assert len(world.done) > 3
    assert [(outcome, reason) for outcome, _, reason in world.acted()] == [("refused", Reason.NO_PERMISSION)]


def test_without_leave_it_is_only_told() -> None:
    world = World()
    world.watch.enabled = False
    for second in range(3):
        world.watch.seen((0,), float(second))
    assert (world.done, world.told) == ([], [SocketsObserved(("control",))] * 3)


@pytest.mark.parametrize("lost", [(), (0,)])
def test_an_observer_that_comes_later_hears_of_it(lost: tuple[int, ...]) -> None:
    world = World()
    world.watch.enabled = False
    for second in range(5):
        world.watch.seen(lost, float(second))
    assert len(world.told) == (5 if lost else 0)
