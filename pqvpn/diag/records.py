"""Recorded facts as `diag` reads them: an `Event` for each, whatever store they come from.

Owns the way from a log record of the store to an event, and what is asked of a store (`Records`). Knows no file.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pqvpn.telemetry import names
from pqvpn.telemetry.store import LogRecord, MetricRecord, SpanRecord

NANO = 1_000_000_000


class Records(Protocol):
    """What a store of records answers (`pqvpn.telemetry.store.Store`, or an opened bundle): newest last, never raising
    for damage, which `notes` tells."""

    @property
    def notes(self) -> tuple[str, ...]: ...

    def spans(
        self, *, since_ns: int = 0, session_id: str = "", trace_id: str = "", peer: str = "", limit: int = 10_000
    ) -> list[SpanRecord]: ...

    def logs(
        self, *, since_ns: int = 0, session_id: str = "", trace_id: str = "", peer: str = "", component: str = "",
        level: str = "", limit: int = 10_000,
    ) -> list[LogRecord]: ...  # fmt: skip

    def metrics(
        self, name: str = "", *, since_ns: int = 0, peer: str = "", limit: int = 10_000
    ) -> list[MetricRecord]: ...


@dataclass(frozen=True, slots=True)
class Event:
    """A fact that was recorded. `time` is unix seconds; `fields` have the fact's own names."""

    time: float
    name: str
    fields: Mapping[str, Any]
    severity: str = "info"
    component: str = ""
    peer: str = ""
    session_id: str = ""
    trace_id: str = ""
    body: str = ""

    def text(self, name: str) -> str:
        """A field as text, empty when there is none."""
        value = self.fields.get(name)
        return "" if value is None else str(value)

    def number(self, name: str, default: float = 0.0) -> float:
        """A field as a number; what is none counts as `default`."""
        return as_number(self.fields.get(name), default)


_OF_ATTRIBUTE = {attribute: name for name, attribute in names.FIELDS.items()} | {
    names.MTU_BEFORE: "before",
    names.PROCESS: "process",  # also what a fact calls component, which here is the area
    names.COMPONENT: "component",
    names.EXCEPTION_STACKTRACE: "frames",
}
_DERIVED = (names.NETWORK_PEER_PORT, names.NETWORK_TRANSPORT, names.NETWORK_TYPE, names.ERROR_TYPE)
"""Attributes that say nothing which the fact's own fields do not."""


def plain_name(name: str) -> str:
    """An attribute's name as the fact has it: `pqvpn.peer` is `peer`, `session.id` is `session_id`."""
    return _OF_ATTRIBUTE.get(name) or name.removeprefix("pqvpn.")


def _fields(attributes: Mapping[str, Any]) -> dict[str, Any]:
    fields = {plain_name(name): value for name, value in attributes.items()}
    address, port = attributes.get(names.NETWORK_PEER_ADDRESS), attributes.get(names.NETWORK_PEER_PORT)
    if address:
        shown = f"[{address}]" if ":" in str(address) else str(address)
        fields["endpoint"] = f"{shown}:{port}" if port else shown
        for name in _DERIVED:
            fields.pop(name, None)
    return fields


def as_number(value: Any, default: float = 0.0) -> float:
    """A number out of what a store or a status says; nothing else is trusted to be one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return default
    try:
        return float(value)
    except ValueError:
        return default


def event_of(record: LogRecord) -> Event:
    """One log record as an event."""
    fields = _fields(record.attributes)
    return Event(
        time=record.time_ns / NANO,
        name=record.event or "log",
        fields=fields,
        severity=record.severity.lower(),
        component=str(fields.get("component") or fields.get("process") or ""),
        peer=str(fields.get("peer") or ""),
        session_id=str(fields.get("session_id") or ""),
        trace_id=record.trace_id or str(fields.get("attempt") or ""),
        body=str(record.body or ""),
    )


def events_of(records: Iterable[LogRecord]) -> tuple[Event, ...]:
    """Log records as events, oldest first."""
    return tuple(sorted((event_of(record) for record in records), key=lambda event: event.time))


def latest(events: Sequence[Event], *names: str) -> Event | None:
    """The newest event of one of these names."""
    return next((event for event in reversed(events) if event.name in names), None)


def named(events: Iterable[Event], *names: str) -> Iterator[Event]:
    """The events of these names, in their order."""
    return (event for event in events if event.name in names)
