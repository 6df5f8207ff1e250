"""What happened with one peer: attempts, sessions, paths, and a timeline of its state.

Owns how events of one attempt or session are put together. Pure: events and metrics in, a frozen history out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pqvpn.diag import plots, words
from pqvpn.diag.knowledge import Knowledge, Peer
from pqvpn.diag.records import NANO, Event, as_number, named
from pqvpn.diag.report import Line
from pqvpn.telemetry import names
from pqvpn.telemetry.store import MetricRecord

ATTEMPTS_SHOWN = 10
_EVENTS_SHOWN = 15
_LABEL = 12
_ENDS = {"handshake.completed": "completed", "handshake.failed": "failed", "handshake.abandoned": "abandoned"}
_HIDDEN = ("peer", "attempt", "component", "process", "session_id")
_PATHS = ("path.validated", "path.roamed", "path.mtu")
_QUIET = ("handshake.sent", "handshake.cookie", "retry.waiting")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to connect. `outcome`: completed, failed, abandoned, unfinished; `seconds` None while unfinished."""

    id: str
    start: float
    trigger: str
    role: str
    outcome: str
    seconds: float | None
    reason: str
    drops: tuple[str, ...]
    endpoint: str
    sent: int


@dataclass(frozen=True, slots=True)
class Session:
    """One session. `end` None: it is in use, or its end was not recorded."""

    id: str
    start: float
    end: float | None
    why: str
    role: str
    suite: str


@dataclass(frozen=True, slots=True)
class History:
    """All of it, oldest first. `states`: (time, state)."""

    peer: Peer
    begin: float
    end: float
    attempts: tuple[Attempt, ...]
    sessions: tuple[Session, ...]
    states: tuple[tuple[float, str], ...]
    rtt: tuple[tuple[float, float], ...]
    loss: tuple[tuple[float, float], ...]


def history(known: Knowledge, peer: Peer, metrics: Iterable[MetricRecord], seconds: float) -> History:
    """The last `seconds` of what is known of a peer; less when less was recorded."""
    begin = known.at - seconds
    events = [event for event in peer.events if event.time >= begin]
    points = [point for point in metrics if point.attributes.get(names.PEER) == peer.name]
    first = min((event.time for event in events), default=known.at - 60.0)
    states = _states(peer, known.at)
    return History(
        peer, max(begin, min(first, known.at - 60.0)), known.at, _attempts(events), _sessions(events), states,
        _series(points, names.PEER_RTT.name, begin), _series(points, names.PEER_LOSS.name, begin),
    )  # fmt: skip


def _attempts(events: Sequence[Event]) -> tuple[Attempt, ...]:
    groups: dict[str, list[Event]] = {}
    for event in events:
        key = event.text("attempt") or event.trace_id
        if key and event.name.startswith("handshake."):
            groups.setdefault(key, []).append(event)
    return tuple(_attempt(key, group) for key, group in groups.items())


def _attempt(key: str, group: Sequence[Event]) -> Attempt:
    first = group[0]
    end = next((event for event in reversed(group) if event.name in _ENDS), None)
    started = next(named(group, "handshake.started"), None)
    drops = end.fields.get("drops") if end else ()
    taken = None if end is None else end.number("seconds", end.time - first.time)
    return Attempt(
        id=key,
        start=first.time,
        trigger=started.text("trigger") if started else "",
        role=(end.text("role") if end else "") or ("initiator" if started else "responder"),
        outcome=_ENDS[end.name] if end else "unfinished",
        seconds=taken,
        reason=(end.text("reason") or end.text("why")) if end else "",
        drops=tuple(str(each) for each in drops) if isinstance(drops, Sequence) and not isinstance(drops, str) else (),
        endpoint=next((event.text("endpoint") for event in reversed(group) if event.text("endpoint")), ""),
        sent=sum(1 for _ in named(group, "handshake.sent")),
    )


def _sessions(events: Sequence[Event]) -> tuple[Session, ...]:
    ends = {event.session_id: event for event in named(events, "session.ended") if event.session_id}
    found = []
    for event in named(events, "handshake.completed"):
        end = ends.get(event.session_id)
        why = end.text("why") if end else ""
        found.append(
            Session(
                event.session_id,
                event.time,
                end.time if end else None,
                why,
                event.text("role"),
                event.text("suite"),
            )
        )
    return tuple(found)


def _states(peer: Peer, at: float) -> tuple[tuple[float, str], ...]:
    found: list[tuple[float, str]] = []
    for event in named(peer.events, "peer.state"):
        if not found and event.text("before"):
            found.append((event.time - event.number("seconds"), event.text("before")))
        found.append((event.time, event.text("state")))
    if not found and peer.state:
        lasts = peer.status.get("handshake_age_seconds") if peer.up else None
        since = at - as_number(lasts) if lasts is not None else peer.down_since
        found.append((at if since is None else since, peer.state))
    return tuple(found)


def _series(points: Iterable[MetricRecord], name: str, begin: float) -> tuple[tuple[float, float], ...]:
    found = [(p.time_ns / NANO, p.value) for p in points if p.name == name and p.value is not None]
    return tuple(sorted((time, value) for time, value in found if time >= begin))


# -- for people --------------------------------------------------------------------------------------------------------


def lines(told: History, now: float, width: int = words.WIDTH) -> list[Line]:
    """The history as text: timeline, attempts, sessions, then what else was recorded."""
    found = [Line(_title(told), "bold")]
    found += _now(told)
    found += [Line(""), *_timeline(told, width)]
    if told.attempts:
        found += [Line(""), Line("Attempts to connect, newest last (pqvpn diag trace ID shows one):", "bold")]
        found += [
            Line(f"  {row}") for row in words.columns([_attempt_row(a, now) for a in told.attempts[-ATTEMPTS_SHOWN:]])
        ]
    if told.sessions:
        found += [Line(""), Line("Sessions, newest last:", "bold")]
        found += [
            Line(f"  {row}") for row in words.columns([_session_row(s, now) for s in told.sessions[-ATTEMPTS_SHOWN:]])
        ]
    rest = [event for event in told.peer.events if event.name not in _QUIET and event.time >= told.begin]
    if rest:
        found += [Line(""), Line("What was recorded, newest last:", "bold")]
        found += [line for event in rest[-_EVENTS_SHOWN:] for line in event_lines(event, now, width)]
    return found


def _title(told: History) -> str:
    peer = told.peer
    why = f" [{peer.reason}]" if peer.reason and not peer.up else ""
    return f"{peer.name}: {peer.state or 'state unknown'}{why}"


def _now(told: History) -> list[Line]:
    status = told.peer.status
    parts = []
    for name, label in (
        ("endpoint", "endpoint"),
        ("session_id", "session"),
        ("path_mtu", "path MTU"),
        ("suite", "suite"),
    ):
        if status.get(name):
            value = str(status[name])
            parts.append(f"{label} {value[:8] if name == 'session_id' else value}")
    rtt, loss = status.get("rtt_ms"), status.get("loss")
    parts += [f"rtt {rtt:.1f} ms"] if isinstance(rtt, int | float) else []
    parts += [f"loss {loss * 100:.1f} %"] if isinstance(loss, int | float) else []
    return [Line(f"  {text}") for text in words.paragraph(", ".join(parts), indent=0)] if parts else []


def _timeline(told: History, width: int) -> list[Line]:
    columns = max(20, min(width, 120) - _LABEL - 1)
    begin, end = told.begin, told.end
    rows = [("state", plots.states(told.states, begin, end, columns))]
    good = [a.start for a in told.attempts if a.outcome == "completed"]
    bad = [a.start for a in told.attempts if a.outcome != "completed"]
    rows += [("connected", plots.marks(good, begin, end, columns, "o"))] if good else []
    rows += [("failed", plots.marks(bad, begin, end, columns, "x"))] if bad else []
    for label, series in (("rtt", told.rtt), ("loss", told.loss)):
        if any(value for _, value in series):
            rows.append((label, plots.sparkline(_binned(series, begin, end, columns), columns)))
    scale = f"{words.clock(begin, end)}".ljust(columns - 8) + words.clock(end, end)
    legend = "up █  stale ▅  connecting ▃  down ▁"
    return [
        *(Line(f"  {label:<{_LABEL - 2}}{row}".rstrip()) for label, row in rows),
        Line(f"  {'UTC':<{_LABEL - 2}}{scale}", "dim"),
        Line(f"  {'':<{_LABEL - 2}}{legend}", "dim"),
    ]


def _binned(series: Sequence[tuple[float, float]], begin: float, end: float, width: int) -> list[float | None]:
    found: list[float | None] = [None] * width
    for time, value in series:
        place = min(max(int((time - begin) / ((end - begin) or 1.0) * width), 0), width - 1)
        found[place] = max(value, found[place] or 0.0)
    return found


def _attempt_row(attempt: Attempt, now: float) -> tuple[str, ...]:
    taken = words.duration(attempt.seconds) if attempt.seconds is not None else "-"
    why = ", ".join(part for part in (attempt.reason, *attempt.drops) if part)
    return (
        words.clock(attempt.start, now), attempt.id[:8], attempt.role, attempt.trigger or "-", attempt.outcome, taken,
        words.clean(why),
    )  # fmt: skip


def _session_row(session: Session, now: float) -> tuple[str, ...]:
    end = f"ended {words.clock(session.end, now)}" if session.end is not None else "in use"
    lasted = words.age((session.end if session.end is not None else now) - session.start)
    return (words.clock(session.start, now), session.id[:8], session.role, end, lasted, session.why)


def event_lines(event: Event, now: float, width: int, *, peer: bool = False) -> list[Line]:
    """A recorded fact; `peer`: with the peer's name."""
    style = {"warning": "warn", "error": "bad", "critical": "bad", "warn": "warn"}.get(event.severity, "plain")
    text = event_text(event)
    if peer and event.peer and event.peer not in text:
        text = f"{event.peer}: {text}"
    stamp = f"  {words.clock(event.time, now)}"
    return [Line(line, style) for line in words.paragraph(text, stamp, width, len(stamp) + 2)]


def event_text(event: Event) -> str:
    """A fact in one line: in words when it was recorded with words, else its name and what it holds."""
    if event.body:
        return f"{event.body}{_aside(event)}"
    shown = {name: value for name, value in event.fields.items() if name not in _HIDDEN and value not in ("", None)}
    return " ".join([event.name, *(f"{name}={_short(value)}" for name, value in shown.items())])


def _aside(event: Event) -> str:
    """What the sentence leaves out and the next command asks for."""
    parts = [
        f"{event.number('count'):.0f} times" if event.number("count") > 1 else "",
        event.text("reason"),
        event.text("drop"),
    ]
    parts += [f"session {event.session_id[:8]}" if event.session_id else ""]
    parts += [f"trace {event.trace_id[:8]}" if event.trace_id else ""]
    told = ", ".join(part for part in parts if part and part not in event.body)
    return f" [{told}]" if told else ""


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


# -- for programs ------------------------------------------------------------------------------------------------------


def document(told: History) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "peer": told.peer.name,
        "state": told.peer.state or None,
        "reason": told.peer.reason or None,
        "status": dict(told.peer.status),
        "from": words.rfc3339(told.begin),
        "to": words.rfc3339(told.end),
        "attempts": [_plain(a, "start") for a in told.attempts],
        "sessions": [_plain(s, "start", "end") for s in told.sessions],
        "paths": [_path(e) for e in named(told.peer.events, *_PATHS) if e.time >= told.begin],
        "states": [{"time": words.rfc3339(time), "state": state} for time, state in told.states],
        "rtt": [[words.rfc3339(time), value] for time, value in told.rtt],
        "loss": [[words.rfc3339(time), value] for time, value in told.loss],
    }


def _path(event: Event) -> dict[str, Any]:
    shown = {name: value for name, value in event.fields.items() if name not in _HIDDEN}
    return {"time": words.rfc3339(event.time), "event": event.name, "session_id": event.session_id or None, **shown}


def _plain(record: Attempt | Session, *moments: str) -> dict[str, Any]:
    found: Mapping[str, Any] = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {k: words.rfc3339(v) if k in moments and v is not None else v for k, v in found.items()}
