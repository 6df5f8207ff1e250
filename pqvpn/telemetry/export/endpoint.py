"""Where records are sent and how: one frozen value, whose headers cannot be shown by accident.

Owns the value and its passage to another process. Where its parts come from is `environment.py`.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from pqvpn.crypto.secret import Secret
from pqvpn.telemetry.spool.layout import Kind

Protocol = Literal["http/protobuf", "grpc"]
Compression = Literal["gzip", "none"]
SIGNALS: Final = {Kind.TRACES: "traces", Kind.METRICS: "metrics", Kind.LOGS: "logs"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where one signal goes. `url` is complete: for HTTP with its path, for gRPC without. `timeout`: seconds of one try.

    `headers`: lines `name: value`. Files are absolute paths.
    """

    url: str
    protocol: Protocol = "http/protobuf"
    headers: Secret | None = field(default=None, hash=False)  # a secret has no hash, and senders are found by target
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    compression: Compression = "gzip"
    timeout: float = 10.0

    def header_pairs(self) -> tuple[tuple[str, str], ...]:
        """The headers' names, lower case, and values."""
        text = self.headers.expose().decode("ascii") if self.headers else ""
        return tuple((n.strip().lower(), v.strip()) for n, _, v in (line.partition(":") for line in text.splitlines()))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where records go; None: that signal is not sent."""

    traces: Target | None = None
    metrics: Target | None = None
    logs: Target | None = None

    def of(self, kind: int) -> Target | None:
        """Where records of a kind go."""
        name = SIGNALS.get(Kind(kind)) if kind in SIGNALS else None
        return getattr(self, name) if name else None

    def pack(self) -> bytes:
        """For a process that is started; holds the headers."""
        return msgspec.msgpack.encode([_plain(self.traces), _plain(self.metrics), _plain(self.logs)])

    @classmethod
    def unpack(cls, data: bytes) -> "Endpoint":
        """What `pack` made. Raises ValueError."""
        targets = msgspec.msgpack.decode(data, type=tuple[_Plain | None, _Plain | None, _Plain | None])
        return cls(*(each.target() if each else None for each in targets))


class _Plain(msgspec.Struct, frozen=True):
    url: str
    protocol: Protocol
    headers: bytes | None
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    compression: Compression
    timeout: float

    def target(self) -> Target:
        headers = Secret(self.headers) if self.headers is not None else None
        return Target(
            self.url,
            self.protocol,
            headers,
            self.ca_file,
            self.certificate_file,
            self.key_file,
            self.compression,
            self.timeout,
        )


def _plain(target: Target | None) -> _Plain | None:
    if target is None:
        return None
    headers = target.headers.expose() if target.headers else None
    return _Plain(
        target.url,
        target.protocol,
        headers,
        target.ca_file,
        target.certificate_file,
        target.key_file,
        target.compression,
        target.timeout,
    )
