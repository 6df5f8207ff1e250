"""Faults of processes: killed, crashed, hanging, out of memory."""

from collections.abc import Callable, Iterator
from typing import Final

from lab import faults
from lab.chaos.faults import Blow
from lab.waiting import ended, wait_for

_RESTARTED: Final = 60.0


def by(kind: str) -> Callable[[Blow], Iterator[str]]:
    """One of `lab.faults.KINDS`, done to the process of the place."""

    def do(blow: Blow) -> Iterator[str]:
        (pid,) = blow.house.node.pids(blow.place)
        done = faults.inject(kind, pid)
        try:
            yield done.how
        finally:
            done.undo()

    return do


def supervisor_killed(blow: Blow) -> Iterator[str]:
    """Everything ends with it; then what `Restart=` of a unit does."""
    node = blow.house.node
    children = set(node.pids())
    node.kill("supervisor")
    yield "SIGKILL; then pqvpn up"
    if node.process is not None:
        node.process.wait(_RESTARTED)
        node.process = None
    wait_for("the children to follow", lambda: ended(children), _RESTARTED)
    node.up(_RESTARTED)
