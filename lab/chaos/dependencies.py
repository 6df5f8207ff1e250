"""Faults of what a node depends on but the tunnel must not: names, collector, crash server."""

import itertools
import signal
from collections.abc import Callable, Iterator
from typing import Final

from lab.chaos.faults import Blow
from lab.chaos.scene import RECOVERY, House
from lab.chaos.servers import WebServer
from lab.waiting import wait_for

_CRASHES: Final = tuple(
    itertools.product(("lane-0", "control", "observer"), (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL))
)


def names_dead(blow: Blow) -> Iterator[str]:
    """The peer has to be called while its name cannot be looked up: an operator asks for a new session."""
    house, other = blow.house, blow.scene.other(blow.house.node.name).name
    house.names.stop()
    try:
        house.node.ask("reconnect", peer=other)
        yield f"no name server; then pqvpn peer reconnect {other}"
    finally:
        asked = house.names.asked
        house.names.start()
    wait_for("the name to be looked up again", lambda: house.names.asked > asked, RECOVERY)


def collector(state: str) -> Callable[[Blow], Iterator[str]]:
    """It is `dead`, `hanging` or answers `nonsense`; afterwards what waited is sent."""

    def do(blow: Blow) -> Iterator[str]:
        yield from _ill(blow.house.collector, state, "collector")

    return do


def crash_server(state: str) -> Callable[[Blow], Iterator[str]]:
    """The same of the crash server, with a crash that is to be reported."""

    def do(blow: Blow) -> Iterator[str]:
        for how in _ill(blow.house.crashes, state, "crash server"):
            yield f"{how}; {_crash(blow, blow.house)}"

    return do


def _crash(blow: Blow, house: House) -> str:
    component, number = _CRASHES[blow.scene.kills % len(_CRASHES)]
    blow.scene.kills += 1
    house.node.kill(component, number)
    return f"{number.name} to {component}"


def _ill(server: WebServer, state: str, name: str) -> Iterator[str]:
    server.become(state)
    try:
        yield f"{name} {state}"
    finally:
        taken = server.taken
        server.become("well")
    wait_for(f"the {name} to be given what waited", lambda: server.taken > taken, RECOVERY)
