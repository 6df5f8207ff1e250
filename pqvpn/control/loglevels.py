"""The operation `log_level`: what an operator may ask of the log, and who has to hear of it.

Owns the check of the request. The change itself is made by every process that logs: by control here, by the observer
when it reads the fact, by the supervisor when it reads the message.
"""

import socket
from typing import Any, Final

from pqvpn.control import supervision
from pqvpn.errors import PqvpnError
from pqvpn.facts import FACTS, FactHook, LevelChanged
from pqvpn.reasons import Reason
from pqvpn.telemetry import jsonlog
from pqvpn.telemetry.logfiles.levels import EVERYTHING, RANKS

AREAS: Final = frozenset(kind.area for kind in FACTS.values()) | {EVERYTHING}
_LONGEST: Final = 30 * 86400.0


def change(request: dict[str, Any], publish: FactHook, supervisor: socket.socket) -> dict[str, Any]:
    """Set a level when the request names one, and say which are in force. Raises PqvpnError when it cannot be."""
    if "area" in request or "level" in request:
        area, level, seconds = _checked(request)
        jsonlog.set_level(area, level, seconds)
        publish(LevelChanged(area, level, seconds))
        supervision.send(supervisor, supervision.LevelRequested(area, level, seconds))
    levels = [{"area": each.area, "level": each.level, "seconds": each.seconds} for each in jsonlog.levels()]
    return {"levels": levels, "areas": sorted(AREAS - {EVERYTHING})}


def _checked(request: dict[str, Any]) -> tuple[str, str, float | None]:
    area, level, seconds = request.get("area"), request.get("level"), request.get("for_seconds")
    if area not in AREAS:
        raise PqvpnError(Reason.REQUEST_REFUSED, f"no area {str(area)[:40]!r}: one of {', '.join(sorted(AREAS))}")
    if level not in RANKS:
        raise PqvpnError(Reason.REQUEST_REFUSED, f"no level {str(level)[:40]!r}: one of {', '.join(RANKS)}")
    if seconds is None:
        return str(area), str(level), None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _LONGEST:
        raise PqvpnError(Reason.REQUEST_REFUSED, "the time is not a number of seconds of at most 30 days")
    return str(area), str(level), float(seconds)
