"""Whether lanes take packets out of the interface: what the kernel counts, and a probe where nothing else shows it.

Owns the verdict on `tun.traffic`. A lane whose count of packets read went up needs no probe. The others get one: datagrams
to an address that is nobody's (`routes.PROBE_ADDRESS`), which a lane counts and drops. They never leave the machine, and
whatever reads them is alive. What cannot be probed, since the interface is not up or a packet filter forbids it, is judged
by the kernel's counters alone.
"""

from collections.abc import Callable, Sequence
from typing import Final

from pqvpn.facts import InterfaceObserved
from pqvpn.observer.checkbook import Checkbook
from pqvpn.reasons import Reason
from pqvpn.resilience.health import Health, Item, State
from pqvpn.resilience.limits import Limits

_SPREAD: Final = 12
"""Datagrams for each lane of the node: the kernel chooses the queue by a hash, and misses one lane in e^12 times."""
Knock = Callable[[str, int], None]
"""Sends so many datagrams into the interface of that name. Raises OSError when it cannot."""


class Traffic:
    """Of one node. `reads`: packets that each lane has read so far."""

    def __init__(self, health: Health, limits: Limits, reads: Callable[[], Sequence[int]], knock: Knock) -> None:
        self.limits = limits
        self._health = health
        self._reads = reads
        self._knock = knock
        self._interface: InterfaceObserved | None = None
        self._full = ""
        self._seen: Sequence[int] = ()
        self._waiting: dict[int, float] = {}  # lanes that have read nothing since they were first probed, and when
        self._refused = ""

    def enter(self, book: Checkbook) -> None:
        """Enter into the registry."""
        book.on(InterfaceObserved, "traffic", self._observed)
        book.every_interval("traffic", self.check)

    def _observed(self, seen: InterfaceObserved, now: float) -> None:
        """The kernel counts a packet as sent when a lane took it, as dropped when the queue was full."""
        before, self._interface = self._interface, seen
        refused = 0 if before is None else seen.tx_dropped - before.tx_dropped
        stuck = before is not None and refused > 0 and seen.tx_packets == before.tx_packets
        self._full = f"{refused} packets found the queue of {seen.interface} full, none was taken" if stuck else ""
        if before is not None:
            self._judge(now)

    def check(self, now: float) -> None:
        """See which lanes have read, and probe the others."""
        seen = list(self._reads())
        idle = [lane for lane, count in enumerate(seen) if lane < len(self._seen) and count == self._seen[lane]]
        self._seen = seen
        self._waiting = {lane: since for lane, since in self._waiting.items() if lane in idle}
        if idle and self._is_up():
            self._probe(idle, now)
        elif idle:
            self._waiting.clear()
        self._judge(now)

    def _is_up(self) -> bool:
        return self._interface is not None and self._interface.exists and self._interface.up

    def _probe(self, idle: list[int], now: float) -> None:
        assert self._interface is not None
        try:
            self._knock(self._interface.interface, _SPREAD * len(self._seen))
        except OSError as error:  # nothing was asked, so that silence is no answer
            self._refused = error.strerror or type(error).__name__
            self._waiting.clear()
            return
        self._refused = ""
        for lane in idle:
            self._waiting.setdefault(lane, now)

    def _judge(self, now: float) -> None:
        """One verdict of both: two that take turns would each hide the other's."""
        if not self._is_up():
            return
        waited = {lane: now - since for lane, since in self._waiting.items()}
        mute = [lane for lane, seconds in waited.items() if seconds >= self.limits.probe_timeout]
        if self._full:
            self._see(State.FAILING, self._full, now)
        elif mute:
            names = ", ".join(f"lane-{lane}" for lane in mute)
            longest = max(waited[lane] for lane in mute)
            self._see(State.FAILING, f"{names} took no packet in {longest:.0f} s, though probes wait for it", now)
        else:
            self._see(State.OK, f"not probed: {self._refused}" if self._refused else "", now)

    def _see(self, state: State, evidence: str, now: float) -> None:
        reason = None if state is State.OK else Reason.TUN_STUCK
        self._health.observe(Item.TRAFFIC, "", state, reason, evidence, now)
