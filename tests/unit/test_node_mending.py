"""When the supervisor acts on its interface: after two looks, paced, told, and never by force against a refusal."""

from dataclasses import dataclass, field

from pqvpn.errors import TunError
from pqvpn.facts import Fact, HealthActed, InterfaceObserved
from pqvpn.node.mending import Acts, Mender
from pqvpn.reasons import Reason

GOOD = InterfaceObserved("pqvpn0", exists=True, up=True)
GONE = InterfaceObserved("pqvpn0", exists=False)
DOWN = InterfaceObserved("pqvpn0", exists=True)
LESS = InterfaceObserved("pqvpn0", exists=True, up=True, missing=("route 10.7.0.2/32",))


@dataclass
class World:
    refuse: bool = False
    done: list[str] = field(default_factory=list)
    told: list[Fact] = field(default_factory=list)
    now: float = 100.0

    def __post_init__(self) -> None:
        self.mender = Mender(Acts(lambda: self.act("recreate"), lambda: self.act("restore")), self.told.append)

    def act(self, what: str) -> None:
        self.done.append(what)
        if self.refuse:
            raise TunError(Reason.NO_PERMISSION, "the kernel says no")

    def look(self, *looks: InterfaceObserved) -> None:
        for each in looks:
            self.mender.seen(each, self.now)
            self.now += 2.0


def test_what_is_seen_once_is_left_alone() -> None:
    world = World()
    world.look(GOOD, LESS, GOOD, DOWN, GOOD, GONE, GOOD)
    assert world.done == []


def test_each_fault_has_its_act_and_is_told() -> None:
    gone, down = Reason.TUN_GONE, Reason.TUN_DOWN
    for seen, act, reason in ((GONE, "recreate", gone), (DOWN, "restore", down), (LESS, "restore", down)):
        world = World()
        world.look(seen, seen)
        assert world.done == [act]
        (fact,) = world.told
        assert isinstance(fact, HealthActed)
        assert (fact.outcome, fact.reason) == ("mended", reason)


def test_a_fight_is_fought_rarely() -> None:
    world = World()
    world.look(*[LESS] * 300)  # ten minutes in which it never helps
    assert 8 <= len(world.done) <= 80
    acted = len(world.done)
    world.look(*[GOOD] * 60)
    world.look(LESS, LESS)
    assert len(world.done) == acted + 1  # it held for long: at once again


def test_a_refusal_is_told_once_a_cause() -> None:
    world = World(refuse=True)
    world.look(*[GONE] * 50)
    assert len(world.done) > 3
    assert [(f.outcome, f.reason) for f in world.told if isinstance(f, HealthActed)] == [
        ("refused", Reason.NO_PERMISSION)
    ]


def test_without_leave_nothing_is_done_until_there_is() -> None:
    world = World()
    world.mender.enabled = False
    world.look(*[GONE] * 10)
    assert (world.done, world.told) == ([], [])
    world.mender.enabled = True
    world.look(GONE)
    assert world.done == ["recreate"]
