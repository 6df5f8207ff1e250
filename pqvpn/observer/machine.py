"""What the machine says of the node's processes and of its state folder.

Owns the readings of /proc and of the file system. They may wait for the disk: not for the loop that reads facts. Knows
no threshold. What this process may not read is left out, never guessed.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pqvpn.reasons import Reason
from pqvpn.telemetry.spool.files import FULL

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_OPEN_FILES: Final = re.compile(r"^Max open files\s+(\d+)", re.MULTILINE)
_PROBE: Final = ".probe"


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What one process takes. `resident` bytes; `descriptors` None where they may not be counted."""

    component: str
    pid: int
    resident: int
    descriptors: int | None = None
    most_descriptors: int | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """One look. `free` bytes of the state folder's file system, None: unknown; `refusal`: why it takes no file, in words.

    `refused`: what that means.
    """

    free: int | None
    refusal: str = ""
    refused: Reason = Reason.STATE_UNWRITABLE


def meaning(number: int | None) -> Reason:
    """What it means that the state folder, where all records are, refused a write with this error number."""
    return Reason.DISK_FULL if number in FULL else Reason.STATE_UNWRITABLE


def processes(pids: Mapping[str, int]) -> tuple[ProcessUse, ...]:
    """What those take that live; `pids` by component."""
    return tuple(use for component, pid in pids.items() if (use := process_use(component, pid)))


def disk(state: Path) -> Disk:
    """What there is of it. Waits for it."""
    try:
        status = os.statvfs(_existing(state))
        free = status.f_bavail * status.f_frsize
    except OSError:
        free = None
    if (error := _refusal(state)) is None:
        return Disk(free)
    return Disk(free, error.strerror or type(error).__name__, meaning(error.errno))


def process_use(component: str, pid: int) -> ProcessUse | None:
    """What one process takes; None when it is gone."""
    place = Path("/proc") / str(pid)
    try:
        resident = int((place / "statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None
    try:
        count = len(os.listdir(place / "fd"))
        limit = _OPEN_FILES.search((place / "limits").read_text(encoding="ascii"))
    except OSError:
        return ProcessUse(component, pid, resident)
    return ProcessUse(component, pid, resident, count, int(limit[1]) if limit else None)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _refusal(folder: Path) -> OSError | None:
    """Why a file cannot be written in the folder, None when it can: tried with a small one."""
    probe = folder / _PROBE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, b"pqvpn\n")
        finally:
            os.close(descriptor)
        probe.unlink()
    except OSError as error:
        return error
    return None
