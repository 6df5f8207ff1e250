"""How a failure that reached a boundary is told: a problem with its code for people, a crash fact for reports.

Owns that neither holds an exception's text. What the kernel refused, and what was foreseen, is a problem and no crash. When
and how often something is told is the boundary's matter (`resilience/boundary.py`).
"""

import os
from collections.abc import Callable

from pqvpn.errors import PqvpnError, is_foreseen, reason_of
from pqvpn.facts import FactHook, Problem
from pqvpn.telemetry.crashes import describe


def teller(
    publish: FactHook, process: str, caught: Callable[[Exception], None], *, plain: bool = False
) -> Callable[[str, Exception, int], None]:
    """Publishes failures of `process` by place, error and count; `caught` takes what is a crash.

    `plain`: the place stands alone as the component.
    """

    def tell(where: str, error: Exception, count: int) -> None:
        detail = detail_of(error)
        component = where if plain else f"{process}.{where}"
        publish(Problem(reason_of(error), component, f"{detail} ({count} times)" if count > 1 else detail))
        if not is_foreseen(error):
            caught(error)

    return tell


def unexpected(error: Exception) -> PqvpnError:
    """An exception that nobody foresaw, or that is the kernel's refusal, as one that can be shown: by type and place."""
    told = PqvpnError(reason_of(error), detail_of(error))
    told.__cause__ = error
    return told


def detail_of(error: Exception) -> str:
    """Words of ours, the kernel's, or none: an exception's own text may hold what a peer or an operator sent."""
    if isinstance(error, PqvpnError):
        return error.detail
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno:
        kind = f"{kind}, {os.strerror(error.errno)},"
    frames = describe.frames_of(error.__traceback__)
    return f"{kind} at {os.path.basename(frames[-1].partition(' in ')[0])}" if frames else kind
