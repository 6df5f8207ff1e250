"""Facts and log records as lines on standard error: JSON for machines, plain text for a terminal.

Owns the set-up of the standard `logging` package in a process, through which every line goes. What a line says is
`logfiles/lines.py`. Knows nothing of who publishes. Exceptions are told by type and place; their text may hold what an
operator or a peer wrote and is kept out unless debugging.
"""

import logging
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from traceback import extract_tb
from typing import Any, Final

from pqvpn.facts import Fact, LogLine
from pqvpn.telemetry import envelope
from pqvpn.telemetry.logfiles import lines
from pqvpn.telemetry.logfiles.levels import EVERYTHING, RANKS, InForce, Levels
from pqvpn.telemetry.logfiles.repeats import Repeats

LOGGER: Final = "pqvpn"
FEEDBACK: Final = ("opentelemetry", "urllib3")
"""Loggers whose records must not become facts: sending those would make more of them."""
QUIET_AFTER: Final = 15.0
"""A node in the background has started by then, or failed to."""


class _Withheld:
    """The redactor of a process that was given none: nothing of a fact but its name gets out."""

    def text(self, _: str) -> str:
        return ""

    def fields(self, _: Any) -> dict[str, Any]:
        return {}

    def learn(self, _: Any) -> None:
        pass


class _Output:
    """How this process writes; there is one for each process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Back to what a process has that was not set up."""
        self.process = ""
        self.levels = Levels("info")
        self.repeats: Repeats[lines.Held] = Repeats()
        self.redactor: lines.Scrubs = _Withheld()
        self.text = False
        self.debug = False
        self.quiet_at: float | None = None
        self.looked_at = 0.0


_output = _Output()


def set_up(
    process: str,
    level: str,
    *,
    redactor: lines.Scrubs,
    text: bool | None = None,
    debug: bool = False,
    quiet: bool = False,
    levels: Iterable[tuple[str, str, float | None]] = (),
) -> None:
    """Send this process's log to standard error. `level` is a level name in lower case.

    `text` False: JSON lines; None: text on a terminal, else JSON. `debug` adds exception texts. `quiet`: once the node
    has started only errors are told here, because the log file has everything and nobody empties this stream.
    `levels`: what an operator set before this process started, as arguments of `set_level`.
    """
    _output.reset()
    _output.process, _output.redactor, _output.debug = process, redactor, debug
    _output.levels = Levels(level)
    for each in levels:
        set_level(*each)
    _output.text = sys.stderr.isatty() if text is None else text
    _output.quiet_at = _now() + QUIET_AFTER if quiet else None
    root = logging.getLogger()
    root.handlers[:] = [_Stderr(sys.stderr)]
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER).setLevel(logging.DEBUG)  # `levels` decide


def set_level(area: str, level: str, seconds: float | None = None) -> None:
    """Change the level of an area of this process; it falls back after `seconds`. Raises ValueError."""
    _output.levels.change(area, level, None if seconds is None else _now() + seconds)


def levels() -> tuple[InForce, ...]:
    """The levels in force in this process."""
    return _output.levels.in_force(_now())


def settings() -> tuple[tuple[str, str, float | None], ...]:
    """The levels that were set in this process, for one that starts: arguments of `set_level`."""
    return tuple((each.area, each.level, each.seconds) for each in _output.levels.settings(_now()))


def learn(hosts: Collection[str]) -> None:
    """The configuration has these hosts now; lines of this process tell them as the policy says."""
    _output.redactor.learn(hosts)


def publish(fact: Fact) -> None:
    """Log one fact; the `FactHook` of this package."""
    level = lines.level_of(fact)
    if _wanted(fact.area, level):
        logging.getLogger(LOGGER).log(RANKS.get(level, logging.ERROR), fact.event, extra={"fact": fact})


def tick() -> None:
    """Tell of repeats whose window ended. At most once a second; called with every fact."""
    now = _now()
    if now - _output.looked_at < 1.0:
        return
    _output.looked_at = now
    for summary in _output.repeats.due(now):
        _write(lines.repeated(summary, _output.redactor))


def of_record(record: logging.LogRecord, debug: bool = False) -> LogLine:
    """A record of the standard `logging` package as a fact. `debug`: with the text of its exception."""
    text, place, error, trace = _message(record), f"{record.filename}:{record.lineno}", "", ""
    if record.exc_info and record.exc_info[0]:
        kind, value, raised = record.exc_info
        frames = extract_tb(raised)
        error = kind.__name__
        trace = "; ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames)
        if frames:
            place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
        if debug:
            text = f"{text}: {value}"
    return LogLine(text, record.levelname.lower(), record.name, place, error, trace)


def _message(record: logging.LogRecord) -> str:
    """What it says. Of the event loop's own complaints the first line: the others show exceptions and what was called with."""
    text = record.getMessage()
    return text.partition("\n")[0] if record.name == "asyncio" else text


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _wanted(area: str, level: str) -> bool:
    now = _now()
    if _output.quiet_at is not None and now >= _output.quiet_at and level != "error":
        return False
    return _output.levels.wanted(area, level, now)


def _write(line: lines.Line) -> None:
    text = lines.as_text(line) if _output.text else lines.as_json(line).decode()
    logging.getLogger(LOGGER).log(RANKS.get(str(line["level"]), logging.ERROR), text, extra={"line": text})


class _Stderr(logging.StreamHandler[Any]):
    """The one handler that writes. Facts come as they are, other libraries' records become facts on the way."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            wanted = hasattr(record, "line") or self._prepare(record)
        except Exception:  # noqa: BLE001 - a log call must never fail whoever made it
            self.handleError(record)
            return
        if wanted:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        """Nothing: the default writes the record, unredacted, to the stream that just failed."""

    def format(self, record: logging.LogRecord) -> str:
        return str(record.__dict__["line"])

    def _prepare(self, record: logging.LogRecord) -> bool:
        """Give the record its line; False when it is not to be told, or not now."""
        fact: Fact | None = record.__dict__.get("fact")
        if fact is None:
            fact = of_record(record, _output.debug)
            if not _wanted(fact.area, lines.level_of(fact)):
                return False
        tick()
        stamped = envelope.stamped(fact, _output.process)
        key = lines.key_of(stamped, fact)
        if key is not None and not _output.repeats.take(key, (stamped, fact), _now()):
            return False
        line = lines.make(stamped, fact, _output.redactor)
        record.line = lines.as_text(line) if _output.text else lines.as_json(line).decode()
        return True


__all__ = [
    "EVERYTHING",
    "FEEDBACK",
    "learn",
    "levels",
    "of_record",
    "publish",
    "set_level",
    "set_up",
    "settings",
    "tick",
]
