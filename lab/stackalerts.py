"""The alerts about nodes: what each says, when it fires, what to do, how to make it fire.

Owns the table; rules, runbook pages and the table in the README are written from it (`stackgen`). Limits that operators
change are series of their own (`LIMITS`), so that a change needs no other expression. Knows no file.
"""

from dataclasses import dataclass
from typing import Final, Literal

from pqvpn.reasons import Reason

Severity = Literal["critical", "warning", "info", "none"]

DYNAMIC: Final = "{{ $labels.pqvpn_reason }}"
"""The reason that the node told."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. `hold`: how long it must last; `reasons`: codes it stands for; `told`: the node says which of them.

    `where`: labels that say whom it is about; `means`, `look`, `provoke`: paragraphs of its runbook page.
    """

    name: str
    severity: Severity
    reasons: tuple[Reason, ...]
    expr: str
    hold: str
    summary: str
    means: str
    look: str
    provoke: str
    told: bool = False
    extra: str = ""

    @property
    def reason(self) -> str:
        """The value of the label `reason`."""
        return DYNAMIC if self.told else (self.reasons[0].code if self.reasons else "")

    @property
    def remedy(self) -> str:
        """What to do, in one line: of the reason that was told, or of the first, and what the alert adds."""
        if self.told:
            return _chosen(self.reasons)
        known = self.reasons[0].remedy if self.reasons else ""
        return "; ".join(part for part in (known, self.extra) if part)


def _chosen(reasons: tuple[Reason, ...]) -> str:
    """A template that gives the remedy of the reason in the label."""
    cases = "{{ else ".join(f'if eq $labels.pqvpn_reason "{each.code}" }}}}{each.remedy}' for each in reasons)
    return f"{{{{ {cases}{{{{ else }}}}see docs/reasons.md#{DYNAMIC}{{{{ end }}}}"


LIMITS: Final[dict[str, tuple[float, str]]] = {
    "handshake_age_seconds": (150, "age of a session's keys that is too old; rekey_after is 120 s, reject_after 180 s"),
    "drops_per_second": (5, "packets discarded for one reason, a second"),
    "path_mtu_bytes": (1280, "a path that carries less breaks IPv6 inside"),
    "flaps": (4, "times that a peer came up within ten minutes"),
    "handshake_failures": (2, "failed attempts with one peer for one reason within ten minutes"),
    "restarts": (3, "ends of one process within five minutes"),
    "memory_growth_bytes_per_hour": (32 << 20, "growth of one process"),
    "descriptor_growth_per_hour": (60, "growth of one process"),
}
"""Name without its prefix, value, what it is. `pqvpn:limit:NAME` in rules."""

_NODE: Final = "job, instance"
_PEER: Final = f"{_NODE}, pqvpn_peer"


def limit(name: str) -> str:
    """The limit as a number in an expression."""
    assert name in LIMITS, name
    return f"scalar(pqvpn:limit:{name})"


def new(series: str, window: str) -> str:
    """How many more within `window`, the first ever included: a series is born at 1, which `increase` does not see."""
    return f"(({series} unless {series} offset {window}) or increase({series}[{window}]))"


def item(name: str, least: int, labels: str = _NODE) -> str:
    """A health item that is at least so bad: 1 warning, 2 failing."""
    return f'max by ({labels}, pqvpn_reason) (pqvpn_health_state{{pqvpn_health_item=~"{name}"}}) >= {least}'


_CAME_UP: Final = 'pqvpn_seen_peer_changes_total{pqvpn_state="up"}'
_OPENED: Final = 'pqvpn_seen_breaker_changes_total{pqvpn_state="open"}'
_OWN: Final = "peer|crypto[.].*|host[.].*|node[.]processes"
_STRANGERS: Final = "cookie_required|rate_limit|mac1|unknown_index|malformed|replay|no_session"
_CEASED: Final = (
    "(last_over_time(pqvpn_seen_stopped_at_seconds[7d]) unless on (job, instance) "
    "(last_over_time(pqvpn_seen_started_at_seconds[7d]) > on (job, instance) last_over_time(pqvpn_seen_stopped_at_seconds[7d])))"
)

NODE_ALERTS: Final = (
    Alert(
        "PeerDown", "critical",
        (Reason.NO_REPLY, Reason.PORT_CLOSED, Reason.UNREACHABLE, Reason.DNS_FAILED, Reason.PSK, Reason.NETWORK_KEY,
         Reason.UNKNOWN_PEER, Reason.VERSION, Reason.POLICY_REFUSED, Reason.FRAGMENTS_LOST, Reason.STALE,
         Reason.BREAKER_OPEN, Reason.ONE_WAY),
        item("peer", 1, _PEER), "1m", "peer {{ $labels.pqvpn_peer }} is down",
        "The node wants a session with this peer and has none: it is down, stale, or connecting all the time; or it is"
        " heard and gets none of ours. A peer that"
        " nobody needs (network.idle) and one that has not"
        " called yet (network.no_endpoint) do not count. Suppressed while a cause on the node itself is known.",
        "The reason code says where to look. In Jaeger: service `pqvpn`, tag `pqvpn.peer`, errors only; the span with the"
        " error is the step that failed. On the node: `pqvpn diag peer NAME`.",
        "Stop the other node (`pqvpn down`), or take its link down.", told=True,
    ),
    Alert(
        "PeerFlapping", "warning", (Reason.STALE,),
        f"sum by ({_PEER}) ({new(_CAME_UP, '10m')}) >= {limit('flaps')}",
        "0s", "peer {{ $labels.pqvpn_peer }} came up {{ $value | humanize }} times in ten minutes",
        "Sessions with this peer end and begin again and again: a lossy path, two nodes with one identity, a peer that"
        " restarts.",
        "The events `peer.state` in the logs say what each session died of; spans `pqvpn.connect` say why it began"
        " (`pqvpn.trigger`). Two machines with one identity: sessions end with `replaced` within seconds.",
        "Take the other node's link down for some seconds, four times within ten minutes.",
        extra="see what ends the sessions: session.ended tells",
    ),
    Alert(
        "HandshakeFailing", "warning",
        (Reason.NO_REPLY, Reason.PSK, Reason.NETWORK_KEY, Reason.UNKNOWN_PEER, Reason.BAD_AUTH, Reason.POLICY_REFUSED,
         Reason.VERSION, Reason.FRAGMENTS_LOST, Reason.NO_ROUTE_OUT),
        f"sum by ({_PEER}, pqvpn_reason) ({new('pqvpn_seen_handshake_failures_total', '10m')}) >= "
        f"{limit('handshake_failures')}",
        "0s", "handshakes with {{ $labels.pqvpn_peer }} fail: {{ $labels.pqvpn_reason }}",
        "Attempts to connect were given up. There may still be a session: then it cannot be renewed.",
        "The trace of a failed attempt shows every message sent, what was refused meanwhile (`pqvpn.dropped`,"
        " `pqvpn.refused`) and what the network said (`pqvpn.icmp`).",
        "Give the two sides different `psk_file`s and reload, or stop the other node and send something to it.", told=True,
    ),
    Alert(
        "PostQuantumNotInForce", "critical", (Reason.SELF_TEST_FAILED,),
        f'sum by ({_NODE}, pqvpn_suite) (pqvpn_sessions{{pqvpn_suite!~".*ML-KEM.*"}}) > 0 or '
        f"{item('crypto[.]self_test', 2)}",
        "0s", "{{ $labels.instance }} has a session without post-quantum keys, or its primitives fail their self-test",
        "There is no classical mode in this version: a session of another suite means that what runs is not what was"
        " released. A failed self-test means that the node refuses handshakes until it passes.",
        "`pqvpn status` shows the suite of every session and the self-tests that failed; `pqvpn diag` says which library"
        " gave the wrong answer.",
        "A session of another suite cannot be had: the protocol has none, so that only the rule's unit test shows it. Wrong"
        " answers of the library: `python -m tests.crashserver.injecting FOLDER up` in place of `pqvpn up`, then"
        " `touch FOLDER/crypto`.",
        extra="compare the installed package with the release",
    ),
    Alert(
        "DegradedSecurity", "critical", (Reason.SECURITY_DEGRADED, Reason.SELF_TEST_FAILED),
        item("crypto[.]security", 1), "0s", "{{ $labels.instance }} runs with less than full security",
        "A peer is armed for, or runs in, `auth-plaintext`: packets are authenticated and readable. Only both operators"
        " together can bring this about. Or handshakes are refused because a self-test failed.",
        "`pqvpn status` names the peer and its end date.",
        "`allow_degraded` and `degraded_until` for one peer on both sides, then arm both: `pqvpn peer degrade NAME`.", told=True,
    ),
    Alert(
        "BreakerOpen", "warning", (Reason.BREAKER_OPEN,),
        f"sum by ({_PEER}, pqvpn_breaker) "
        f"({new(_OPENED, '5m')}) > 0",
        "0s", "breaker {{ $labels.pqvpn_breaker }} {{ $labels.pqvpn_peer }} of {{ $labels.instance }} opened",
        "An operation failed too often and is not tried for a while. It is tried again by itself. The alert ends five"
        " minutes after the last opening.",
        "The record `breaker.changed` has cause, reason and what it guards (`pqvpn.guarded`); the attempt it"
        " happened in has an event `pqvpn.breaker`.",
        "Stop the collector: the breaker of the node's export opens; the alert comes when the collector is back. Or a peer"
        " that does not answer.",
    ),
    Alert(
        "RestartLoop", "critical", (Reason.CHILD_RESTARTING,),
        f"sum by ({_NODE}, pqvpn_process) ({new('pqvpn_process_restarts_total', '5m')}) >= {limit('restarts')}",
        "0s", "{{ $labels.pqvpn_process }} of {{ $labels.instance }} ended {{ $value | humanize }} times in five minutes",
        "A process of the node ends as often as it is started. The tunnel stands in the gaps only.",
        "Each end is a crash report and a trace `pqvpn.child.restart`; `pqvpn.status` has the signal or exit code.",
        "`kill -9` the same process (`pqvpn status` has pids) three times within five minutes.",
    ),
    Alert(
        "Crash", "warning", (Reason.CHILD_DIED, Reason.CHILD_HUNG, Reason.OUT_OF_MEMORY, Reason.INTERNAL),
        f"sum by ({_NODE}, pqvpn_process, pqvpn_kind, pqvpn_reason) ({new('pqvpn_seen_crashes_total', '15m')}) > 0",
        "0s", "{{ $labels.pqvpn_process }} of {{ $labels.instance }} crashed: {{ $labels.pqvpn_kind }}",
        "A process ended that should not have, or went on without a part that failed. It was replaced.",
        "The crash server has one issue for each kind of crash, with the trace id and the session ID as tags; look the"
        " trace id up in Jaeger.",
        "`kill -SEGV` one of the node's processes.", told=True,
    ),
    Alert(
        "HealthDegraded", "warning",
        (Reason.TUN_GONE, Reason.TUN_DOWN, Reason.ADDRESS_CONFLICT, Reason.TUN_STUCK, Reason.SEND_REFUSED,
         Reason.NOT_REPORTING, Reason.STATE_UNWRITABLE, Reason.FACTS_LOST, Reason.COLLECTOR_UNREACHABLE,
         Reason.COLLECTOR_REFUSED, Reason.COLLECTOR_TLS, Reason.STARVED, Reason.NO_PROGRESS, Reason.SOCKET_LOST),
        f'max by ({_NODE}, pqvpn_health_item, pqvpn_process, pqvpn_reason) '
        f'(pqvpn_health_state{{pqvpn_health_item!~"{_OWN}"}}) >= 1',
        "30s", "{{ $labels.pqvpn_health_item }} of {{ $labels.instance }} is not well: {{ $labels.pqvpn_reason }}",
        "A health item that has no alert of its own. Items that are only consequences of another are suppressed on the node.",
        "`pqvpn health` lists all items, causes first, each with evidence and a remedy.",
        "Give another interface an address of the tunnel: `ip addr add 10.7.0.1/32 dev lo`.", told=True,
    ),
    Alert(
        "NodeSilent", "critical", (Reason.KILLED, Reason.COLLECTOR_UNREACHABLE, Reason.COLLECTOR_REFUSED),
        "last_over_time(pqvpn_node_uptime_seconds[1d]) unless on (job, instance) "
        f"(changes(pqvpn_node_uptime_seconds[2m]) > 0) unless on (job, instance) {_CEASED}",
        "1m", "nothing comes from {{ $labels.instance }} any more",
        "The dead man's switch: a node whose metrics came within the last day, that did not say that it ends, and of which"
        " nothing comes now. It was killed, its machine is off, or it cannot reach the collector (then it keeps its records"
        " and sends them later).",
        "On the node: `pqvpn status`, `pqvpn health`: the item `telemetry.collector` says why records do not leave (a wrong"
        " token is telemetry.collector_refused). `pqvpn diag` works on a dead node, too.",
        "`kill -9` the supervisor and all of its processes at once.",
    ),
    Alert(
        "NoTelemetry", "critical", (Reason.COLLECTOR_UNREACHABLE,),
        "absent(changes(pqvpn_node_uptime_seconds[2m]) > 0)",
        "1m", "no node at all reports",
        "Not one node's metrics change: collector, network or Prometheus' scraping is broken, or no node runs. Nothing else"
        " about nodes can fire now.",
        "`CollectorDown` says whether it is the collector; else look at the targets in Prometheus.",
        "Stop all nodes, or the collector.",
    ),
    Alert(
        "PacketsDropped", "warning", (Reason.ALLOWED_IPS, Reason.SEND_REFUSED, Reason.KEYS_EXPIRED),
        f'sum by ({_NODE}, pqvpn_drop) (rate(pqvpn_drops_total{{pqvpn_drop!~"{_STRANGERS}"}}[5m])) > '
        f"{limit('drops_per_second')}",
        "2m", "{{ $labels.instance }} discards {{ $value | humanize }} packets/s: {{ $labels.pqvpn_drop }}",
        "Packets are discarded for one reason, steadily. What strangers on the Internet cause does not count here"
        f" ({', '.join(_STRANGERS.split('|'))}).",
        "The drop's name is explained in `pqvpn/drops.py`; `source_not_allowed`: allowed_ips of the two sides do not agree;"
        " `udp_send`: the kernel refuses datagrams; `too_big`: senders ignore ICMP.",
        "Send packets from an inner address that the other side's allowed_ips do not hold.",
        extra="the drop says which side to look at",
    ),
    Alert(
        "TelemetryLost", "warning", (Reason.RECORDS_DROPPED, Reason.FACTS_LOST, Reason.DISK_FULL),
        f"sum by ({_NODE}, pqvpn_loss) ({new('pqvpn_telemetry_lost_total', '15m')}) > 0",
        "0s", "{{ $labels.instance }} lost records: {{ $labels.pqvpn_loss }}",
        "Records of telemetry were lost on the node: between its processes (`link`), in the redactor, or in the spool because"
        " an outage of the collector lasted too long.",
        "The loss says where. `pqvpn health` has evidence.",
        "`spool_size = '1MiB'`, the collector stopped, and `pqvpn peer reconnect` again and again until the spool is full; the"
        " alert comes when the collector is back.",
    ),
    Alert(
        "PathMtuTrouble", "warning", (Reason.PATH_MTU, Reason.FRAGMENTS_LOST),
        f"max by ({_PEER}) (pqvpn_peer_path_mtu_bytes) < {limit('path_mtu_bytes')} or "
        f"sum by ({_PEER}) ({new('pqvpn_seen_fragments_lost_total', '10m')}) >= 3",
        "30s", "the path to {{ $labels.pqvpn_peer }} carries only small packets",
        "The path to the peer carries less than 1280 bytes inside, or loses parts of handshake messages.",
        "Traces `pqvpn.path_change` show when it changed. See MTU in operations.md.",
        "Filter large datagrams between the nodes: `nft ... udp length > 1252 drop`.",
    ),
    Alert(
        "RekeyOverdue", "warning", (Reason.KEYS_EXPIRED,),
        f"max by ({_PEER}) (pqvpn_peer_handshake_age_seconds) > {limit('handshake_age_seconds')}",
        "0s", "the keys with {{ $labels.pqvpn_peer }} are {{ $value | humanizeDuration }} old",
        "The session's keys should have been replaced by now. When they reach `reject_after` the tunnel stops.",
        "Traces `pqvpn.rekey` with errors say why no handshake completes although packets pass.",
        "Drop handshake datagrams between the nodes and let data pass: first byte 1 or 3 of the UDP payload.",
    ),
    Alert(
        "ClockJumped", "info", (Reason.CLOCK_JUMPED,),
        f"sum by ({_NODE}) ({new('pqvpn_clock_jumps_total', '10m')}) > 0",
        "0s", "the wall clock of {{ $labels.instance }} jumped",
        "No key and no handshake depends on the wall clock; the times of records do.",
        "The record `clock.jumped` says by how much.",
        "Set the clock: `date -s '+1 hour'`. Of one node only: `python -m tests.crashserver.injecting FOLDER up` in place of"
        " `pqvpn up`, then `touch FOLDER/clock`.",
    ),
    Alert(
        "DiskLow", "warning", (Reason.DISK_LOW, Reason.STATE_UNWRITABLE, Reason.DISK_FULL),
        item("host[.]disk", 1), "30s", "the disk of {{ $labels.instance }}'s state folder is nearly full, or refuses",
        "When it is full, records are held in memory and the oldest are lost. The tunnel goes on.",
        "`pqvpn health` has the free space; `du` below the state folder what takes it.",
        "Fill the file system of the state folder, or set `disk_free` under [health] above what is free.", told=True,
    ),
    Alert(
        "DescriptorsLow", "warning", (Reason.DESCRIPTORS,),
        item("host[.]descriptors", 1, f"{_NODE}, pqvpn_process"), "30s",
        "{{ $labels.pqvpn_process }} of {{ $labels.instance }} has nearly used up its descriptors",
        "At the limit no new connection, file or socket can be had.",
        "`ls -l /proc/PID/fd` shows what is open.", "Lower the limit of a running process: `prlimit --pid PID --nofile=20`.",
        told=True,
    ),
    Alert(
        "MemoryHigh", "warning", (Reason.MEMORY,),
        item("host[.]memory", 1, f"{_NODE}, pqvpn_process"), "30s",
        "{{ $labels.pqvpn_process }} of {{ $labels.instance }} takes too much memory",
        "A process takes more than 384 MiB; it needs 30 to 120.",
        "The dashboard PQVPN node shows since when; then see what happened at that time in traces and logs.",
        "`python -m tests.crashserver.injecting FOLDER up` in place of `pqvpn up`, then `echo 12 448 > FOLDER/leak`: the"
        " observer takes 12 MiB a second, up to 448.", told=True,
    ),
    Alert(
        "ResourceGrowth", "info", (Reason.MEMORY, Reason.DESCRIPTORS),
        f"sum by ({_NODE}, pqvpn_process) (deriv(process_memory_usage_bytes[2h]) * 3600) > "
        f"{limit('memory_growth_bytes_per_hour')} or sum by ({_NODE}, pqvpn_process) "
        f"(deriv(process_unix_file_descriptor_count[2h]) * 3600) > {limit('descriptor_growth_per_hour')}",
        "1h", "{{ $labels.pqvpn_process }} of {{ $labels.instance }} grows steadily",
        "Memory or descriptors of a process have been growing for hours: a leak that is not yet a danger.",
        "The dashboard PQVPN node; `pqvpn diag bundle` for the report.",
        "As for [MemoryHigh](MemoryHigh.md), with `echo 1 300 > FOLDER/leak`; with the windows of operation it takes an hour.",
    ),
)  # fmt: skip
