"""What `status` shows, as plain data (docs/architecture.md, section Control socket).

Owns the names of the fields. Knows no socket and changes nothing.
"""

from typing import Any

from pqvpn.control.supervision import ControlStart, Processes
from pqvpn.control.traffic import Traffic
from pqvpn.crypto import selftest
from pqvpn.crypto.aead import Aead
from pqvpn.dataplane.events import Offloads
from pqvpn.drops import DropReason
from pqvpn.identity import peer_id
from pqvpn.protocol.effects import Session
from pqvpn.protocol.settings import POLICY_AUTH_PLAINTEXT
from pqvpn.protocol.views import PeerState, PeerView
from pqvpn.reasons import Reason

_KEM = "X-Wing (ML-KEM-768 + X25519)"


def suite_name(aead: int) -> str:
    """The suite of a session in words."""
    return f"{_KEM}, {Aead(aead).suite}"


def node(
    start: ControlStart,
    processes: Processes,
    offloads: Offloads,
    failed_tests: tuple[str, ...],
    views: tuple[PeerView, ...],
    now: float,
) -> dict[str, Any]:
    """The `node` object. `failed_tests`: primitives that do not give their known answer, or did not at start."""
    return {
        "name": start.name,
        "id": peer_id.to_text(start.peer_id),
        "pid": start.supervisor_pid,
        # addresses and routes are the last part of a start; control answers before
        "state": "running" if "interface" in processes.parts else "starting",
        "uptime_seconds": round(now - start.started_at, 3),
        "interface": start.interface,
        "addresses": list(start.addresses),
        "listen": start.listen,
        "mtu": start.mtu,
        "lanes": start.lanes,
        "lanes_running": _lanes_running(start, processes),
        "offloads": {
            "tun_tso": offloads.tun_tso,
            "tun_uso": offloads.tun_uso,
            "udp_gso": offloads.udp_gso,
            "udp_gro": offloads.udp_gro,
            "steering": offloads.steering,
        },
        "security": _security(failed_tests, views),
        "self_tests": {"passed": not failed_tests, "failed": list(failed_tests)},
        "start_seconds": processes.parts,
    }


def _lanes_running(start: ControlStart, processes: Processes) -> int:
    """Lanes with a process of their own; before the supervisor has said which run, all."""
    running = sum(p.component.startswith("lane-") for p in processes.processes)
    return running if processes.processes else start.lanes


def _security(failed_tests: tuple[str, ...], views: tuple[PeerView, ...]) -> str:
    if not selftest.handshakes_possible(failed_tests):
        return "refused"
    degraded = any(v.session and v.session.policy == POLICY_AUTH_PLAINTEXT for v in views)
    return "degraded" if degraded else "full"


def process_list(processes: Processes, now: float) -> list[dict[str, Any]]:
    """The `processes` array."""
    return [
        {
            "component": p.component,
            "pid": p.pid,
            "restarts": p.restarts,
            "uptime_seconds": round(now - p.started_at, 3),
        }
        for p in processes.processes
    ]


def peer(
    view: PeerView,
    allowed_ips: tuple[str, ...],
    traffic: Traffic,
    slots: list[tuple[int, bytes]],
    now: float,
    since: float | None = None,
) -> dict[str, Any]:
    """One element of the `peers` array. `slots`: (slot, session ID) of its sessions; `since`: when its state began."""
    totals = traffic.totals(view.peer_id, slots)
    received, sent = traffic.rates(view.peer_id)
    return {
        "name": view.name,
        "id": peer_id.to_text(view.peer_id),
        "state": view.state.value,
        "reason": None if view.state is PeerState.UP else _reason(view.reason or Reason.NO_REPLY),
        "since_seconds": None if since is None else round(now - since, 3),
        "attempt": view.attempt or None,
        "trigger": view.trigger or None,
        "last_received_seconds": None if view.last_received is None else round(now - view.last_received, 3),
        "path": "direct" if view.session else None,
        "endpoint": str(view.endpoint) if view.endpoint else None,
        "rtt_ms": None if view.rtt is None else round(view.rtt * 1000, 3),
        "probe_answered_seconds": None if view.probe_answered is None else round(now - view.probe_answered, 3),
        "probes_unanswered": view.probes_unanswered,
        "loss": traffic.loss(view.peer_id),
        "rx_bytes": totals.rx_bytes,
        "tx_bytes": totals.tx_bytes,
        "rx_packets": totals.rx_packets,
        "tx_packets": totals.tx_packets,
        "rx_rate": round(received),
        "tx_rate": round(sent),
        "path_mtu": view.path_mtu,
        "allowed_ips": list(allowed_ips),
        **_session(view.session, now),
    }


def _reason(reason: Reason) -> dict[str, str]:
    return {"code": reason.code, "text": reason.text, "remedy": reason.remedy}


def _session(session: Session | None, now: float) -> dict[str, Any]:
    if session is None:
        empty = ("handshake_age_seconds", "session_id", "role", "suite", "lanes", "security")
        return dict.fromkeys(empty) | {"post_quantum": False}
    return {
        "handshake_age_seconds": round(now - session.derived_at, 3),
        "session_id": session.session_id.hex(),
        "role": session.role.name.lower(),
        "suite": suite_name(session.aead),
        "post_quantum": True,  # there is no session without X-Wing
        "lanes": session.lanes,
        "security": "auth-plaintext" if session.policy == POLICY_AUTH_PLAINTEXT else "full",
    }


def drops(*counts: list[int]) -> dict[str, int]:
    """The `drops` object: sums by name, those above zero."""
    sums = [sum(column) for column in zip(*counts, strict=False)]
    return {r.name.lower(): sums[r] for r in DropReason if r < len(sums) and sums[r]}
