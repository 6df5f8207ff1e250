"""Crash reports on this disk, for people: the list, one of them in words, and the bytes that are sent.

Owns what is shown of a report and in which words. Reads the spool without its lock, so that it works while the node runs,
hangs or is down. What is in the folder may be damaged or foreign: everything shown is made printable and cut.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pqvpn.config.paths import CRASHES_FOLDER
from pqvpn.diag import words
from pqvpn.diag.knowledge import mapping, mappings
from pqvpn.diag.nearest import by_prefix, nearest
from pqvpn.diag.records import NANO, as_number
from pqvpn.diag.report import Line
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason
from pqvpn.telemetry.crashes import reading
from pqvpn.telemetry.crashes.reading import Report

SHORT: Final = 8
_MOST_FRAMES: Final = 100
_MOST_LINES: Final = 100
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Crash:
    """What a report says, as texts; missing ones are empty. `frames`: outermost first."""

    report: Report
    kind: str
    process: str
    code: str
    error: str
    text: str
    count: int
    handled: bool
    frames: tuple[str, ...]
    tags: Mapping[str, str]

    @property
    def place(self) -> str:
        """Where it happened: the innermost frame of ours, else the innermost."""
        ours = next((frame for frame in reversed(self.frames) if frame.startswith("pqvpn/")), "")
        return (ours or (self.frames[-1] if self.frames else "")).partition(" in ")[0]


def of(state: Path) -> tuple[list[Crash], tuple[str, ...]]:
    """The crashes recorded in a state folder, newest first, and what could not be read."""
    found, notes = reading.reports(state / CRASHES_FOLDER)
    return [_crash(report) for report in reversed(found)], notes


def find(crashes: Sequence[Crash], given: str) -> Crash:
    """The one whose ID begins so; "last": the newest. Raises PqvpnError when none or several do."""
    if given == "last" and crashes:
        return crashes[0]
    known = [crash.report.id for crash in crashes]
    found = by_prefix(given.lower().replace("-", ""), known)
    if len(found) == 1:
        return next(crash for crash in crashes if crash.report.id == found[0])
    if found:
        shown = ", ".join(each[:12] for each in found[:5])
        raise PqvpnError(Reason.USAGE, f"{len(found)} crashes begin with {given!r}: {shown}", remedy="give more digits")
    near = ", ".join(each[:SHORT] for each in nearest(given, known))
    remedy = f"known are, nearest first: {near}" if near else "none is recorded here"
    raise PqvpnError(Reason.USAGE, f"no crash {given!r} is recorded", remedy=remedy)


# -- as JSON -----------------------------------------------------------------------------------------------------------


def document(crashes: Sequence[Crash]) -> list[dict[str, Any]]:
    """Every crash, newest first."""
    return [summary(crash) for crash in crashes]


def summary(crash: Crash) -> dict[str, Any]:
    """One crash in the list."""
    return {
        "id": crash.report.id,
        "time": words.rfc3339(crash.report.time_ns / NANO),
        "kind": crash.kind,
        "process": crash.process,
        "code": crash.code,
        "error": crash.error,
        "place": crash.place,
        "count": crash.count,
        "handled": crash.handled,
        "session_id": crash.tags.get("session.id", ""),
        "trace_id": crash.tags.get("trace_id", ""),
        "sent": crash.report.sent,
        "bytes": len(crash.report.envelope),
    }


# -- as text -----------------------------------------------------------------------------------------------------------


def lines(crashes: Sequence[Crash], notes: Sequence[str], now: float, width: int) -> Iterator[Line]:
    """The list, newest first."""
    if not crashes:
        yield Line("No crash is recorded here.", "good")
    for crash in crashes:
        when = words.clock(crash.report.time_ns / NANO, now)
        times = f" {words.times(crash.count)}" if crash.count > 1 else ""
        where = f" at {crash.place}" if crash.place else ""
        sent = "sent" if crash.report.sent else "not sent"
        told = f"{when}  {crash.report.id[:SHORT]}  {crash.process}: {crash.error} ({crash.kind}){times}{where}; {sent}"
        yield Line(told, "warn" if crash.handled else "bad")
    if crashes:
        yield Line("")
        yield from _paragraph("One of them: pqvpn diag crash ID; what is sent of it: --preview.", width)
    for note in notes[:4]:
        yield from _paragraph(f"note: {note}", width)


def details(crash: Crash, now: float, width: int) -> Iterator[Line]:
    """One crash in words: what a report tells, and nothing else."""
    event = crash.report.event
    yield Line(f"crash {crash.report.id}", "bold")
    when = crash.report.time_ns / NANO
    yield Line(f"  when     {words.clock(when, now)} UTC, {words.ago(now - when)}")
    yield Line(f"  what     {crash.error} in {crash.process} ({crash.kind}), {words.times(crash.count)}", "bad")
    yield Line(f"  went on  {'yes, without what failed' if crash.handled else 'no: the process ended'}")
    yield from _paragraph(crash.text, width, "  why      ")
    remedy = _text(mapping(event.get("extra")).get("remedy"))
    if remedy:
        yield from _paragraph(remedy, width, "  do       ")
    for name, value in crash.tags.items():
        if name in ("session.id", "trace_id", "pqvpn.peer"):
            yield Line(f"  {name.removeprefix('pqvpn.'):8} {value}")
    yield Line(f"  sent     {'yes' if crash.report.sent else 'no'}")
    if crash.frames:
        yield Line("frames, innermost last", "bold")
        yield from (Line(f"  {frame}") for frame in crash.frames[-_MOST_FRAMES:])
    yield from _surroundings(event)


def _surroundings(event: Mapping[str, Any]) -> Iterator[Line]:
    health = mapping(mapping(event.get("contexts")).get("health"))
    wrong = [f"{_text(item)}: {_text(state)}" for item, state in health.items() if state != "ok"]
    if health:
        yield Line("health", "bold")
        yield Line(f"  {', '.join(wrong[:20]) or 'nothing was wrong'}")
    last = list(mappings(mapping(event.get("breadcrumbs")).get("values")))[-_MOST_LINES:]
    if last:
        yield Line("the last log lines", "bold")
    for each in last:
        moment = words.utc(as_number(each.get("timestamp"))).strftime("%H:%M:%S")
        yield Line(
            f"  {moment} {_text(each.get('level')):7} {_text(each.get('category'))}: {_text(each.get('message'))}"
        )


def _paragraph(text: str, width: int, head: str = "") -> Iterator[Line]:
    yield from (Line(line) for line in words.paragraph(text, head.rstrip(), width, len(head)))


# -- from an event -----------------------------------------------------------------------------------------------------


def _crash(report: Report) -> Crash:
    event = report.event
    values = list(mappings(mapping(event.get("exception")).get("values")))
    value = values[-1] if values else {}
    tags = {_text(name): _text(told) for name, told in list(mapping(event.get("tags")).items())[:50]}
    module, name = _text(value.get("module")), _text(value.get("type"))
    return Crash(
        report=report,
        kind=tags.get("pqvpn.kind", ""),
        process=tags.get("pqvpn.component", ""),
        code=tags.get("pqvpn.reason", ""),
        error=f"{module}.{name}" if module else name,
        text=_text(value.get("value")),
        count=max(1, int(as_number(mapping(event.get("extra")).get("count")))),
        handled=mapping(value.get("mechanism")).get("handled") is True,
        frames=tuple(_frames(mapping(value.get("stacktrace")).get("frames"))),
        tags=tags,
    )


def _frames(told: Any) -> Iterator[str]:
    for frame in mappings(told):
        line = f":{frame['lineno']}" if isinstance(frame.get("lineno"), int) else ""
        yield f"{_text(frame.get('filename'))}{line} in {_text(frame.get('function'))}"


def _text(value: Any) -> str:
    text = "" if value is None else str(value)[:_LONGEST]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
