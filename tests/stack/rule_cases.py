"""For each alert the series that make it fire, in promtool's notation, and when it does.

Owns the cases. `1x3` are four samples of 1, `_x3` three that are missing, `0+15x9` ten that rise.
"""

from dataclasses import dataclass, field

_NODE = 'job="pqvpn",instance="id-1"'


@dataclass(frozen=True)
class Case:
    """`fires`: when it does, with labels that it then has; `quiet`: when it does not."""

    alert: str
    series: dict[str, str]
    fires: tuple[str, ...]
    quiet: tuple[str, ...]
    labels: dict[str, str] = field(default_factory=dict)
    interval: str = "15s"  # of samples and of evaluations


def _health(item: str, reason: str, values: str, more: str = "") -> dict[str, str]:
    return {f'pqvpn_health_state{{{_NODE},pqvpn_health_item="{item}",pqvpn_reason="{reason}"{more}}}': values}


def _node(name: str, values: str, more: str = "") -> dict[str, str]:
    return {f"{name}{{{_NODE}{',' if more else ''}{more}}}": values}


_DIED = 'pqvpn_reason="node.child_died"'
_BETA = 'pqvpn_peer="beta"'
_SILENT = "0+15x19 285x4 _x80"
_REQUESTS = "http_server_request_duration_seconds_count"
_EXPORTER = 'exporter="otlp_grpc/jaeger"'
_DURATION = "pqvpn_handshake_duration_seconds"
_GOOD = 'pqvpn_outcome="completed",pqvpn_trigger="start"'
_ATTEMPTS = {
    **_node(f"{_DURATION}_count", "0+4x225", _GOOD),
    **_node(f"{_DURATION}_bucket", "0+4x225", f'{_GOOD},le="2.0"'),
    **_node(f"{_DURATION}_count", "0x60 0+4x150", 'pqvpn_outcome="failed",pqvpn_trigger="start"'),
}
_DOWN = {
    **_node("pqvpn_peers", "1x225", 'pqvpn_state="up"'),
    **_node("pqvpn_peers", "1x225", 'pqvpn_state="down"'),
    **_health("peer", "network.no_reply", "0x60 2x150", f",{_BETA}"),
}

CASES = (
    Case("PeerDown", _health("peer", "network.no_reply", "0x8 2x20 0x20", f",{_BETA}"), ("5m",), ("1m", "3m", "10m"),
         {"pqvpn_peer": "beta", "reason": "network.no_reply", "severity": "critical"}),
    Case("PeerFlapping", _node("pqvpn_seen_peer_changes_total", "_x3 1x3 2x3 3x3 4x3 5x80", f'{_BETA},pqvpn_state="up"'),
         ("4m", "8m"), ("3m30s", "20m"), {"pqvpn_peer": "beta"}),
    Case("HandshakeFailing",
         _node("pqvpn_seen_handshake_failures_total", "_x3 1x3 2x100", f'{_BETA},pqvpn_reason="handshake.psk"'),
         ("3m",), ("1m30s", "20m"), {"pqvpn_peer": "beta", "reason": "handshake.psk"}),
    Case("PostQuantumNotInForce", _node("pqvpn_sessions", "0x7 1x10 0x10", 'pqvpn_state="up",pqvpn_suite="X25519"'),
         ("3m",), ("1m", "6m")),
    Case("PostQuantumNotInForce", _health("crypto.self_test", "crypto.self_test_failed", "0x7 2x10 0x10"), ("3m",),
         ("1m", "6m")),
    Case("PostQuantumNotInForce",
         _node("pqvpn_sessions", "1x30", 'pqvpn_state="up",pqvpn_suite="X-Wing (ML-KEM-768 + X25519), AES-256-GCM"'),
         (), ("3m", "6m")),
    Case("DegradedSecurity", _health("crypto.security", "crypto.degraded", "0x7 1x10 0x10"), ("3m",), ("1m", "6m"),
         {"reason": "crypto.degraded"}),
    Case("BreakerOpen",
         _node("pqvpn_seen_breaker_changes_total", "_x7 1x60", 'pqvpn_breaker="peer",pqvpn_peer="beta",pqvpn_state="open"'),
         ("3m",), ("1m", "10m"), {"pqvpn_breaker": "peer", "pqvpn_peer": "beta", "reason": "resilience.breaker_open"}),
    Case("RestartLoop", _node("pqvpn_process_restarts_total", "_x3 1x1 2x1 3x60", 'pqvpn_process="lane-0"'), ("3m",),
         ("1m30s", "10m"), {"pqvpn_process": "lane-0", "severity": "critical"}),
    Case("Crash",
         _node("pqvpn_seen_crashes_total", "_x7 1x100", f'pqvpn_process="control",pqvpn_kind="signal",{_DIED}'),
         ("3m",), ("1m", "20m"), {"pqvpn_process": "control", "reason": "node.child_died"}),
    Case("HealthDegraded", _health("tun.addresses", "tun.down", "0x7 2x20 0x20"), ("4m",), ("1m", "2m15s", "10m"),
         {"pqvpn_health_item": "tun.addresses", "reason": "tun.down"}),
    Case("HealthDegraded", _health("peer", "network.no_reply", "2x40", f",{_BETA}"), (), ("4m",)),
    Case("NodeSilent", _node("pqvpn_node_uptime_seconds", _SILENT), ("10m", "20m"), ("4m", "7m"), {"instance": "id-1"}),
    Case("NodeSilent",
         {**_node("pqvpn_node_uptime_seconds", _SILENT), **_node("pqvpn_seen_started_at_seconds", "100x100"),
          **_node("pqvpn_seen_stopped_at_seconds", "_x18 385x80")},
         (), ("4m", "10m", "20m")),
    Case("NodeSilent",  # it ended on purpose, was started again, and then killed
         {**_node("pqvpn_node_uptime_seconds", _SILENT), **_node("pqvpn_seen_started_at_seconds", "100x5 200x100"),
          **_node("pqvpn_seen_stopped_at_seconds", "150x100")},
         ("10m",), ("4m",)),
    Case("NoTelemetry", _node("pqvpn_node_uptime_seconds", _SILENT), ("10m",), ("4m",)),
    Case("PacketsDropped", _node("pqvpn_drops_total", "0x19 0+150x60 9000x60", 'pqvpn_drop="source_not_allowed"'), ("14m",),
         ("5m", "27m"), {"pqvpn_drop": "source_not_allowed"}),
    Case("PacketsDropped", _node("pqvpn_drops_total", "0x19 0+150x60", 'pqvpn_drop="mac1"'), (), ("14m",)),
    Case("TelemetryLost", _node("pqvpn_telemetry_lost_total", "_x7 5x100", 'pqvpn_loss="link"'), ("3m",), ("1m", "25m"),
         {"pqvpn_loss": "link"}),
    Case("PathMtuTrouble", _node("pqvpn_peer_path_mtu_bytes", "1432x7 1200x20 1432x20", _BETA), ("4m",), ("1m", "8m30s"),
         {"pqvpn_peer": "beta"}),
    Case("PathMtuTrouble", _node("pqvpn_seen_fragments_lost_total", "_x7 3x80", _BETA), ("4m",), ("1m", "20m"),
         {"pqvpn_peer": "beta"}),
    Case("RekeyOverdue", _node("pqvpn_peer_handshake_age_seconds", "0+15x11 0x20", _BETA), ("2m45s",), ("2m15s", "4m"),
         {"pqvpn_peer": "beta"}),
    Case("ClockJumped", _node("pqvpn_clock_jumps_total", "_x7 1x100"), ("3m",), ("1m", "20m"), {"severity": "info"}),
    Case("DiskLow", _health("host.disk", "host.disk_low", "0x7 1x20 0x20"), ("4m",), ("1m", "10m"),
         {"reason": "host.disk_low"}),
    Case("DescriptorsLow", _health("host.descriptors", "host.descriptors", "0x7 1x20 0x20", ',pqvpn_process="control"'),
         ("4m",), ("1m", "10m"), {"pqvpn_process": "control"}),
    Case("MemoryHigh", _health("host.memory", "host.memory", "0x7 1x20 0x20", ',pqvpn_process="observer"'), ("4m",),
         ("1m", "10m"), {"pqvpn_process": "observer"}),
    Case("ResourceGrowth", _node("process_memory_usage_bytes", "100000000+2000000x150", 'pqvpn_process="lane-0"'), ("2h",),
         ("30m",), {"pqvpn_process": "lane-0"}, interval="1m"),
    Case("ResourceGrowth", _node("process_unix_file_descriptor_count", "20+4x150", 'pqvpn_process="lane-0"'), ("2h",),
         ("30m",), interval="1m"),
    Case("ResourceGrowth", _node("process_memory_usage_bytes", "100000000x150", 'pqvpn_process="lane-0"'), (),
         ("2h",), interval="1m"),
    Case("CollectorDown", {'up{job="otel-collector"}': "1x7 0x20 1x20"}, ("4m",), ("1m", "2m15s", "9m")),
    Case("JaegerDown", {'up{job="jaeger"}': "1x7 0x20 1x20"}, ("4m",), ("1m", "9m")),
    Case("BackendUnreachable",
         {f"otelcol_exporter_queue_size{{{_EXPORTER}}}": "0x7 100x60",
          f"otelcol_exporter_sent_spans_total{{{_EXPORTER}}}": "0+10x7 70x60"},
         ("8m",), ("1m45s", "3m")),
    Case("BackendUnreachable",
         {f"otelcol_exporter_queue_size{{{_EXPORTER}}}": "0x7 100x60",
          f"otelcol_exporter_sent_spans_total{{{_EXPORTER}}}": "0+10x67"},
         (), ("8m",)),
    Case("QueueFilling",
         {f"otelcol_exporter_queue_size{{{_EXPORTER}}}": "0x7 60x30 0x20",
          f"otelcol_exporter_queue_capacity{{{_EXPORTER}}}": "100x60"},
         ("6m",), ("1m", "3m", "12m")),
    Case("QueueFull", {f"otelcol_exporter_enqueue_failed_spans_total{{{_EXPORTER}}}": "0x7 0+5x30 150x60"}, ("4m",),
         ("1m", "18m")),
    Case("CollectorRefuses",
         {'otelcol_receiver_refused_spans_total{receiver="otlp",transport="http"}': "0x7 0+5x30 150x60"}, ("4m",), ("1m", "18m")),
    Case("SenderRefused",
         {f'{_REQUESTS}{{http_request_method="POST",http_response_status_code="401"}}': "_x7 1x60"},
         ("4m",), ("1m", "18m")),
    Case("Watchdog", {'up{job="prometheus"}': "1x10"}, ("0s", "2m"), ()),
    Case("TunnelAvailabilityBurnsFast", _DOWN, ("70m",), ("58m",), {"severity": "critical"}, interval="1m"),
    Case("TunnelAvailabilityBurnsSlow", _DOWN, ("150m",), ("58m",), {"severity": "warning"}, interval="1m"),
    Case("ConnectionTimeBurnsFast", _ATTEMPTS, ("75m",), ("58m",), interval="1m"),
    Case("ConnectionTimeBurnsSlow", _ATTEMPTS, ("160m",), ("58m",), interval="1m"),
)  # fmt: skip
