"""The sections of the configuration file, and the frozen value that becomes of them.

Owns which settings exist, their kinds, defaults and ranges. Knows nothing of files, of TOML or of how sections depend
on each other (`checks.py`). A setting without effect in this version is not here, so that it is refused.
"""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pqvpn.config import paths
from pqvpn.config._pydantic import BaseModel, ConfigDict, PlainValidator
from pqvpn.config.fields import (
    Addresses,
    DegradedModes,
    Endpoint,
    EndpointField,
    InterfaceName,
    IPNetwork,
    Keepalive,
    Lanes,
    Mtu,
    Name,
    Networks,
    PathText,
    Port,
    Switch,
    count,
    duration,
    parse_name,
    parse_rate,
    parse_scale,
    parse_share,
    parse_url,
    schedule,
    size,
)
from pqvpn.crypto.secret import Secret
from pqvpn.identity.card import Card
from pqvpn.identity.private_key import IdentityKey

PEERS_HIGHEST = 256  # 3 sessions each fit into the 1024 slots of the core


class Section(BaseModel):
    """A table of the file. `required` names the settings without a default; `load` sees to them."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)
    required: ClassVar[tuple[str, ...]] = ()


class NodeSection(Section):
    """[node]: this machine's end of the tunnels. `mtu` and `lanes` are None for "auto"."""

    required = ("name", "addresses")

    name: Name = ""
    listen: Port = 51820
    interface: InterfaceName = "pqvpn0"
    addresses: Addresses = ()
    mtu: Mtu = None
    lanes: Lanes = None
    private_key: PathText = paths.IDENTITY_NAME
    network_key_file: PathText | None = None
    runtime_dir: PathText | None = None
    state_dir: PathText | None = None


class PeerSection(Section):
    """[peer.NAME]: another node. `keepalive` in seconds, None: off."""

    required = ("card", "allowed_ips")

    card: PathText = ""
    id: str | None = None
    endpoint: EndpointField | None = None
    allowed_ips: Networks = ()
    psk_file: PathText | None = None
    keepalive: Keepalive | None = None
    trace: bool = False
    allow_degraded: DegradedModes = ()
    degraded_until: datetime.date | None = None


def _seconds(shortest: float, longest: float) -> PlainValidator:
    return PlainValidator(duration(shortest, longest))


Short = Annotated[float, _seconds(0.01, 60.0)]
Long = Annotated[float, _seconds(0.1, 600.0)]
Jitter = Annotated[float, _seconds(0.0, 60.0)]
Interval = Annotated[float, _seconds(0.1, 86400.0)]
Schedule = Annotated[tuple[float, ...], PlainValidator(schedule(60.0))]


class TimersSection(Section):
    """[timers]: every time constant of PROTOCOL sections 2 to 5, in seconds; the names and defaults are the core's own.

    The upper limits keep keys from living much longer than the protocol means them to.
    """

    m1_schedule: Schedule = (0.0, 1.0, 2.0, 4.0)
    m1_fresh_after: Short = 5.0
    m1_fresh_jitter: Jitter = 0.333
    attempt_gives_up: Long = 90.0
    m3_schedule: Schedule = (0.0, 0.5, 1.0, 2.0)
    m3_gives_up: Short = 5.0
    m3_repeat_ack: Short = 0.25
    biscuit_key_rotates: Long = 120.0
    biscuit_age: Long = 30.0
    cookie_secret_rotates: Long = 120.0
    cookie_kept: Long = 120.0
    cookie_mode_holds: Short = 1.0
    epk_seen: Long = 120.0
    reassembly: Short = 3.0
    rekey_after: Long = 120.0
    rekey_initiator_after: Long = 130.0
    rekey_jitter: Jitter = 5.0
    reject_after: Long = 180.0
    replaced_receives: Short = 30.0
    keepalive: Short = 10.0
    dead: Short = 15.0
    path_validation: Short = 3.0
    rtt_interval: Interval = 5.0
    mtu_probe_timeout: Short = 1.0
    mtu_confirm_interval: Interval = 5.0
    mtu_raise_interval: Interval = 600.0
    degraded_warning: Interval = 60.0


def _bytes(smallest: int, largest: int) -> PlainValidator:
    return PlainValidator(size(smallest, largest))


_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
Level = Literal["debug", "info", "warning", "error"]
Retention = Annotated[float, _seconds(60.0, 366 * 86400.0)]


class LogSection(Section):
    """[log]: `level` and `format` of stderr; `file` writes JSON lines to the state folder, rotated and compressed.

    A file is rotated at `rotate_size` bytes or after `rotate_age` seconds; all of them together take `keep_size`.
    """

    level: Level = "info"
    format: Literal["json", "text"] = "json"
    file: bool = True
    rotate_size: Annotated[int, _bytes(16 * _KIB, _GIB)] = 16 * _MIB
    rotate_age: Retention = 86400.0
    keep_size: Annotated[int, _bytes(64 * _KIB, 64 * _GIB)] = 128 * _MIB


class RedactSection(Section):
    """[redact]: how addresses stand in what is recorded, exported or bundled."""

    addresses: Literal["pseudonym", "mask", "keep"] = "pseudonym"


class TelemetrySection(Section):
    """[telemetry]: records on disk, and where they are sent. `endpoint` None: nothing leaves this host.

    Sizes in bytes, times in seconds. `headers_file` (0600) holds lines `name: value`, tokens for instance.
    """

    enabled: bool = True
    endpoint: Annotated[str, PlainValidator(parse_url)] | None = None
    protocol: Literal["http/protobuf", "grpc"] = "http/protobuf"
    headers_file: PathText | None = None
    ca_file: PathText | None = None
    certificate_file: PathText | None = None
    key_file: PathText | None = None
    compression: Literal["gzip", "none"] = "gzip"
    timeout: Short = 10.0
    insecure: bool = False
    sample: Annotated[float, PlainValidator(parse_share)] = 1.0
    spool_size: Annotated[int, _bytes(_MIB, 64 * _GIB)] = 64 * _MIB
    spool_age: Retention = 7 * 86400.0
    flush_interval: Short = 1.0
    metrics_interval: Interval = 15.0


class CrashReportsSection(Section):
    """[crash_reports]: crashes are always recorded on this host; with `dsn_file` (0600) they are sent to that server, too.

    The file holds the DSN that Sentry, GlitchTip or Bugsink shows for the project. Sizes in bytes, times in seconds.
    `host_name`: whether reports tell this host's name.
    """

    dsn_file: PathText | None = None
    environment: Annotated[str, PlainValidator(parse_name)] = "production"
    host_name: bool = False
    ca_file: PathText | None = None
    timeout: Short = 10.0
    insecure: bool = False
    keep_size: Annotated[int, _bytes(_MIB, _GIB)] = 8 * _MIB
    keep_age: Retention = 30 * 86400.0


class HealthSection(Section):
    """[health]: the checks, and where they are told besides the unix socket (`listen`: a TCP endpoint).

    `mend`: put the interface, its addresses and routes, and sockets of the port back when somebody took them away.

    Anywhere but on loopback `listen` needs `token_file` (0600), whose content clients send as a bearer token. The others
    are those of `resilience/limits.py`: times in seconds, sizes in bytes.
    """

    listen: EndpointField | None = None
    token_file: PathText | None = None
    mend: bool = True
    interval: Short = 2.0
    fail_scale: Annotated[float, PlainValidator(parse_scale)] = 1.0
    recover_scale: Annotated[float, PlainValidator(parse_scale)] = 1.0
    control_silent: Annotated[float, _seconds(2.0, 60.0)] = 3.0
    progress_timeout: Annotated[float, _seconds(1.0, 60.0)] = 5.0
    probe_timeout: Annotated[float, _seconds(0.1, 60.0)] = 5.0
    loop_late: Annotated[float, _seconds(0.01, 60.0)] = 0.5
    loop_stuck: Annotated[float, _seconds(0.01, 60.0)] = 5.0
    ends_window: Annotated[float, _seconds(1.0, 600.0)] = 60.0
    ends_warn: Annotated[int, PlainValidator(count(1, 100))] = 3
    ends_fail: Annotated[int, PlainValidator(count(1, 100))] = 8
    memory_warns: Annotated[int, _bytes(16 * _MIB, 64 * _GIB)] = 384 * _MIB
    memory_fails: Annotated[int, _bytes(16 * _MIB, 64 * _GIB)] = 1024 * _MIB
    descriptors_warn: Annotated[float, PlainValidator(parse_rate)] = 0.8
    descriptors_fail: Annotated[float, PlainValidator(parse_rate)] = 0.95
    disk_free: Annotated[int, _bytes(0, 1024 * _GIB)] = 64 * _MIB
    disk_hangs: Annotated[float, _seconds(0.1, 60.0)] = 10.0
    crypto_interval: Annotated[float, _seconds(1.0, 3600.0)] = 60.0
    crypto_timeout: Annotated[float, _seconds(0.1, 10.0)] = 5.0
    netlink_timeout: Annotated[float, _seconds(0.1, 10.0)] = 1.0


RestartWhen = Literal["always", "on-failure", "never"]


class RestartSection(Section):
    """[restart]: when a process of the node that ended is started again, and when one counts as hung. Times in seconds.

    `first_wait` and `longest_wait` bound the backoff; after `burst` ends within `window` one try in `slow_every` is
    made until the process has lived for `lived`. `spares`: keep a process of each kind imported and waiting.
    """

    lanes: RestartWhen = "always"
    control: RestartWhen = "always"
    observer: RestartWhen = "always"
    first_wait: Short = 0.05
    longest_wait: Long = 10.0
    burst: Annotated[int, PlainValidator(count(1, 100))] = 5
    window: Long = 60.0
    slow_every: Long = 30.0
    lived: Long = 10.0
    hang_after: Annotated[float, _seconds(0.5, 60.0)] = 1.0
    spares: bool = True


class BreakersSection(Section):
    """[breakers]: when a circuit breaker opens and tries again (`resilience/breaker.py`). Times in seconds.

    `slow_after` 0: a slow call is no failure. `most` breakers of one kind are kept.
    """

    window: Annotated[float, _seconds(1.0, 600.0)] = 30.0
    minimum_calls: Annotated[int, PlainValidator(count(1, 1000))] = 5
    failure_rate: Annotated[float, PlainValidator(parse_rate)] = 0.5
    consecutive: Annotated[int, PlainValidator(count(1, 100))] = 3
    open_for: Annotated[float, _seconds(0.5, 60.0)] = 5.0
    open_longest: Annotated[float, _seconds(0.5, 600.0)] = 60.0
    probes: Annotated[int, PlainValidator(count(1, 16))] = 1
    slow_after: Jitter = 0.0
    most: Annotated[int, PlainValidator(count(256, 4096))] = 1024


class SecuritySection(Section):
    """[security]: `on_crypto_failure` has one value; the way out is opt-in per peer (PROTOCOL section 8)."""

    on_crypto_failure: Literal["closed"] = "closed"


class OffloadSection(Section):
    """[offload]: "off" keeps the node from probing for a kernel feature, so that the slower path is taken."""

    tun_tso: Switch = "auto"
    tun_uso: Switch = "auto"
    udp_gso: Switch = "auto"
    udp_gro: Switch = "auto"
    steering: Switch = "auto"


SECTIONS: dict[str, type[Section]] = {
    "node": NodeSection,
    "timers": TimersSection,
    "log": LogSection,
    "redact": RedactSection,
    "telemetry": TelemetrySection,
    "crash_reports": CrashReportsSection,
    "health": HealthSection,
    "restart": RestartSection,
    "breakers": BreakersSection,
    "security": SecuritySection,
    "offload": OffloadSection,
}


@dataclass(frozen=True, slots=True)
class Peer:
    """A configured peer with its card and keys read. `keepalive` in seconds; `id` is its peer ID, 32 bytes."""

    name: str
    id: bytes
    card: Card
    endpoint: Endpoint | None
    allowed_ips: tuple[IPNetwork, ...]
    psk: Secret | None
    keepalive: float | None
    trace: bool
    allow_degraded: bool
    degraded_until: datetime.date | None


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything one node is configured with, validated as a whole. `path` is the file's real path; `card` our own."""

    path: Path
    node: NodeSection
    peers: tuple[Peer, ...]
    timers: TimersSection
    log: LogSection
    redact: RedactSection
    telemetry: TelemetrySection
    crash_reports: CrashReportsSection
    health: HealthSection
    restart: RestartSection
    breakers: BreakersSection
    security: SecuritySection
    offload: OffloadSection
    identity: IdentityKey
    card: Card
    network_key: Secret | None
    telemetry_headers: Secret | None = None  # the content of telemetry.headers_file
    crash_dsn: Secret | None = None  # the content of crash_reports.dsn_file, stripped
    health_token: Secret | None = None  # the content of health.token_file, stripped

    @property
    def folder(self) -> Path:
        """The folder of the configuration, where relative paths start."""
        return self.path.parent

    @property
    def runtime_folder(self) -> Path:
        """The folder of control socket and pid file."""
        return paths.runtime_folder(self.path, self.node.runtime_dir)

    @property
    def state_folder(self) -> Path:
        """The folder of what outlives the node: spool, log, last known state, the key of pseudonyms."""
        return paths.state_folder(self.path, self.node.state_dir)
