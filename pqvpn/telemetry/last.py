"""The last known state of a node, as one file that outlives it.

Owns `last.json` in the state folder: what `pqvpn diag` reads of a node that is down or hangs. Replaced as a whole, 0600.
Knows nothing of what the state says; whoever writes it has redacted it.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

SCHEMA = 1
_NAME = "last.json"
_LARGEST = 8 << 20


def write(folder: Path, state: dict[str, Any]) -> None:
    """Replace the file in `folder`. Raises OSError when the disk refuses; the former content then stays."""
    temporary = folder / f".{_NAME}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({"schema": SCHEMA, **state}, file, separators=(",", ":"))
        os.replace(temporary, folder / _NAME)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def begin(folder: Path, time: float) -> None:
    """A node starts at `time` (wall clock, seconds): what is there is its former run's, and no goodbye of this one's.

    So a node that is killed before its first record is told from one that was stopped. Raises OSError.
    """
    state = read(folder) or {}
    state.pop("stopped", None)
    write(folder, {**state, "begun": time})


def read(folder: Path) -> dict[str, Any] | None:
    """What was written last; None when there is nothing, or nothing that this version understands."""
    try:
        with open(folder / _NAME, "rb") as file:
            state = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    return state if isinstance(state, dict) and state.get("schema") == SCHEMA else None
