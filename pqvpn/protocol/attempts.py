"""Handshakes that we began: when M1 and M3 go out, to whom, and when to give up (PROTOCOL section 2, rule 3).

Owns attempts, one a peer, found by sidi. The messages themselves are `initiator.py`; which session then sends is
`peer.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pqvpn.drops import DropReason
from pqvpn.facts import (
    AnswerRefused,
    CookieReceived,
    HandshakeAbandoned,
    HandshakeFailed,
    HandshakeSent,
    HandshakeStarted,
)
from pqvpn.protocol import cookie, datagrams, initiator, keys
from pqvpn.protocol.context import Context
from pqvpn.protocol.effects import Effect, SelectForSending, Tell, Transmit, Trigger
from pqvpn.protocol.fragments import PER_ATTEMPT, Reassembler
from pqvpn.protocol.gate import Facts
from pqvpn.protocol.parties import Remote
from pqvpn.protocol.peer import Peer
from pqvpn.protocol.sampling import sampled
from pqvpn.protocol.session import LiveSession
from pqvpn.reasons import Reason
from pqvpn.wire.address import Address
from pqvpn.wire.cookie import CookieReply
from pqvpn.wire.handshake import Fragment
from pqvpn.wire.offer import TRACE_SAMPLED, Pay

TRACE_ID_SIZE = 16
COOKIES = 16  # kept per peer: one per address of the responder

_REASONS = {
    None: Reason.NO_REPLY,
    DropReason.POLICY_MISMATCH: Reason.POLICY_REFUSED,
    DropReason.CRYPTO_UNAVAILABLE: Reason.SELF_TEST_FAILED,
}
"""What the last refusal of an attempt means; any other one that the answer was not the peer's."""

RemoteOf = Callable[[Peer, float], Remote]
Each = Callable[[Peer, float, Callable[[], list[Effect]]], list[Effect]]
"""Does what is due for one peer so that its failure is not the others'."""


@dataclass(slots=True)
class Attempt:
    """One try to reach a peer. `m1` is out until an M2 verifies; then `m3` is, until a packet authenticates."""

    peer: Peer
    trace_id: bytes  # its identifier in facts; told to a peer that is configured for it
    started: float
    gives_up: float
    turn: int = 0  # which of the peer's addresses
    authentic: bool = False  # an M1 went where the peer is, as far as can be known
    endpoint: Address | None = None
    m1: initiator.Attempt | None = None
    m3: bytes | None = None
    slot: int | None = None  # of the session that M3 confirms
    sent: int = 0  # transmissions of the current message
    since: float = 0.0  # the first of them
    fresh_at: float = 0.0
    transmissions: int = 0  # as `sent`, with the extra one that a cookie causes
    resent_for_cookie: bool = False
    cookie_told: bool = False  # of the current M1
    refused: DropReason | None = None  # why the last M2 was refused
    drops: dict[DropReason, None] = field(default_factory=dict)  # of answers, each once
    parts: Reassembler = field(default_factory=lambda: Reassembler(3.0, PER_ATTEMPT, PER_ATTEMPT))

    @property
    def id(self) -> str:
        """The trace id as facts have it."""
        return self.trace_id.hex()


@dataclass(frozen=True, slots=True)
class Completed:
    """An M2 verified: what the session is made of. M3 is already among the effects."""

    attempt: Attempt
    read: initiator.M2Read
    written: initiator.M3Written
    sidi: int
    endpoint: Address
    effects: list[Effect]


class Attempts:
    """All outstanding attempts of a core."""

    def __init__(self, context: Context, remote_of: RemoteOf) -> None:
        self._context = context
        self._remote_of = remote_of
        self._by_peer: dict[bytes, Attempt] = {}
        self._by_index: dict[int, Attempt] = {}
        self._cookies: dict[bytes, dict[Address, tuple[bytes, float]]] = {}

    def of(self, peer_id: bytes) -> Attempt | None:
        """The attempt to this peer, if one is under way."""
        return self._by_peer.get(peer_id)

    def start(self, peer: Peer, now: float, trigger: Trigger) -> list[Effect]:
        """Begin, unless one is under way, no address is known or cryptography failed. Idempotent."""
        peer_id = peer.settings.peer_id
        if peer_id in self._by_peer:
            return []
        if not self._context.can_shake_hands:
            peer.trouble = Reason.SELF_TEST_FAILED
            return []
        if not peer.targets():
            peer.trouble, peer.wanted = Reason.NO_ENDPOINT, peer.wanted or trigger
            return []
        attempt = Attempt(peer, self._context.random(TRACE_ID_SIZE), now, now + self._context.timers.attempt_gives_up)
        leave = self._context.gate.begin(peer_id, attempt.id, trigger, now)
        if leave.refused:
            return _told(leave.facts)
        peer.wanted = None
        attempt.parts = self._reassembler()
        self._by_peer[peer_id] = attempt
        peer.attempt, peer.trigger = attempt.id, trigger.value
        effects = self._fresh(attempt, now)
        started = HandshakeStarted(peer.settings.name, str(attempt.endpoint or ""), attempt.id, trigger.value)
        return [Tell(started), *_told(leave.facts), *effects]

    def succeeded(self, peer_id: bytes) -> list[Effect]:
        """End the attempt to this peer: it has its session."""
        return self._end(peer_id, worked=True)

    def abandon(self, peer_id: bytes, why: str) -> list[Effect]:
        """End the attempt to this peer, if there is one, without success or failure; `why` is the fact's word."""
        attempt = self._by_peer.get(peer_id)
        if attempt is None:
            return []
        return [*self._end(peer_id, None), Tell(HandshakeAbandoned(attempt.peer.settings.name, attempt.id, why))]

    def hurry(self, now: float) -> list[Effect]:
        """The network changed: what was sent may have gone nowhere. Begin every M1 that is out anew, at the first address."""
        effects: list[Effect] = []
        for attempt in self._by_peer.values():
            if attempt.m3 is None and now < attempt.gives_up:
                attempt.turn = 0
                effects += self._fresh(attempt, now)
        return effects

    def again(self, peer_id: bytes, now: float) -> list[Effect]:
        """The session of an M3 was never confirmed: a fresh M1, within the same attempt."""
        attempt = self._by_peer[peer_id]
        attempt.m3 = attempt.slot = None
        return self._fresh(attempt, now)

    def deadline(self) -> float:
        """When `tick` has something to do."""
        return min((self._next(a) for a in self._by_peer.values()), default=float("inf"))

    def tick(self, now: float, each: Each) -> tuple[list[Effect], list[Attempt]]:
        """Repeat, renew, give up. Returns effects and the attempts whose M3 went unanswered for too long."""
        effects: list[Effect] = []
        unconfirmed: list[Attempt] = []
        for attempt in list(self._by_peer.values()):
            effects += each(attempt.peer, now, lambda: self._due(attempt, now, unconfirmed))  # noqa: B023 - called at once
        return effects, unconfirmed

    def _due(self, attempt: Attempt, now: float, unconfirmed: list[Attempt]) -> list[Effect]:
        self._expire_parts(attempt, now)
        if now < self._next(attempt):
            return []
        if attempt.m3 is not None and now >= attempt.since + self._context.timers.m3_gives_up:
            unconfirmed.append(attempt)
            return []
        if attempt.m3 is not None:
            return self.send_m3(attempt)
        if now >= attempt.gives_up:
            return self._give_up(attempt, now)
        if now >= attempt.fresh_at or attempt.m1 is None:
            attempt.turn += 1
            failed = self._path(attempt, worked=False) if attempt.m1 is not None else []
            return failed + self._fresh(attempt, now)
        return self._send_m1(attempt, now)

    def at(self, index: int) -> Attempt | None:
        """The attempt whose M1 is out with this index."""
        return self._by_index.get(index)

    def receive_m2(self, fragment: Fragment, source: Address, now: float) -> Completed | DropReason | None:
        """A fragment of M2. None while parts are missing; the first M2 that verifies completely wins."""
        attempt = self._by_index.get(fragment.index)
        if attempt is None or attempt.m1 is None or attempt.endpoint is None:
            return DropReason.NO_ATTEMPT
        if not datagrams.check_mac1(attempt.m1.m2_mac_key, fragment):
            return self._refuse(attempt, DropReason.MAC1, source, now)  # anybody's: what follows is who read our M1
        self._expire_parts(attempt, now)
        body = attempt.parts.add(
            fragment.msg_id.to_bytes(8, "little"), b"", False, fragment.msg, fragment.index,
            fragment.idx, fragment.count, fragment.chunk, now,
        )  # fmt: skip
        if not isinstance(body, bytes):
            return body
        m1, local = attempt.m1, self._context.local
        read = self._context.gate.guard("decapsulate", lambda: initiator.read_m2(local, m1, body), ours=False)
        if isinstance(read, DropReason):
            attempt.refused = read
            return self._refuse(attempt, read, source, now, _REASONS.get(read, Reason.BAD_AUTH))
        written = initiator.write_m3(attempt.m1, read, self._context.randomness, attempt.trace_id)
        sidi = attempt.m1.sidi
        del self._by_index[sidi]  # the index now is the session's
        attempt.m1, attempt.m3, attempt.parts = None, written.datagram, self._reassembler()
        attempt.sent, attempt.transmissions, attempt.since = 0, 0, now
        return Completed(attempt, read, written, sidi, attempt.endpoint, self._path(attempt, worked=True))

    def send_m3(self, attempt: Attempt) -> list[Effect]:
        """M3 for the first time, once its session is installed."""
        return [] if attempt.m3 is None else self._send(attempt, "m3", (attempt.m3,))

    def receive_cookie(self, reply: CookieReply, source: Address, now: float) -> list[Effect] | DropReason:
        """A cookie reply: keep it for its address; the first one of an attempt sends M1 again at once."""
        attempt = self._by_index.get(reply.index)
        if attempt is None or attempt.m1 is None or attempt.endpoint != source:
            return DropReason.NO_ATTEMPT
        m1 = attempt.m1
        if (reply.msg, reply.msg_id) != (m1.msg, m1.msg_id):
            return DropReason.NO_ATTEMPT
        peer_id = attempt.peer.settings.peer_id
        opened = cookie.read_reply(keys.cookie_key(self._context.local.network_key, peer_id), reply, m1.mac1)
        if isinstance(opened, DropReason):
            attempt.drops[opened] = None
            return opened
        jar = self._cookies.setdefault(peer_id, {})
        jar.pop(source, None)
        while len(jar) >= COOKIES:
            del jar[next(iter(jar))]
        jar[source] = (opened, now + self._context.timers.cookie_kept)
        effects: list[Effect] = []
        if not attempt.cookie_told:
            attempt.cookie_told = True
            effects.append(Tell(CookieReceived(attempt.peer.settings.name, attempt.id, str(source))))
        if attempt.resent_for_cookie:
            return effects
        attempt.resent_for_cookie = True
        return effects + self._transmit(attempt, "m1", datagrams.with_mac2(m1.datagrams, opened), cookie=True)

    def forget(self, peer_id: bytes) -> list[Effect]:
        """The peer is no longer configured."""
        self._cookies.pop(peer_id, None)
        return self.abandon(peer_id, "removed")

    def _fresh(self, attempt: Attempt, now: float) -> list[Effect]:
        """A new M1 to the next of the peer's addresses."""
        self._forget_m1(attempt)
        context, timers = self._context, self._context.timers
        attempt.sent, attempt.transmissions, attempt.since, attempt.cookie_told = 0, 0, now, False
        attempt.fresh_at = now + timers.m1_fresh_after + context.fraction() * timers.m1_fresh_jitter
        targets = attempt.peer.targets()
        if not targets:
            return []
        told: list[Effect] = []
        if len(targets) > 1:  # with one there is nothing to choose
            targets, facts = context.gate.usable(attempt.peer.settings.peer_id, attempt.id, targets)
            told = _told(facts)
        attempt.endpoint = targets[attempt.turn % len(targets)]
        attempt.authentic = attempt.authentic or attempt.peer.is_authentic(attempt.endpoint)
        limits = context.limits
        traced = attempt.peer.settings.trace and sampled(attempt.trace_id, context.settings.sample)
        flags = TRACE_SAMPLED if traced else 0
        offer = Pay(limits.aeads, limits.lanes, limits.mtu, boot_id=context.settings.boot_id, trace_flags=flags)
        remote = self._remote_of(attempt.peer, now)
        m1 = context.gate.guard(
            "encapsulate",
            lambda: initiator.write_m1(context.local, remote, offer, context.randomness, context.indices),
            ours=True,
        )
        if isinstance(m1, DropReason):
            attempt.refused, attempt.drops[m1] = m1, None
            return told
        attempt.m1 = m1
        context.indices.add(m1.sidi)
        self._by_index[m1.sidi] = attempt
        return told + self._send_m1(attempt, now)

    def _send_m1(self, attempt: Attempt, now: float) -> list[Effect]:
        if attempt.m1 is None or attempt.endpoint is None:
            return []
        jar = self._cookies.get(attempt.peer.settings.peer_id, {})
        known, until = jar.get(attempt.endpoint, (None, 0.0))
        made = known if now < until else None
        return self._send(attempt, "m1", datagrams.with_mac2(attempt.m1.datagrams, made), cookie=made is not None)

    def _send(self, attempt: Attempt, name: str, message: tuple[bytes, ...], cookie: bool = False) -> list[Effect]:
        attempt.sent += 1
        return self._transmit(attempt, name, message, cookie)

    def _transmit(self, attempt: Attempt, name: str, message: tuple[bytes, ...], cookie: bool) -> list[Effect]:
        to, peer = attempt.endpoint, attempt.peer.settings.name
        if to is None:
            return []
        attempt.transmissions += 1
        sent = HandshakeSent(peer, attempt.id, name, str(to), attempt.transmissions, cookie)
        return [*(Transmit(datagram, to, None, peer, attempt.id) for datagram in message), Tell(sent)]

    def _next(self, attempt: Attempt) -> float:
        """When something is to be done for this attempt."""
        timers = self._context.timers
        schedule = timers.m1_schedule if attempt.m3 is None else timers.m3_schedule
        end = attempt.fresh_at if attempt.m3 is None else attempt.since + timers.m3_gives_up
        if attempt.sent < len(schedule) and (attempt.m1 is not None or attempt.m3 is not None):
            end = min(end, attempt.since + schedule[attempt.sent])
        return min(end, attempt.gives_up) if attempt.m3 is None else end

    def _give_up(self, attempt: Attempt, now: float) -> list[Effect]:
        settings = attempt.peer.settings
        reason = _REASONS.get(attempt.refused, Reason.BAD_AUTH)
        # a look-up is not authenticated: that nobody answers where it led says nothing of the peer; neither do our faults
        says_nothing = not attempt.authentic or attempt.refused is DropReason.CRYPTO_UNAVAILABLE
        ended = self._end(settings.peer_id, None if says_nothing else False, reason)
        attempt.peer.trouble = reason
        failed = HandshakeFailed(
            settings.name, reason, str(attempt.endpoint or ""), attempt=attempt.id, seconds=now - attempt.started,
            drops=tuple(drop.name.lower() for drop in attempt.drops),
        )  # fmt: skip
        refuse = [] if attempt.peer.sending else [SelectForSending(settings.peer_id, None, refuse=True)]
        return [*ended, Tell(failed), *refuse]

    def _end(self, peer_id: bytes, worked: bool | None, reason: Reason | None = None) -> list[Effect]:
        attempt = self._by_peer.pop(peer_id, None)
        if attempt is None:
            return []
        self._forget_m1(attempt)
        return _told(self._context.gate.ended(peer_id, attempt.id, worked, reason))

    def proven(self, peer: Peer) -> list[Effect]:
        """Attempts to reach this peer may begin again: what failed says nothing of what works now."""
        return _told(self._context.gate.proven(peer.settings.peer_id))

    def path_outcome(self, peer: Peer, live: LiveSession) -> list[Effect]:
        """Whether the path in use answered the latest challenge: of use where there are others."""
        outcome = live.path.take_outcome()
        if outcome is None or len(peer.targets()) < 2:
            return []
        return _told(self._context.gate.answered(peer.settings.peer_id, peer.attempt, live.path.endpoint, outcome))

    def _path(self, attempt: Attempt, *, worked: bool) -> list[Effect]:
        """Whether the address that is tried answered: of use where there are others."""
        peer = attempt.peer
        if attempt.endpoint is None or len(peer.targets()) < 2:
            return []
        return _told(self._context.gate.answered(peer.settings.peer_id, attempt.id, attempt.endpoint, worked))

    def _refuse(
        self, attempt: Attempt, drop: DropReason, source: Address, now: float, reason: Reason | None = None
    ) -> DropReason:
        told = AnswerRefused(attempt.peer.settings.name, attempt.id, drop.name.lower(), str(source), reason)
        first = drop not in attempt.drops
        attempt.drops[drop] = None
        # of the peer's own answers each attempt is to have one in its trace; of those that anybody can send, none need be
        self._context.evidence.answer_refused(attempt.peer, told, now, always=first and reason is not None)
        return drop

    def _expire_parts(self, attempt: Attempt, now: float) -> None:
        lost = attempt.parts.expire(now)
        if lost and attempt.endpoint is not None:
            self._context.evidence.answer_incomplete(attempt.peer, attempt.id, lost, attempt.endpoint, now)

    def _reassembler(self) -> Reassembler:
        return Reassembler(self._context.timers.reassembly, PER_ATTEMPT, PER_ATTEMPT)

    def _forget_m1(self, attempt: Attempt) -> None:
        if attempt.m1 is not None:
            self._by_index.pop(attempt.m1.sidi, None)
            self._context.indices.discard(attempt.m1.sidi)
            attempt.m1 = None


def _told(facts: Facts) -> list[Effect]:
    return [Tell(fact) for fact in facts]
