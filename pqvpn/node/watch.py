"""When the supervisor looks at its interface.

Owns the rhythm: every interval, less often when a look is much work, so that it never keeps the supervisor from its
children, and less often when the kernel refuses, by breaker and backoff. Work is processor time: a look that took long since
the machine was busy must not put off the next one, when something may be to be mended. What a look is, is
`host/interface_look.py`; what is done about it is `mending.py`; what it means for health is the observer's matter.
"""

from typing import TYPE_CHECKING, Final

from pqvpn.errors import PqvpnError
from pqvpn.facts import FactHook, RetryEnded, RetryWaiting
from pqvpn.host.clock import spent
from pqvpn.node.mending import Mender
from pqvpn.reasons import Reason
from pqvpn.resilience.backoff import Backoff
from pqvpn.resilience.breaker import Breaker, BreakerOpenError
from pqvpn.resilience.registry import Kind

if TYPE_CHECKING:
    from pqvpn.host.netlink import Interface

_SHARE: Final = 0.01
"""The largest share of the supervisor's time that looking takes."""
_LONGEST: Final = 30.0


class InterfaceWatch:
    """Looks every `interval` seconds once it has begun. `due`: when next, None: never. `mender` acts on what is seen."""

    def __init__(self, interval: float, publish: FactHook, mender: Mender, breaker: Breaker) -> None:
        self._interval = interval
        self._breaker = breaker
        self._waits = Backoff(interval, _LONGEST)
        self._publish = publish
        self._mender = mender
        self.due: float | None = None

    def begin(self, time: float) -> None:
        """The first look is one interval from now: a start has better things to do."""
        self.due = time + self._interval

    def set_interval(self, interval: float) -> None:
        """The interval was changed; a look that is further away than that is made sooner."""
        if self.due is not None and interval < self._interval:
            self.due = min(self.due, self.due - self._interval + interval)
        self._interval = interval

    def look_if_due(self, interface: "Interface | None", time: float) -> bool:
        """Look and publish what was seen. A kernel that refuses is asked again: silence is told by health.

        Answers whether it was time.
        """
        if self.due is None or time < self.due or interface is None:
            return False
        wait, before = _LONGEST, spent()  # so long unless the look comes to its end
        try:
            wait = self._look(interface, time)
        finally:
            self.due = time + max(self._interval, min((spent() - before) / _SHARE, _LONGEST), wait)
        return True

    def _look(self, interface: "Interface", time: float) -> float:
        """Look once, by leave of the breaker; seconds to wait at least before the next look."""
        try:
            with self._breaker.guard():
                seen = interface.look()
        except BreakerOpenError as refusal:
            return min(refusal.seconds, _LONGEST)
        except (PqvpnError, OSError) as error:
            reason = error.reason if isinstance(error, PqvpnError) else Reason.KERNEL_REFUSED
            wait = self._waits.next()
            self._publish(RetryWaiting(Kind.NETLINK, "", self._waits.tries, round(wait, 3), reason))
            return wait
        if tries := self._waits.reset():
            self._publish(RetryEnded(Kind.NETLINK, "", tries, "recovered"))
        self._publish(seen)
        self._mender.seen(seen, time)
        return 0.0
