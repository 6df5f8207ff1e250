"""Whether and when a process that ended is started again: policies by exit code, backoff, bounded intensity.

Owns the decision for one process. Pure: takes `now` in seconds, starts nothing. Theory of operation: a process that lived
is replaced at once; one that ends again and again waits with full jitter, each time longer; after `burst` ends within
`window` it is a loop: it is told loudly and tried rarely (one half-open try each `slow_every`) until it has lived for
`lived` again. Exit codes follow sysexits: 77 and 78 say that a restart cannot help.
"""

import os
import signal
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from pqvpn.resilience.backoff import Backoff

HOPELESS = frozenset((os.EX_NOPERM, os.EX_CONFIG))
"""Exit codes after which a restart cannot help."""
_INTENDED = frozenset((0, -signal.SIGTERM, -signal.SIGINT))


class When(StrEnum):
    """After which ends a process is started again."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Times in seconds. `first` and `longest` bound the backoff."""

    when: When = When.ALWAYS
    first: float = 0.05
    longest: float = 10.0
    burst: int = 5
    window: float = 60.0
    slow_every: float = 30.0
    lived: float = 10.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows an end. `wait` None: it is not started again. `loop`: restarts come too fast; `hopeless`: the whole
    node should end with the process's code, since a restart cannot help."""

    wait: float | None
    loop: bool = False
    hopeless: bool = False


@dataclass(slots=True)
class Restarts:
    """One process's history of ends."""

    policy: RestartPolicy
    ends: deque[float] = field(default_factory=deque)
    looping: bool = False
    failures: int = 0
    """Ends since it last lived."""
    _backoff: Backoff = field(init=False)

    def __post_init__(self) -> None:
        """Begin without a history."""
        self._backoff = Backoff(self.policy.first, self.policy.longest)

    def ended(self, code: int, lived: float, now: float) -> Decision:
        """The process ended with `code` (negative: a signal) after `lived` seconds."""
        if code in HOPELESS:
            return Decision(None, hopeless=True)
        if not self._wanted(code):
            return Decision(None)
        healthy = lived >= self.policy.lived
        if healthy:
            self.has_lived()
        self.failures += 1
        self.ends.append(now)
        while self.ends and self.ends[0] <= now - self.policy.window:
            self.ends.popleft()
        if len(self.ends) > self.policy.burst:
            self.looping = True
        if self.looping:
            while len(self.ends) > self.policy.burst + 1:
                self.ends.popleft()
            return Decision(self.policy.slow_every, loop=True)
        return Decision(0.0 if healthy else self._wait())

    def hung(self, lived: float, now: float) -> Decision:
        """The process was killed because it made no progress: a failure whatever its code."""
        return self.ended(-signal.SIGKILL, lived, now)

    def has_lived(self) -> None:
        """It has lived for as long as one that is well does."""
        self._backoff.reset()
        self.failures = 0
        self.looping = False

    def good_news(self) -> None:
        """An operator asks for it, or the configuration changed: the next end is the first."""
        self.has_lived()
        self.ends.clear()

    def _wait(self) -> float:
        """The first early end is often a stroke of bad luck, and somebody's packets wait: no delay for it."""
        wait = self._backoff.next()
        return 0.0 if self._backoff.tries == 1 else wait

    def _wanted(self, code: int) -> bool:
        match self.policy.when:
            case When.NEVER:
                return False
            case When.ALWAYS:
                return True
        return code not in _INTENDED
