"""Who makes no progress, told by counters; and whether the supervisor looks after anybody."""

from collections.abc import Callable

from pqvpn.observer.checkbook import Checkbook
from pqvpn.observer.progress import Progress
from pqvpn.reasons import Reason
from pqvpn.resilience.health import Finding, Health, Item, State
from pqvpn.resilience.limits import Limits


def _fail(name: str, error: Exception) -> None:
    raise error


class House:
    """Seconds go by; the supervisor pokes, and whoever is not `stopped` answers."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.now = 0.0
        self.pids = {"supervisor": 1, "control": 2, "lane-0": 3, "spare": 9}
        self.signs = {"control": 0, "lane-0": 0}
        self.stopped: set[str] = set()
        limits = limits or Limits()
        self.health = Health(limits=limits)
        self.progress = Progress(self.health, limits, 0.0, lambda: self.pids, lambda name: self.signs[name])
        self.book = Checkbook(lambda: 0.0, _fail)
        self.progress.enter(self.book)

    def go_on(self, seconds: int, each: Callable[[], None] = lambda: None) -> None:
        for _ in range(seconds):
            self.now += 1.0
            each()
            if "supervisor" not in self.stopped:
                self.progress.poked(self.now)
                for name in self.signs.keys() - self.stopped:
                    self.signs[name] += 1
            self.book.run(self.now)

    def finding(self, item: Item, key: str = "") -> Finding:
        return next(f for f in self.health.report(self.now) if (f.item, f.key) == (item, key))

    def wrong(self) -> list[str]:
        return [f.name for f in self.health.report(self.now) if f.state is not State.OK and not f.suppressed_by]


def test_all_is_well() -> None:
    house = House()
    house.go_on(30)
    assert house.wrong() == []
    assert {f.name for f in house.health.report(house.now)} == {
        "node.supervisor", "node.progress:control", "node.progress:lane-0",
    }  # fmt: skip


def test_one_that_stands_still_is_told_after_the_timeout_and_clears() -> None:
    house = House()
    house.go_on(10)
    house.stopped = {"lane-0"}
    house.go_on(5)
    assert house.wrong() == []
    house.go_on(5)
    found = house.finding(Item.PROGRESS, "lane-0")
    assert (found.state, found.reason) == (State.FAILING, Reason.NO_PROGRESS)
    assert found.evidence.startswith("lane-0 shows none for ")
    assert house.wrong() == ["node.progress:lane-0"]
    house.stopped = set()
    house.go_on(5)
    assert house.wrong() == []


def test_the_timeout_is_a_setting() -> None:
    house = House(Limits(progress_timeout=20.0))
    house.go_on(10)
    house.stopped = {"lane-0", "supervisor"}
    house.go_on(15)
    assert house.wrong() == []


def test_a_supervisor_that_stands_still_is_told_and_nobody_else_is_accused() -> None:
    house = House()
    house.go_on(10)
    house.stopped = {"supervisor"}
    house.go_on(40)
    found = house.finding(Item.SUPERVISOR)
    assert (found.state, found.reason) == (State.FAILING, Reason.NO_PROGRESS)
    assert found.evidence.startswith("it has looked after nobody for ")
    assert house.wrong() == ["node.supervisor"]
    assert [f.name for f in house.health.report(house.now) if f.state is State.FAILING] == ["node.supervisor"]
    house.stopped = set()
    for _ in range(10):
        house.go_on(1)
        assert not [name for name in house.wrong() if name != "node.supervisor"]
    assert house.wrong() == []


def test_one_that_is_being_started_has_its_time() -> None:
    house = House()
    house.go_on(10)
    house.pids["lane-0"] = 33
    house.stopped = {"lane-0"}
    house.go_on(15)
    assert house.wrong() == []


def test_the_observer_that_stood_still_itself_accuses_nobody() -> None:
    house = House(Limits(fail_scale=0.1))
    house.go_on(10)
    house.now += 60.0
    house.book.run(house.now)  # before it has read what came meanwhile
    assert house.wrong() == []
    house.go_on(10)
    assert house.wrong() == []


def test_one_that_is_gone_is_forgotten() -> None:
    house = House()
    house.go_on(10)
    del house.pids["lane-0"]
    house.go_on(1)
    assert [f.name for f in house.health.report(house.now)] == ["node.supervisor", "node.progress:control"]
