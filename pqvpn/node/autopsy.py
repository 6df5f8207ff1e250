"""Why a process ended, as far as it can be known from outside: the crash fact that the dead cannot publish.

Owns reading the last words. An ordinary exit says nothing here: the process published what happened before it ended, unless
it left an exception as its last words, having had nobody to tell. Knows nothing of reports.
"""

import signal
from typing import Final

from pqvpn.facts import Crashed, Fact
from pqvpn.host import stacks
from pqvpn.host.kills import Kills
from pqvpn.reasons import Reason
from pqvpn.resilience.supervisor import Ended
from pqvpn.telemetry.crashes import describe

_NATIVE: Final = frozenset((signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL))
_UNCAUGHT: Final = 1
_ORDERED: Final = frozenset((signal.SIGTERM, signal.SIGINT))


class Autopsy:
    """Makes one fact of each end that was none of the process's own choice."""

    def __init__(self) -> None:
        self.kills = Kills()

    def __call__(self, ended: Ended) -> Fact | None:
        """The fact, or None when the process told by itself, or was meant to end."""
        number = -ended.code
        words = stacks.read(ended.last_words) if ended.last_words >= 0 else ""
        frames = describe.native(words)
        if ended.hung:
            kind, error, reason = "hang", "no progress", Reason.CHILD_HUNG
        elif ended.code >= 0 and not _untold(ended.code, words):
            return None
        elif ended.code >= 0:
            kind, reason = "exception", Reason.CHILD_DIED
            error = describe.error_in(words) or f"exit {ended.code}"
            if error == "MemoryError":
                kind, reason = "out_of_memory", Reason.OUT_OF_MEMORY
        elif number in _ORDERED:
            return None
        elif number in _NATIVE:
            kind, error, reason = "signal", signal.Signals(number).name, Reason.CHILD_DIED
        elif number == signal.SIGKILL and self.kills.lately():
            kind, error, reason = "out_of_memory", "SIGKILL", Reason.OUT_OF_MEMORY
        else:
            kind, error, reason = "killed", signal.Signals(number).name, Reason.CHILD_DIED
        place = frames[-1].partition(" in ")[0] if frames else ""
        return Crashed(kind, ended.name, reason, error, place, frames, thread="main", pid=ended.pid)


def _untold(code: int, words: str) -> bool:
    """Whether a process that ended by itself could not publish why: Python's own exit code, or an exception left as words."""
    return code == _UNCAUGHT or bool(describe.error_in(words))
