"""Collecting what is wrong with one file, so that all of it is told at once.

Owns how a place in the file is written: `peer.beta.allowed_ips[1] (line 12)`. Knows nothing of what settings mean.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from pqvpn.config.lines import line_of, positions
from pqvpn.errors import ConfigError, ConfigErrors
from pqvpn.reasons import Reason

Loc = tuple[str | int, ...]
T = TypeVar("T")


def spell(loc: Loc) -> str:
    """`("peer", "beta", "allowed_ips", 1)` as `peer.beta.allowed_ips[1]`; names that need it are quoted."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        plain = part.isascii() and part.replace("-", "").replace("_", "").isalnum()
        text += ("." if text else "") + (part if plain else repr(part))
    return text


class Findings:
    """The errors met so far in one file. Lines are looked up only when there is an error to show."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._met: list[tuple[Loc, ConfigError]] = []
        self._gaps: dict[Loc, tuple[int, ...]] = {}

    def add(self, reason: Reason, loc: Loc, detail: str, remedy: str = "") -> None:
        """Record one error at a place."""
        self._met.append((loc, ConfigError(reason, detail, remedy=remedy)))

    def take(self, loc: Loc, error: ConfigError) -> None:
        """Record an error raised by a reader that does not know which setting led to it."""
        self.add(error.reason, loc, error.detail, error.remedy)

    def leave_out(self, loc: Loc, indexes: Iterable[int]) -> None:
        """Remember which elements of the array at `loc` were refused, so that the others keep their numbers."""
        self._gaps[loc] = tuple(sorted(indexes))

    def numbered(self, loc: Loc, elements: Iterable[T]) -> Iterator[tuple[int, T]]:
        """The remaining elements of the array at `loc`, each with its index in the file."""
        gaps = self._gaps.get(loc, ())
        index = 0
        for element in elements:
            while index in gaps:
                index += 1
            yield index, element
            index += 1

    def raise_if_any(self) -> None:
        """Raise ConfigErrors with everything recorded, in the order of the file."""
        if not self._met:
            return
        found = positions(self._text)
        placed = []
        for loc, error in self._met:
            line = line_of(found, loc)
            place = spell(loc) + (f" (line {line})" if line else "")
            placed.append((line or 0, ConfigError(error.reason, error.detail, place=place, remedy=error.remedy)))
        placed.sort(key=lambda pair: pair[0])
        raise ConfigErrors(tuple(error for _, error in placed))
