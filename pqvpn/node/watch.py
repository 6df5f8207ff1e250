"""When the supervisor looks at its interface.

Owns the rhythm: every interval, less often when a look takes long, so that it never keeps the supervisor from its
children. What a look is, is `host/interface_look.py`; what is done about it is `mending.py`; what it
means for health is the observer's matter.
"""

import contextlib
from typing import TYPE_CHECKING, Final

from pqvpn.errors import PqvpnError
from pqvpn.facts import FactHook
from pqvpn.host.clock import now
from pqvpn.node.mending import Mender

if TYPE_CHECKING:
    from pqvpn.host.netlink import Interface

_SHARE: Final = 0.01
"""The largest share of the supervisor's time that looking takes."""


class InterfaceWatch:
    """Looks every `interval` seconds once it has begun. `due`: when next, None: never. `mender` acts on what is seen."""

    def __init__(self, interval: float, publish: FactHook, mender: Mender) -> None:
        self._interval = interval
        self._publish = publish
        self._mender = mender
        self.due: float | None = None

    def begin(self, time: float) -> None:
        """The first look is one interval from now: a start has better things to do."""
        self.due = time + self._interval

    def look_if_due(self, interface: "Interface | None", time: float) -> None:
        """Look and publish what was seen. A kernel that refuses is asked again: silence is told by health."""
        if self.due is None or time < self.due or interface is None:
            return
        with contextlib.suppress(PqvpnError, OSError):
            seen = interface.look()
            self._publish(seen)
            self._mender.seen(seen, time)
        took = now() - time
        self.due = time + max(self._interval, took / _SHARE)
