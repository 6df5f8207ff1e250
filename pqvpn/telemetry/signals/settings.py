"""What `Signals` is made with.

Owns the settings' names and defaults. Knows nothing of the configuration file: who reads it fills this in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

Kinds = frozenset[str]
KINDS: Kinds = frozenset({"traces", "metrics", "logs"})


class Sink(Protocol):
    """Takes an encoded `Export*ServiceRequest` of `items` spans, points or records; `kind`: traces, metrics, logs.

    It may raise; the batch then is lost and counted.
    """

    def __call__(self, kind: str, payload: bytes, items: int, /) -> object: ...


class Wanted(Protocol):
    """Whether a log record of that area and level is wanted, at that CLOCK_BOOTTIME (`Levels.wanted`)."""

    def __call__(self, area: str, level: str, now: float, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """`instance` is a stable pseudonym of the node, `peers` the configured names, `sample` the share of traces.

    `environment`: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_SDK_DISABLED and OTEL_{TRACES,METRICS,LOGS}_EXPORTER
    (only `none` means anything) of the operator. `longest_attempt`: an attempt that is open for longer (seconds) is lost.
    """

    version: str
    instance: str
    peers: tuple[str, ...] = ()
    sample: float = 1.0
    environment: Mapping[str, str] = field(default_factory=dict)
    kinds: Kinds = KINDS
    longest_attempt: float = 120.0
