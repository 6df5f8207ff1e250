"""The names of fields that may be told: the one allow-list.

Owns the list, derived from what the node says anyway: the fields of facts, the objects of `status`, envelopes, log lines,
health, crash reports, and every attribute of `telemetry/names.py`. A field of another name keeps its place in a record and
loses its value. Whoever has fields of their own gives `Redactor` a larger list.
"""

import dataclasses

from pqvpn.drops import DropReason
from pqvpn.facts import FACTS
from pqvpn.telemetry import names
from pqvpn.telemetry.context import Context
from pqvpn.telemetry.envelope import Envelope

_STATUS = """
version node name id pid state uptime_seconds interface addresses listen mtu lanes lanes_running offloads tun_tso
tun_uso udp_gso udp_gro steering security self_tests passed failed start_seconds load descriptors spawn processes
component restarts peers reason code text remedy last_received_seconds path endpoint rtt_ms loss rx_bytes tx_bytes
probe_answered_seconds probes_unanswered rx_packets tx_packets rx_rate tx_rate handshake_age_seconds session_id role suite
post_quantum path_mtu allowed_ips
drops since_seconds control breakers held calls failures next_try_seconds
"""
_LINES = """
time level component message exception place text fields times first last repeated count area logger severity trace_id
span_id lost ok error errors detail result schema
"""
_HEALTH = """
health items item since evidence depends_on depends-on title summary verdict verdicts cause causes symptoms status now age
age_seconds written observed_at live ready checks value values metrics labels unit kind type records dropped segments bytes
oldest newest seconds observer spool exporter drainer queue sent unsent key suppressed_by stopped
"""
_PROBES = """
families family able route refused translated seen probed finished answered rtt_most_ms outside arrived largest in_use icmp
dns source
"""
_CRASHES = """
event_id timestamp platform release environment transaction fingerprint exception values stacktrace frames filename function
lineno in_app module mechanism handled type tags contexts extra breadcrumbs category data threads trace runtime os
kernel_version server_name
"""
_CONVENTIONS = """
network.local.address network.local.port network.peer.address network.peer.port network.transport network.type
network.io.direction network.interface.name server.address server.port client.address client.port error.type
exception.type exception.message exception.stacktrace exception.escaped service.name service.version service.namespace
service.instance.id session.id session.previous_id process.pid process.uptime process.runtime.name
process.runtime.version process.executable.name telemetry.sdk.name telemetry.sdk.language telemetry.sdk.version os.type
os.version host.name host.arch thread.name code.function.name code.file.path code.line.number event.name
otel.status_code otel.status_description otel.component.type otel.component.name
"""
HOSTS = frozenset(
    ("host", "endpoint", "server_name", "host.name", "server.address", "client.address", "network.peer.address",
     "network.local.address")
)  # fmt: skip
"""Fields whose value is a host, or host:port."""
VERSIONS = frozenset(
    ("version", "release", "kernel", "kernel_version", "os.version", "service.version", "telemetry.sdk.version",
     "process.runtime.version")
)  # fmt: skip
"""Fields whose value may look like an address and is none."""


def _of_facts() -> set[str]:
    kinds = (*FACTS.values(), Context)
    return {each.name for kind in kinds for each in dataclasses.fields(kind)}


ALLOWED: frozenset[str] = frozenset(
    _of_facts()
    | names.ATTRIBUTES
    | {reason.name.lower() for reason in DropReason}
    | set(Envelope.__struct_fields__)
    | {name for listed in (_STATUS, _LINES, _HEALTH, _PROBES, _CRASHES, _CONVENTIONS) for name in listed.split()}
)
