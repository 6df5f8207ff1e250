"""What the observer says of a supervisor that is gone: nobody else can.

Owns the reading of its last words. Knows nothing of reports.
"""

import os
import time
from typing import Final

from pqvpn.facts import Crashed
from pqvpn.host import stacks
from pqvpn.host.clock import now
from pqvpn.host.kills import Kills
from pqvpn.observer.start import ObserverStart
from pqvpn.reasons import Reason
from pqvpn.telemetry.crashes import describe

_EXITING: Final = 0.05
"""Seconds: a process that dies closes its sockets first, and has children until a little later."""


def is_gone(supervisor: int) -> bool:
    """Whether the supervisor died; waits a moment for one that may be dying."""
    until = now() + _EXITING
    while os.getppid() == supervisor:
        if now() > until:
            return False
        time.sleep(_EXITING / 10)  # the kernel tells only by changing our parent
    return True


def of_supervisor(start: ObserverStart, kills: Kills) -> Crashed:
    """The crash of a supervisor that ended without waiting for us. `kills`: what the kernel killed lately."""
    words = stacks.read(start.supervisor_words) if start.supervisor_words >= 0 else ""
    frames = describe.native(words)
    error = describe.error_in(words)
    kind, reason = ("signal" if error else "killed"), Reason.KILLED
    if not error and kills.lately():
        kind, reason = "out_of_memory", Reason.OUT_OF_MEMORY
    place = frames[-1].partition(" in ")[0] if frames else ""
    return Crashed(
        kind, "supervisor", reason, error or "SIGKILL", place, frames, thread="main", pid=start.supervisor_pid
    )
