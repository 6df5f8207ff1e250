"""What has to hold after every fault, as figures that can be compared.

Owns the readings of the nodes' processes and of the captures, and the tolerances. Waits for what may take a moment, within
the recovery time; everything else is compared as it is. Knows no fault.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lab.chaos.scene import COMPONENTS, RECOVERY, House, Scene, lines_since
from lab.nodes import Node
from lab.stream import MARKER
from lab.waiting import WaitTimeoutError, wait_for

MEMORY_TOLERANCE: Final = 0.15
"""Share of a node's PSS by which it may stand above its base: caches fill, and pages are shared with more or fewer others."""
DESCRIPTOR_TOLERANCE: Final = 0
TOLD_EACH_TIME: Final = frozenset(("host.clock_jumped",))
"""Codes whose records come with each fault, whatever health shows still."""
CLEARS: Final = 10.0
"""Seconds for which an item has to be well before it is shown so, at most; that of the clock takes longer."""
_BAD: Final = ("warning", "failing")
_SAMPLES: Final = 20
_BETWEEN: Final = 0.1


class ViolationError(AssertionError):
    """An invariant does not hold; the text says which, where and by how much."""


@dataclass(frozen=True, slots=True)
class Use:
    """What one node takes. `memory`: bytes of PSS of all its processes; `descriptors` by component."""

    memory: int
    descriptors: Mapping[str, int]


def use(node: Node) -> Use:
    """What it takes now. Raises OSError while one of its processes is being replaced."""
    memory, descriptors = 0, {}
    for each in node.status()["processes"]:
        place = f"/proc/{each['pid']}"
        with open(f"{place}/smaps_rollup", encoding="ascii") as rollup:
            memory += next(int(line.split()[1]) << 10 for line in rollup if line.startswith("Pss:"))
        descriptors[each["component"]] = len(os.listdir(f"{place}/fd"))
    if set(descriptors) < set(COMPONENTS):
        raise ProcessLookupError("a process is missing")
    return Use(memory, descriptors)


class Base:
    """What both nodes take at rest, the most of some samples: later readings are compared with it."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.uses = {name: _most(house.node) for name, house in scene.houses.items()}

    def wait_back(self) -> None:
        """Wait until both nodes take no more than at the beginning. Raises ViolationError when they still do after a while."""
        for name, house in self._scene.houses.items():
            self._wait_back(name, house.node)

    def _wait_back(self, name: str, node: Node) -> None:
        found: list[Use] = []

        def back() -> bool:
            found.append(use(node))
            return not _above(self.uses[name], found[-1])

        try:
            wait_for(f"{name} to take no more than before", back, RECOVERY, _BETWEEN)
        except WaitTimeoutError as error:
            above = _above(self.uses[name], found[-1]) if found else [str(error)]
            raise ViolationError(f"{name} takes more than before: {'; '.join(above)}") from None


def _most(node: Node) -> Use:
    samples = []
    for _ in range(_SAMPLES):
        samples.append(wait_for(f"figures of {node.name}", lambda: use(node), RECOVERY))
        time.sleep(_BETWEEN)  # samples, not a wait for anything
    most = {name: max(each.descriptors[name] for each in samples) for name in samples[0].descriptors}
    return Use(max(each.memory for each in samples), most)


def _above(before: Use, after: Use) -> list[str]:
    allowed = int(before.memory * (1 + MEMORY_TOLERANCE))
    found = []
    if after.memory > allowed:
        found.append(f"{after.memory >> 20} MiB of memory, {before.memory >> 20} before, {allowed >> 20} allowed")
    for component, count in after.descriptors.items():
        most = before.descriptors.get(component, 0) + DESCRIPTOR_TOLERANCE
        if count > most:
            found.append(f"{count} descriptors of {component}, {most} allowed")
    return found


def wait_silent(house: House, codes: frozenset[str]) -> None:
    """Wait until health shows none of the codes: what it shows still from another fault, it would not tell anew.

    Raises ViolationError when it goes on showing one.
    """
    wanted = codes - TOLD_EACH_TIME

    def silent() -> bool:
        shown.clear()
        shown.extend(str(i["code"]) for i in house.health() if i["state"] in _BAD and i.get("code") in wanted)
        return not shown

    shown: list[str] = []
    try:
        wait_for(f"{house.node.name}'s health to clear", silent, RECOVERY + CLEARS, 0.2)
    except WaitTimeoutError as error:
        raise ViolationError(f"{error}; {house.node.name} still shows {', '.join(shown) or 'nothing'}") from None


def wait_told(node: Node, offset: int, codes: frozenset[str], timeout: float) -> str:
    """Wait until the node's log has one of the codes after this place of it; which. Raises ViolationError."""

    def probe() -> str | None:
        return next((c for line in lines_since(node.log_file, offset) if (c := line.get("code")) in codes), None)

    try:
        return wait_for(f"{node.name} to tell {' or '.join(sorted(codes))}", probe, timeout, 0.05)
    except WaitTimeoutError:
        told = {str(line["code"]) for line in lines_since(node.log_file, offset) if line.get("code")}
        raise ViolationError(
            f"{node.name} did not tell {' or '.join(sorted(codes))} within {timeout:g} s; it told"
            f" {', '.join(sorted(told)) or 'nothing'}"
        ) from None


def check_outside(scene: Scene) -> None:
    """Nothing readable and nothing foreign on the outer link, and no counter twice. Raises ViolationError."""
    full, *others = scene.wires
    readable = sum(wire.hits[MARKER] for wire in scene.wires)
    if readable:
        raise ViolationError(f"{readable} packets outside in which what was sent can be read")
    foreign = next((wire for wire in others if wire.foreign), None)
    if foreign is not None:
        raise ViolationError(
            f"{foreign.foreign} packets outside that are not the tunnel's: {foreign.first_foreign.hex()}"
        )
    if full.reused:
        raise ViolationError(f"{full.reused} counters were used twice")


def check_captures(scene: Scene) -> None:
    """That the captures saw everything; ends them, so traffic has to have ended. Raises ViolationError."""
    for wire in scene.wires:
        wire.stop()
    check_outside(scene)
    dropped = sum(wire.dropped for wire in scene.wires)
    if dropped or not scene.wires[0].marks:
        raise ViolationError(f"the captures prove nothing: {dropped} frames missed, {scene.wires[0].marks} seen")
