"""When a health item is told to be wrong, and when well again: [health] as the processes take it.

Owns the names and their defaults. Pure; what is compared with them is `observer/checks.py` and `resilience/health.py`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes, shares from 0 to 1. The two scales stretch the times of every item alike.

    They are one for all, since a cause must never be told later than its symptoms.
    """

    interval: float = 2.0
    fail_scale: float = 1.0
    recover_scale: float = 1.0
    control_silent: float = 3.0
    progress_timeout: float = 5.0
    probe_timeout: float = 5.0
    loop_late: float = 0.5
    loop_stuck: float = 5.0
    ends_window: float = 60.0
    ends_warn: int = 3
    ends_fail: int = 8
    memory_warns: int = 384 << 20
    memory_fails: int = 1 << 30
    descriptors_warn: float = 0.8
    descriptors_fail: float = 0.95
    disk_free: int = 64 << 20
    disk_hangs: float = 10.0
    crypto_interval: float = 60.0
    crypto_timeout: float = 5.0
    netlink_timeout: float = 1.0
