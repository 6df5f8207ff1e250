"""From a node, or from what it left behind, to `Knowledge`: nothing that is missing, slow or damaged makes this fail.

Owns which source counts: the node itself when it answers within a second, else its last recorded state, and always the
store for what happened. Every source that gave nothing leaves a note. Knows no rule.
"""

import json
import socket
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Any

from pqvpn.config import paths
from pqvpn.diag import words
from pqvpn.diag.knowledge import Knowledge, mapping, mappings
from pqvpn.diag.records import NANO, Event, Records, as_number, events_of
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason
from pqvpn.telemetry import last, names
from pqvpn.telemetry.store import MetricRecord

PATIENCE = 1.0
"""Seconds that the node has to answer."""
HISTORY = 7 * 86400.0
EVENTS_MOST = 20_000
RISING_WITHIN = 300.0
_CURRENT = 30.0
"""Seconds: what was recorded of the interface is of now when it is no older."""
_ANSWER_MOST = 8 << 20

Ask = Callable[..., dict[str, Any]]
"""(runtime folder, operation, seconds=...): the control socket's answer. Raises PqvpnError."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a node's things are. `configuration` None: an opened bundle."""

    runtime: Path | None
    state: Path
    configuration: Path | None = None

    @classmethod
    def of(cls, configuration: Path) -> "Places":
        """Those of the node with this configuration, which may be missing or broken."""
        return cls(paths.runtime_folder_of(configuration), paths.state_folder_of(configuration), configuration)


@dataclass(slots=True)
class _Live:
    status: Mapping[str, Any]
    health: tuple[Mapping[str, Any], ...]
    running: bool | None
    answers: bool


def gather(places: Places, records: Records, ask: Ask, running: Callable[[Path], int | None]) -> Knowledge:
    """Everything known now. `running` says whose process holds the lock of a runtime folder."""
    notes: list[str] = []
    now = time.time()
    live = _ask(places.runtime, ask, running, notes) if places.runtime else _Live({}, (), None, False)
    left = _left(places.state, notes)
    events = _events(records, now, notes)
    at = _moment(live, left, events, now)
    status = live.status or mapping(left.get("status"))
    _note_damage(records, notes)
    return Knowledge(
        now=now,
        at=at,
        source="live" if live.answers else "recorded" if left or events else "none",
        running=live.running,
        answers=live.answers,
        status=status,
        health=live.health or items_of(left.get("health")),
        interface=mapping(left.get("interface")) if _current(left, at) else {},
        export=mapping(left.get("export")) if _current(left, at) else {},
        observed=bool(live.health),
        written=_written(left),
        stopped=str(left.get("stopped") or ""),
        begun=as_number(left.get("begun")),
        events=events,
        rising=_rising(records, status if live.answers else {}, at, notes),
        clock_synchronised=_synchronised(),
        configured_name=_configured_name(places),
        configuration_errors=_configuration_errors(places) if live.running is False else (),
        notes=tuple(notes),
    )


def _ask(runtime: Path, ask: Ask, running: Callable[[Path], int | None], notes: list[str]) -> _Live:
    alive = running(runtime) is not None
    status: Mapping[str, Any] = {}
    try:
        status = ask(runtime, "status", seconds=PATIENCE)
    except PqvpnError as error:
        if error.reason is Reason.NO_PERMISSION:
            notes.append(f"the node cannot be asked: {error.detail}; {error.remedy}")
            return _Live({}, (), None, False)
        if error.reason is not Reason.NOT_RUNNING:
            notes.append(f"the control socket gave no answer within {PATIENCE:.0f} s: {error.detail}")
    answers = bool(status)
    health = _health(paths.health_socket(runtime), notes) if alive or answers else ()
    return _Live(status, health, alive or answers, answers)


def _health(place: Path, notes: list[str]) -> tuple[Mapping[str, Any], ...]:
    """The observer's answer to `GET /health` on its unix socket."""
    if not place.exists():
        return ()
    connection = HTTPConnection("localhost", timeout=PATIENCE)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect(str(place))
        connection.request("GET", "/health")
        return items_of(json.loads(connection.getresponse().read(_ANSWER_MOST)))
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        notes.append(f"the observer gave no answer within {PATIENCE:.0f} s ({type(error).__name__})")
        return ()
    finally:
        connection.close()


def items_of(report: Any) -> tuple[Mapping[str, Any], ...]:
    """The health items of a report, however it is wrapped."""
    if isinstance(report, Mapping):
        report = report.get("items", report.get("report", ()))
    return tuple(mappings(report)) if isinstance(report, Sequence) and not isinstance(report, str) else ()


def _left(state: Path, notes: list[str]) -> Mapping[str, Any]:
    found = last.read(state)
    if found is None:
        missing = not (state / "last.json").exists()
        what = "no last known state" if missing else "a last known state that is damaged or of another version"
        notes.append(f"{state}: {what}")
    return found or {}


def _current(left: Mapping[str, Any], at: float) -> bool:
    """Whether the recorded state is about the same moment as what is known."""
    return bool(left) and _written(left) >= at - _CURRENT


def _written(left: Mapping[str, Any]) -> float:
    """When the recorded state was written, unix seconds; 0.0 when it does not say."""
    return words.moment(left.get("written")) or as_number(left.get("time"))


def _events(records: Records, now: float, notes: list[str]) -> tuple[Event, ...]:
    try:
        return events_of(records.logs(since_ns=int((now - HISTORY) * NANO), limit=EVENTS_MOST))
    except (OSError, ValueError) as error:
        notes.append(f"the records cannot be read: {error}")
        return ()


def _moment(live: _Live, left: Mapping[str, Any], events: tuple[Event, ...], now: float) -> float:
    if live.answers:
        return now
    newest = max([_written(left), *(event.time for event in events[-1:])])
    return min(newest, now) if newest > 0 else now


def _rising(records: Records, status: Mapping[str, Any], at: float, notes: list[str]) -> dict[str, float]:
    """How much each drop counter grew within the last minutes, restarts of the node taken for zero."""
    try:
        since = int((at - RISING_WITHIN) * NANO)
        points = list(records.metrics(names.PACKET_DROPS.name, since_ns=since))
    except (OSError, ValueError) as error:
        notes.append(f"the metrics cannot be read: {error}")
        return {}
    series: dict[str, list[float]] = {}
    for point in sorted(points, key=lambda p: p.time_ns):
        if point.value is not None and point.time_ns >= since:
            series.setdefault(drop_of(point), []).append(point.value)
    for name, count in mapping(status.get("drops")).items():
        series.setdefault(str(name), [0.0] if points else []).append(as_number(count))
    grown = {name: _growth(values) for name, values in series.items() if len(values) > 1}
    return {name: count for name, count in grown.items() if count > 0}


def _growth(values: list[float]) -> float:
    return sum(later - (earlier if later >= earlier else 0.0) for earlier, later in pairwise(values))


def drop_of(point: MetricRecord) -> str:
    """The drop reason of a point of the drop counter, lower case."""
    return str(point.attributes.get(names.DROP, "")).lower()


def _note_damage(records: Records, notes: list[str]) -> None:
    notes.extend(note for note in tuple(records.notes)[:8] if note not in notes)


def _configured_name(places: Places) -> str:
    """What the node is called in its file, as far as that can be read."""
    try:
        text = places.configuration.read_text(encoding="utf-8") if places.configuration else ""
        return str(mapping(tomllib.loads(text).get("node")).get("name") or "")[:64]
    except (OSError, ValueError, RecursionError):
        return ""


def _configuration_errors(places: Places) -> tuple[str, ...]:
    """What would keep the node from starting, each with its place."""
    if places.configuration is None:
        return ()
    from pqvpn.config import load
    from pqvpn.errors import ConfigErrors

    try:
        load.load(places.configuration)
    except ConfigErrors as errors:
        return tuple(f"{each.place}: {each.detail or each.reason.text} [{each.reason.code}]" for each in errors.errors)
    except (OSError, PqvpnError) as error:
        return (str(error),)
    return ()


def _synchronised() -> bool | None:
    from pqvpn.diag.kernel import clock_synchronised

    return clock_synchronised()
