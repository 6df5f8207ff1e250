"""Facts and log records as lines on standard error: JSON for machines, plain text for a terminal.

Owns the line's fields and the set-up of the standard `logging` package. Knows nothing of who publishes. Exceptions are
told by type and place; their text may hold what an operator or a peer wrote and is kept out unless debugging.
"""

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from traceback import extract_tb
from typing import Any

import msgspec

from pqvpn.facts import Fact
from pqvpn.reasons import Reason

_LOGGER = "pqvpn"


def set_up(component: str, level: str, *, text: bool | None = None, debug: bool = False) -> None:
    """Send this process's log to standard error. `level` is a `logging` level name in lower case.

    `text` False: JSON lines; None: text on a terminal, else JSON. `debug` adds exception texts.
    """
    as_text = sys.stderr.isatty() if text is None else text
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(component, as_text, debug))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_LOGGER).setLevel(level.upper())


def publish(fact: Fact) -> None:
    """Log one fact; the `FactHook` of this package."""
    logger = logging.getLogger(_LOGGER)
    level = logging.getLevelNamesMapping()[fact.level.upper()]
    if logger.isEnabledFor(level):
        logger.log(level, fact.event, extra={"fields": {k: _plain(v) for k, v in fact.fields().items()}})


def _plain(value: Any) -> Any:
    return value.code if isinstance(value, Reason) else value


class _Lines(logging.Formatter):
    def __init__(self, component: str, as_text: bool, debug: bool) -> None:
        super().__init__()
        self._component = component
        self._as_text = as_text
        self._debug = debug

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "component": self._component,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0]:
            line |= self._exception(record.exc_info)
        if self._as_text:
            return _as_text(line)
        return msgspec.json.encode(line).decode()

    def _exception(self, info: Any) -> dict[str, str]:
        kind, value, trace = info
        frames = extract_tb(trace)
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        found = {"exception": kind.__name__, "place": place}
        return found | {"text": str(value)} if self._debug else found


def _as_text(line: dict[str, Any]) -> str:
    known = ("time", "level", "component", "message")
    time, level, component, message = (line[k] for k in known)
    rest = " ".join(f"{k}={v}" for k, v in line.items() if k not in known)
    return f"{time[11:23]} {level:7} {component:10} {message} {rest}".rstrip()
