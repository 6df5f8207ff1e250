"""The attributes of a fact: its fields under the names of `telemetry/names.py`, as values that OpenTelemetry takes.

Owns the translation of values: endpoints become address, port and type, reasons their codes, frames a stack trace. Knows
nothing of what is redacted, which comes after.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from pqvpn.facts import Crashed, Fact
from pqvpn.reasons import Reason
from pqvpn.telemetry import names
from pqvpn.telemetry.envelope import Envelope

Value = str | bool | int | float | Sequence[str]
Attributes = dict[str, Value]

_NOT_ATTRIBUTES: Final = frozenset({"text", "severity"})
_FRAME: Final = re.compile(r"(?P<file>[^:\n]+):(?P<line>\d+)(?: (?:in )?(?P<function>[^\n]+))?")


def common(envelope: Envelope, fact: Fact) -> Attributes:
    """Whose record this is: component and process, and session and peer where they are known."""
    found: Attributes = {names.COMPONENT: fact.area, names.PROCESS: envelope.process}
    if envelope.session_id:
        found[names.SESSION_ID] = envelope.session_id
    if envelope.peer:
        found[names.PEER] = envelope.peer
    return found


def of(fact: Fact) -> Attributes:
    """A fact's own fields, without those that are empty."""
    found: Attributes = {}
    for field, value in fact.fields().items():
        if field in _NOT_ATTRIBUTES:
            continue
        if field == "endpoint":
            found |= endpoint(value)
        else:
            name = names.FIELDS_OF_EVENT.get((fact.event, field)) or names.FIELDS[field]
            found[name] = plain(name, value)
    if isinstance(fact, Crashed):
        found[names.ERROR_TYPE] = fact.error or fact.reason.code
    elif names.REASON in found and fact.level in ("warning", "error"):
        found[names.ERROR_TYPE] = found[names.REASON]
    return found


def plain(name: str, value: Any) -> Value:
    """A field's value as an attribute's."""
    if isinstance(value, Reason):
        return value.code
    if name == names.EXCEPTION_STACKTRACE:
        return stack_trace(value.split("; ") if isinstance(value, str) else value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {number:g}" for key, number in value.items())
    if isinstance(value, tuple | list):
        return [str(each) for each in value]
    return value if isinstance(value, bool | int | float) else str(value)


def stack_trace(frames: Iterable[str]) -> str:
    """Frames as Python writes them, which is the only form that the redactor reads; other lines stay as they are."""
    return "\n".join(_FRAME.sub(_frame, each, count=1) for each in frames)


def _frame(match: "re.Match[str]") -> str:
    return f'File "{match["file"]}", line {match["line"]}, in {match["function"] or "?"}'


@lru_cache(1024)
def _endpoint(text: str) -> tuple[tuple[str, Value], ...]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        return ((names.NETWORK_PEER_ADDRESS, text),)
    address = host.strip("[]")
    kind = "ipv6" if ":" in address else "ipv4"
    return (
        (names.NETWORK_PEER_ADDRESS, address),
        (names.NETWORK_PEER_PORT, int(port)),
        (names.NETWORK_TRANSPORT, "udp"),
        (names.NETWORK_TYPE, kind),
    )


def endpoint(text: str) -> Attributes:
    """The attributes of `address:port`; none for an empty text."""
    return dict(_endpoint(text)) if text else {}
