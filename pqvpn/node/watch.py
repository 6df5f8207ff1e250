"""When the supervisor looks at its interface.

Owns the rhythm: every interval, less often when a look takes long, so that it never keeps the supervisor from its
children. What a look is, is `host/interface_look.py`; what it means is the observer's matter.
"""

import contextlib
from typing import TYPE_CHECKING, Final

from pqvpn.errors import PqvpnError
from pqvpn.facts import FactHook
from pqvpn.host.clock import now

if TYPE_CHECKING:
    from pqvpn.host.netlink import Interface

_SHARE: Final = 0.01
"""The largest share of the supervisor's time that looking takes."""


class InterfaceWatch:
    """Looks every `interval` seconds once it has begun. `due`: when next, None: never."""

    def __init__(self, interval: float, publish: FactHook) -> None:
        self._interval = interval
        self._publish = publish
        self.due: float | None = None

    def begin(self, time: float) -> None:
        """The first look is one interval from now: a start has better things to do."""
        self.due = time + self._interval

    def look_if_due(self, interface: "Interface | None", time: float) -> None:
        """Look and publish what was seen. A kernel that refuses is asked again: silence is told by health."""
        if self.due is None or time < self.due or interface is None:
            return
        with contextlib.suppress(PqvpnError, OSError):
            self._publish(interface.look())
        took = now() - time
        self.due = time + max(self._interval, took / _SHARE)
