"""How many processes the kernel killed for want of memory.

Owns reading the count. It is the machine's, cgroups included: whoever compares two readings knows that somebody was killed
in between, not who.
"""

from pathlib import Path
from typing import Final

_KILLS: Final = Path("/proc/vmstat")


class Kills:
    """Whether somebody was killed lately: since the look before the last one, since a kill is counted before its end is seen."""

    def __init__(self) -> None:
        self._before = self._last = out_of_memory()

    def look(self) -> None:
        """Call it every few seconds: an older kill explains nothing."""
        self._before, self._last = self._last, out_of_memory()

    def lately(self) -> bool:
        """The answer; a kill explains one end."""
        now = out_of_memory()
        found = now > self._before
        self._before = self._last = now
        return found


def out_of_memory() -> int:
    """Kills since the kernel started; 0 where it does not tell."""
    try:
        text = _KILLS.read_text(encoding="ascii")
    except (OSError, ValueError):
        return 0
    found = [line.partition(" ")[2] for line in text.splitlines() if line.startswith("oom_kill ")]
    return int(found[0]) if found and found[0].isdigit() else 0
