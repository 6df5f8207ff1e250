"""The node as a service: what the service manager is told, and what it keeps for the next supervisor.

Owns when each message is due. Where no manager listens, nothing happens. The sign of life means more than a loop that
turns: a node whose control or lanes stay away is not alive.
"""

import os
from collections.abc import Callable, Iterable

from pqvpn.config.schema import NodeConfig
from pqvpn.host import systemd
from pqvpn.node import descriptors, takeover
from pqvpn.node.descriptors import Descriptors

_PATIENCE = 1.0
"""Seconds in which the manager closes what it kept: the interface ends with the last descriptor."""


class Service:
    """One node's service manager. `due`: when `look` wants to be called, None: never."""

    def __init__(self, config: NodeConfig, lanes: int, variables: dict[str, str] | None = None) -> None:
        self._config = config
        self._lanes = lanes
        self.manager = systemd.Manager(os.environ if variables is None else dict(variables))
        self.due: float | None = None
        self.took_over = False
        self._ready = ""

    def open(self) -> Descriptors:
        """What a former supervisor left, when it fits; else everything anew. Raises TunError or NetworkError."""
        given = systemd.passed(os.environ)
        held = takeover.take(self._config, given) if given else None
        self.took_over = held is not None
        if held is None:
            if given:
                self._forget(given)
            held = descriptors.open_all(self._config, self._lanes)
            self.keep(held)
        return held

    def started(self, status: str, now: float) -> None:
        """The interface is up and control answers."""
        self._ready = status
        self.manager.tell("READY=1", f"STATUS={status}")
        self.due = now if self.manager.watchdog else None

    def look(self, now: float, alive: Callable[[], bool]) -> None:
        """Give the sign of life when it is due and true."""
        if self.due is None or now < self.due or not self.manager.watchdog:
            return
        self.due = now + self.manager.watchdog / 4
        if alive():
            self.manager.tell("WATCHDOG=1")

    def reloading(self) -> None:
        """A reload begins."""
        self.manager.reloading()

    def reloaded(self) -> None:
        """It ended."""
        self.manager.tell("READY=1", f"STATUS={self._ready}")

    def ending(self) -> None:
        """An orderly end: nothing is to be kept, since the interface shall go."""
        self.manager.tell("STOPPING=1", "STATUS=ending")
        self.due = None
        self._forget(takeover.names(self._lanes))

    def keep(self, held: Descriptors) -> None:
        """Have the manager keep these, and no others any more."""
        if not self.manager.listens:
            return
        self._forget(takeover.names(self._lanes))
        found = takeover.named(self._config, held)
        for name, descriptor in found.items():
            self.manager.keep(name, descriptor)
        os.close(found[takeover.DESCRIPTION])

    def _forget(self, names: Iterable[str]) -> None:
        if not self.manager.listens:
            return
        for name in names:
            self.manager.forget(name)
        self.manager.wait(_PATIENCE)
