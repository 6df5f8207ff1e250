"""Children that are kept running.

Owns starting, noticing the end of, and starting again the node's processes, and their orderly end. Knows nothing of what they
do: each is a function that spawns it. A child that ends is replaced at once; one that ends again within seconds waits, at
most a second, so that a broken installation does not eat the machine. Exit codes 77 and 78 say that a restart cannot help.
A child that is not essential never ends the node and waits longer.
"""

import os
import selectors
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from pqvpn.facts import ChildEnded, ChildStarted, FactHook, Problem
from pqvpn.reasons import Reason

Spawn = Callable[[], "subprocess.Popen[bytes]"]

_LIVED = 5.0
"""A child that ran for so many seconds is not in a restart loop."""
_LONGEST_WAIT = 1.0
_LONGEST_WAIT_UNESSENTIAL = 30.0
_FIRST_WAIT = 0.05
FATAL = (os.EX_NOPERM, os.EX_CONFIG)


@dataclass(slots=True)
class Child:
    """One process of the node."""

    name: str
    spawn: Spawn
    process: "subprocess.Popen[bytes] | None" = None
    pidfd: int = -1
    started_at: float = 0.0
    restarts: int = 0
    quick_ends: int = 0
    start_again_at: float | None = None
    essential: bool = True

    @property
    def longest_wait(self) -> float:
        """The longest time between its end and its next start."""
        return _LONGEST_WAIT if self.essential else _LONGEST_WAIT_UNESSENTIAL


class Supervisor:
    """Keeps children running. `clock` gives seconds; `on_change` is called after any child started or ended."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
        publish: FactHook,
        on_change: Callable[[], None],
    ) -> None:
        self._selector = selector
        self._clock = clock
        self._publish = publish
        self._on_change = on_change
        self._stopping = False
        self.children: dict[str, Child] = {}
        self.fatal: int | None = None

    def add(self, name: str, spawn: Spawn) -> None:
        """Start a child and keep it running."""
        self.children[name] = Child(name, spawn)
        self._start(self.children[name])

    def add_unessential(self, name: str, spawn: Spawn, after: float) -> None:
        """The same, in `after` seconds, for a child without which the node runs: a start that fails is repeated later."""
        self.children[name] = Child(name, spawn, start_again_at=self._clock() + after, essential=False)

    def next_start(self) -> float | None:
        """When `start_due` wants to be called, if a child waits."""
        return min((c.start_again_at for c in self.children.values() if c.start_again_at is not None), default=None)

    def start_due(self) -> None:
        """Start the children whose wait is over."""
        for child in self.children.values():
            if child.start_again_at is None or child.start_again_at > self._clock():
                continue
            try:
                self._start(child)
            except OSError as error:  # no process or memory to be had now; the others go on meanwhile
                detail = f"{child.name} cannot be started: {error.strerror}"
                self._publish(Problem(Reason.KERNEL_REFUSED, "supervisor", detail))
                child.start_again_at = self._clock() + child.longest_wait

    def end(self, names: list[str], seconds: float) -> None:
        """Give these children time to end by themselves, then kill them. They are not started again."""
        self._stopping = True
        deadline = self._clock() + seconds
        for name in names:
            child = self.children[name]
            child.start_again_at = None
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.0, deadline - self._clock()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            self._forget(child)

    def _start(self, child: Child) -> None:
        child.start_again_at = None
        child.process = child.spawn()
        child.pidfd = os.pidfd_open(child.process.pid)
        child.started_at = self._clock()
        self._selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._ended(child))
        self._publish(ChildStarted(child.name, child.process.pid, child.restarts))
        self._on_change()

    def _ended(self, child: Child) -> None:
        if child.process is None or self._stopping:
            return
        code = child.process.wait()
        self._publish(ChildEnded(child.name, child.process.pid, describe_exit(code), Reason.CHILD_DIED))
        self._forget(child)
        if code in FATAL and child.essential:
            self.fatal = code
            return
        child.restarts += 1
        child.quick_ends = 0 if self._clock() - child.started_at >= _LIVED else child.quick_ends + 1
        wait = 0.0 if child.quick_ends <= 1 else min(child.longest_wait, _FIRST_WAIT * 2 ** min(child.quick_ends, 16))
        child.start_again_at = self._clock() + wait
        self.start_due()

    def _forget(self, child: Child) -> None:
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        child.process = None


def describe_exit(code: int) -> str:
    """An exit status in words: `exit 1`, or the signal's name."""
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name
