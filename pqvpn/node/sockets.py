"""What the supervisor does about sockets of the port that serve no more.

Owns when to act: only after two looks in a row saw the same, and less and less often while it does not help, as with the
interface (`mending.py`). One socket at a time, see `host/udp.py`. What a look is, and what an act, is given.
"""

from collections.abc import Callable
from typing import Final

from pqvpn.errors import PqvpnError
from pqvpn.facts import FactHook, HealthActed, SocketsObserved
from pqvpn.reasons import Reason
from pqvpn.resilience.backoff import Backoff
from pqvpn.resilience.health import Item

_FIRST: Final = 1.0
_LONGEST: Final = 60.0


class SocketWatch:
    """`reopen` puts a fresh one in the place of a socket and raises PqvpnError when the kernel refuses. Unless it is enabled
    what is lost is only told."""

    def __init__(self, reopen: Callable[[int], None], publish: FactHook) -> None:
        self.enabled = True
        self._reopen = reopen
        self._publish = publish
        self._before: tuple[int, ...] = ()
        self._waits = Backoff(_FIRST, _LONGEST, shortest=_FIRST)
        self._not_before = 0.0
        self._refused = ""

    def seen(self, lost: tuple[int, ...], now: float) -> None:
        """One look: the numbers of those that are lost, and the time in seconds of the node's clock."""
        again = set(lost) & set(self._before)
        if lost or self._before:
            self._publish(SocketsObserved(tuple(owner(number) for number in lost)))
        self._before = lost
        if not lost:
            if now >= self._not_before:
                self._waits.reset()
            self._refused = ""
        elif again and now >= self._not_before and self.enabled:
            self._not_before = now + self._waits.next()
            self._act(min(again))

    def _act(self, number: int) -> None:
        try:
            self._reopen(number)
        except PqvpnError as error:
            if str(error) != self._refused:  # once a cause
                self._publish(HealthActed(Item.SOCKETS.code, "refused", str(error), error.reason))
            self._refused = str(error)
            return
        done = f"the socket of {owner(number)} was opened anew"
        self._publish(HealthActed(Item.SOCKETS.code, "mended", done, Reason.SOCKET_LOST))


def owner(number: int) -> str:
    """Whose socket that is."""
    return f"lane-{number - 1}" if number else "control"
