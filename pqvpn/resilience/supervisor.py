"""Children that are kept running.

Owns starting, noticing the end or the hang of, and starting again the node's processes, and their orderly end. Knows nothing
of what they do: each is a function that starts it. When and whether one is started again is `restarts.py`, who hangs is
`watchdog.py`; what is told of an end is made by `autopsy`, which reads the last words.
"""

import contextlib
import os
import selectors
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from pqvpn.facts import ChildEnded, ChildStarted, Fact, FactHook, Problem, RetryEnded, RetryWaiting
from pqvpn.reasons import Reason
from pqvpn.resilience.restarts import Decision, RestartPolicy, Restarts, When
from pqvpn.resilience.watchdog import Watchdog

LAST_WORDS: Final = 0.1
"""Seconds that a process which hangs has to dump its stacks before it is killed."""
RETRY: Final = "restart"
"""The operation of restarts in facts about retries; the key is the process."""
_AGAIN: Final = 1.0
"""Seconds until the next try when the kernel refuses to make a process."""


class Handle(Protocol):
    """What is needed of a `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int, /) -> None: ...
    def kill(self) -> None: ...


@dataclass(slots=True)
class Process:
    """A started process, and the descriptor on which it leaves its last words (-1: none); the child owns both."""

    popen: Handle
    last_words: int = -1


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended. `code` is negative for a signal; `hung`: it was killed because it made no progress."""

    name: str
    pid: int
    code: int
    hung: bool
    lived: float
    last_words: int


Start = Callable[[], Process]
Autopsy = Callable[[Ended], Fact | None]


@dataclass(slots=True)
class Child:
    """One process of the node. An essential one ends the node when its end says that a restart cannot help."""

    name: str
    start: Start
    history: Restarts
    essential: bool = True
    process: Process | None = None
    pidfd: int = -1
    started_at: float = 0.0
    ended_at: float = 0.0
    restarts: int = 0
    start_again_at: float | None = None
    hung: bool = False
    ordered: bool = False  # it is ended to be replaced
    kill_at: float | None = None
    waited: bool = False  # a wait before its start was told, and no end of the series yet
    well_at: float | None = None  # when it will have lived long enough to say that it is over
    covered: bool = False  # another process does its work meanwhile

    @property
    def pid(self) -> int:
        """Its process id, 0 when it does not run."""
        return self.process.popen.pid if self.process else 0


def _no_autopsy(_: Ended) -> None:
    return None


@dataclass
class Supervisor:
    """Keeps children running. `clock` gives seconds; `on_change` is called after any child started or ended."""

    selector: selectors.BaseSelector
    clock: Callable[[], float]
    publish: FactHook
    on_change: Callable[[], None]
    autopsy: Autopsy = _no_autopsy
    children: dict[str, Child] = field(default_factory=dict)
    fatal: int | None = None
    watchdog: Watchdog = field(default_factory=Watchdog)
    _stopping: bool = False

    def add(self, name: str, start: Start, policy: RestartPolicy | None = None) -> None:
        """Start a child and keep it running. Raises OSError when the kernel refuses."""
        self.children[name] = Child(name, start, Restarts(policy or RestartPolicy()))
        self._start(self.children[name])

    def add_unessential(self, name: str, start: Start, after: float, policy: RestartPolicy | None = None) -> None:
        """The same, in `after` seconds, for a child without which the node runs: a start that fails is repeated later."""
        history = Restarts(policy or RestartPolicy())
        self.children[name] = Child(name, start, history, essential=False, start_again_at=self.clock() + after)

    def adopt(
        self, name: str, start: Start, process: Process, started_at: float, restarts: int, *, essential: bool = True
    ) -> None:
        """Keep a child running that runs already. Raises OSError when it is gone."""
        child = Child(name, start, Restarts(RestartPolicy()), essential, started_at=started_at, restarts=restarts)
        self.children[name] = child
        self._hold(child, process)

    def apply(self, name: str, policy: RestartPolicy) -> None:
        """Take a new policy for a child; what happened so far is forgotten, as the operator looked at it."""
        child = self.children.get(name)
        if child is not None and child.history.policy != policy:
            child.history = Restarts(policy)
            if child.process is None and child.start_again_at is None and policy.when is not When.NEVER:
                child.start_again_at = self.clock()  # the former policy had left it where it was

    def good_news(self) -> None:
        """An operator asks for it: whoever waits for its next start is started at once, and its history is forgotten."""
        for child in self.children.values():
            if child.start_again_at is not None and child.waited:
                self.publish(RetryEnded(RETRY, child.name, child.history.failures, "good_news"))
                child.history.good_news()
                child.start_again_at, child.waited = self.clock(), False

    def watch(self, name: str, read: Callable[[], int], poke: Callable[[], None], patience: float = 1.0) -> None:
        """Watch a child that was just started: `read` its sign of progress, `poke` it for one."""
        self.watchdog.watch(name, read, poke, self.clock(), patience)

    def progressing(self, patience: float) -> bool:
        """Whether no essential child has been away, or known to hang, for more than `patience` seconds, with its work undone."""
        now = self.clock()
        essential = [c for c in self.children.values() if c.essential and not c.covered]
        return all(c.process is not None or now - c.ended_at <= patience for c in essential)

    # -- time --------------------------------------------------------------------------------------------------------

    def next_start(self) -> float | None:
        """When `start_due` wants to be called, if something waits."""
        times = [t for c in self.children.values() for t in (c.start_again_at, c.kill_at, c.well_at) if t is not None]
        looking = self.watchdog.due
        return min([*times, *([] if looking is None else [looking])], default=None)

    def start_due(self) -> None:
        """Start the children whose wait is over; see who hangs, and end those."""
        now = self.clock()
        try:
            self._see_who_hangs(now)
        finally:  # a look that fails must keep nobody from being started
            self._act_on_due(now)

    def _see_who_hangs(self, now: float) -> None:
        looking = self.watchdog.due
        if looking is not None and looking <= now:
            for name in self.watchdog.look(now):
                self._hangs(self.children[name], now)

    def _act_on_due(self, now: float) -> None:
        for child in self.children.values():
            if child.kill_at is not None and child.kill_at <= now:
                self._kill(child)
            if child.well_at is not None and child.well_at <= now:
                self._is_well(child)
            if child.start_again_at is not None and child.start_again_at <= now:
                self._try_to_start(child)

    def _is_well(self, child: Child) -> None:
        """What was waited for came to pass: the history of failures ends."""
        child.well_at, child.waited = None, False
        self.publish(RetryEnded(RETRY, child.name, child.history.failures, "recovered"))
        child.history.has_lived()

    def replace(self, name: str) -> None:
        """End a child so that another takes its place at once: what it was given is no longer what it needs."""
        child = self.children[name]
        if child.process:
            child.ordered = True
            child.process.popen.kill()

    def renew(self, name: str, ask: Callable[[], None], seconds: float) -> None:
        """The same, but `ask` it to end first, and kill it only after so many seconds: it has something to put away."""
        child = self.children.get(name)
        if child is not None and child.process:
            child.ordered = True
            child.kill_at = self.clock() + seconds
            self.watchdog.forget(name)
            ask()

    def hurry(self) -> None:
        """Kill every child at once: whoever waits for one need not wait any longer."""
        for child in self.children.values():
            if child.process:
                child.process.popen.kill()

    def end(self, names: list[str], seconds: float) -> None:
        """Give these children time to end by themselves, then kill them. They are not started again."""
        self._stopping = True
        deadline = self.clock() + seconds
        for name in names:
            child = self.children[name]
            child.start_again_at = child.kill_at = child.well_at = None
            self.watchdog.forget(name)
            if child.process is None:
                continue
            popen = child.process.popen
            try:
                popen.wait(max(0.0, deadline - self.clock()))
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
            _close(child.process.last_words)
            self._forget(child)

    # -- starts ------------------------------------------------------------------------------------------------------

    def _try_to_start(self, child: Child) -> None:
        try:
            self._start(child)
        except OSError as error:  # no process or memory to be had now; the others go on meanwhile
            self._later(child)
            detail = f"{child.name} cannot be started: {error.strerror}"
            self.publish(Problem(Reason.KERNEL_REFUSED, "supervisor", detail))
        except Exception:
            self._later(child)  # whatever it is, the node is not to be without this child for ever
            raise

    def _later(self, child: Child) -> None:
        """A start failed half-way: nothing of it may stay, and it is tried again."""
        if child.process:
            child.process.popen.kill()
            child.process.popen.wait()
            _close(child.process.last_words)
            if child.pidfd >= 0:
                self._forget(child)
            child.process = None
        child.start_again_at = self.clock() + _AGAIN

    def _start(self, child: Child) -> None:
        child.start_again_at = child.kill_at = None
        child.hung = child.ordered = False
        child.started_at = self.clock()
        self._hold(child, child.start())
        if child.waited:
            child.well_at = child.started_at + child.history.policy.lived
        self.publish(ChildStarted(child.name, child.pid, child.restarts))
        self.on_change()

    def _hold(self, child: Child, process: Process) -> None:
        child.process = process
        child.pidfd = os.pidfd_open(child.pid)
        self.selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._ended(child))

    # -- ends --------------------------------------------------------------------------------------------------------

    def _hangs(self, child: Child, now: float) -> None:
        self.watchdog.forget(child.name)
        child.hung = True
        child.kill_at = now + LAST_WORDS
        if child.process and child.process.last_words >= 0:
            with contextlib.suppress(ProcessLookupError):
                child.process.popen.send_signal(signal.SIGUSR1)  # host.stacks.ASK
        else:
            self._kill(child)

    def _kill(self, child: Child) -> None:
        child.kill_at = None
        if child.process:
            child.process.popen.kill()

    def _ended(self, child: Child) -> None:
        if child.process is None or self._stopping:
            return
        code = child.process.popen.wait()
        now = self.clock()
        lived = now - child.started_at
        ended = Ended(child.name, child.pid, code, child.hung, lived, child.process.last_words)
        if child.ordered:
            self._forget(child)
            child.start_again_at = now
            try:
                self.start_due()
            finally:
                _close(ended.last_words)
            return
        if child.well_at is not None and child.well_at <= now:
            self._is_well(child)
        decision = child.history.hung(lived, now) if child.hung else child.history.ended(code, lived, now)
        reason = Reason.CHILD_HUNG if child.hung else Reason.CHILD_DIED
        self.publish(ChildEnded(child.name, ended.pid, describe_exit(code), reason))
        self._forget(child)
        child.ended_at = now
        child.well_at = None
        try:
            if decision.hopeless and child.essential:
                self.fatal = code
            elif decision.wait is not None:
                child.restarts += 1
                child.start_again_at = now + decision.wait
                self.start_due()  # first of all: packets wait
        finally:
            self._tell(child, ended, decision)

    def _tell(self, child: Child, ended: Ended, decision: Decision) -> None:
        try:
            if told := self.autopsy(ended):
                self.publish(told)
        finally:  # why it ended is one thing that is told, that it waits another
            _close(ended.last_words)
            self._tell_wait(child, decision)
            if decision.loop:
                detail = f"{child.name} ended {len(child.history.ends)} times; next try in {decision.wait:.0f} s"
                self.publish(Problem(Reason.RESTART_LOOP, "supervisor", detail))
            self.on_change()

    def _tell_wait(self, child: Child, decision: Decision) -> None:
        """A wait is told; one that never comes, or is none, ends the series."""
        failures = child.history.failures
        if decision.wait:
            reason = Reason.RESTART_LOOP if decision.loop else Reason.CHILD_HUNG if child.hung else Reason.CHILD_DIED
            self.publish(RetryWaiting(RETRY, child.name, failures, round(decision.wait, 3), reason))
            child.waited = True
        elif decision.wait is None and child.waited:
            self.publish(RetryEnded(RETRY, child.name, failures, "gave_up"))
            child.waited = False

    def _forget(self, child: Child) -> None:
        """The process is gone. Its last words stay open for whoever reads them."""
        self.watchdog.forget(child.name)
        if child.pidfd in self.selector.get_map():
            self.selector.unregister(child.pidfd)
        os.close(child.pidfd)
        child.pidfd = -1
        child.process = None


def _close(last_words: int) -> None:
    if last_words >= 0:
        os.close(last_words)


def describe_exit(code: int) -> str:
    """An exit status in words: `exit 1`, or the signal's name."""
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name
