"""Faults of processes, as they come in life: killed, crashed, hanging, out of memory.

Each is done to one process of a node by its pid. `undo` takes back what would outlast the process's end or hold up the next
one. Knows processes and cgroups only.
"""

import contextlib
import os
import pathlib
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Final

CGROUPS: Final = pathlib.Path("/sys/fs/cgroup")
KINDS: Final = ("kill", "segv", "stop", "memory")
_TIGHT = 16 << 20
_EATER = """
import sys
with open(sys.argv[1] + "/cgroup.procs", "w") as out:
    out.write("0")
bytearray(64 << 20)
"""
"""Eats what the group has; the other one in the group is marked as the one to be killed."""


@dataclass
class Fault:
    """One fault, done. `how` says in words what was done."""

    kind: str
    pid: int
    how: str = ""
    _group: pathlib.Path | None = None
    _home: pathlib.Path | None = None
    _eater: "subprocess.Popen[bytes] | None" = None
    _limit: tuple[int, int] | None = None

    def undo(self) -> None:
        """Let a process that survived go on, with its memory, and remove the cgroup."""
        if self.kind == "stop":
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)
        if self._limit is not None:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(self.pid, resource.RLIMIT_AS, self._limit)
        if self._group is None:
            return
        if self._eater is not None:
            self._eater.kill()
            self._eater.wait()
        if self._home is not None:
            with contextlib.suppress(OSError):  # it is dead: as it should be
                (self._home / "cgroup.procs").write_text(str(self.pid))
        with contextlib.suppress(OSError):  # busy while the dead are buried; the next one has another name
            self._group.rmdir()


def inject(kind: str, pid: int) -> Fault:
    """Do it. Raises OSError when the system refuses."""
    match kind:
        case "kill":
            os.kill(pid, signal.SIGKILL)
            return Fault(kind, pid, "SIGKILL")
        case "segv":
            os.kill(pid, signal.SIGSEGV)
            return Fault(kind, pid, "SIGSEGV")
        case "stop":
            os.kill(pid, signal.SIGSTOP)
            return Fault(kind, pid, "SIGSTOP: it hangs")
        case _:
            return _starve(pid)


def memory_obstacle() -> str:
    """Why no process can be killed for want of memory here, which takes a cgroup; empty when one can be made."""
    for hierarchy, file in _hierarchies():
        group = hierarchy / f"pqvpn-lab-try-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                if (group / file).exists():
                    return ""
            finally:
                group.rmdir()
    return "no memory cgroup can be made here"


def _hierarchies() -> tuple[tuple[pathlib.Path, str], ...]:
    return (CGROUPS, "memory.max"), (CGROUPS / "memory", "memory.limit_in_bytes")


def _starve(pid: int) -> Fault:
    """No more memory: by a cgroup where one can be made, else by the limit of its address space."""
    for hierarchy, file in _hierarchies():
        group = hierarchy / f"pqvpn-lab-{pid}"
        try:
            group.mkdir()
            if not (group / file).exists():  # a folder of a plain file system, or the controller is not given on
                group.rmdir()
                continue
            (group / file).write_text(str(_TIGHT))
            (group / "cgroup.procs").write_text(str(pid))
            pathlib.Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
            return Fault("memory", pid, f"out of memory, by {file}", group, hierarchy, _eat(group))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (1 << 20, before[1]))
    return Fault("memory", pid, "RLIMIT_AS", _limit=before)


def _eat(group: pathlib.Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", _EATER, str(group)], stdin=subprocess.DEVNULL)
