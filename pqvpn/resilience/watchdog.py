"""Who hangs: processes whose sign of progress stopped although they were poked.

Owns the times since which each process has shown nothing. Pure but for the given callables: reads counters, sends pokes,
kills nobody. A sign is a counter that the process's own loop changes; an answer could come from a thread that lives on in
a process that does nothing. Times in seconds of a clock that stops for nobody.
"""

from collections.abc import Callable
from dataclasses import dataclass

EVERY = 0.25
"""Between two looks."""
START = 20.0
"""A process that was just started has so long until its first sign: it imports."""


@dataclass(slots=True)
class _Watched:
    read: Callable[[], int]
    poke: Callable[[], None]
    sign: int
    since: float
    patience: float
    begun: bool = False  # it has shown a sign since it was started


class Watchdog:
    """Watches processes by name. `limit`: seconds without a sign after which one hangs, times its patience."""

    def __init__(self, limit: float = 1.0) -> None:
        self.limit = limit
        self._watched: dict[str, _Watched] = {}
        self._looked: float | None = None

    def watch(
        self, name: str, read: Callable[[], int], poke: Callable[[], None], now: float, patience: float = 1.0
    ) -> None:
        """Watch a process that was just started; it takes the place of one of the same name."""
        self._watched[name] = _Watched(read, poke, read(), now, patience)

    def forget(self, name: str) -> None:
        """The process ended."""
        self._watched.pop(name, None)

    def begun(self, name: str) -> bool:
        """Whether a process has shown a sign since it was started."""
        watched = self._watched.get(name)
        return watched is not None and watched.begun

    @property
    def due(self) -> float | None:
        """When `look` wants to be called; None: nothing is watched."""
        if not self._watched:
            return None
        return 0.0 if self._looked is None else self._looked + EVERY

    def look(self, now: float) -> list[str]:
        """Poke everybody; the names of those that hang. Looks that come late excuse everybody: we ourselves stood still."""
        late = self._looked is not None and now - self._looked > 4 * EVERY
        self._looked = now
        hung = []
        for name, watched in self._watched.items():
            sign = watched.read()
            if sign != watched.sign:
                watched.sign, watched.since, watched.begun = sign, now, True
            elif late:
                watched.since = now
            elif now - watched.since >= self.limit * watched.patience + (0.0 if watched.begun else START):
                hung.append(name)
            watched.poke()
        return hung
