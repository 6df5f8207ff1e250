"""Handshakes that we began: when M1 and M3 go out, to whom, and when to give up (PROTOCOL section 2, rule 3).

Owns attempts, one a peer, found by sidi. The messages themselves are `initiator.py`; which session then sends is
`peer.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pqvpn.drops import DropReason
from pqvpn.facts import HandshakeFailed, HandshakeStarted
from pqvpn.protocol import cookie, datagrams, initiator, keys
from pqvpn.protocol.context import Context
from pqvpn.protocol.effects import Effect, SelectForSending, Tell, Transmit
from pqvpn.protocol.fragments import PER_ATTEMPT, Reassembler
from pqvpn.protocol.parties import Remote
from pqvpn.protocol.peer import Peer
from pqvpn.reasons import Reason
from pqvpn.wire.address import Address
from pqvpn.wire.cookie import CookieReply
from pqvpn.wire.handshake import Fragment
from pqvpn.wire.offer import Pay

COOKIES = 16  # kept per peer: one per address of the responder

RemoteOf = Callable[[Peer, float], Remote]


@dataclass(slots=True)
class Attempt:
    """One try to reach a peer. `m1` is out until an M2 verifies; then `m3` is, until a packet authenticates."""

    peer: Peer
    started: float
    gives_up: float
    turn: int = 0  # which of the peer's addresses
    endpoint: Address | None = None
    m1: initiator.Attempt | None = None
    m3: bytes | None = None
    slot: int | None = None  # of the session that M3 confirms
    sent: int = 0  # transmissions of the current message
    since: float = 0.0  # the first of them
    fresh_at: float = 0.0
    resent_for_cookie: bool = False
    refused: DropReason | None = None  # why the last M2 was refused
    parts: Reassembler = field(default_factory=lambda: Reassembler(3.0, PER_ATTEMPT, PER_ATTEMPT))


@dataclass(frozen=True, slots=True)
class Completed:
    """An M2 verified: what the session is made of. M3 is already among the effects."""

    attempt: Attempt
    read: initiator.M2Read
    written: initiator.M3Written
    sidi: int
    endpoint: Address


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

    def start(self, peer: Peer, now: float) -> list[Effect]:
        """Begin, unless one is under way, no address is known or cryptography failed. Idempotent."""
        peer_id = peer.settings.peer_id
        if peer_id in self._by_peer:
            return []
        if not self._context.can_shake_hands:
            peer.trouble = Reason.SELF_TEST_FAILED
            return []
        if not peer.targets():
            peer.trouble, peer.wanted = Reason.NO_ENDPOINT, True
            return []
        peer.wanted = False
        attempt = Attempt(peer, now, now + self._context.timers.attempt_gives_up)
        attempt.parts = Reassembler(self._context.timers.reassembly, PER_ATTEMPT, PER_ATTEMPT)
        self._by_peer[peer_id] = attempt
        effects = self._fresh(attempt, now)
        if attempt.endpoint is not None:
            effects.insert(0, Tell(HandshakeStarted(peer.settings.name, str(attempt.endpoint))))
        return effects

    def cancel(self, peer_id: bytes) -> None:
        """End an attempt without a word: it succeeded, or another session made it needless."""
        attempt = self._by_peer.pop(peer_id, None)
        if attempt is not None:
            self._forget_m1(attempt)

    def again(self, peer_id: bytes, now: float) -> list[Effect]:
        """The session of an M3 was never confirmed: a fresh M1, within the same attempt."""
        attempt = self._by_peer[peer_id]
        attempt.m3 = attempt.slot = None
        return self._fresh(attempt, now)

    def deadline(self) -> float:
        """When `tick` has something to do."""
        return min((self._next(a) for a in self._by_peer.values()), default=float("inf"))

    def tick(self, now: float) -> tuple[list[Effect], list[Attempt]]:
        """Repeat, renew, give up. Returns effects and the attempts whose M3 went unanswered for too long."""
        effects: list[Effect] = []
        unconfirmed: list[Attempt] = []
        for attempt in list(self._by_peer.values()):
            attempt.parts.expire(now)
            if now < self._next(attempt):
                continue
            if attempt.m3 is not None and now >= attempt.since + self._context.timers.m3_gives_up:
                unconfirmed.append(attempt)
            elif attempt.m3 is not None:
                effects += self._send(attempt, (attempt.m3,))
            elif now >= attempt.gives_up:
                effects += self._give_up(attempt)
            elif now >= attempt.fresh_at or attempt.m1 is None:
                attempt.turn += 1
                effects += self._fresh(attempt, now)
            else:
                effects += self._send_m1(attempt, now)
        return effects, unconfirmed

    def receive_m2(self, fragment: Fragment, now: float) -> Completed | DropReason | None:
        """A fragment of M2. None while parts are missing; the first M2 that verifies completely wins."""
        attempt = self._by_index.get(fragment.index)
        if attempt is None or attempt.m1 is None or attempt.endpoint is None:
            return DropReason.NO_ATTEMPT
        if not datagrams.check_mac1(attempt.m1.m2_mac_key, fragment):
            return DropReason.MAC1
        attempt.parts.expire(now)
        body = attempt.parts.add(
            fragment.msg_id.to_bytes(8, "little"), b"", False, fragment.msg, fragment.index,
            fragment.idx, fragment.count, fragment.chunk, now,
        )  # fmt: skip
        if not isinstance(body, bytes):
            return body
        read = initiator.read_m2(self._context.local, attempt.m1, body)
        if isinstance(read, DropReason):
            attempt.refused = read
            return read
        written = initiator.write_m3(attempt.m1, read, self._context.randomness)
        sidi = attempt.m1.sidi
        del self._by_index[sidi]  # the index now is the session's
        attempt.m1, attempt.m3, attempt.sent, attempt.since = None, written.datagram, 0, now
        return Completed(attempt, read, written, sidi, attempt.endpoint)

    def send_m3(self, attempt: Attempt) -> list[Effect]:
        """M3 for the first time, once its session is installed."""
        return [] if attempt.m3 is None else self._send(attempt, (attempt.m3,))

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
            return opened
        jar = self._cookies.setdefault(peer_id, {})
        jar.pop(source, None)
        while len(jar) >= COOKIES:
            del jar[next(iter(jar))]
        jar[source] = (opened, now + self._context.timers.cookie_kept)
        if attempt.resent_for_cookie:
            return []
        attempt.resent_for_cookie = True
        return self._transmit(attempt, datagrams.with_mac2(m1.datagrams, opened))

    def forget(self, peer_id: bytes) -> None:
        """The peer is no longer configured."""
        self.cancel(peer_id)
        self._cookies.pop(peer_id, None)

    def _fresh(self, attempt: Attempt, now: float) -> list[Effect]:
        """A new M1 to the next of the peer's addresses."""
        self._forget_m1(attempt)
        context, timers = self._context, self._context.timers
        attempt.sent, attempt.since = 0, now
        attempt.fresh_at = now + timers.m1_fresh_after + context.fraction() * timers.m1_fresh_jitter
        targets = attempt.peer.targets()
        if not targets:
            return []
        attempt.endpoint = targets[attempt.turn % len(targets)]
        limits = context.limits
        offer = Pay(limits.aeads, limits.lanes, limits.mtu, boot_id=context.settings.boot_id)
        remote = self._remote_of(attempt.peer, now)
        m1 = initiator.write_m1(context.local, remote, offer, context.randomness, context.indices)
        if isinstance(m1, DropReason):
            attempt.refused = m1
            return []
        attempt.m1 = m1
        context.indices.add(m1.sidi)
        self._by_index[m1.sidi] = attempt
        return self._send_m1(attempt, now)

    def _send_m1(self, attempt: Attempt, now: float) -> list[Effect]:
        if attempt.m1 is None or attempt.endpoint is None:
            return []
        jar = self._cookies.get(attempt.peer.settings.peer_id, {})
        known, until = jar.get(attempt.endpoint, (None, 0.0))
        return self._send(attempt, datagrams.with_mac2(attempt.m1.datagrams, known if now < until else None))

    def _send(self, attempt: Attempt, messages: tuple[bytes, ...]) -> list[Effect]:
        attempt.sent += 1
        return self._transmit(attempt, messages)

    def _transmit(self, attempt: Attempt, messages: tuple[bytes, ...]) -> list[Effect]:
        to = attempt.endpoint
        return [] if to is None else [Transmit(message, to) for message in messages]

    def _next(self, attempt: Attempt) -> float:
        """When something is to be done for this attempt."""
        timers = self._context.timers
        schedule = timers.m1_schedule if attempt.m3 is None else timers.m3_schedule
        end = attempt.fresh_at if attempt.m3 is None else attempt.since + timers.m3_gives_up
        if attempt.sent < len(schedule) and (attempt.m1 is not None or attempt.m3 is not None):
            end = min(end, attempt.since + schedule[attempt.sent])
        return min(end, attempt.gives_up) if attempt.m3 is None else end

    def _give_up(self, attempt: Attempt) -> list[Effect]:
        settings = attempt.peer.settings
        self.cancel(settings.peer_id)
        reason = Reason.NO_REPLY if attempt.refused is None else Reason.BAD_AUTH
        if attempt.refused is DropReason.POLICY_MISMATCH:
            reason = Reason.POLICY_REFUSED
        attempt.peer.trouble = reason
        refuse = [] if attempt.peer.sending else [SelectForSending(settings.peer_id, None, refuse=True)]
        return [Tell(HandshakeFailed(settings.name, reason, str(attempt.endpoint or ""))), *refuse]

    def _forget_m1(self, attempt: Attempt) -> None:
        if attempt.m1 is not None:
            self._by_index.pop(attempt.m1.sidi, None)
            self._context.indices.discard(attempt.m1.sidi)
            attempt.m1 = None
