"""What a fault is: its name, where it strikes, what has to be told, and who takes it away.

Owns the type; the faults themselves stand in `table.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum

from lab.chaos.scene import House, Scene


class Healer(Enum):
    """Who makes it good again."""

    NODE = "the node itself"
    MANAGER = "the service manager, which starts it again"
    WORLD = "whoever caused it; the node goes on by itself then"


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault at one place. `place`: a component of the node, or "" where there is only one."""

    scene: Scene
    house: House
    place: str


Do = Callable[[Blow], AbstractContextManager[str]]
"""Does it, gives in words what was done, and takes back what does not heal by itself."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An entry of the table. At least one of `codes` (see docs/reasons.md) has to stand in the log of the node within
    `told_within` seconds, before the fault is taken back. `obstacle`: why it cannot be had on this machine, empty when it can.
    """

    name: str
    text: str
    healer: Healer
    codes: frozenset[str]
    do: Do
    places: tuple[str, ...] = ("",)
    told_within: float = 15.0
    obstacle: Callable[[], str] = lambda: ""


def fault(
    name: str,
    text: str,
    healer: Healer,
    codes: str,
    do: Callable[[Blow], Iterator[str]],
    places: str = "",
    told_within: float = 15.0,
    obstacle: Callable[[], str] = lambda: "",
) -> Fault:
    """An entry whose `do` is a generator; `codes` and `places` are separated by blanks."""
    struck = tuple(places.split()) or ("",)
    return Fault(name, text, healer, frozenset(codes.split()), contextmanager(do), struck, told_within, obstacle)
