"""A lane's internal errors as events: what control then publishes, since a lane speaks to nobody else.

Owns how much of one is told: types, places and the innermost frames, never a packet's content.
"""

import os
from dataclasses import replace
from typing import Final

from pqvpn.dataplane.events import LaneFault
from pqvpn.telemetry.crashes import describe

MOST_FRAMES: Final = 24


def event(lane: int, error: BaseException, count: int, more: int = 1, *, handled: bool = True) -> LaneFault:
    """`count` since the lane's start, `more` of them since the last event; `handled`: the lane goes on."""
    crash = describe.exception(error, f"lane-{lane}", handled=handled)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = "" if last is None else f" {os.path.basename(last.tb_frame.f_code.co_filename)}:{last.tb_lineno}"
    told = replace(crash, frames=crash.frames[-MOST_FRAMES:], pid=os.getpid(), count=more)
    return LaneFault(lane, type(error).__name__ + place, count, told)
