"""The one clock of the node: CLOCK_BOOTTIME, which goes on while the machine sleeps.

Keys must not outlive a suspend, and CLOCK_MONOTONIC stops in one (PROTOCOL section 5, Timers). Knows no wall clock.
"""

import os
import time
from pathlib import Path


def now() -> float:
    """Seconds since boot, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def now_ns() -> int:
    """Nanoseconds since boot, suspend included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def spent() -> float:
    """Seconds of processor time that this thread has had: it stands while others have the processor, or we wait."""
    return time.thread_time()


def process_started_at() -> float:
    """When the kernel started this process, in the same seconds (resolution 10 ms)."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")
