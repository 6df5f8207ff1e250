"""The order and the judgement of a renewal, with processes that exist in a dictionary."""

from dataclasses import dataclass, field

from pqvpn.node.renewal import TRIAL, Acts, Renewal


@dataclass
class World:
    """Processes by name; replaced ones get a new pid at the next step."""

    pids: dict[str, int] = field(default_factory=lambda: {"lane-0": 1, "control": 2})
    replaced: list[str] = field(default_factory=list)
    spare: bool = True
    spare_dead: bool = False
    well: bool = True
    now: float = 100.0

    def renewal(self) -> Renewal:
        acts = Acts(
            spare_waits=lambda: self.spare,
            spare_died=lambda: self.spare_dead,
            replace=self._replace,
            pid=self.pids.__getitem__,
            well=lambda _: self.well,
            told=lambda _: None,
        )
        return Renewal(list(self.pids), acts, self.now)

    def _replace(self, name: str) -> None:
        self.replaced.append(name)
        self.pids[name] += 100

    def run(self, renewal: Renewal, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end and renewal.due is not None:
            self.now += 0.05
            renewal.look(self.now)


def test_one_after_the_other_then_a_trial() -> None:
    world = World()
    renewal = world.renewal()
    world.run(renewal, 1.0)
    assert world.replaced == ["lane-0", "control"]
    assert not renewal.done
    world.run(renewal, TRIAL)
    assert renewal.done
    assert not renewal.failed


def test_nothing_is_touched_before_a_spare_waits() -> None:
    world = World(spare=False)
    renewal = world.renewal()
    world.run(renewal, 5.0)
    assert world.replaced == []
    world.spare = True
    world.run(renewal, 1.0)
    assert world.replaced == ["lane-0", "control"]


def test_a_spare_that_dies_or_never_comes_is_a_failure() -> None:
    world = World(spare=False)
    renewal = world.renewal()
    world.run(renewal, 40.0)
    assert "does not come up" in renewal.failed
    world = World(spare_dead=True)
    renewal = world.renewal()
    world.run(renewal, 1.0)
    assert renewal.failed
    assert world.replaced == []


def test_a_new_process_that_ends_is_a_failure_at_once() -> None:
    world = World(well=False)
    renewal = world.renewal()
    world.run(renewal, 0.5)
    assert world.replaced == ["lane-0"]
    world.pids["lane-0"] = 0
    world.run(renewal, 0.2)
    assert renewal.failed == "lane-0 of the new version ended"


def test_a_new_process_without_progress_is_a_failure_in_time() -> None:
    world = World(well=False)
    renewal = world.renewal()
    world.run(renewal, 60.0)
    assert renewal.failed == "lane-0 of the new version does not come up"


def test_one_that_ends_during_the_trial_is_a_failure() -> None:
    world = World()
    renewal = world.renewal()
    world.run(renewal, 1.0)
    world.pids["control"] = 7
    world.run(renewal, 0.2)
    assert renewal.failed == "control of the new version ended"


def test_nothing_to_replace_is_a_trial_only() -> None:
    world = World(pids={})
    renewal = world.renewal()
    world.run(renewal, TRIAL + 0.5)
    assert renewal.done
