"""A lane's internal errors as events: what control then publishes, since a lane speaks to nobody else.

Owns how much of one is told: types, places and the innermost frames, never a packet's content.
"""

import os
from typing import TYPE_CHECKING, Final

from pqvpn.dataplane.events import LaneFault

if TYPE_CHECKING:
    from pqvpn.facts import Crashed

MOST_FRAMES: Final = 24


def event(lane: int, error: BaseException, count: int, more: int = 1, *, handled: bool = True) -> LaneFault:
    """`count` since the lane's start, `more` of them since the last event; `handled`: the lane goes on."""
    from dataclasses import replace

    import msgspec

    from pqvpn.telemetry.crashes import describe  # facts and reasons take more than a MiB, which a sound lane saves

    crash = describe.exception(error, f"lane-{lane}", handled=handled)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = "" if last is None else f" {os.path.basename(last.tb_frame.f_code.co_filename)}:{last.tb_lineno}"
    told = replace(crash, frames=crash.frames[-MOST_FRAMES:], pid=os.getpid(), count=more)
    return LaneFault(lane, type(error).__name__ + place, count, msgspec.to_builtins(told))


def crash_of(fault: LaneFault) -> "Crashed | None":
    """The crash fact that a lane's event holds, under the lane's own name; None when it holds none that is one."""
    import msgspec

    from pqvpn.facts import Crashed

    if fault.crash is None:
        return None
    try:
        return msgspec.convert({**fault.crash, "process": f"lane-{fault.lane}"}, Crashed)
    except msgspec.ValidationError:  # only a lane gone wrong sends such
        return None
