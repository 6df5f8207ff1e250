"""One fault from the blow to the last invariant, and random sequences of them.

Owns the order: do it, hear of it, take it back, wait until both nodes are whole and the connection goes on, compare. A
sequence follows from its seed alone, so that a failure can be had again.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.chaos import invariants
from lab.chaos.faults import Blow, Fault, Healer
from lab.chaos.invariants import Base, ViolationError
from lab.chaos.scene import OUTER, RECOVERY, Scene
from lab.waiting import WaitTimeoutError


@dataclass(frozen=True, slots=True)
class Step:
    """One fault at one place of one node."""

    fault: Fault
    node: str
    place: str

    def __str__(self) -> str:
        return f"{self.fault.name} {self.place}".strip() + f" of {self.node}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done and told; seconds until it was told, and from its end until all was well."""

    how: str
    code: str
    told_after: float
    recovered_after: float


def plan(seed: int, faults: Sequence[Fault]) -> Iterator[Step]:
    """Endless, always the same for the same seed and the same faults: each fault once in each round, in another order."""
    chance = random.Random(seed)
    while True:
        for each in chance.sample(faults, len(faults)):
            yield Step(each, chance.choice(tuple(OUTER)), chance.choice(each.places))


def suffer(scene: Scene, base: Base, step: Step) -> Outcome:
    """Do it and see everything through. Raises ViolationError, or WaitTimeoutError when it is not taken back by itself."""
    house = scene.houses[step.node]
    invariants.wait_silent(house, step.fault.codes)
    offset = house.node.log_file.stat().st_size
    began = time.monotonic()
    with step.fault.do(Blow(scene, house, step.place)) as how:
        code = invariants.wait_told(house.node, offset, step.fault.codes, step.fault.told_within)
        told = time.monotonic()
        if step.fault.healer is Healer.NODE:
            _recover(scene, told - began)  # before anything is taken back: that would be help
    ended = time.monotonic()
    _recover(scene, ended - began)
    recovered = time.monotonic() - (told if step.fault.healer is Healer.NODE else ended)
    invariants.check_outside(scene)
    base.wait_back()
    return Outcome(how, code, told - began, recovered)


def _recover(scene: Scene, lasted: float) -> None:
    """`lasted`: seconds of the fault; a TCP sender that heard nothing so long waits as long again."""
    try:
        scene.wait_whole(RECOVERY)
        scene.wait_flowing(RECOVERY + lasted)
    except WaitTimeoutError as error:
        raise ViolationError(f"no recovery within {RECOVERY:g} s: {error}") from None
