"""What strangers get: the responder's way from a datagram to M2, and from M3 to a session (PROTOCOL sections 2 to 4).

Owns the order of checks, the limits, the secrets that rotate and the numbers of biscuits used. Stores nothing about a
handshake between M2 and M3 but the times of the last few, for traces (`answers.py`). Read `receive_m1` and `receive_m3`
from top to bottom: that is the order of section 3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from pqvpn.drops import DropReason
from pqvpn.protocol import cookie, datagrams, keys, responder
from pqvpn.protocol.answers import Answers, Asked
from pqvpn.protocol.context import Context
from pqvpn.protocol.effects import Effect, Transmit
from pqvpn.protocol.fragments import Reassembler
from pqvpn.protocol.limits import (
    CONFIRM_RATE,
    FULL_M1_RATE,
    SOURCE_BURST,
    SOURCE_RATE,
    BucketTable,
    CookieMode,
    SeenKeys,
    TokenBucket,
)
from pqvpn.protocol.parties import Remote
from pqvpn.protocol.responder import M3Read
from pqvpn.wire.address import Address
from pqvpn.wire.handshake import Fragment, Msg

EPK_SIZE = 1216

Find = Callable[[bytes, float], Remote | None]


@dataclass(slots=True)
class _Accepted:
    """The last M3 of a peer: the same again is answered, not installed."""

    peer_id: bytes
    slot: int
    until: float
    acknowledged: float


class Admission:
    """The responder of one node. `find`: a configured peer, with exactly the policy in force for it now."""

    def __init__(self, context: Context, find: Find, now: float) -> None:
        timers, node = context.timers, context.settings
        self._context, self._find = context, find
        self._mac1_key = keys.mac1_key(node.network_key, node.peer_id)
        self._cookie_key = keys.cookie_key(node.network_key, node.peer_id)
        self._biscuit_keys = keys.Rotating(context.random, timers.biscuit_key_rotates, now)
        self._cookie_secrets = keys.Rotating(context.random, timers.cookie_secret_rotates, now)
        self._parts = Reassembler(timers.reassembly)
        self._sources = BucketTable(SOURCE_RATE, SOURCE_BURST)
        self._full = TokenBucket(FULL_M1_RATE, FULL_M1_RATE, now)
        self._confirms = TokenBucket(CONFIRM_RATE, CONFIRM_RATE, now)
        self._cookie_mode = CookieMode(timers.cookie_mode_holds)
        self._seen = SeenKeys(timers.epk_seen)
        self.answers = Answers()
        self._used: dict[bytes, int] = {}  # highest biscuit number by peer; outlives the peer's configuration
        self._accepted: dict[bytes, _Accepted] = {}  # by digest, the last of each peer
        self.named: bytes | None = None  # the configured peer that the last M1 or M3 says it is from

    def sizes(self) -> dict[str, int]:
        """How much is held about strangers: every entry is bounded."""
        return {"slots": len(self._parts), "sources": len(self._sources), "keys": len(self._seen)}

    def deadline(self) -> float:
        """When `tick` has something to do."""
        return min(self._biscuit_keys.deadline, self._cookie_secrets.deadline)

    def tick(self, now: float) -> None:
        """Rotate secrets, free what timed out."""
        self._biscuit_keys.tick(now)
        self._cookie_secrets.tick(now)
        self._expire(now)
        if len(self._parts):
            self._context.evidence.look_again(now + self._context.timers.reassembly)

    def under_load(self, now: float) -> bool:
        """Whether an M1 needs a cookie now."""
        return self._cookie_mode.active(now)

    def receive_m1(
        self, fragment: Fragment, source: Address, local: bytes | None, now: float
    ) -> list[Effect] | DropReason:
        """A fragment of M1 or M1c, well-formed. An answer never has more bytes than what was received."""
        self.named = None
        if fragment.msg is Msg.M1C:
            return DropReason.ENROLMENT_OFF
        if not self._context.can_shake_hands:
            return DropReason.CRYPTO_UNAVAILABLE
        if not datagrams.check_mac1(self._mac1_key, fragment):
            return DropReason.MAC1
        self._expire(now)
        origin = source.packed()
        proven = cookie.proves_address(self._cookie_secrets.accepted(now), origin, fragment)
        if self.under_load(now) and not proven:
            return self._ask_for_cookie(fragment, source, local, now, DropReason.COOKIE_REQUIRED)
        key = origin + fragment.msg_id.to_bytes(8, "little")
        group = origin if proven else source.network()
        if not self._parts.holds(key) and not self._sources.take(group, now):
            if proven:
                return DropReason.RATE_LIMIT
            return self._ask_for_cookie(fragment, source, local, now, DropReason.RATE_LIMIT)
        body = self._parts.add(
            key, group, proven, fragment.msg, fragment.index, fragment.idx, fragment.count, fragment.chunk, now
        )
        if self._parts.crowded:
            self._cookie_mode.trigger(now)
        if isinstance(body, DropReason):
            return body
        evidence = self._context.evidence
        if body is None:
            evidence.awaits(source, now, self._context.timers.reassembly)
            return []
        evidence.complete(source, now)
        return self._answer(fragment.index, body, source, local, now)

    def receive_m3(self, fragment: Fragment, source: Address, now: float) -> M3Read | int | DropReason:
        """M3, well-formed. Returns what to install, or the slot to acknowledge once more."""
        self.named = None
        if not datagrams.check_mac1(self._mac1_key, fragment):
            return DropReason.MAC1
        if not self._confirms.take(now):
            return DropReason.RATE_LIMIT
        accepted = self._accepted.get(sha256(fragment.chunk).digest())
        if accepted is not None and now < accepted.until:
            return self._repeated(accepted, now)
        if not self._context.can_shake_hands:
            return DropReason.CRYPTO_UNAVAILABLE
        read = responder.read_m3(
            self._context.local, fragment.index, fragment.chunk, self._biscuit_keys.accepted(now),
            source.packed(), now, self._context.timers.biscuit_age,
        )  # fmt: skip
        if isinstance(read, DropReason):
            return read
        self.named = read.peer_id if read.peer_id in self._context.peers else None
        if read.no <= self._used.get(read.peer_id, 0):
            return DropReason.STALE_HANDSHAKE
        remote = self._find(read.peer_id, now)
        if remote is None:
            return DropReason.UNKNOWN_PEER
        if remote.policy != read.params.policy:
            return DropReason.POLICY_MISMATCH
        return DropReason.INDEX_IN_USE if read.sidr in self._context.indices else read

    def accepted(self, read: M3Read, fragment: Fragment, slot: int, now: float) -> None:
        """The session of this M3 is installed in `slot`: never install it again."""
        self._used[read.peer_id] = read.no
        self._forget(lambda kept: kept.peer_id == read.peer_id)
        until = now + self._context.timers.biscuit_age
        self._accepted[sha256(fragment.chunk).digest()] = _Accepted(read.peer_id, slot, until, now)

    def erased(self, slot: int) -> None:
        """A slot is free again: an M3 that made the session in it has nothing left to acknowledge."""
        self._forget(lambda kept: kept.slot == slot)

    def _forget(self, which: Callable[[_Accepted], bool]) -> None:
        for digest in [digest for digest, kept in self._accepted.items() if which(kept)]:
            del self._accepted[digest]

    def _repeated(self, accepted: _Accepted, now: float) -> int | DropReason:
        if now < accepted.acknowledged + self._context.timers.m3_repeat_ack:
            return DropReason.RESPONSE_LIMIT
        accepted.acknowledged = now
        return accepted.slot

    def _ask_for_cookie(
        self, fragment: Fragment, source: Address, local: bytes | None, now: float, why: DropReason
    ) -> list[Effect] | DropReason:
        """A cookie reply to fragment 0, which is larger than it; silence to the others."""
        if fragment.idx != 0:
            return why
        self._context.drop(why)
        made = cookie.make(self._cookie_secrets.accepted(now)[0], source.packed())
        nonce = self._context.randomness.nonce()
        return [Transmit(cookie.write_reply(self._cookie_key, made, fragment, nonce), source, local)]

    def _answer(
        self, sidi: int, body: bytes, source: Address, local: bytes | None, now: float
    ) -> list[Effect] | DropReason:
        """A whole M1: the expensive part, and therefore rationed for all sources together."""
        if not self._full.take(now):
            self._cookie_mode.trigger(now)
            return DropReason.RATE_LIMIT
        if not self._seen.add(body[:EPK_SIZE], now) and self.under_load(now):
            return DropReason.STALE_HANDSHAKE
        context = self._context
        m1 = context.gate.guard(
            "decapsulate",
            lambda: responder.read_m1(context.local, sidi, body, lambda peer_id: self._look_up(peer_id, now)),
            ours=False,
        )
        if isinstance(m1, DropReason):
            return m1
        params = responder.choose(m1.pay, context.limits)
        if isinstance(params, DropReason):
            return params
        key = self._biscuit_keys.accepted(now)[0]
        m2 = context.gate.guard(
            "encapsulate",
            lambda: responder.write_m2(
                context.local, m1, params, key, context.written + 1, source.packed(), now, context.randomness,
                context.indices,
            ),
            ours=False,
        )  # fmt: skip
        if isinstance(m2, DropReason):
            return m2
        context.written += 1
        self.answers.note(context.written, Asked(self._parts.opened, now))
        return [Transmit(datagram, source, local) for datagram in m2.datagrams]

    def _look_up(self, peer_id: bytes, now: float) -> Remote | None:
        remote = self._find(peer_id, now)
        self.named = None if remote is None else peer_id
        return remote

    def _expire(self, now: float) -> None:
        self.answers.forget(now - self._context.timers.biscuit_age)
        lost = self._parts.expire(now)
        if lost:
            self._context.drop(DropReason.REASSEMBLY_TIMEOUT, len(lost))
            self._context.evidence.incomplete(lost, now, self._context.timers.m1_fresh_after)
