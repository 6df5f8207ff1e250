"""Where a process leaves its last words: the stacks of its threads, when it crashes or is asked while it hangs.

Owns the memfd that `faulthandler` writes to and how it is read afterwards. The supervisor holds it, so that it outlives the
process; it holds frames only, never values. Knows nothing of reports.
"""

import contextlib
import faulthandler
import os
import signal
import sys
from types import TracebackType

ASK = signal.SIGUSR1
"""Sent to a process that makes no progress: it dumps its stacks, if it still can."""
WAITING = "pqvpn-waiting"
"""What a process is called once it has imported everything and only waits."""
_LARGEST = 64 << 10
_last: list[int] = []  # where this process leaves its own


def make() -> int:
    """A descriptor for one process's last words; inheritable only where passed on explicitly."""
    return os.memfd_create("pqvpn-stacks", os.MFD_CLOEXEC)


def watch(descriptor: int) -> None:
    """Have this process's stacks written there on SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, when `ASK` comes, and when an
    exception ends it: Python would write that one's text to standard error, and it may hold a secret.
    """
    _last.append(descriptor)
    sys.excepthook = _leave
    faulthandler.enable(file=descriptor, all_threads=True)
    faulthandler.register(ASK, file=descriptor, all_threads=True)


def leave(error: BaseException) -> None:
    """Leave an exception that ends this process, by type and frames, where it cannot be published."""
    _leave(type(error), error, error.__traceback__)


def _leave(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
    with contextlib.suppress(Exception):  # else Python would write both exceptions, with their texts
        from pqvpn.telemetry.crashes import describe

        if _last:
            os.write(_last[-1], describe.last_words(kind, trace).encode("utf-8", "replace"))


def read(descriptor: int) -> str:
    """What was left; empty when there is nothing."""
    try:
        return os.pread(descriptor, _LARGEST, 0).decode("utf-8", "replace")
    except OSError:
        return ""


def call(name: str) -> None:
    """Name this process, as `ps` and `name` show it; at most 15 bytes."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(name)


def name(pid: int) -> str:
    """What a process called itself; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as comm:
            return comm.read().strip()
    except OSError:
        return ""
