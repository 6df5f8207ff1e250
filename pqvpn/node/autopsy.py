"""Why a process ended, as far as it can be known from outside: the crash fact that the dead cannot publish.

Owns reading the last words and the kernel's count of out-of-memory kills. An ordinary exit says nothing here: the process
published what happened before it ended. Knows nothing of reports.
"""

import signal
from pathlib import Path
from typing import Final

from pqvpn.facts import Crashed, Fact
from pqvpn.host import stacks
from pqvpn.reasons import Reason
from pqvpn.resilience.supervisor import Ended
from pqvpn.telemetry.crashes import describe

_NATIVE: Final = frozenset((signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL))
_ORDERED: Final = frozenset((signal.SIGTERM, signal.SIGINT))
_KILLS: Final = Path("/proc/vmstat")


class Autopsy:
    """Makes one fact of each end that was none of the process's own choice."""

    def __init__(self) -> None:
        self._kills = _out_of_memory_kills()

    def __call__(self, ended: Ended) -> Fact | None:
        """The fact, or None when the process told by itself, or was meant to end."""
        kills, self._kills = self._kills, _out_of_memory_kills()
        number = -ended.code
        words = stacks.read(ended.last_words) if ended.last_words >= 0 else ""
        frames = describe.native(words)
        if ended.hung:
            kind, error, reason = "hang", "no progress", Reason.CHILD_HUNG
        elif ended.code >= 0 or number in _ORDERED:
            return None
        elif number in _NATIVE:
            kind, error, reason = "signal", signal.Signals(number).name, Reason.CHILD_DIED
        elif number == signal.SIGKILL and self._kills > kills:
            kind, error, reason = "out_of_memory", "SIGKILL", Reason.OUT_OF_MEMORY
        else:
            kind, error, reason = "killed", signal.Signals(number).name, Reason.CHILD_DIED
        place = frames[-1].partition(" in ")[0] if frames else ""
        return Crashed(kind, ended.name, reason, error, place, frames, thread="main", pid=ended.pid)


def _out_of_memory_kills() -> int:
    """Processes that the kernel killed for want of memory since it started, in cgroups as well."""
    try:
        text = _KILLS.read_text(encoding="ascii")
    except (OSError, ValueError):
        return 0
    found = [line.partition(" ")[2] for line in text.splitlines() if line.startswith("oom_kill ")]
    return int(found[0]) if found and found[0].isdigit() else 0
