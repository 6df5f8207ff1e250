"""Two nodes all of whose secrets are canaries and whose crashes go to a real crash server; alpha can be made to fail.

Owns the set-up, the list of canaries, and every byte that a backend then holds or answers.
"""

import base64
import secrets
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from receivers import Hook, LogStore, written

from lab import wait_for
from lab.nodes import Node
from lab.stacknodes import SHORT, Site
from lab.stackservers import Stack
from tests.crashserver.bugsink import Bugsink

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "canary"))
from canaries import Canary, contents, search

OUTER = ("198.18.77.203", "198.18.77.117")
INNER = ("10.213.97.41", "10.213.97.152")
HOST = "vault-q7zk.example.net"
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    **SHORT,
    "redact": {"addresses": "mask"},
    "log": {"level": "debug"},
    "restart": {"first_wait": "10ms", "longest_wait": "100ms", "burst": 100, "lived": "100ms", "hang_after": "2s"},
}


@dataclass
class Guarded:
    """The nodes, what they send to, and the secrets. `crash_text`: what exceptions that are injected say."""

    stack: Stack
    site: Site
    hook: Hook
    logs: LogStore
    crashes: Bugsink
    canaries: list[Canary] = field(default_factory=list)
    crash_text: str = field(default_factory=lambda: f"canary{secrets.token_hex(12)}")
    seen: set[str] = field(default_factory=set)

    def prepare(self) -> None:
        """Give both nodes their secrets; alpha becomes one that can be made to fail."""
        network, psk = secrets.token_bytes(32), secrets.token_bytes(32)
        self.canaries = [
            Canary("network key", network),
            Canary("psk", psk),
            Canary.of_text("exception", self.crash_text),
        ]
        self.canaries.append(Canary.of_text("host name", HOST))
        for node, peer in ((self.site.alpha, "beta"), (self.site.beta, "alpha")):
            self._secrets(node, peer, network, psk)
        addresses = (*self.site.outer, *(node.address for node in (self.site.alpha, self.site.beta)))
        self.canaries += [Canary.of_address(f"address {address}", address) for address in addresses]
        triggers = self.site.alpha.folder / "triggers"
        triggers.mkdir()
        self.site.alpha.runs_by = (sys.executable, "-m", "tests.crashserver.injecting", str(triggers))

    def _secrets(self, node: Node, peer: str, network: bytes, psk: bytes) -> None:
        health, header = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        write(node, "network.key", key(network))
        write(node, "the.psk", key(psk))
        write(node, "health.token", health)
        write(node, "headers", f"authorization: Bearer {header}\n")
        node.set({
            "node": {"network_key_file": "network.key"},
            "health": {"listen": "127.0.0.1:9464", "token_file": "health.token"},
            "telemetry": {"headers_file": "headers"},
            f"peer.{peer}": {"psk_file": "the.psk"},
        })  # fmt: skip
        raw = base64.b64decode("".join((node.folder / "identity.key").read_text().splitlines()[1:-1]))
        self.canaries += [Canary(f"seed of {node.name}", raw[:32]), Canary(f"master of {node.name}", raw[32:])]
        self.canaries += [Canary.of_text(f"health token of {node.name}", health)]
        self.canaries += [Canary.of_text(f"collector's token of {node.name}", header)]

    def inject(self, fault: str) -> None:
        """Have a fault strike, and wait until it did."""
        path = self.arm(fault)
        wait_for(f"the fault {fault}", lambda: not path.exists(), 90.0, 0.05)

    def arm(self, fault: str) -> Path:
        """Have a fault strike when it comes to that; the file then is gone."""
        path = self.site.alpha.folder / "triggers" / fault
        path.with_suffix(".new").write_text(self.crash_text)
        path.with_suffix(".new").rename(path)
        return path

    def new_events(self, count: int) -> list[dict[str, Any]]:
        """The one event of each of so many issues that are new."""

        def new() -> list[dict[str, Any]] | None:
            found = [each for each in self.crashes.issues() if each["id"] not in self.seen]
            return found if len(found) >= count else None

        found = wait_for("an issue", new, 120.0, 0.3)
        self.seen |= {each["id"] for each in found}
        assert len(found) == count, found
        events = [self.crashes.events(issue) for issue in found]
        assert all(len(each) == 1 for each in events), events
        return [dict(event["data"]) for (event,) in events]

    def sinks(self) -> dict[str, bytes]:
        """Every byte that a backend holds or answers."""
        stack = self.stack
        pages = {
            "traces": stack.url("jaeger_http", "/api/traces?service=pqvpn&limit=2000&lookback=1h"),
            "operations": stack.url("jaeger_http", "/api/v3/operations?service=pqvpn"),
            "series": stack.url("prometheus", '/api/v1/series?match[]={__name__=~".%2B"}'),
            "rules": stack.url("prometheus", "/api/v1/rules"),
            "alerts": stack.url("alertmanager", "/api/v2/alerts"),
            "metrics of nodes": stack.url("nodes", "/metrics"),
            "metrics of events": stack.url("events", "/metrics"),
            "own metrics": stack.url("own", "/metrics"),
        }
        found = {f"message {number}": body for number, body in enumerate(self.hook.bodies)}
        found |= {f"log records {number}": body for number, body in enumerate(self.logs.bodies)}
        for name, url in pages.items():
            with urllib.request.urlopen(url, timeout=60) as answer:
                found[name] = answer.read()
        folders = [stack.queues, *(stack.folder / name for name in ("spans", "metrics", "alerts"))]
        return found | dict(_files(folders)) | contents(self.crashes.folder, prefix="crash server: ")

    def queued(self) -> dict[str, bytes]:
        """What waits in the collector's queue."""
        return dict(_files([self.stack.queues]))

    def leaks(self, found: Mapping[str, bytes]) -> str:
        """Canaries in these sinks, in words."""
        return "\n".join(map(str, search(self.canaries, found)))


def _files(folders: list[Path]) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                yield str(path), written(path)


def write(node: Node, name: str, text: str) -> None:
    (node.folder / name).touch(0o600)
    (node.folder / name).write_text(text)


def key(raw: bytes) -> str:
    return base64.b64encode(raw).decode() + "\n"
