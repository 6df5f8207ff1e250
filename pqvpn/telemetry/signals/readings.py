"""What the observer reads by itself, besides facts: processes, lanes, queues, losses.

Owns `Readings`, and the reading of one process from /proc. Knows nothing of instruments, and not which processes there
are.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_UTIME: Final = 11  # field 14 of /proc/PID/stat, counted from the one behind the name
_RSS: Final = 21


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process takes; None where the kernel does not say. Processor time in seconds, memory in bytes."""

    cpu: float
    resident: int
    pss: int | None = None
    descriptors: int | None = None


@dataclass(frozen=True, slots=True)
class Readings:
    """One look around. `now`: CLOCK_BOOTTIME in seconds.

    `processes`: usage by name (supervisor, control, lane-0, ...); `lanes`: for each lane's name its totals
    (`Counters.totals`); `queues`: what waits, by queue; `lost`: records of telemetry lost so far behind the sink, by cause
    (what `Signals.lost` counts itself is passed over). Counts only grow; one that is smaller than before belongs to a
    successor and is added to what its predecessor had.
    """

    now: float
    processes: Mapping[str, Usage] = field(default_factory=dict)
    lanes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    queues: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)


def usage(pid: int, proc: Path = Path("/proc")) -> Usage | None:
    """What a process takes now; None when there is none."""
    folder = proc / str(pid)
    try:
        # the name, in parentheses, may hold anything
        words = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        cpu = (int(words[_UTIME]) + int(words[_UTIME + 1])) / _TICKS
        resident = int(words[_RSS]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None
    return Usage(cpu, resident, _pss(folder), _descriptors(folder))


def _pss(folder: Path) -> int | None:
    try:
        for line in (folder / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def _descriptors(folder: Path) -> int | None:
    try:
        return len(os.listdir(folder / "fd"))
    except OSError:
        return None
