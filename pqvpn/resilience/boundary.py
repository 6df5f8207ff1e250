"""The edge of a plane: what reaches it is told, acted upon, and the plane goes on.

Owns the table of actions by class of error, and the bound on repetition: the same place is told once a second at most, with
a count, and a place that fails again and again is given pauses so that it cannot take the processor. Knows nothing of how a
failure is told: `tell` publishes it, by type and place, never by its text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pqvpn.errors import (
    ConfigError,
    CryptoError,
    DiscoveryError,
    NetworkError,
    PqvpnError,
    RelayError,
    TelemetryError,
    TunError,
    is_foreseen,
)
from pqvpn.reasons import Action, Reason

Tell = Callable[[str, Exception, int], None]
"""Where it happened, what, and how often since it was told last."""
TELL_EVERY: Final = 1.0
TRIES: Final = 5
"""Failures in a row of one place after which retrying an interface is given up."""
PAUSE: Final = 0.05
"""Seconds of rest after a failure that follows others closely."""
_CLOSE: Final = 1.0
_MOST_PLACES: Final = 64

ACTIONS: Final[dict[type[PqvpnError], tuple[Action, ...]]] = {
    NetworkError: (Action.RETRY,),
    CryptoError: (Action.FALLBACK, Action.SHUTDOWN),
    ConfigError: (Action.SHUTDOWN,),
    TunError: (Action.RETRY, Action.SHUTDOWN),
    DiscoveryError: (Action.FALLBACK,),
    RelayError: (Action.FALLBACK,),
    TelemetryError: (Action.DROP,),
}
"""What a boundary does by class: the first, and when that cannot help any more, the second. An error of no class acts as its
reason says; anything unexpected is told and tried again when it comes round."""


def actions_of(error: Exception) -> tuple[Action, ...]:
    """The row of the table for an error."""
    for kind, actions in ACTIONS.items():
        if isinstance(error, kind):
            return actions
    return (error.action if isinstance(error, PqvpnError) else Action.RETRY,)


@dataclass(slots=True)
class _Place:
    untold: int = 0
    told_at: float = float("-inf")
    failed_at: float = float("-inf")


class Boundary:
    """Of one process or plane. `exit_code` is set when it is to end, and with which code; `unexpected`: the last error
    that nobody foresaw."""

    def __init__(self, tell: Tell, clock: Callable[[], float]) -> None:
        self._tell = tell
        self._clock = clock
        self._places: dict[str, _Place] = {}
        self._in_row: dict[str, int] = {}
        self._pause = 0.0
        self.exit_code: int | None = None
        self.unexpected: Exception | None = None

    def call(self, where: str, do: Callable[[], object], fallback: Callable[[], object] | None = None) -> Action | None:
        """Do it; None when it succeeded, else what was done about the failure. Never raises an `Exception`."""
        try:
            do()
        except Exception as error:  # noqa: BLE001 - the boundary that all others are made of: record, act, go on
            return self.failed(where, error, fallback)
        self._in_row.pop(where, None)
        return None

    def failed(self, where: str, error: Exception, fallback: Callable[[], object] | None = None) -> Action:
        """Tell a failure and act on it."""
        if not is_foreseen(error):
            self.unexpected = error
        self.record(where, error)
        self._in_row[where] = self._in_row.get(where, 0) + 1
        action = self._action(self._in_row[where], error, fallback)
        if action is Action.SHUTDOWN:
            self.exit_code = _exit_code(error)
        elif action is Action.FALLBACK and fallback is not None:
            self.call(f"{where}.fallback", fallback)
        return action

    def record(self, where: str, error: Exception) -> None:
        """Tell only: for what a stranger may have caused, which must not end anything."""
        try:
            now = self._clock()
        except Exception:  # noqa: BLE001 - without a clock nothing can be told, and nothing must spin
            self._pause = PAUSE
            return
        place = self._place(f"{where} {type(error).__name__}")
        if now - place.failed_at < _CLOSE:
            self._pause = PAUSE
        place.failed_at = now
        place.untold += 1
        if now - place.told_at < TELL_EVERY:
            return
        place.told_at, count, place.untold = now, place.untold, 0
        try:
            self._tell(where, error, count)
        except Exception:  # noqa: BLE001 - telling must not be what ends the plane; the count is told next time
            place.untold += count

    def pause(self) -> float:
        """Seconds to rest before going on, asked once a turn: 0.0 unless something fails again and again."""
        seconds, self._pause = self._pause, 0.0
        return seconds

    def _place(self, name: str) -> _Place:
        if name not in self._places and len(self._places) >= _MOST_PLACES:
            self._places.clear()
        return self._places.setdefault(name, _Place())

    def _action(self, in_row: int, error: Exception, fallback: Callable[[], object] | None) -> Action:
        first, *later = actions_of(error)
        if first is Action.FALLBACK and fallback is None and later:
            return later[0]
        if first is Action.RETRY and in_row > TRIES and later:
            return later[0]
        return first


def _exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, PqvpnError) else Reason.INTERNAL.exit_code
