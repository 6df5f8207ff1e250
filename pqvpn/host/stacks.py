"""Where a process leaves its last words: the stacks of its threads, when it crashes or is asked while it hangs.

Owns the memfd that `faulthandler` writes to and how it is read afterwards. The supervisor holds it, so that it outlives the
process; it holds frames only, never values. Knows nothing of reports.
"""

import faulthandler
import os
import signal

ASK = signal.SIGUSR1
"""Sent to a process that makes no progress: it dumps its stacks, if it still can."""
_LARGEST = 64 << 10


def make() -> int:
    """A descriptor for one process's last words; inheritable only where passed on explicitly."""
    return os.memfd_create("pqvpn-stacks", os.MFD_CLOEXEC)


def watch(descriptor: int) -> None:
    """Have this process's stacks written there on SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, and when `ASK` comes."""
    faulthandler.enable(file=descriptor, all_threads=True)
    faulthandler.register(ASK, file=descriptor, all_threads=True)


def read(descriptor: int) -> str:
    """What was left; empty when there is nothing."""
    try:
        return os.pread(descriptor, _LARGEST, 0).decode("utf-8", "replace")
    except OSError:
        return ""
