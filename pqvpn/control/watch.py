"""What control tells by the clock: changes of peers' states, readings for metrics and health, self-tests, clock jumps.

Owns when each of these is told and what was seen last. Decides nothing: the driver calls `tick`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqvpn.facts import ClockJumped, CryptoChecked, NodeObserved, PeerObserved, PeerStateChanged
from pqvpn.host.clock import now
from pqvpn.protocol.views import PeerState, PeerView
from pqvpn.reasons import Reason
from pqvpn.resilience.registry import without_hosts
from pqvpn.telemetry import context

if TYPE_CHECKING:
    from pqvpn.control.process import ControlProcess

OBSERVE_EVERY = 1.0
CRYPTO_AGAIN = 1.0
"""Seconds between two runs of the self-tests while one fails: a breaker wants more than one answer."""
JUMP = 1.0
"""Seconds that the wall clock may move against CLOCK_BOOTTIME between two ticks."""
_SLACK = 0.01


@dataclass(slots=True)
class _Seen:
    state: PeerState
    reason: Reason | None
    since: float


class Watch:
    """Of one control process."""

    def __init__(self, process: "ControlProcess", wall: Callable[[], float] = time.time) -> None:
        self._process = process
        self.crypto_every = process.start.crypto_interval
        self.crypto_timeout = process.start.crypto_timeout
        self._wall = wall
        self._seen: dict[bytes, _Seen] = {}
        self._offset = wall() - now()
        self._lag = 0.0
        self._observed_at = float("-inf")
        self._checked_at = now()
        self._failed = self._at_start = process.failed_tests
        self._tests = process.tests
        self._hung = self._hung_at_start = self._tests.hang

    def begin(self) -> None:
        """Tell the self-tests of the start."""
        self._process.publish(CryptoChecked(self._failed))

    def since(self, peer_id: bytes) -> float | None:
        """When the peer's state, as last looked at, began."""
        seen = self._seen.get(peer_id)
        return None if seen is None else seen.since

    def tick(self, late: float) -> None:
        """A tick of the driver, `late` seconds after its time."""
        at = now()
        self._lag = max(self._lag, late)
        views = self._process.core.peers(at)
        self._states(views, at)
        self._clock(at)
        if at >= self._observed_at + OBSERVE_EVERY - _SLACK:
            self._observed_at = at
            self._process.gates.registry.settle()
            self._observe(views, at)
        self._check(at)

    @property
    def stuck(self) -> bool:
        """Whether a self-test hangs that did not at the start. Nothing gets a thread out of a library that keeps it, but
        another process may be better off. One that hangs at the start of that, too, stays: it works without the primitive.
        """
        return self._hung and not self._hung_at_start

    def _states(self, views: tuple[PeerView, ...], at: float) -> None:
        for view in views:
            seen = self._seen.get(view.peer_id)
            if seen is None:  # it was down until now, unless another control process knew more
                state = view.state if self._process.start.restarted else PeerState.DOWN
                seen = self._seen[view.peer_id] = _Seen(state, view.reason, at)
            if (seen.state, seen.reason) != (view.state, view.reason):
                session_id = view.session.session_id.hex() if view.session else ""
                spent = round(at - seen.since, 3)
                self._process.publish(
                    PeerStateChanged(view.name, view.state.value, seen.state.value, spent, view.reason, session_id)
                )
                since = at if view.state is not seen.state else seen.since
                self._seen[view.peer_id] = _Seen(view.state, view.reason, since)
        if len(self._seen) > len(views):
            there = {view.peer_id for view in views}
            self._seen = {peer_id: seen for peer_id, seen in self._seen.items() if peer_id in there}

    def _clock(self, at: float) -> None:
        offset = self._wall() - at
        moved, self._offset = offset - self._offset, offset
        if abs(moved) > JUMP:
            self._process.publish(ClockJumped(round(moved, 3)))

    def _observe(self, views: tuple[PeerView, ...], at: float) -> None:
        process = self._process
        lag, self._lag = self._lag, 0.0
        node = process.node_status(views, at)
        node["breakers"] = without_hosts(node["breakers"])
        process.publish(NodeObserved(node, round(lag, 4)))
        for view, shown in zip(views, process.peer_statuses(views, at), strict=True):
            with context.attached(shown["session_id"] or "", view.name):
                process.publish(PeerObserved(view.name, shown))

    def _check(self, at: float) -> None:
        """See what the self-tests found, and begin them when they are due. One that hangs fails again and again."""
        if (answer := self._tests.look(at, self.crypto_timeout)) is not None:
            self._checked(*answer)
        hung, self._hung = self._hung, self._tests.hang
        self._hung_at_start = self._hung_at_start and self._hung
        due = at >= self._checked_at + (CRYPTO_AGAIN if self._failed else self.crypto_every)
        if due:
            self._checked_at = at
            self._tests.begin(at)
        if self._hung and (due or not hung):
            self._checked(self._tests.unanswered, self.crypto_timeout)

    def _checked(self, failed: tuple[str, ...], took: float) -> None:
        self._process.gates.tested(failed)
        self._process.publish(CryptoChecked(failed, round(took, 4)))
        if failed and failed != self._failed:
            self._process.publish(self._tests.problem(failed, self.crypto_timeout))
        self._failed = failed
        # what failed at the start is not used until the next one
        self._process.failed_tests = tuple(dict.fromkeys((*self._at_start, *failed)))
