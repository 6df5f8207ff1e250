"""One look at one peer's path, for an operator who asks what it is like now.

Owns challenges of its own and a search of its own for the path's size (PROTOCOL section 5), and gives back what it found.
Nothing of it is acted upon: the session's round trip and endpoint, the size that the inside may use, timers and breakers
go by what `paths.py` and `pmtu.py` find, which this never touches. Only the path in use is looked at: a packet to another
address of the peer may come from another address of ours, and the peer would follow it there.

Large probes go out only after a challenge was answered, so that nothing is amplified towards an address that is silent.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pqvpn.protocol.effects import KIND_CONTROL, Effect, PathSurvey, SendFrame, Surveyed
from pqvpn.protocol.pmtu import PathMtu
from pqvpn.protocol.session import LiveSession
from pqvpn.wire.address import Address
from pqvpn.wire.control import NONCE_SIZE, MtuProbe, PathChallenge

CHALLENGES = 3
APART = 0.2  # seconds between two challenges; the peer answers ten a second, and the session's own are among them
PATIENCE = 1.5  # seconds that the last of them is waited for
LASTS = 6.0  # seconds in all, whatever is still out
HALFWAY = 0x8000  # probe numbers from where the session's own are farthest away


@dataclass(slots=True)
class Survey:
    """Of one peer. `timeout`: of one size probe, seconds; `number`: the last that the session's own search used."""

    peer_id: bytes
    random: Callable[[int], bytes]
    timeout: float
    number: int
    began: float
    found: PathSurvey = field(default_factory=PathSurvey)
    _search: PathMtu | None = None
    _largest: int = 0  # that was acknowledged
    _rtts: list[float] = field(default_factory=list)
    _out: dict[bytes, tuple[Address, float]] = field(default_factory=dict)  # nonce: where to, since when
    _sent: int = 0
    _sent_at: float = float("-inf")

    def tick(self, live: LiveSession | None, now: float) -> list[Effect]:
        """What is due on the session in use; `Surveyed` is the last."""
        if live is None or not live.confirmed:
            return [self._end(finished=False)]
        effects: list[Effect] = []
        if self._sent < CHALLENGES and now >= self._sent_at + APART:
            effects.append(self._challenge(live, now))
        elif self._sent == CHALLENGES and now >= self._sent_at + PATIENCE:
            self._out.clear()
        effects += self._probe(live, now)
        if self._over:
            effects.append(self._end(finished=True))
        elif now >= self.began + LASTS:
            effects.append(self._end(finished=False))
        return effects

    def deadline(self) -> float:
        """When `tick` has something to do; in the past: at once."""
        if self._over or (self._rtts and self._search is None):
            return self.began
        times = [self.began + LASTS]
        if self._sent < CHALLENGES:
            times.append(self._sent_at + APART)
        elif self._out:
            times.append(self._sent_at + PATIENCE)
        searching = None if self._search is None else self._search.deadline()
        return min(times) if searching is None else min(*times, searching)

    def responded(self, nonce: bytes, source: Address, now: float) -> bool:
        """Whether a response is to a challenge of this survey; it counts from the address that was challenged."""
        out = self._out.get(nonce)
        if out is None:
            return False
        if out[0] == source:
            del self._out[nonce]
            self._rtts.append(now - out[1])
        return True

    def acknowledged(self, number: int, size: int, now: float) -> bool:
        """Whether an acknowledgement is of a probe of this survey."""
        if self._search is None or not self._search.awaits(number, size):
            return False
        self._search.acknowledged(number, size, now)
        self._largest = max(self._largest, size)
        return True

    def _challenge(self, live: LiveSession, now: float) -> SendFrame:
        nonce, path = self.random(NONCE_SIZE), live.path
        self._sent, self._sent_at = self._sent + 1, now
        self._out[nonce] = (path.endpoint, now)
        self.found = PathSurvey(path.endpoint, path.source, top=live.session.mtu)
        body = PathChallenge(nonce).encode()
        return SendFrame(live.session.slot, KIND_CONTROL, body, 0, path.endpoint, path.source)

    def _probe(self, live: LiveSession, now: float) -> list[Effect]:
        if not self._rtts:
            return []
        slowest = max(self._rtts)
        if self._search is None:
            never = float("inf")
            first = (self.number + HALFWAY) & 0xFFFF
            self._search = PathMtu(live.session.mtu, self.timeout, never, never, _number=first)
            probes = self._search.start(now, slowest)
        else:
            probes = self._search.tick(now, False, slowest)
        return [SendFrame(live.session.slot, KIND_CONTROL, MtuProbe(p.number, p.size).encode(), p.size) for p in probes]

    @property
    def _over(self) -> bool:
        """Whether no challenge is to be sent or waited for, and the search came to an end."""
        searched = self._search is not None and self._search.deadline() is None
        return self._sent == CHALLENGES and not self._out and (searched or not self._rtts)

    def _end(self, *, finished: bool) -> Surveyed:
        found, size = self.found, None
        if finished and self._search is not None and self._largest:
            size = self._search.current
        rtts, largest = tuple(self._rtts), self._largest
        return Surveyed(
            self.peer_id,
            PathSurvey(found.endpoint, found.source, found.top, self._sent, rtts, size, largest, finished),
        )
