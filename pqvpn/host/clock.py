"""The one clock of the node: CLOCK_BOOTTIME, which goes on while the machine sleeps.

Keys must not outlive a suspend, and CLOCK_MONOTONIC stops in one (PROTOCOL section 5, Timers). Knows no wall clock.
"""

import time


def now() -> float:
    """Seconds since boot, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def now_ns() -> int:
    """Nanoseconds since boot, suspend included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
