"""The alerts about the stack itself and about service levels, and which alerts are symptoms of which.

Owns these tables; the shape of an alert is `stackalerts.Alert`. Knows no file.
"""

from dataclasses import dataclass
from typing import Final

from lab.stackalerts import Alert, new
from pqvpn.reasons import Reason

_SIGNALS: Final = ("spans", "metric_points", "log_records")


def _any_signal(pattern: str) -> str:
    """The same of spans, metric points and log records, together."""
    return " or ".join(pattern.replace("SIGNAL", signal) for signal in _SIGNALS)


_REFUSED_HTTP: Final = 'http_server_request_duration_seconds_count{http_response_status_code=~"401|403"}'
_REFUSED_GRPC: Final = 'rpc_server_call_duration_seconds_count{rpc_response_status_code="UNAUTHENTICATED"}'

STACK_ALERTS: Final = (
    Alert(
        "CollectorDown", "critical", (Reason.COLLECTOR_UNREACHABLE,),
        'up{job="otel-collector"} == 0', "30s", "the collector does not answer",
        "Prometheus cannot reach the collector. Nodes keep their records and send them when it is back; nothing is lost"
        " while their spools have room.",
        "The collector's log and its status: `curl http://127.0.0.1:13133/status?verbose`.",
        "Kill the collector.", extra="start the collector again",
    ),
    Alert(
        "JaegerDown", "warning", (),
        'up{job="jaeger"} == 0', "30s", "Jaeger does not answer",
        "Spans wait in the collector's queue on disk and are delivered when Jaeger is back.",
        "Jaeger's log; its disk.", "Kill Jaeger.", extra="start Jaeger again; BackendUnreachable ends when the queue is drained",
    ),
    Alert(
        "BackendUnreachable", "warning", (),
        "min_over_time(otelcol_exporter_queue_size[2m]) > 0 unless on (exporter) ("
        + _any_signal("sum by (exporter) (rate(otelcol_exporter_sent_SIGNAL_total[2m])) > 0") + ")",
        "1m", "{{ $labels.exporter }} delivers nothing; {{ $value | humanize }} items wait",
        "The collector has records for a backend and cannot deliver one: the backend is down, its address wrong, or it"
        " refuses. They wait on disk.",
        "The collector's log names the error of each try.", "Stop Jaeger while nodes connect.",
        extra="mend the backend or its address in the collector's configuration; what waits is delivered by itself",
    ),
    Alert(
        "QueueFilling", "critical", (),
        "otelcol_exporter_queue_size / otelcol_exporter_queue_capacity > 0.5", "2m",
        "the queue of {{ $labels.exporter }} is {{ $value | humanizePercentage }} full",
        "At the present rate records will be refused soon.",
        "How long is left: the dashboard PQVPN telemetry.", "Stop Jaeger and lower `queue_size`.",
        extra="bring the backend back, or raise queue_size; nodes keep what the collector refuses",
    ),
    Alert(
        "QueueFull", "critical", (Reason.COLLECTOR_REFUSED,),
        _any_signal("sum by (exporter) (rate(otelcol_exporter_enqueue_failed_SIGNAL_total[5m])) > 0"), "0s",
        "the queue of {{ $labels.exporter }} is full and refuses records",
        "Records are refused; nodes keep them in their spools and repeat until those are full, too.",
        "`QueueFilling` and `BackendUnreachable` say what came before.", "Stop Jaeger, lower `queue_size`, connect nodes.",
        extra="bring the backend back, or raise queue_size",
    ),
    Alert(
        "CollectorRefuses", "warning", (Reason.COLLECTOR_REFUSED,),
        _any_signal("sum by (receiver, transport) (rate(otelcol_receiver_refused_SIGNAL_total[5m])) > 0"), "30s",
        "the collector refuses records that come by {{ $labels.transport }}",
        "The memory limiter is at its limit, a queue is full, or the second line of redaction could not handle a record (it"
        " fails closed: nothing unredacted passes).",
        "The collector's log names the component.", "`limit_mib: 40` for the memory limiter.",
        extra="give the collector more memory, or see why the backend takes nothing",
    ),
    Alert(
        "SenderRefused", "warning", (Reason.COLLECTOR_REFUSED,),
f"sum by (http_response_status_code) ({new(_REFUSED_HTTP, '5m')}) > 0 or "
        f"sum by (rpc_response_status_code) ({new(_REFUSED_GRPC, '5m')}) > 0",
        "0s", "somebody sends with a wrong token, or with none",
        "A sender was refused: a node with a wrong token, or a stranger. That node shows the health item"
        " telemetry.collector with telemetry.collector_refused, and is silent here (NodeSilent).",
        "The sender's address is in the collector's access log or the firewall's; on the node `pqvpn health`.",
        "Send with another token than the one in the collector's token file.",
    ),
    Alert(
        "Watchdog", "none", (), "vector(1)", "0s", "alerting works",
        "Always firing. Let something outside complain when it stops coming: then Prometheus, Alertmanager or the way to"
        " you is broken.",
        "Nothing to look at while it fires.", "It fires from the start.", extra="none while it fires",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Objective:
    """A service-level objective: `bad` and `total` are rates over `WINDOW`. `target`: share that must be good."""

    name: str
    record: str
    target: float
    bad: str
    total: str
    text: str
    provoke: str


WINDOW: Final = "WINDOW"
OBJECTIVES: Final = (
    Objective(
        "TunnelAvailability", "pqvpn:tunnel_bad:ratio", 0.999,
        'sum(avg_over_time(pqvpn:peers_down:count[WINDOW]))',
        'sum(avg_over_time(pqvpn:peers_configured:count[WINDOW]))',
        "of the time of all configured peers, they are up, or nobody needs them",
        "Keep a peer down for some minutes.",
    ),
    Objective(
        "ConnectionTime", "pqvpn:connection_bad:ratio", 0.99,
        'sum(rate(pqvpn_handshake_duration_seconds_count[WINDOW])) - '
        'sum(rate(pqvpn_handshake_duration_seconds_bucket{pqvpn_outcome="completed",le=~"2|2[.]0"}[WINDOW]))',
        "sum(rate(pqvpn_handshake_duration_seconds_count[WINDOW]))",
        "of the attempts to connect complete within two seconds",
        "Let attempts fail: a peer that does not answer.",
    ),
)  # fmt: skip
RECORDS: Final = {
    "pqvpn:peers_down:count": 'count by (job, instance) (max by (job, instance, pqvpn_peer) '
    '(pqvpn_health_state{pqvpn_health_item="peer"}) >= 1) or 0 * sum by (job, instance) (pqvpn_peers)',
    "pqvpn:peers_configured:count": "sum by (job, instance) (pqvpn_peers)",
}  # fmt: skip
"""Recorded first: what the objectives average."""
BURNS: Final = (("Fast", 14.4, "5m", "1h", "critical", "2m"), ("Slow", 3.0, "2h", "1d", "warning", "1h"))
"""Speed, factor, short and long window, severity, hold: at 14.4 a month's budget is gone in two days, at 3 in ten."""


def burn_alerts() -> tuple[Alert, ...]:
    """Two alerts for each objective."""
    return tuple(_burn(objective, *burn) for objective in OBJECTIVES for burn in BURNS)


def _burn(o: Objective, speed: str, factor: float, short: str, long: str, severity: str, hold: str) -> Alert:
    budget = f"{factor:g} * {1 - o.target:.3g}"
    return Alert(
        f"{o.name}Burns{speed}",
        "critical" if severity == "critical" else "warning",
        (Reason.NO_REPLY, Reason.STALE),
        f"{o.record}_{long} > {budget} and {o.record}_{short} > {budget}",
        hold,
        f"the budget of {o.name} is used {factor:g} times too fast",
        f"Objective: {o.target:.1%} {o.text}. Over {long} and over {short} more than {factor:g} times the share that this"
        " allows was bad.",
        "PeerDown and HandshakeFailing, which fire before, name peers and reasons; the dashboard PQVPN overview shows the"
        " course.",
        o.provoke,
    )


@dataclass(frozen=True, slots=True)
class Inhibition:
    """While the cause fires, its symptoms are not sent. `equal`: labels that must be the same; `only`: a further matcher."""

    cause: str
    symptoms: tuple[str, ...]
    equal: tuple[str, ...] = ()
    only: str = ""


_OF_PEERS: Final = ("PeerDown", "PeerFlapping", "HandshakeFailing", "RekeyOverdue", "PathMtuTrouble")
_OBJECTIVES: Final = tuple(f"{o.name}Burns{speed}" for o in OBJECTIVES for speed in ("Fast", "Slow"))
SYMPTOMS: Final = (
    Inhibition(
        "CollectorDown",
        ("NodeSilent", "NoTelemetry", "BackendUnreachable", "QueueFilling", "QueueFull", "CollectorRefuses"),
    ),
    Inhibition("NoTelemetry", ("NodeSilent",)),
    Inhibition("JaegerDown", ("BackendUnreachable", "QueueFilling")),
    Inhibition("QueueFull", ("CollectorRefuses", "QueueFilling")),
    Inhibition("NodeSilent", (*_OF_PEERS, "HealthDegraded"), ("instance",)),
    Inhibition("PostQuantumNotInForce", ("DegradedSecurity", *_OF_PEERS), ("instance",)),
    Inhibition("RestartLoop", ("Crash",), ("instance", "pqvpn_process")),
    Inhibition(
        "HealthDegraded",
        (*_OF_PEERS, "PacketsDropped"),
        ("instance",),
        'pqvpn_health_item=~"node[.]control|tun[.].*|network[.]sockets"',
    ),
    Inhibition("PeerDown", (*_OF_PEERS[1:], "BreakerOpen"), ("instance", "pqvpn_peer")),
    Inhibition("PeerDown", _OBJECTIVES),
)
"""As health does on the node: causes instead of symptoms."""
