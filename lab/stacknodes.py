"""Two nodes in a lab whose telemetry goes to a stack on this machine.

Owns their settings and the doors through which they reach the collector. With short timers what takes minutes in operation
takes seconds. Knows the stack by its ports only.
"""

import ipaddress
import os
import shutil
import signal
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from lab.namespaces import Lab
from lab.nodes import Node, introduce, make_node
from lab.stackdoor import Door
from lab.stackservers import Stack
from lab.waiting import wait_for

OUTER: Final = ("10.0.0.1", "10.0.0.2")
INNER: Final = ("10.7.0.1", "10.7.0.2")
OTLP_INSIDE: Final = 4318
_PATIENCE: Final = 90.0
"""Seconds that a start or a session may take on a machine that has other things to do."""
SHORT: Final[Mapping[str, Mapping[str, Any]]] = {
    "telemetry": {"flush_interval": "0.2s", "metrics_interval": "1s"},
    "health": {"interval": "0.5s"},
    "timers": {
        "m1_schedule": ["0s", "0.3s", "0.6s"],
        "m1_fresh_after": "1s",
        "m1_fresh_jitter": "0.1s",
        "attempt_gives_up": "4s",
        "keepalive": "1s",
        "dead": "3s",
    },
}  # fmt: skip


class Site:
    """`alpha` calls `beta`; both send to the stack's collector. A context manager around lab and doors."""

    def __init__(
        self,
        stack: Stack,
        settings: Mapping[str, Mapping[str, Any]] = SHORT,
        outer: tuple[str, str] = OUTER,
        inner: tuple[str, str] = INNER,
        dsn: str = "",
    ) -> None:
        self.stack = stack
        self.outer = outer
        self._inner = inner
        self._dsn = dsn
        self._settings = settings
        self.lab = Lab()

    def __enter__(self) -> Self:
        self.lab.__enter__()
        try:
            self._build()
        except BaseException as error:
            self.lab.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for door in self.doors:
            door.close()
        self.lab.__exit__(kind, error, trace)

    def _build(self) -> None:
        ends = self.lab.namespace("alpha"), self.lab.namespace("beta")
        self.link = self.lab.link(*ends, [f"{self.outer[0]}/24"], [f"{self.outer[1]}/24"])
        self.doors = [Door(end, OTLP_INSIDE, self.stack.ports["otlp_http"]) for end in ends]
        self.alpha, self.beta = (
            make_node(self.lab, end, name, [f"{self._inner[i]}/24"], settings=self._settings)
            for i, (end, name) in enumerate(zip(ends, ("alpha", "beta"), strict=True))
        )
        introduce(self.alpha, self.beta, None, self.outer[1])
        for node, peer in ((self.alpha, "beta"), (self.beta, "alpha")):
            # one trace across both: each follows the other's trace identifiers
            node.set({"telemetry": self.endpoint(node), f"peer.{peer}": {"trace": True}})
            if self._dsn:
                self._report_crashes(node, _port(self._dsn))

    def _report_crashes(self, node: Node, port: int) -> None:
        """Crash reports go to the crash server, by a door of the same port."""
        self.doors.append(Door(node.namespace, port, port))
        (node.folder / "crashes.dsn").touch(0o600)
        (node.folder / "crashes.dsn").write_text(f"{self._dsn}\n")
        node.set({"crash_reports": {"dsn_file": "crashes.dsn"}})

    def endpoint(self, node: Node, headers: str = "otlp.headers") -> dict[str, Any]:
        """The settings with which a node reaches the collector."""
        if not self.stack.options.secure:
            return {"endpoint": f"http://127.0.0.1:{OTLP_INSIDE}"}
        for name in ("ca.pem", headers):
            shutil.copy(self.stack.folder / "secrets" / name, node.folder / name)
            (node.folder / name).chmod(0o600)
        return {"endpoint": f"https://127.0.0.1:{OTLP_INSIDE}", "ca_file": "ca.pem", "headers_file": headers}

    def start(self) -> None:
        """Start both and wait until they reach each other."""
        for node in (self.alpha, self.beta):
            node.start()
        for node in (self.alpha, self.beta):
            node.wait_running(_PATIENCE)
        self.connect()

    def connect(self) -> dict[str, Any]:
        """Wait until both say that the other is up; alpha's status of beta."""
        found = self.alpha.wait_for_peer("beta", timeout=_PATIENCE)
        self.beta.wait_for_peer("alpha", timeout=_PATIENCE)
        return found

    def poke(self) -> None:
        """Have alpha send something to beta."""
        self.alpha.poke(ipaddress.ip_address(self.beta.address))

    def reconnect(self) -> dict[str, Any]:
        """A new session, by an operator's command; alpha's status of beta when it is in use."""
        before = self.alpha.peer("beta")["session_id"]
        self.alpha.ask("reconnect", peer="beta")
        seen: dict[str, Any] = {}

        def renewed() -> bool:
            seen.update(self.alpha.peer("beta"))
            return seen["state"] == "up" and seen["session_id"] not in (None, before)

        wait_for("another session", renewed, _PATIENCE)
        return seen

    def kill(self, node: Node) -> None:
        """SIGKILL to every process of a node at once."""
        for pid in node.pids():
            os.kill(pid, signal.SIGKILL)
        if node.process:
            node.process.wait(10)
            node.process = None


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None, url
    return port
