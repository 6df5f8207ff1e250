"""Where one session's packets go: roaming with a path challenge, and the round trip (PROTOCOL section 5).

Owns the endpoint of a session, the address under validation and the one outstanding challenge. Knows no session key:
that
an address speaks for the peer was authenticated before anything here is called.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pqvpn.protocol.effects import KIND_CONTROL, Effect, MoveEndpoint, SendFrame
from pqvpn.protocol.limits import TokenBucket
from pqvpn.protocol.settings import Timers
from pqvpn.protocol.unvalidated import divide
from pqvpn.wire.address import Address
from pqvpn.wire.control import NONCE_SIZE, PathChallenge, PathResponse

RESPONSES_A_SECOND = 10.0
CHALLENGES_A_SECOND = 10.0
PROBES_A_SECOND, PROBE_BURST = 40.0, 64.0  # acknowledged: a search sends up to 17 at once, three times
REPEATS = (1.0 / 3, 2.0 / 3)  # of the validation time: a lost challenge is repeated with its nonce
SMOOTHING = 0.125  # of a new round trip, as in RFC 6298


@dataclass(slots=True)
class _Challenge:
    nonce: bytes
    to: Address
    source: bytes | None
    sent_at: float
    roaming: bool
    allowed: int = 0  # repeats
    repeats: int = 0


@dataclass(slots=True)
class Path:
    """The way of one session. `endpoint` is validated; a candidate is only ever used within its budget."""

    slot: int
    endpoint: Address
    source: bytes | None
    random: Callable[[int], bytes]
    rtt: float | None = None
    sample: float | None = None  # seconds that the last challenge answered took, repetitions included
    answered_at: float | None = None  # when a challenge to the endpoint in use last was
    unanswered: int = 0  # challenges to it since then
    outcome: bool | None = None  # of the latest challenge to the endpoint in use, until somebody takes it
    _challenge: _Challenge | None = None
    _measured_at: float = float("-inf")
    _responses: TokenBucket = field(default_factory=lambda: _bucket(RESPONSES_A_SECOND))
    _probes: TokenBucket = field(default_factory=lambda: TokenBucket(PROBES_A_SECOND, PROBE_BURST, 0.0))
    _challenges: TokenBucket = field(default_factory=lambda: _bucket(CHALLENGES_A_SECOND))

    def roamed(self, to: Address, source: bytes | None, allowed: int, now: float) -> list[Effect]:
        """The highest counter came from `to`: go there and challenge it, within the `allowed` bytes."""
        waiting = self._challenge
        if to == self.endpoint:
            if waiting is not None and waiting.roaming:
                self._challenge = None
            return [MoveEndpoint(self.slot, to, self.source, None)]
        if waiting is not None and waiting.roaming and waiting.to == to:
            return []
        if not self._challenges.take(now):
            return [MoveEndpoint(self.slot, self.endpoint, self.source, None)]
        budget, repeats = divide(allowed)
        self._challenge = _Challenge(self.random(NONCE_SIZE), to, source, now, roaming=True, allowed=repeats)
        return [MoveEndpoint(self.slot, to, source, budget), self._send(self._challenge)]

    def measure(self, timers: Timers, now: float) -> list[Effect]:
        """Challenge the endpoint in use, to learn the round trip, unless a challenge is out or the last is fresh."""
        if self._challenge is not None or now < self._measured_at + timers.rtt_interval:
            return []
        self._measured_at = now
        self._challenge = _Challenge(self.random(NONCE_SIZE), self.endpoint, self.source, now, roaming=False)
        return [self._send(self._challenge)]

    def challenged(self, nonce: bytes, source: Address, local: bytes | None, now: float) -> list[Effect] | None:
        """Answer the peer's challenge to where it came from; None when that is too often."""
        if not self._responses.take(now):
            return None
        return [SendFrame(self.slot, KIND_CONTROL, PathResponse(nonce).encode(), 0, source, local)]

    def probed(self, now: float) -> bool:
        """Whether one more path MTU probe of the peer may be acknowledged."""
        return self._probes.take(now)

    def responded(self, nonce: bytes, source: Address, now: float) -> tuple[bool, list[Effect]]:
        """A response came in. Returns whether the endpoint moved for good, and what to do.

        Only the outstanding nonce from the very address that was challenged counts.
        """
        waiting = self._challenge
        if waiting is None or waiting.nonce != nonce or waiting.to != source:
            return False, []
        self._challenge = None
        self.answered_at, self.unanswered = now, 0
        self.sample = sample = now - waiting.sent_at
        if not waiting.repeats:
            smooth = self.rtt is not None and not waiting.roaming
            self.rtt = sample if not smooth else (1 - SMOOTHING) * (self.rtt or 0.0) + SMOOTHING * sample
        if not waiting.roaming:
            self.outcome = True
            return False, []
        self.endpoint, self.source = waiting.to, waiting.source
        return True, [MoveEndpoint(self.slot, self.endpoint, self.source, None)]

    def tick(self, timers: Timers, now: float) -> list[Effect]:
        """Repeat a roaming challenge, or fall back to the old address when it was not answered in time."""
        waiting = self._challenge
        if waiting is None or now < self._next(waiting, timers):
            return []
        if now >= waiting.sent_at + timers.path_validation:
            self._challenge = None
            if waiting.roaming:  # no outcome: whoever sent the datagram last chose where the challenge goes
                return [MoveEndpoint(self.slot, self.endpoint, self.source, None)]
            self.outcome = False
            self.unanswered += 1
            return []
        waiting.repeats += 1
        return [self._send(waiting)]

    def take_outcome(self) -> bool | None:
        """Whether the endpoint in use answered the latest challenge; each answer is given once."""
        outcome, self.outcome = self.outcome, None
        return outcome

    def deadline(self, timers: Timers) -> float:
        """When `tick` has something to do; infinity without a challenge."""
        return float("inf") if self._challenge is None else self._next(self._challenge, timers)

    def _next(self, waiting: _Challenge, timers: Timers) -> float:
        if waiting.roaming and waiting.repeats < waiting.allowed:
            return waiting.sent_at + REPEATS[waiting.repeats] * timers.path_validation
        return waiting.sent_at + timers.path_validation

    def _send(self, challenge: _Challenge) -> SendFrame:
        return SendFrame(
            self.slot, KIND_CONTROL, PathChallenge(challenge.nonce).encode(), 0, challenge.to, challenge.source
        )


def _bucket(rate: float) -> TokenBucket:
    return TokenBucket(rate, rate, 0.0)
