"""A random sequence of the table's faults on two real nodes, and each of them once; after each the invariants of `lab.chaos`.

Each once is left to the long suite; `make chaos` goes on with the same for as long as one likes.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab import Lab
from lab.chaos.faults import Fault
from lab.chaos.invariants import Base, check_captures
from lab.chaos.run import Step, plan, suffer
from lab.chaos.scene import Scene
from lab.chaos.table import BY_NAME, TABLE

pytestmark = pytest.mark.netns

SEED = 47
"""With it processes of all kinds are struck."""
STEPS = 6
SLOW = frozenset(("stop",))
"""An observer that hangs is found after ten seconds only."""


@dataclass(frozen=True)
class Stage:
    """The scene, and what its nodes take at rest."""

    scene: Scene
    base: Base


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Lab() as lab, Scene(lab) as scene:
        yield Stage(scene, Base(scene))


def _once() -> list[Step]:
    """Each fault at one place of one node, in an order, by the seed: faults that are told alike do not follow each other."""
    return list(itertools.islice(plan(SEED, TABLE), len(TABLE)))


@pytest.mark.slow
@pytest.mark.parametrize("step", _once(), ids=lambda step: step.fault.name)
def test_a_fault(stage: Stage, step: Step) -> None:
    if why := step.fault.obstacle():
        pytest.skip(why)
    outcome = suffer(stage.scene, stage.base, step)
    print(f"{step}: {outcome}")


def test_a_random_sequence(stage: Stage) -> None:
    faults = [each for each in TABLE if each.name not in SLOW and not each.obstacle()]
    for step in itertools.islice(plan(SEED, faults), STEPS):
        print(f"{step}: {suffer(stage.scene, stage.base, step)}")


def test_nothing_was_lost_and_nothing_leaked(stage: Stage) -> None:
    """At the end, since only then the connection is compared byte by byte, and the captures are known to be whole."""
    stage.scene.end_traffic()
    assert stage.scene.lost == []
    check_captures(stage.scene)


def test_a_sequence_follows_from_its_seed() -> None:
    def first(seed: int, faults: tuple[Fault, ...] = TABLE) -> list[Step]:
        return list(itertools.islice(plan(seed, faults), 2 * len(faults)))

    assert first(SEED) == first(SEED)
    assert first(SEED) != first(SEED + 1)
    assert {step.fault for step in first(SEED)[: len(TABLE)]} == set(TABLE), "each once in each round"
    assert len(BY_NAME) == len(TABLE)
