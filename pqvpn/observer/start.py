"""What the supervisor tells the observer, as frozen types.

Owns the records and their encoding (one msgpack message in one SOCK_SEQPACKET datagram). Secrets (the collector's
headers, the bearer token, the key of pseudonyms) are in the message only, never in arguments or environment. Knows
nothing of what the observer does with them.
"""

import socket

import msgspec

from pqvpn.host import handover
from pqvpn.resilience.limits import Limits
from pqvpn.resilience.registry import Settings

_LARGEST = 128 << 10
_NEWS = b"news"


class _Message(msgspec.Struct, frozen=True, tag=True):
    def __repr__(self) -> str:
        """Only the name: the message carries secrets."""
        return type(self).__name__


class LogSettings(_Message, frozen=True):
    """[log] as the observer needs it. `file` False: no files. Sizes in bytes, times in seconds."""

    level: str
    levels: tuple[tuple[str, str, float | None], ...]  # what operators set since: area, level, seconds left
    text: bool
    debug: bool
    quiet: bool  # standard error is a file that nobody rotates
    file: bool
    rotate_size: int
    rotate_age: float
    keep_size: int


class RecordSettings(_Message, frozen=True):
    """[telemetry] as the observer needs it. `endpoint`: a packed `telemetry.export.Endpoint`, None: nothing is sent.

    `environment`: the `OTEL_*` variables that signals know of, none of which holds a secret.
    """

    endpoint: bytes | None
    environment: dict[str, str]
    sample: float
    spool_size: int
    spool_age: float
    flush_interval: float
    metrics_interval: float


class CrashSettings(_Message, frozen=True):
    """[crash_reports]. `dsn` None: nothing is sent. `host` empty: it is not told. Sizes in bytes, times in seconds."""

    dsn: bytes | None
    environment: str
    host: str
    ca_file: str | None
    timeout: float
    keep_size: int
    keep_age: float


class HealthSettings(_Message, frozen=True):
    """[health]. `token` guards what is not on loopback."""

    limits: Limits
    token: str | None


class Node(_Message, frozen=True):
    """Whose observer this is. `id`: the peer ID as text; `peers`: names configured at start."""

    name: str
    id: str
    version: str
    interface: str
    lanes: int
    peers: tuple[str, ...]
    started_at: float  # CLOCK_BOOTTIME


class ObserverStart(_Message, frozen=True):
    """Everything an observer needs; the first message. Descriptors travel with it, -1: none."""

    node: Node
    log: LogSettings
    records: RecordSettings
    crashes: CrashSettings
    health: HealthSettings
    addresses: str  # pseudonym, mask, keep
    pseudonym_key: bytes
    hosts: tuple[str, ...]  # names of the configuration that are redacted in sentences, too
    state_folder: str
    link: int  # reading end of the facts
    counters: int  # memfd of the lanes
    health_socket: int  # listening unix socket
    health_tcp: int = -1  # listening TCP socket
    tcp_is_loopback: bool = False
    supervisor_pid: int = 0
    breakers: Settings = Settings()
    supervisor_words: int = -1  # memfd on which the supervisor leaves its last words


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ObserverStart)


_DESCRIPTORS = ("link", "counters", "health_socket", "health_tcp", "supervisor_words")


def send(link: socket.socket, start: ObserverStart) -> None:
    """Put the message and its descriptors on the link. Raises OSError when it finds no room."""
    message, descriptors = handover.pack(start, _DESCRIPTORS)
    handover.send(link, _encoder.encode(message), descriptors)


LARGEST_NEWS = _LARGEST


class News(_Message, frozen=True):
    """What a reload changed for an observer at work: [breakers], [health], and the hosts of the configuration now."""

    breakers: Settings
    limits: Limits
    hosts: tuple[str, ...]


def pack_news(news: News) -> bytes:
    """The message for an observer at work; every other one is a poke."""
    return _NEWS + _encoder.encode(news)


def news_of(message: bytes) -> News | None:
    """What such a message says; None for a poke."""
    return msgspec.msgpack.decode(message[len(_NEWS) :], type=News) if message.startswith(_NEWS) else None


def receive(link: socket.socket) -> ObserverStart:
    """Wait for the message. Raises EOFError when the link closed, ValueError when it is something else."""
    data, descriptors = handover.receive(link, _LARGEST)
    return handover.unpack(_decoder.decode(data), _DESCRIPTORS, descriptors)
