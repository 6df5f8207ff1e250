"""Whether processes make progress: by the counters that their own loops change, as the supervisor's watchdog sees it.

Owns the verdicts on `node.progress` and `node.supervisor`. The supervisor pokes everybody four times a second; whoever is
poked changes its counter. So counters say nothing while the supervisor stands still itself, and that it does is known by
the pokes that do not come. The watchdog replaces what hangs, after `hang_after` under [restart]; this tells of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pqvpn.observer.checkbook import Checkbook
from pqvpn.reasons import Reason
from pqvpn.resilience.health import Health, Item, State
from pqvpn.resilience.limits import Limits


@dataclass(slots=True)
class _Sign:
    pid: int
    value: int
    since: float
    begun: bool = False  # one that is being started imports first


class Progress:
    """Of one node. `pids`: of the processes by component; `read` gives a process's counter."""

    def __init__(
        self,
        health: Health,
        limits: Limits,
        now: float,
        pids: Callable[[], Mapping[str, int]],
        read: Callable[[str], int],
    ) -> None:
        self.limits = limits
        self._health = health
        self._pids = pids
        self._read = read
        self._poked_at = self._poked_since = self._checked_at = now
        self._signs: dict[str, _Sign] = {}

    def enter(self, book: Checkbook) -> None:
        """Enter into the registry."""
        book.every_interval("progress", self.check)

    def poked(self, now: float) -> None:
        """The supervisor asked for a sign of our own progress."""
        if now - self._poked_at > self.limits.progress_timeout:
            self._poked_since = now
        self._poked_at = now

    def check(self, now: float) -> None:
        """See whose counter stands still."""
        if now - self._checked_at > self.limits.progress_timeout + self.limits.interval:
            self._poked_at = self._poked_since = now  # we ourselves stood still: what came meanwhile waits to be read
        self._checked_at = now
        silent = now - self._poked_at
        hangs = silent >= self.limits.progress_timeout
        evidence = f"it has looked after nobody for {silent:.0f} s" if hangs else ""
        self._see(Item.SUPERVISOR, "", hangs, evidence, now)
        found = {name: pid for name, pid in self._pids().items() if name == "control" or name.startswith("lane-")}
        self._signs = {name: sign for name, sign in self._signs.items() if name in found}
        self._health.keep(Item.PROGRESS, found)
        for name, pid in found.items():
            self._check(name, pid, hangs, now)

    def _check(self, name: str, pid: int, supervisor_hangs: bool, now: float) -> None:
        value = self._read(name)
        sign = self._signs.get(name)
        if sign is None or sign.pid != pid:
            sign = self._signs[name] = _Sign(pid, value, now)
        elif value != sign.value:
            sign.value, sign.since, sign.begun = value, now, True
        stands = now - max(sign.since, self._poked_since)  # whom nobody poked had no reason to show any
        if supervisor_hangs:
            return
        hangs = sign.begun and stands >= self.limits.progress_timeout
        self._see(Item.PROGRESS, name, hangs, f"{name} shows none for {stands:.0f} s" if hangs else "", now)

    def _see(self, item: Item, key: str, hangs: bool, evidence: str, now: float) -> None:
        state, reason = (State.FAILING, Reason.NO_PROGRESS) if hangs else (State.OK, None)
        self._health.observe(item, key, state, reason, evidence, now)
