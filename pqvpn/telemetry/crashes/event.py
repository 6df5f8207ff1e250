"""A `Crashed` fact as an event of Sentry's protocol, in the shape that Sentry, GlitchTip and Bugsink all keep.

Owns the event's layout. Pure; redaction is the client's. What the servers need: a fingerprint that is a list of strings
(else GlitchTip groups by message), no boolean and no null in a frame, tags of at most 200 characters without zero
bytes, contexts of plain texts and numbers, times as numbers.
"""

from dataclasses import dataclass
from typing import Any

from pqvpn import __version__
from pqvpn.facts import Crashed
from pqvpn.telemetry.envelope import Envelope

_TAG = 200
_MOST_LINES = 50
_FATAL = ("signal", "killed", "out_of_memory", "hang", "startup")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else is known at the time: the node's last log lines, its health, and what it may be called."""

    node: str = ""
    environment: str = "production"
    host: str = ""
    lines: tuple[dict[str, Any], ...] = ()
    health: tuple[tuple[str, str], ...] = ()  # (item, state)


def fingerprint(crash: Crashed) -> tuple[str, ...]:
    """What makes two crashes the same: reason, kind, process, type and the innermost frame of ours."""
    process = crash.process.partition("-")[0]  # lane-0 and lane-1 run the same code
    ours = next((f for f in reversed(crash.frames) if f.startswith("pqvpn/")), crash.place)
    function = ours.partition(" in ")[2] or ours.partition(":")[0]
    return (crash.reason.code, crash.kind, process, crash.error, function)


def event_of(crash: Crashed, envelope: Envelope, around: Surroundings) -> dict[str, Any]:
    """The whole event. Its id is derived from nothing: the spool's record id keeps it unique."""
    event: dict[str, Any] = {
        "timestamp": envelope.time_ns / 1e9,
        "platform": "python",
        "level": "fatal" if crash.kind in _FATAL else "error",
        "logger": f"pqvpn.{crash.process}",
        "release": f"pqvpn@{__version__}",
        "environment": around.environment,
        "transaction": crash.process,
        "fingerprint": list(fingerprint(crash)),
        "exception": {"values": [_exception(crash)]},
        "tags": _tags(crash, envelope, around),
        "contexts": _contexts(crash, envelope, around),
        "breadcrumbs": {"values": [_breadcrumb(line) for line in around.lines[-_MOST_LINES:]]},
        "extra": {"count": crash.count, "reason": crash.reason.text, "remedy": crash.reason.remedy},
    }
    if around.host:
        event["server_name"] = around.host
    return event


def _exception(crash: Crashed) -> dict[str, Any]:
    module, _, name = crash.error.rpartition(".")
    value: dict[str, Any] = {
        "type": name or crash.error,
        "value": f"{crash.reason.code}: {crash.reason.text}",
        "mechanism": {
            "type": "signalhandler" if crash.kind in ("signal", "killed", "out_of_memory") else crash.kind,
            "handled": crash.handled,
        },
    }
    if module:
        value["module"] = module
    if crash.frames:
        value["stacktrace"] = {"frames": [_frame(each) for each in crash.frames]}
    return value


def _frame(text: str) -> dict[str, Any]:
    place, _, function = text.partition(" in ")
    file, _, line = place.rpartition(":")
    frame: dict[str, Any] = {
        "filename": file,
        "function": function or "?",
        "module": file.removesuffix(".py").replace("/", "."),
    }
    if line.isdigit():
        frame["lineno"] = int(line)
    if file.startswith("pqvpn/"):
        frame["in_app"] = True
    return frame


def _tags(crash: Crashed, envelope: Envelope, around: Surroundings) -> dict[str, str]:
    tags = {
        "pqvpn.reason": crash.reason.code,
        "pqvpn.component": crash.process,
        "pqvpn.kind": crash.kind,
        "pqvpn.node": around.node,
        "pqvpn.peer": crash.peer or envelope.peer,
        "session.id": crash.session_id or envelope.session_id,
        "trace_id": crash.attempt or crash.trace_id or envelope.trace_id,
    }
    return {name: value.replace("\0", "")[:_TAG] for name, value in tags.items() if value}


def _contexts(crash: Crashed, envelope: Envelope, around: Surroundings) -> dict[str, Any]:
    contexts: dict[str, Any] = {
        "pqvpn": {
            "process": crash.process,
            "pid": crash.pid or envelope.pid,
            "thread": crash.thread or "main",
            "caused by": ", ".join(crash.chain) or "nothing else",
            "place": crash.place or "unknown",
        }
    }
    trace_id = crash.attempt or crash.trace_id or envelope.trace_id
    if trace_id:
        contexts["trace"] = {"trace_id": trace_id, "span_id": envelope.span_id or trace_id[:16], "op": "pqvpn"}
    if around.health:
        contexts["health"] = {item.replace(".", " "): state for item, state in around.health}
    return contexts


def _breadcrumb(line: dict[str, Any]) -> dict[str, Any]:
    data = {k: str(v)[:_TAG] for k, v in line.items() if k not in ("time", "level", "message", "component")}
    return {
        "timestamp": line.get("time", 0.0),
        "level": line.get("level", "info"),
        "category": str(line.get("component", "pqvpn")),
        "message": str(line.get("message", "")),
        "data": data,
    }
