"""Limits that outlive a process: one small file in the state folder, replaced as a whole.

Owns its format. A lost or damaged one costs a few reports more, never a report, so it is not synced. Times in it are the
wall clock's, which outlives a reboot.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Final

from pqvpn.telemetry.crashes.limits import Limits

NAME: Final = "crash-limits.json"
_LARGEST: Final = 1 << 20


def load(path: Path, limits: Limits, now: float) -> None:
    """Take over what an earlier process knew. Never raises."""
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError, RecursionError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            limits.load(json.loads(file.read(_LARGEST)), now)


def save(path: Path, limits: Limits) -> None:
    """Replace the file. Never raises."""
    new = path.with_name(f".{path.name}")
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(new, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(limits.dump(), file)
        new.replace(path)
