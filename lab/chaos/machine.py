"""Faults of what the machine gives a node: descriptors, processor time, disk, and the time of day."""

import contextlib
import itertools
import os
import pathlib
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from lab import faults
from lab.chaos.faults import Blow
from lab.waiting import wait_for

_QUOTA: Final = (10_000, 1_000_000)
"""Microseconds of processor time in so many, for all processes of a node together."""
_STOPPED, _GOES = 0.95, 0.05
"""Seconds."""
_PART: Final = bytes(1 << 16)


def few_descriptors(blow: Blow) -> Iterator[str]:
    """No more than it has already."""
    (pid,) = blow.house.node.pids(blow.place)
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(each) for each in os.listdir(f"/proc/{pid}/fd")}
    lowest_free = next(number for number in itertools.count() if number not in used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield f"RLIMIT_NOFILE {lowest_free}: it has {len(used)}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def starved(blow: Blow) -> Iterator[str]:
    """Hardly any processor time for the whole node: by a cgroup where one can be made, else as cpulimit does it."""
    pids = blow.house.node.pids()
    group = _quota(pids)
    if group is not None:
        try:
            yield f"{_QUOTA[0] / _QUOTA[1]:.0%} of a core, by {group}"
        finally:
            _release(group)
        return
    over = threading.Event()
    limiter = threading.Thread(target=_limit, args=(pids, over), name="limiter")
    limiter.start()
    try:
        yield f"stopped for {_STOPPED:g} s and let go for {_GOES:g} s, in turn"
    finally:
        over.set()
        limiter.join()


def _quota(pids: Sequence[int]) -> pathlib.Path | None:
    quota, period = _QUOTA
    for home, files in (
        (faults.CGROUPS, {"cpu.max": f"{quota} {period}"}),
        (faults.CGROUPS / "cpu", {"cpu.cfs_period_us": str(period), "cpu.cfs_quota_us": str(quota)}),
    ):
        group = home / f"pqvpn-lab-{pids[0]}"
        try:
            group.mkdir()
            for file, value in files.items():
                if not (group / file).exists():
                    raise FileNotFoundError(file)
                (group / file).write_text(value)
            for pid in pids:
                (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            with contextlib.suppress(OSError):
                _release(group)
            continue
        return group
    return None


def _release(group: pathlib.Path) -> None:
    """Also those who were started meanwhile."""
    for pid in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):  # it ended
            (group.parent / "cgroup.procs").write_text(pid)
    wait_for("the group to be empty", lambda: _removed(group))


def _removed(group: pathlib.Path) -> bool:
    group.rmdir()  # OSError as long as somebody is in it
    return True


def _limit(pids: Sequence[int], over: threading.Event) -> None:
    """All of them stand still together: for whoever is among them the machine was busy, nobody else was."""
    while not over.wait(_GOES):
        _tell(pids, signal.SIGSTOP)
        over.wait(_STOPPED)
        _tell(pids, signal.SIGCONT)


def _tell(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def clock_jumps(seconds: float) -> Callable[[Blow], Iterator[str]]:
    """The wall clock, as all processes of the node see it. It jumps back later, which is one more jump."""

    def do(blow: Blow) -> Iterator[str]:
        blow.house.shift_clock(seconds)
        yield f"the wall clock by {seconds:+.0f} s"

    return do


def disk_full(blow: Blow) -> Iterator[str]:
    """To the last byte, as long as it lasts."""
    place = blow.house.state / "fill"
    with contextlib.suppress(OSError), open(place, "wb", buffering=0) as fill:
        while True:
            fill.write(_PART)
    try:
        yield "the state folder's tmpfs filled"
    finally:
        place.unlink()
