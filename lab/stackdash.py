"""Grafana's dashboards: overview, peer, node internals, telemetry health.

Owns panels and queries. Data sources are named by their uid, as `grafana/provisioning` makes them. From a graph with
exemplars one comes to the trace, from a trace to its log records.
"""

from collections.abc import Sequence
from typing import Any, Final

NAMES: Final = ("overview", "peer", "node", "telemetry")
_PROMETHEUS: Final = {"type": "prometheus", "uid": "prometheus"}
_JAEGER: Final = {"type": "jaeger", "uid": "jaeger"}
_LOKI: Final = {"type": "loki", "uid": "loki"}
_HALF, _THIRD, _WHOLE = 12, 8, 24
_AT: Final = '{instance=~"$instance"}'
_OF_PEER: Final = '{instance=~"$instance",pqvpn_peer=~"$peer"}'

Panel = dict[str, Any]


def graph(title: str, *queries: tuple[str, str], unit: str = "short", width: int = _HALF, text: str = "") -> Panel:
    """A graph of (expression, legend)."""
    return _panel("timeseries", title, queries, unit, width, text)


def number(title: str, expr: str, unit: str = "short", bad: float | None = None) -> Panel:
    """One number, red from `bad` on."""
    made = _panel("stat", title, ((expr, ""),), unit, 4, "")
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if bad is not None:
        steps.append({"color": "red", "value": bad})
    made["fieldConfig"]["defaults"]["thresholds"] = {"mode": "absolute", "steps": steps}
    return made


def _panel(kind: str, title: str, queries: Sequence[tuple[str, str]], unit: str, width: int, text: str) -> Panel:
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": _PROMETHEUS,
        "gridPos": {"w": width, "h": 4 if kind == "stat" else 8, "x": 0, "y": 0},
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "options": {"tooltip": {"mode": "multi"}} if kind == "timeseries" else {"graphMode": "none"},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _PROMETHEUS,
                "expr": expr,
                "legendFormat": legend,
                "exemplar": "_bucket" in expr,
            }
            for at, (expr, legend) in enumerate(queries)
        ],
    }


def _traces(title: str, tags: str) -> Panel:
    return {
        "type": "table",
        "title": title,
        "datasource": _JAEGER,
        "gridPos": {"w": _HALF, "h": 8, "x": 0, "y": 0},
        "targets": [
            {"refId": "A", "datasource": _JAEGER, "queryType": "search", "service": "pqvpn", "tags": tags, "limit": 20}
        ],
    }


def _logs(title: str, expr: str) -> Panel:
    return {
        "type": "logs",
        "title": title,
        "datasource": _LOKI,
        "gridPos": {"w": _WHOLE, "h": 8, "x": 0, "y": 0},
        "options": {"showTime": True, "enableLogDetails": True},
        "targets": [{"refId": "A", "datasource": _LOKI, "expr": expr}],
    }


def _alerts() -> Panel:
    return {
        "type": "alertlist",
        "title": "Alerts",
        "gridPos": {"w": _HALF, "h": 8, "x": 0, "y": 0},
        "options": {"datasource": "Alertmanager", "viewMode": "list", "stateFilter": {"firing": True, "pending": True}},
    }


def _quantile(share: float, metric: str, labels: str = _AT) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket{labels}[5m])))"


def _overview() -> list[Panel]:
    down = 'count(max by (instance, pqvpn_peer) (pqvpn_health_state{pqvpn_health_item="peer"}) >= 1) or vector(0)'
    return [
        number("Nodes reporting", "count(changes(pqvpn_node_uptime_seconds[2m]) > 0) or vector(0)"),
        number("Peers up", 'sum(pqvpn_peers{pqvpn_state="up"})'),
        number("Peers down", down, bad=1),
        number("Sessions without ML-KEM", 'sum(pqvpn_sessions{pqvpn_suite!~".*ML-KEM.*"}) or vector(0)', bad=1),
        number("Crashes, 24 h", "sum(increase(pqvpn_seen_crashes_total[24h])) or vector(0)", bad=1),
        number("Budget of availability burns", "pqvpn:tunnel_bad:ratio_1h / 0.001", bad=1),
        _alerts(),
        graph("Peers by state", ("sum by (pqvpn_state) (pqvpn_peers)", "{{pqvpn_state}}")),
        graph(
            "Time to connect (points are traces)",
            (_quantile(0.5, "pqvpn_handshake_duration_seconds", ""), "half"),
            (_quantile(0.99, "pqvpn_handshake_duration_seconds", ""), "99 of 100"),
            unit="s",
        ),
        graph(
            "Handshakes that failed",
            ('sum by (pqvpn_reason) (rate(pqvpn_handshakes_total{pqvpn_outcome="failed"}[5m]))', "{{pqvpn_reason}}"),
            unit="ops",
        ),
        graph(
            "Bytes inside",
            ("sum by (network_io_direction) (rate(pqvpn_peer_io_bytes_total[5m]))", "{{network_io_direction}}"),
            unit="Bps",
        ),
        graph("Packets discarded", ("sum by (pqvpn_drop) (rate(pqvpn_drops_total[5m]))", "{{pqvpn_drop}}"), unit="pps"),
        _traces("Attempts that failed", "error=true"),
    ]


def _peer() -> list[Panel]:
    health = (
        f'max by (instance, pqvpn_peer, pqvpn_reason) (pqvpn_health_state{_OF_PEER[:-1]},pqvpn_health_item="peer"}})'
    )
    return [
        graph(
            "State (1: connecting or stale, 2: down)",
            (health, "{{instance}} {{pqvpn_peer}} {{pqvpn_reason}}"),
            width=_WHOLE,
        ),
        graph("Round trip", (f"pqvpn_peer_rtt_seconds{_OF_PEER}", "{{instance}} {{pqvpn_peer}}"), unit="s"),
        graph("Loss", (f"pqvpn_peer_loss_ratio{_OF_PEER}", "{{instance}} {{pqvpn_peer}}"), unit="percentunit"),
        graph(
            "Bytes inside",
            (f"rate(pqvpn_peer_io_bytes_total{_OF_PEER}[5m])", "{{instance}} {{pqvpn_peer}} {{network_io_direction}}"),
            unit="Bps",
        ),
        graph("Largest packet", (f"pqvpn_peer_path_mtu_bytes{_OF_PEER}", "{{instance}} {{pqvpn_peer}}"), unit="bytes"),
        graph(
            "Age of the keys",
            (f"pqvpn_peer_handshake_age_seconds{_OF_PEER}", "{{instance}} {{pqvpn_peer}}"),
            ("pqvpn:limit:handshake_age_seconds", "limit"),
            unit="s",
        ),
        graph(
            "Attempts that failed",
            (
                f"increase(pqvpn_seen_handshake_failures_total{_OF_PEER}[5m])",
                "{{instance}} {{pqvpn_peer}} {{pqvpn_reason}}",
            ),
        ),
        _traces("Attempts", 'pqvpn.peer="$peer"'),
        _logs("What happened", '{service_name="pqvpn"} | pqvpn_peer=~"$peer"'),
    ]


def _node() -> list[Panel]:
    return [
        graph(
            "Health (2: failing, 1: warning)",
            (
                f"max by (instance, pqvpn_health_item, pqvpn_process, pqvpn_reason) (pqvpn_health_state{_AT}) > 0",
                "{{instance}} {{pqvpn_health_item}} {{pqvpn_process}} {{pqvpn_reason}}",
            ),
            width=_WHOLE,
        ),
        graph(
            "Processor",
            (f"rate(process_cpu_time_seconds_total{_AT}[5m])", "{{instance}} {{pqvpn_process}}"),
            unit="percentunit",
        ),
        graph("Lanes busy", (f"pqvpn_lane_busy_ratio{_AT}", "{{instance}} {{pqvpn_lane}}"), unit="percentunit"),
        graph("Memory", (f"process_memory_usage_bytes{_AT}", "{{instance}} {{pqvpn_process}}"), unit="bytes"),
        graph("Descriptors", (f"process_unix_file_descriptor_count{_AT}", "{{instance}} {{pqvpn_process}}")),
        graph(
            "Processes replaced", (f"increase(pqvpn_process_restarts_total{_AT}[5m])", "{{instance}} {{pqvpn_process}}")
        ),
        graph("Control is late by", (_quantile(0.99, "pqvpn_control_lag_seconds"), "99 of 100"), unit="s"),
        graph(
            "Handshake messages",
            (f"sum by (pqvpn_message) (rate(pqvpn_handshake_messages_total{_AT}[5m]))", "{{pqvpn_message}}"),
            unit="ops",
        ),
        graph(
            "Failures", (f"sum by (pqvpn_reason) (rate(pqvpn_errors_total{_AT}[5m]))", "{{pqvpn_reason}}"), unit="ops"
        ),
        graph(
            "Breakers that opened",
            (
                f'increase(pqvpn_seen_breaker_changes_total{_AT[:-1]},pqvpn_state="open"}}[5m])',
                "{{instance}} {{pqvpn_breaker}} {{pqvpn_peer}}",
            ),
        ),
        _traces("Crashes and restarts", "pqvpn.component=process"),
    ]


def _telemetry() -> list[Panel]:
    sent = [
        (f"sum by (exporter) (rate(otelcol_exporter_sent_{kind}_total[5m]))", f"{{{{exporter}}}} {kind}")
        for kind in ("spans", "log_records")
    ]
    refused = [
        (f"sum(rate(otelcol_receiver_refused_{kind}_total[5m]))", kind)
        for kind in ("spans", "metric_points", "log_records")
    ]
    return [
        graph(
            "Nodes: records made",
            ("sum by (pqvpn_signal) (rate(pqvpn_telemetry_records_total[5m]))", "{{pqvpn_signal}}"),
            unit="ops",
        ),
        graph(
            "Nodes: records lost", ("sum by (pqvpn_loss) (increase(pqvpn_telemetry_lost_total[15m]))", "{{pqvpn_loss}}")
        ),
        graph("Nodes: batches that wait", ("pqvpn_queue_depth", "{{instance}} {{pqvpn_queue}}")),
        graph("Collector: delivered", *sent, unit="ops"),
        graph(
            "Collector: queues",
            ("otelcol_exporter_queue_size / otelcol_exporter_queue_capacity", "{{exporter}}"),
            unit="percentunit",
        ),
        graph("Collector: refused", *refused, unit="ops"),
        graph("Series in Prometheus", ("prometheus_tsdb_head_series", "series")),
        graph(
            "Memory of the stack",
            (
                'process_resident_memory_bytes{job=~"prometheus|alertmanager"} or otelcol_process_memory_rss_bytes',
                "{{job}}",
            ),
            unit="bytes",
        ),
    ]


_PANELS: Final = {"overview": _overview, "peer": _peer, "node": _node, "telemetry": _telemetry}


def dashboard(name: str) -> dict[str, Any]:
    """One dashboard, ready to be provisioned."""
    return {
        "uid": f"pqvpn-{name}",
        "title": f"PQVPN {name}",
        "tags": ["pqvpn"],
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables(name)},
        "links": [{"type": "dashboards", "tags": ["pqvpn"], "title": "PQVPN", "asDropdown": True, "keepTime": True}],
        "panels": _laid_out(_PANELS[name]()),
    }  # fmt: skip


def _variables(name: str) -> list[dict[str, Any]]:
    wanted = {"overview": (), "telemetry": (), "node": ("instance",), "peer": ("instance", "peer")}[name]
    queries = {
        "instance": "label_values(pqvpn_node_uptime_seconds, instance)",
        "peer": 'label_values(pqvpn_peer_io_bytes_total{instance=~"$instance"}, pqvpn_peer)',
    }
    return [
        {
            "name": each,
            "type": "query",
            "datasource": _PROMETHEUS,
            "query": {"query": queries[each], "refId": each},
            "includeAll": True,
            "multi": True,
            "refresh": 2,
            "current": {"text": "All", "value": "$__all"},
        }
        for each in wanted
    ]


def _laid_out(panels: list[Panel]) -> list[Panel]:
    """Panels side by side, row by row."""
    x = y = height = 0
    for number_, panel in enumerate(panels, 1):
        place = panel["gridPos"]
        if x + place["w"] > _WHOLE:
            x, y, height = 0, y + height, 0
        place["x"], place["y"], panel["id"] = x, y, number_
        x += place["w"]
        height = max(height, place["h"])
    return panels
