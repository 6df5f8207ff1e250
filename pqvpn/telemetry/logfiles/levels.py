"""Which records are wanted: a level for each area of the node, changed at run time, falling back by itself.

Owns the levels in force. Pure: the time is given, nothing is logged. An area has at most two settings of its own, one
that stays and one that passes; the one for `*` applies to every area without.
"""

from dataclasses import dataclass
from typing import Final

EVERYTHING: Final = "*"
RANKS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""Levels by name, numbered as `logging` does."""
MOST_AREAS: Final = 64


@dataclass(frozen=True, slots=True)
class InForce:
    """One setting as it is shown. `seconds`: until it falls back, None: it stays."""

    area: str
    level: str
    seconds: float | None = None


class Levels:
    """The levels of one process. `default` applies where nothing else does."""

    def __init__(self, default: str) -> None:
        self._default = default
        self._staying: dict[str, str] = {}
        self._passing: dict[str, tuple[str, float]] = {}

    def change(self, area: str, level: str, until: float | None = None) -> None:
        """Set the level of an area; `until`: when it falls back to what it was. One that stays ends a passing one.

        Raises ValueError for a level that does not exist, or when there are too many areas.
        """
        if level not in RANKS:
            raise ValueError(f"no level {level!r}")
        if area not in self._staying.keys() | self._passing.keys() and len(self._known()) >= MOST_AREAS:
            raise ValueError("too many areas")
        if until is not None:
            self._passing[area] = (level, until)
            return
        self._passing.pop(area, None)
        if area == EVERYTHING:
            self._default = level
        else:
            self._staying[area] = level

    def wanted(self, area: str, level: str, now: float) -> bool:
        """Whether a record of that area and level is to be told. A level that does not exist is."""
        return RANKS.get(level, RANKS["error"]) >= RANKS[self.of(area, now)]

    def of(self, area: str, now: float) -> str:
        """The level in force for an area."""
        if not self._passing and not self._staying:  # nearly always
            return self._default
        passing = self._passing_of(area, now)
        if passing:
            return passing
        return self._staying.get(area) or self._passing_of(EVERYTHING, now) or self._default

    def _passing_of(self, area: str, now: float) -> str | None:
        level, until = self._passing.get(area, ("", 0.0))
        if level and now >= until:
            del self._passing[area]
            level = ""
        return level or None

    def in_force(self, now: float) -> tuple[InForce, ...]:
        """Every setting, that for `*` first."""
        areas = sorted(self._known() - {EVERYTHING})
        return tuple(InForce(area, self.of(area, now), self._left(area, now)) for area in (EVERYTHING, *areas))

    def settings(self, now: float) -> tuple[InForce, ...]:
        """What `change` has to be told elsewhere for the same levels to be in force there."""
        staying = [InForce(EVERYTHING, self._default), *(InForce(*each) for each in sorted(self._staying.items()))]
        passing = [InForce(area, self._passing[area][0], self._left(area, now)) for area in sorted(self._passing)]
        return (*staying, *(each for each in passing if each.seconds))

    def _known(self) -> set[str]:
        return self._staying.keys() | self._passing.keys()

    def _left(self, area: str, now: float) -> float | None:
        passing = self._passing.get(area)
        return None if passing is None else max(0.0, passing[1] - now)
