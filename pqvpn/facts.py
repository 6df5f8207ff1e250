"""Facts: frozen records of what happened, published by mechanisms and turned into signals elsewhere.

Owns the records and the hook through which they pass. Knows no logger, no metric and no span: `pqvpn.telemetry`
consumes facts. A fact never carries a secret; addresses and peer names are given as they are and redacted by the consumer.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from pqvpn.reasons import Reason


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened. `event` is its stable name; `level` is a `logging` level name."""

    event: ClassVar[str] = "fact"
    level: ClassVar[str] = "info"

    def fields(self) -> dict[str, Any]:
        """The record's fields by name, without those that are empty."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in pairs if value is not None and value != ""}


FactHook = Callable[[Fact], None]


@dataclass(frozen=True, slots=True)
class HandshakeStarted(Fact):
    """An attempt to connect began (M1 sent for the first time)."""

    event = "handshake.started"
    peer: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class HandshakeCompleted(Fact):
    """A session was agreed. `role` is initiator or responder, `seconds` counts from the first M1 (initiator only)."""

    event = "handshake.completed"
    peer: str
    session_id: str
    role: str
    suite: str
    endpoint: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class HandshakeFailed(Fact):
    """An attempt was given up."""

    event = "handshake.failed"
    level = "warning"
    peer: str
    reason: Reason
    endpoint: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SessionEnded(Fact):
    """A session's keys were erased. `why`: expired, replaced, closed, removed, lost."""

    event = "session.ended"
    peer: str
    session_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Roamed(Fact):
    """A session's endpoint moved. `validated` once the path challenge was answered from there."""

    event = "path.roamed"
    peer: str
    session_id: str
    endpoint: str
    validated: bool


@dataclass(frozen=True, slots=True)
class Problem(Fact):
    """A failure with its reason, not tied to one of the records above."""

    event = "problem"
    level = "warning"
    reason: Reason
    component: str
    detail: str = ""
    peer: str = ""
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class ConfigurationApplied(Fact):
    """A reload took effect. `restart_needed`: settings that changed but are read at start only."""

    event = "config.applied"
    changes: str
    restart_needed: str = ""


@dataclass(frozen=True, slots=True)
class ConfigurationRefused(Fact):
    """A reload was refused; nothing changed."""

    event = "config.refused"
    level = "warning"
    reason: Reason
    errors: int


@dataclass(frozen=True, slots=True)
class NodeStarted(Fact):
    """The node answers and its interface is up."""

    event = "node.started"
    interface: str
    listen: int
    seconds: float


@dataclass(frozen=True, slots=True)
class NodeStopped(Fact):
    """The node ended on purpose. `cause`: signal or request."""

    event = "node.stopped"
    cause: str


@dataclass(frozen=True, slots=True)
class ChildEnded(Fact):
    """A process of the node ended unexpectedly. `status`: exit code, or the signal's name."""

    event = "process.ended"
    level = "error"
    process: str
    pid: int
    status: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class ChildStarted(Fact):
    """A process of the node was started; `restarts` counts the times it had ended before."""

    event = "process.started"
    process: str
    pid: int
    restarts: int
