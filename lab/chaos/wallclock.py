"""`wallclock.py FILE up ...`: a node all of whose processes see a wall clock that can be made to jump; run by path.

FILE holds one double: the seconds by which the wall clock is ahead. `time.time` and `time.time_ns` are replaced before
anything of the node is imported, in the supervisor and in each of its children, which are started through this file. Clocks
that cannot jump (CLOCK_BOOTTIME, CLOCK_MONOTONIC) and the machine itself are left alone: only this node is deceived.
"""

import mmap
import runpy
import struct
import subprocess
import sys
import time
from typing import Any, Final

SHIFT: Final = struct.Struct("=d")
_CHILDREN: Final = ("pqvpn.control", "pqvpn.dataplane", "pqvpn.control.spare", "pqvpn.observer")


def deceive(file: str) -> None:
    """Shift this process's wall clock by what stands in the file, from now on and whenever it changes."""
    with open(file, "r+b") as opened:
        shift = mmap.mmap(opened.fileno(), SHIFT.size)
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + SHIFT.unpack_from(shift)[0]
    time.time_ns = lambda: real_ns() + int(SHIFT.unpack_from(shift)[0] * 1e9)


def deceive_children(file: str) -> None:
    """Start the node's children through this file."""
    start = subprocess.Popen

    def deceived(command: list[str], **options: Any) -> Any:
        if "-m" in command and command[command.index("-m") + 1] in _CHILDREN:
            place = command.index("-m")
            command = [*command[:place], __file__, file, *command[place + 1 :]]
        return start(command, **options)

    subprocess.Popen = deceived  # type: ignore[misc, assignment]


def main() -> None:
    """Either the command line of a node, or one of its children."""
    file, first, *rest = sys.argv[1:]
    deceive(file)
    if first in _CHILDREN:
        sys.argv[1:] = rest
        runpy.run_module(first, run_name="__main__", alter_sys=True)
        return
    deceive_children(file)
    from pqvpn.cli.main import run  # not before: what it imports shall find the other clock

    run([first, *rest])


if __name__ == "__main__":
    main()
