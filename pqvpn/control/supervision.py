"""What the supervisor and control tell each other, as frozen types.

Owns the records and their encoding (one msgpack message in one SOCK_SEQPACKET datagram; `LaneReplaced` carries a descriptor
beside it). Knows nothing of what either side does with them. Times are seconds of CLOCK_BOOTTIME.
"""

import os
import socket
from typing import Any

import msgspec

from pqvpn.dataplane.events import Offloads
from pqvpn.host import handover
from pqvpn.protocol.settings import Timers
from pqvpn.resilience.registry import Settings

_INLINE = 100_000
"""Longer messages (1000 peers take about 1.4 MB) pass in a memfd: the default socket buffer holds 208 KiB."""
_IN_MEMFD = b"\xc1"  # never the first byte of a msgpack message


class _Message(msgspec.Struct, frozen=True, tag=True):
    def __repr__(self) -> str:
        """Only the name: several messages carry keys."""
        return type(self).__name__


class PeerSpec(_Message, frozen=True):
    """One configured peer. `endpoints` are "host:port" as configured; names are resolved by control."""

    peer_id: bytes
    name: str
    public_key: bytes
    psk: bytes | None
    endpoints: tuple[str, ...]
    allowed_ips: tuple[str, ...]
    keepalive: float | None
    trace: bool
    allow_degraded: bool
    degraded_until: float | None


class ErrorInfo(_Message, frozen=True):
    """A PqvpnError in transit; the fields of the control socket's error object."""

    code: str
    text: str
    detail: str
    place: str
    remedy: str


class ProcessInfo(_Message, frozen=True):
    """One process of the node as `status` shows it."""

    component: str
    pid: int
    restarts: int
    started_at: float


class ControlStart(_Message, frozen=True):
    """Everything control needs; the first message. Descriptors travel with it."""

    name: str
    peer_id: bytes
    seed: bytes  # X-Wing seed, 32
    network_key: bytes | None
    boot_id: bytes
    peers: tuple[PeerSpec, ...]
    timers: Timers
    lanes: int
    mtu: int
    interface: str
    addresses: tuple[str, ...]
    listen: int
    log_level: str
    log_text: bool
    debug: bool
    aes_instructions: bool  # the processor has AES instructions
    udp: int  # socket 0 of the port: handshakes
    ipv6: bool  # the UDP socket is AF_INET6 (dual stack), else AF_INET
    api: int  # listening unix socket
    counters: int  # memfd
    lane_links: tuple[int, ...]  # SOCK_SEQPACKET to each lane
    offloads: Offloads
    supervisor_pid: int
    started_at: float  # of the node
    restarted: bool  # lanes may hold sessions of an earlier control
    facts: int = -1  # sending end of the link to the observer, -1: there is none
    redact_addresses: str = "pseudonym"
    redact_key: bytes = b""
    redact_hosts: tuple[str, ...] = ()
    quiet: bool = False  # standard error is a file that nobody rotates
    sample: float = 1.0  # the share of our handshakes that is traced; 0 without telemetry
    icmp: tuple[int, ...] = ()  # raw sockets that hear ICMP errors; none where the kernel refused
    breakers: Settings = Settings()
    crypto_interval: float = 60.0  # seconds between two runs of the self-tests
    crypto_timeout: float = 5.0  # seconds that one may take
    log_levels: tuple[tuple[str, str, float | None], ...] = ()  # what operators set since: area, level, seconds left


class Configure(_Message, frozen=True):
    """The peers after a reload, complete; control answers `request` on the control socket when it is done."""

    request: int
    peers: tuple[PeerSpec, ...]
    changes: tuple[str, ...]
    restart_needed: tuple[str, ...]
    breakers: Settings = Settings()
    crypto_interval: float = 60.0
    crypto_timeout: float = 5.0
    redact_hosts: tuple[str, ...] = ()


class ReloadRefused(_Message, frozen=True):
    """The configuration file has errors; nothing was changed."""

    request: int
    errors: tuple[ErrorInfo, ...]


class SupervisorBreakers(_Message, frozen=True):
    """The supervisor's own breakers, whenever one changed. With a `request` the first is what the operator asked for."""

    rows: tuple[dict[str, Any], ...]
    request: int = 0


class LaneReplaced(_Message, frozen=True):
    """A lane died and another took its place; the new link's descriptor comes with this message."""

    lane: int


class Processes(_Message, frozen=True):
    """The node's processes now, and what start-up cost (`parts`: seconds by name)."""

    processes: tuple[ProcessInfo, ...]
    parts: dict[str, float]


class Poke(_Message, frozen=True):
    """Show a sign of progress: the supervisor watches the counter, not the answer."""


class Shutdown(_Message, frozen=True):
    """Say goodbye to the peers and end."""


class ControlReady(_Message, frozen=True):
    """Control answers handshakes and the control socket."""


class ReloadRequested(_Message, frozen=True):
    """An operator wants the configuration file read again."""

    request: int


class LevelRequested(_Message, frozen=True):
    """An operator set the log level of an area; it falls back after `seconds`, None: it stays."""

    area: str
    level: str
    seconds: float | None


class BreakerRequested(_Message, frozen=True):
    """An operator wants something of one of the supervisor's breakers."""

    request: int
    name: str
    action: str


class StopRequested(_Message, frozen=True):
    """An operator wants the node to end."""


ToControl = ControlStart | Configure | SupervisorBreakers | ReloadRefused | LaneReplaced | Processes | Poke | Shutdown
ToSupervisor = ControlReady | ReloadRequested | LevelRequested | BreakerRequested | StopRequested

_DESCRIPTORS = ("udp", "api", "counters", "lane_links", "icmp", "facts")
_encoder = msgspec.msgpack.Encoder()
_to_control: msgspec.msgpack.Decoder[ToControl] = msgspec.msgpack.Decoder(ToControl)
_to_supervisor: msgspec.msgpack.Decoder[ToSupervisor] = msgspec.msgpack.Decoder(ToSupervisor)


POKE = _encoder.encode(Poke())
"""The message as it travels: sent often, and never by a call that may wait."""


def link() -> tuple[socket.socket, socket.socket]:
    """A connected pair for this link: (supervisor's end, control's end)."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: ToControl | ToSupervisor, descriptor: int | None = None) -> None:
    """Put one message on the link, with at most one descriptor. Raises OSError when the other end is gone or full."""
    data = _encoder.encode(message)
    if len(data) > _INLINE:
        memory = _spill(data)
        try:
            socket.send_fds(end, [_IN_MEMFD], [memory])
        finally:
            os.close(memory)
    elif descriptor is not None:
        socket.send_fds(end, [data], [descriptor])
    else:
        end.send(data)


def send_start(end: socket.socket, start: ControlStart) -> None:
    """Put the first message on the link, with its descriptors. Raises OSError when it finds no room."""
    message, descriptors = handover.pack(start, _DESCRIPTORS)
    memory = _spill(_encoder.encode(message))
    try:
        handover.send(end, _IN_MEMFD, [memory, *descriptors])
    finally:
        os.close(memory)


def begins_start(first: bytes) -> bool:
    """Whether a message whose first byte is `first` is one of `send_start`."""
    return first == _IN_MEMFD


def receive_start(end: socket.socket) -> ControlStart:
    """Wait for the first message. Raises EOFError when the supervisor is gone, ValueError when it is something else."""
    data, descriptors = handover.receive(end, _INLINE)
    if data != _IN_MEMFD or not descriptors:
        raise ValueError("not a start message")
    message = _to_control.decode(_unspill(descriptors[0]))
    if not isinstance(message, ControlStart):
        raise ValueError("not a start message")
    return handover.unpack(message, _DESCRIPTORS, descriptors[1:])


def receive_as_control(end: socket.socket) -> tuple[ToControl, int | None]:
    """The next message and the descriptor that came with it. Raises EOFError when the supervisor is gone."""
    data, descriptors, _, _ = socket.recv_fds(end, _INLINE, 1)
    if not data:
        raise EOFError("the supervisor closed the link")
    if data == _IN_MEMFD and descriptors:
        return _to_control.decode(_unspill(descriptors[0])), None
    return _to_control.decode(data), descriptors[0] if descriptors else None


def receive_as_supervisor(end: socket.socket) -> ToSupervisor:
    """The next message. Raises EOFError when control is gone, ValueError when it is something else."""
    data = end.recv(_INLINE)
    if not data:
        raise EOFError("control closed the link")
    return _to_supervisor.decode(data)


def _spill(data: bytes) -> int:
    memory = os.memfd_create("pqvpn-message", os.MFD_CLOEXEC)
    with open(memory, "wb", closefd=False) as file:
        file.write(data)
    return memory


def _unspill(memory: int) -> bytes:
    with open(memory, "rb") as file:
        file.seek(0)
        return file.read()
