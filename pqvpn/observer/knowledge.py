"""The last known state of the node, as it is told and as it outlives the node.

Owns what is kept of readings and the shape of `last.json` and of `/health`. Everything that leaves here is redacted.
Memory is bounded by the configuration: one entry a configured peer.
"""

from collections.abc import Sequence
from typing import Any, Final

from pqvpn.facts import Fact, InterfaceObserved, NodeObserved, NodeStopped, PeerObserved
from pqvpn.observer.start import Node
from pqvpn.resilience.health import Finding, State, overall
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.logfiles.lines import Scrubs, rfc3339

SCHEMA: Final = 1
"""Version of `/health`."""
_PEER_GONE: Final = 15.0
_MOST_PEERS: Final = 512


class Knowledge:
    """What is known of one node. `changed`: since `last` was called."""

    def __init__(self, node: Node, redactor: Scrubs) -> None:
        self._node = node
        self._redactor = redactor
        self._status: dict[str, Any] = {}
        self._peers: dict[str, tuple[float, dict[str, Any]]] = {}
        self._interface: dict[str, Any] = {}
        self.stopped = ""
        self.changed = False

    def take(self, envelope: Envelope, fact: Fact, now: float) -> None:
        """Keep what a fact says of the node's state."""
        match fact:
            case NodeObserved(status):
                self._status = status
                self._peers = {name: kept for name, kept in self._peers.items() if now - kept[0] < _PEER_GONE}
            case PeerObserved(peer, status):
                if peer in self._peers or len(self._peers) < _MOST_PEERS:
                    self._peers[peer] = (now, status)
            case InterfaceObserved():
                self._interface = dict(envelope.fields)
            case NodeStopped(cause):
                self.stopped = cause
            case _:
                return
        self.changed = True

    def last(self, findings: Sequence[Finding], now: float, time_ns: int) -> dict[str, Any]:
        """The content of `last.json`: the objects of `status`, the interface, health; `stopped`: it ended on purpose."""
        self.changed = False
        status = {**self._status, "peers": [kept[1] for _, kept in sorted(self._peers.items())]}
        return self._redactor.fields({
            "written": rfc3339(time_ns),
            "now": round(now, 3),
            "status": status,
            "interface": self._interface,
            "health": self._health(findings, now, time_ns),
            "stopped": self.stopped,
        })  # fmt: skip

    def health(self, findings: Sequence[Finding], now: float, time_ns: int) -> dict[str, Any]:
        """The answer of `/health`."""
        node = {"name": self._node.name, "id": self._node.id, "version": self._node.version, "state": self.state(now)}
        report = {"schema": SCHEMA, "time": rfc3339(time_ns), "node": node, **self._health(findings, now, time_ns)}
        return self._redactor.fields(report)

    def state(self, now: float) -> str:
        """The node's state in a word: starting, running, stopped."""
        if self.stopped:
            return "stopped"
        node = self._status.get("node")
        return str(node.get("state", "starting")) if isinstance(node, dict) else "starting"

    def _health(self, findings: Sequence[Finding], now: float, time_ns: int) -> dict[str, Any]:
        items = [_item(finding, now, time_ns) for finding in findings]
        return {"state": str(overall(findings)), "items": items}


def _item(finding: Finding, now: float, time_ns: int) -> dict[str, Any]:
    lasts = max(0.0, now - finding.since)
    reason = finding.reason if finding.state is not State.OK else None
    return {
        "item": finding.item.code,
        "key": finding.key,
        "component": finding.item.component,
        "state": str(finding.state),
        "text": finding.item.text,
        "since": rfc3339(time_ns - round(lasts * 1e9)),
        "since_seconds": round(lasts, 1),
        "code": reason.code if reason else "",
        "cause": reason.text if reason else "",
        "evidence": finding.evidence,
        "remedy": reason.remedy if reason else "",
        "depends_on": list(finding.item.depends_on),
        "suppressed_by": finding.suppressed_by,
    }
