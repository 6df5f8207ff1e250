"""Replacing every process by one of this version's code, one after the other, under running sessions.

Owns the order and the trial: first a spare of the new code has to wait, then each lane, control and the observer are
replaced, each only when the one before has shown progress, then all have to live for a while. What fails is told, once.
Knows nothing of exec: what follows success or failure is given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

TRIAL: Final = 3.0
"""Seconds that every process of the new code has to live once all are replaced."""
_EACH: Final = 30.0
"""Seconds that one step may take, on a busy machine."""
_EVERY: Final = 0.05


@dataclass(frozen=True, slots=True)
class Acts:
    """What can be done and seen. `replace` ends a child so that the spare takes its place; `well`: the child that runs has
    shown progress."""

    spare_waits: Callable[[], bool]
    spare_died: Callable[[], bool]
    replace: Callable[[str], None]
    pid: Callable[[str], int]
    well: Callable[[str], bool]
    told: Callable[[str], None]


class Renewal:
    """Replaces `names` in this order. `due`: when `look` wants to be called. `failed` says why it was given up."""

    def __init__(self, names: list[str], acts: Acts, now: float) -> None:
        self._names = names
        self._acts = acts
        self._left = list(names)
        self._being = ""
        self._before = 0
        self._pids: dict[str, int] = {}
        self._deadline = now + _EACH
        self._live_until: float | None = None
        self.due: float | None = now
        self.failed = ""
        self.done = False

    def look(self, now: float) -> None:
        """Take the next step if it is time."""
        if self.due is None or now < self.due:
            return
        self.due = now + _EVERY
        self.failed = self._fault(now)
        if self.failed:
            self.due = None
        elif self._being:
            self._await(now)
        elif self._left:
            self._next(now)
        elif self._live_until is None:
            self._live_until = now + TRIAL
        elif now >= self._live_until:
            self.done, self.due = True, None

    def _fault(self, now: float) -> str:
        for name, pid in self._pids.items():
            if self._acts.pid(name) != pid:
                return f"{name} of the new version ended"
        if self._acts.spare_died():
            return "a waiting process of the new version ended"
        if now > self._deadline and self._live_until is None:
            return f"{self._being or 'a waiting process'} of the new version does not come up"
        return ""

    def _next(self, now: float) -> None:
        if not self._acts.spare_waits():
            return
        self._being = self._left.pop(0)
        self._before = self._acts.pid(self._being)
        self._deadline = now + _EACH
        self._acts.told(f"replacing {self._being}")
        self._acts.replace(self._being)

    def _await(self, now: float) -> None:
        pid = self._acts.pid(self._being)
        if pid in (0, self._before) or not self._acts.well(self._being):
            if pid not in (0, self._before):
                self._pids.setdefault(self._being, pid)  # from now on it has to stay
            return
        self._pids[self._being] = pid
        self._being = ""
        self._deadline = now + _EACH
