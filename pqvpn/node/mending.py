"""What the supervisor does about an interface that is not as it was configured.

Owns when to act and in which order: only after two looks in a row saw the same (whoever works on the machine may be in the
middle of something), and less and less often while it does not help (two programs that undo each other must not do it for
ever at full speed). What an act is, is given by the node. Knows nothing of netlink.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pqvpn.errors import PqvpnError
from pqvpn.facts import FactHook, HealthActed, InterfaceObserved
from pqvpn.reasons import Reason
from pqvpn.resilience.backoff import Backoff
from pqvpn.resilience.health import Item

_FIRST: Final = 1.0
_LONGEST: Final = 60.0


@dataclass(frozen=True, slots=True)
class Acts:
    """What can be done. Both raise PqvpnError when the kernel refuses."""

    recreate: Callable[[], None]  # the interface, and lanes that read it
    restore: Callable[[], None]  # its state, addresses and routes


class Mender:
    """Acts on what looks see, while it is enabled. `publish` hears of every act."""

    def __init__(self, acts: Acts, publish: FactHook) -> None:
        self.enabled = True
        self._acts = acts
        self._publish = publish
        self._before = ""
        self._waits = Backoff(_FIRST, _LONGEST, shortest=_FIRST)
        self._not_before = 0.0
        self._refused = ""

    def seen(self, look: InterfaceObserved, now: float) -> None:
        """One look, in seconds of the node's clock."""
        fault = _fault(look)
        again, self._before = fault == self._before, fault
        if not fault:
            if now >= self._not_before:  # it has held for as long as the last wait
                self._waits.reset()
            self._refused = ""
            return
        if not again or now < self._not_before or not self.enabled:
            return
        self._not_before = now + self._waits.next()
        self._act(look, fault)

    def _act(self, look: InterfaceObserved, fault: str) -> None:
        item = Item.ADDRESSES if look.exists and look.up else Item.INTERFACE
        reason = Reason.TUN_DOWN if look.exists else Reason.TUN_GONE
        try:
            (self._acts.restore if look.exists else self._acts.recreate)()
        except PqvpnError as error:
            if str(error) != self._refused:  # once a cause
                self._publish(HealthActed(item.code, "refused", str(error), error.reason))
            self._refused = str(error)
            return
        done = f"put back: {fault}" if look.exists else "the interface was made anew"
        self._publish(HealthActed(item.code, "mended", done, reason))


def _fault(look: InterfaceObserved) -> str:
    if not look.exists:
        return "gone"
    if not look.up:
        return "up"
    return ", ".join(look.missing)
