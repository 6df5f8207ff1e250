"""Search for the largest packet that the way to a peer carries, by authenticated padded probes (PROTOCOL section 5).

Owns what is known of one path's size. Knows no session and no socket: `Probe`s out, acknowledged sizes in. All sizes
are inner packets, so 40 (overhead) + 28 or 48 (UDP and IP) less than the path's own MTU.

The search starts at the top and not at the floor: a size that is too small is told to the inside as ICMP "too big",
and
kernels keep that for ten minutes, whereas a size that is too large costs a few probes' time. The floor is probed in
the
same breath: while it goes unanswered as well, the path is down rather than narrow, and nothing is concluded. When the
top fails, a ladder of sizes is probed at once, so that the new size is right at the first change.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

FLOOR = 1192  # carried by every path of 1280 bytes, IPv6 included: 1280 - 48 - 40
STEP = 16  # transport plaintext is padded to multiples of 16 behind 8 bytes of meta
RUNGS = 16
TRIES = 3
ROUND_TRIPS = 4.0
SHORTEST_WAIT = 0.15


class _Phase(Enum):
    IDLE = auto()  # nothing outstanding
    ONE = auto()  # one size and the floor are probed together
    LADDER = auto()  # several sizes between one that works and one that does not


@dataclass(frozen=True, slots=True)
class Probe:
    """Send MTU_PROBE with this id, padded so that `size` bytes follow the meta."""

    number: int
    size: int


@dataclass(slots=True)
class PathMtu:
    """One peer's path. `top`: the session's MTU; `current`: what the inside may use now."""

    top: int
    timeout: float  # upper limit for one probe
    confirm_interval: float
    raise_interval: float
    current: int = 0
    _phase: _Phase = _Phase.IDLE
    _sizes: list[int] = field(default_factory=list)  # still unanswered in this round, largest first
    _works: int = 0
    _fails: int = 0  # smallest size known not to pass
    _floor_works: bool = False
    _tries: int = 0
    _number: int = 0
    _deadline: float = 0.0
    _confirmed: float = float("-inf")
    _raise_at: float = float("inf")
    _outstanding: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin optimistic."""
        self.current = self.current or self.top

    @property
    def floor(self) -> int:
        """The size that every path must carry; never above the top."""
        return min(FLOOR, self.top)

    def start(self, now: float, rtt: float | None) -> list[Probe]:
        """The path is new: look at the size in use first, then at once for a larger one."""
        self._raise_at = now if self.current < self.top else float("inf")
        return self._begin(self.current, now, rtt)

    def deadline(self) -> float | None:
        """When `tick` must be called, as long as probes are outstanding."""
        return None if self._phase is _Phase.IDLE else self._deadline

    def tick(self, now: float, active: bool, rtt: float | None) -> list[Probe]:
        """Time passed: repeat probes, conclude, or look whether things changed.

        `active`: data moves, so that a path that narrowed silently would hurt.
        """
        if self._phase is _Phase.IDLE:
            if now >= self._raise_at:
                return self._begin(self.top, now, rtt)
            if active and now >= self._confirmed + self.confirm_interval:
                return self._begin(self.current, now, rtt)
            return []
        if now < self._deadline:
            return []
        if self._phase is _Phase.ONE:
            return self._send(now, rtt) if self._tries < TRIES else self._no_answer(now, rtt)
        return self._climb(now, rtt)

    def awaits(self, number: int, size: int) -> bool:
        """Whether a probe with this number and size is out."""
        return self._outstanding.get(number) == size

    @property
    def number(self) -> int:
        """The last probe's."""
        return self._number

    def acknowledged(self, number: int, size: int, now: float) -> None:
        """The peer got probe `number` with `size` bytes. What matches no outstanding probe is ignored."""
        if self._outstanding.pop(number, None) != size:
            return
        self._floor_works = self._floor_works or size <= self.floor
        if size in self._sizes:
            self._sizes.remove(size)
            self._works = max(self._works, size)
        if self._phase is _Phase.ONE and not self._sizes:
            self._settle(now)

    def _begin(self, size: int, now: float, rtt: float | None) -> list[Probe]:
        self._phase, self._sizes, self._tries = _Phase.ONE, [size], 0
        self._floor_works, self._works, self._fails = False, 0, 0
        self._outstanding.clear()
        return self._send(now, rtt)

    def _send(self, now: float, rtt: float | None) -> list[Probe]:
        wait = self.timeout if rtt is None else min(self.timeout, max(SHORTEST_WAIT, ROUND_TRIPS * rtt))
        self._tries += 1
        self._deadline = now + wait
        floor = [self.floor] if self._phase is _Phase.ONE and self.floor not in self._sizes else []
        probes = []
        for size in [*self._sizes, *floor]:
            self._number = (self._number + 1) & 0xFFFF
            self._outstanding[self._number] = size
            probes.append(Probe(self._number, size))
        return probes

    def _no_answer(self, now: float, rtt: float | None) -> list[Probe]:
        """A single size went unanswered."""
        failed = self._sizes[0]
        if not self._floor_works or failed <= self.floor:
            # nothing came back at all: the path is down, or the peer gone; other timers deal with that
            self._phase, self._confirmed = _Phase.IDLE, now
            self._raise_at = max(self._raise_at, now + self.confirm_interval)
            return []
        self._fails = failed
        self._works = self.current if failed > self.current else self.floor
        return self._ladder(now, rtt)

    def _ladder(self, now: float, rtt: float | None) -> list[Probe]:
        """Probe up to RUNGS sizes between what works and what does not; sizes fill whole blocks of the padding."""
        span = self._fails - self._works
        step = -(-span // (RUNGS * STEP)) * STEP
        first = self._works - (self._works - 8) % STEP + step
        self._sizes = list(range(first, self._fails, step))[::-1]
        if not self._sizes:
            self._settle(now)
            return []
        self._phase, self._tries = _Phase.LADDER, 0
        return self._send(now, rtt)

    def _climb(self, now: float, rtt: float | None) -> list[Probe]:
        """A try of the ladder is over: take the best so far, repeat the sizes above it, or refine."""
        if self.current >= self._fails or self._works > self.current:
            self.current = self._works
        self._sizes = [size for size in self._sizes if size > self._works]
        if self._sizes and self._tries < TRIES:
            return self._send(now, rtt)
        self._fails = min([self._fails, *self._sizes])
        return self._ladder(now, rtt)

    def _settle(self, now: float) -> None:
        self.current = max(self._works, self.floor)
        self._confirmed = now
        self._phase = _Phase.IDLE
        self._outstanding.clear()
        if self.current >= self.top:
            self._raise_at = float("inf")
        elif self._raise_at == float("inf") or (self._raise_at <= now and self._fails > self.current):
            self._raise_at = now + self.raise_interval
