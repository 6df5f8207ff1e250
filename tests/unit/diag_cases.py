"""Hand-made knowledge for the tests of `pqvpn.diag`: a node with peers, and what was recorded of them."""

import dataclasses
from typing import Any

from pqvpn.diag.knowledge import Knowledge
from pqvpn.diag.records import Event
from pqvpn.reasons import Reason

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
SESSION = "0c61" + "ab" * 14


def peer(name: str = "beta", state: str = "up", reason: Reason | None = None, **more: Any) -> dict[str, Any]:
    told = None if reason is None else {"code": reason.code, "text": reason.text, "remedy": reason.remedy}
    known = {
        "name": name, "id": "pqvpn1" + "q" * 58, "state": state, "reason": told, "last_received_seconds": 1.0, "path": "direct",
        "endpoint": "192.0.2.2:51820", "rtt_ms": 12.5, "loss": 0.0, "rx_bytes": 1, "tx_bytes": 1, "path_mtu": 1432,
        "handshake_age_seconds": 60.0, "session_id": SESSION, "security": "full", "allowed_ips": ["10.7.0.2/32"],
    }  # fmt: skip
    if state != "up":
        known |= {"session_id": None, "last_received_seconds": 2220.0, "handshake_age_seconds": None, "security": None}
    return known | more


def event(ago: float, name: str, peer: str = "beta", severity: str = "info", **fields: Any) -> Event:
    told = {**fields, "peer": peer} if peer else fields
    return Event(
        NOW - ago,
        name,
        told,
        severity,
        "handshake",
        peer,
        str(fields.get("session_id", "")),
        str(fields.get("attempt", "")),
    )


def knowledge(*events: Event, peers: tuple[dict[str, Any], ...] = (), **more: Any) -> Knowledge:
    node = {
        "name": "alpha",
        "uptime_seconds": 7200.0,
        "interface": "pqvpn0",
        "mtu": 1432,
        "self_tests": {"passed": True, "failed": []},
    }
    status = {
        "version": "0.1.0",
        "node": node,
        "processes": [{"component": "control"}],
        "peers": list(peers),
        "drops": {},
    }
    found = Knowledge(
        now=NOW, at=NOW, source="live", running=True, answers=True, status=status,
        interface={"interface": "pqvpn0", "exists": True, "up": True}, clock_synchronised=True,
        events=tuple(sorted(events, key=lambda each: each.time)),
    )  # fmt: skip
    return dataclasses.replace(found, **more)


def item(code: str, reason: Reason, state: str = "failing", **more: Any) -> dict[str, Any]:
    """A health item as the observer tells it."""
    told = {
        "item": code, "key": "", "component": code.partition(".")[0], "state": state, "text": "", "code": reason.code,
        "since": "2027-01-15T07:50:00.000000Z", "since_seconds": 600.0, "cause": reason.text, "evidence": "it says so",
        "remedy": reason.remedy, "depends_on": [], "suppressed_by": "",
    }  # fmt: skip
    return told | more


def lost(*extra: Event) -> tuple[Event, ...]:
    """A peer that was up until 37 minutes ago and is tried ever since, with what else was seen."""
    return (
        event(9000, "handshake.completed", session_id=SESSION, role="initiator", suite="s", endpoint="192.0.2.2:51820"),
        event(2210, "peer.state", state="stale", before="up", seconds=6800.0, reason="network.stale"),
        event(2200, "handshake.started", endpoint="192.0.2.2:51820", attempt="aa" * 16, trigger="silence"),
        event(2110, "handshake.failed", "beta", "warning", reason="network.no_reply", attempt="aa" * 16, seconds=90.0),
        event(40, "handshake.started", endpoint="192.0.2.2:51820", attempt="bb" * 16, trigger="traffic"),
        *extra,
    )
