"""Waiting for something to become true, with a limit and a reason when it does not."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class WaitTimeoutError(AssertionError):
    """What was awaited did not come true in time; says what, and what was seen last."""


def wait_for(what: str, probe: Callable[[], T | None], timeout: float = 10.0, interval: float = 0.01) -> T:
    """Call `probe` until it returns something true, and return that.

    `timeout` and `interval` are seconds. OSError of the probe counts as "not yet" (a control socket that does not
    exist so far). Raises WaitTimeoutError with `what` and the last value or error.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            seen: object = (value := probe())
            if value:
                return value
        except OSError as error:
            seen = error
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"waited {timeout:g} s for {what}; last seen: {seen!r}")
        time.sleep(interval)


def ended(pids: Iterable[int]) -> bool:
    """Whether each process has gone, or is a zombie.

    Only then the kernel has closed its last file. A process that ends leaves its namespaces before that, so that it is
    no longer seen there while the interface of its TUN descriptor still stands.
    """
    return not any(_lives(pid) for pid in pids)


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(b") ")[2][:1] not in (b"Z", b"X")
