"""Two nodes, streams through them at full rate, and a fault of one process after the other.

Owns the network of `make bench-resilience` and `make demo-resilience`, and how one fault is done and its end awaited. Judges
nothing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from lab.faults import Fault, inject
from lab.namespaces import Lab, LabError
from lab.nodes import Node, introduce, make_node
from lab.streams import Streams, rest
from lab.waiting import wait_for
from lab.wire import Wire

OUTER: Final = ("10.0.0.1", "10.0.0.2")
INNER: Final = ("10.7.0.1", "10.7.0.2")
TARGETS: Final = ("lane", "control", "observer", "spare")
_COMPONENT: Final = {"lane": "lane-0"}
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    # here every end is meant: neither the backoff of early deaths nor the rare tries of a loop may be what is measured
    "restart": {"burst": 100, "lived": "0.5s"},
    "timers": {"keepalive": "1s", "dead": "5s", "m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": "1s"},
}
_WINDOW: Final = 1.5
_HANG_WINDOW: Final = {"lane": 3.5, "control": 4.5, "observer": 13.0, "spare": 1.5}
_SURVIVED: Final = 3.0
"""Seconds after which a process that still lives has survived its fault."""


@dataclass
class Stage:
    """The nodes and what watches them."""

    lab: Lab
    nodes: tuple[Node, Node]
    wires: list[Wire] = field(default_factory=list)

    @property
    def alpha(self) -> Node:
        """The sender."""
        return self.nodes[0]

    @property
    def beta(self) -> Node:
        """The receiver."""
        return self.nodes[1]


@dataclass(frozen=True)
class Outcome:
    """What one fault did. Seconds; `replaced` 0.0: the process survived, or nothing watches over it."""

    node: str
    how: str
    quiet: float
    pause: float
    replaced: float


@contextmanager
def stage(lab: Lab, watch: tuple[bytes, ...]) -> Iterator[Stage]:
    """Two nodes that have shaken hands, and captures at both ends of the outer link since before the first packet."""
    a, b = lab.namespace("alpha"), lab.namespace("beta")
    lab.link(a, b, [f"{OUTER[0]}/24"], [f"{OUTER[1]}/24"])
    a.add_route("default", via=OUTER[1])  # what is not in the tunnel would leave
    b.add_route("default", via=OUTER[0])
    alpha = make_node(lab, a, "alpha", [f"{INNER[0]}/24"], settings=SETTINGS)
    beta = make_node(lab, b, "beta", [f"{INNER[1]}/24"], settings=SETTINGS)
    introduce(alpha, beta, *OUTER)
    with (
        Wire(a, "veth0", watch, only_foreign=False) as full,
        Wire(a, "veth0", watch, only_foreign=True) as near,
        Wire(b, "veth0", watch, only_foreign=True) as far,
    ):
        made = Stage(lab, (alpha, beta), [full, near, far])
        for node in made.nodes:
            node.start()
        for node in made.nodes:
            node.wait_running(60.0)
        alpha.wait_for_peer("beta")
        beta.wait_for_peer("alpha")
        for node in made.nodes:
            wait_for(f"a spare of {node.name}", lambda: _spare_waits(node), 60.0)  # noqa: B023 - called at once
        yield made


def disturb(streams: Streams, node: Node, target: str, kind: str) -> Outcome:
    """One undisturbed window, then one with the fault. Raises WaitTimeoutError when what died is not replaced."""
    component = _COMPONENT.get(target, target)
    window = _HANG_WINDOW[target] if kind == "stop" else _WINDOW
    began = streams.wait_flowing()
    ended = rest(window)
    (pid,) = node.pids(component)
    at = time.monotonic()
    fault = inject(kind, pid)
    replaced = _await(node, component, pid, at, window, fault)
    over = rest(max(0.0, at + window - time.monotonic()))
    streams.wait_flowing()  # a pause is told when it is over
    quiet, pause = streams.longest_within(began, ended), streams.longest(at, over)
    wait_for(f"{node.name} to be whole", lambda: _spare_waits(node) and node.pids(component), 60.0)
    return Outcome(node.name, fault.how, quiet, pause, replaced)


def _await(node: Node, component: str, pid: int, at: float, window: float, fault: Fault) -> float:
    """Seconds until another process has its place; 0.0: it survived. What survives goes on afterwards."""
    deadline = at + max(window, _SURVIVED)
    if component == "spare" and fault.kind == "stop":
        rest(window)  # nobody needs a sign of life of it: it does nothing as long as nobody died
        fault.undo()
        return 0.0
    try:
        while _alive(pid):
            if time.monotonic() > deadline:
                return 0.0
            time.sleep(0.01)
    finally:
        fault.undo()

    def another() -> bool:
        try:
            return any(one != pid for one in node.pids(component))
        except OSError:  # control is being replaced
            return False

    wait_for(f"{node.name}'s {component} to be replaced", another, 40.0)
    return time.monotonic() - at


def _spare_waits(node: Node) -> bool:
    """Whether the spare has imported everything: deaths that come faster than that are another matter."""
    for pid in node.pids("spare"):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
                return comm.read().strip() == "pqvpn-waiting"
        except OSError:
            return False
    return False


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def kill_supervisor(streams: Streams, node: Node, kind: str) -> Outcome:
    """The supervisor itself, whom only the service manager can replace: here we do what `Restart=` does."""
    began = streams.wait_flowing()
    ended = rest(_WINDOW)
    (pid,) = node.pids("supervisor")
    children = set(node.pids()) - {pid}
    at = time.monotonic()
    fault = inject(kind, pid)
    if kind == "stop":
        rest(2.0)  # it is nobody's child that we could ask systemd's watchdog for: lanes go on without it
        fault.undo()
        replaced = 0.0
    else:
        if node.process is None:
            raise LabError("the node was not started here")
        deadline = time.monotonic() + _SURVIVED
        while node.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        fault.undo()
        if node.process.poll() is None:  # it has survived the want of memory
            replaced = 0.0
        else:
            wait_for("the children to follow", lambda: not any(map(_alive, children)), 5.0)
            node.process = None
            node.up(60.0)
            node.wait_for_peer("beta" if node.name == "alpha" else "alpha", timeout=60.0)
            replaced = time.monotonic() - at
    over = streams.wait_flowing()
    wait_for(f"a spare of {node.name}", lambda: _spare_waits(node), 60.0)
    return Outcome(node.name, fault.how, streams.longest_within(began, ended), streams.longest(at, over), replaced)
