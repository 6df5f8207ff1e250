"""One log line: the fields that every record has, as JSON for machines and as text for people.

Owns names, order and encoding. Everything in a line has passed the redactor given; without one a line is refused.
Knows no stream, no file, and not which lines are wanted.
"""

from collections.abc import Collection, Hashable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

from pqvpn.facts import Fact, LogLine
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.logfiles import messages
from pqvpn.telemetry.logfiles.repeats import Repeated

_LIFTED: Final = frozenset({"peer", "session_id", "attempt", "reason"})
"""Fields of facts that have a place of their own in every line."""
_COUNTED: Final = frozenset({"attempt", "trace"})
"""Texts that differ between two records of the same thing."""
_EACH_TOLD: Final = frozenset({"config.applied", "config.refused", "log.level", "node.started", "node.stopped"})
"""What an operator did, who looks for the answer."""
_LONGEST: Final = 16 << 10
_encoder: Final = msgspec.json.Encoder()

Line = dict[str, Any]
Held = tuple[Envelope, Fact]
"""A record that was not told; nothing is spent on it before it is."""


class Scrubs(Protocol):
    """What a line needs of `telemetry.redaction.Redactor`."""

    def text(self, text: str) -> str: ...
    def fields(self, fields: Mapping[str, Any]) -> dict[str, Any]: ...
    def learn(self, hosts: Collection[str]) -> None: ...


def level_of(fact: Fact) -> str:
    """The level of a fact: debug, info, warning or error."""
    if not isinstance(fact, LogLine):
        return fact.level
    return "error" if fact.severity == "critical" else fact.severity


def make(envelope: Envelope, fact: Fact, redactor: Scrubs) -> Line:
    """The line of one fact."""
    clean = redactor.fields({name: value for name, value in envelope.fields.items() if value not in (None, "", (), [])})
    places = redactor.fields({"peer": envelope.peer, "session_id": envelope.session_id}) if envelope.peer else {}
    line: Line = {
        "time": rfc3339(envelope.time_ns),
        "level": level_of(fact),
        "component": fact.area,
        "process": envelope.process,
        "session_id": envelope.session_id,
        "trace_id": envelope.trace_id,
        "span_id": envelope.span_id,
        "peer": clean.get("peer") or places.get("peer", ""),
        "code": clean.get("reason", ""),
        "event": envelope.event,
        "message": redactor.text(messages.sentence(envelope.event, clean)),
        "fields": {name: value for name, value in clean.items() if name not in _LIFTED},
    }
    return {name: value for name, value in line.items() if value not in ("", {})}


def key_of(envelope: Envelope, fact: Fact) -> Hashable | None:
    """What two records have in common that tell the same: all their words, none of their numbers. None: never the same."""
    if envelope.event in _EACH_TOLD:
        return None
    words = (v for name, v in envelope.fields.items() if isinstance(v, str) and name not in _COUNTED)
    return envelope.event, envelope.process, level_of(fact), envelope.peer, *words


def repeated(summary: Repeated[Held], redactor: Scrubs) -> Line:
    """The line of the last of the records that were held back, with how many they were."""
    line = make(*summary.record, redactor)
    line["message"] = f"{line.get('message', '')}; the same {summary.count} times in {summary.seconds:.0f} s"
    line["fields"] = {**line.get("fields", {}), "repeats": summary.count, "repeats_seconds": round(summary.seconds, 1)}
    return line


def rfc3339(time_ns: int) -> str:
    """A wall clock time in UTC with microseconds."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{rest // 1000:06d}Z"


def as_json(line: Line) -> bytes:
    """One line for machines, without its end. What is too long keeps its head only."""
    data = _encoder.encode(line)
    if len(data) <= _LONGEST:
        return data
    short = {**line, "message": str(line.get("message", ""))[:1024], "fields": {"cut": len(data)}}
    return _encoder.encode(short)


def as_text(line: Line) -> str:
    """One line for people; control characters are shown, never sent to the terminal."""
    code = f" [{line['code']}]" if "code" in line else ""
    fields = {k: line[k] for k in ("peer", "session_id", "trace_id") if k in line} | line.get("fields", {})
    rest = " ".join(f"{name}={value}" for name, value in fields.items())
    head = f"{line['time'][11:23]} {line['level']:7} {line['process']:10} {line['event']:19}"
    return _visible(f"{head} {line.get('message', '')}{code} {rest}".rstrip())


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
