"""From messages to sessions: what a verified M2 or M3 leads to, and the first packet on what it made (PROTOCOL section 2).

Owns the making of sessions in both roles. Which messages verify is `attempts.py` and `admission.py`; which session then
sends is `peer.py`.
"""

from pqvpn.drops import DropReason
from pqvpn.facts import AnswerVerified, HandshakeCompleted
from pqvpn.protocol import frames
from pqvpn.protocol.admission import Admission
from pqvpn.protocol.answers import Asked
from pqvpn.protocol.attempts import Attempts, Completed
from pqvpn.protocol.context import Context
from pqvpn.protocol.effects import KIND_KEEPALIVE, Effect, Install, Role, SendFrame, Session, Tell, Why
from pqvpn.protocol.keys import SessionKeys
from pqvpn.protocol.paths import Path
from pqvpn.protocol.peer import Peer
from pqvpn.protocol.responder import M3Read
from pqvpn.protocol.session import LiveSession, rekey_time
from pqvpn.wire.address import Address
from pqvpn.wire.handshake import Fragment, Msg
from pqvpn.wire.offer import POLICY_AUTH_PLAINTEXT, POLICY_FULL, TRACE_SAMPLED, Params

POLICY_NAMES = {POLICY_FULL: "full", POLICY_AUTH_PLAINTEXT: "auth-plaintext"}

Live = dict[int, tuple[Peer, LiveSession]]


class Handshakes:
    """Makes sessions. `live`: all of the core's sessions by slot; entries leave it when the core sees their Erase."""

    def __init__(self, context: Context, attempts: Attempts, admission: Admission, live: Live) -> None:
        self._context, self._attempts, self._admission, self._live = context, attempts, admission, live

    def receive(
        self, fragment: Fragment, source: Address, local: bytes | None, now: float
    ) -> list[Effect] | DropReason:
        """A handshake datagram, well-formed: the effects, or why it is discarded."""
        if fragment.msg is Msg.M2:
            completed = self._attempts.receive_m2(fragment, source, now)
            return self._initiated(completed, source, now) if isinstance(completed, Completed) else completed or []
        if fragment.msg is not Msg.M3:
            return self._admission.receive_m1(fragment, source, local, now)
        read = self._admission.receive_m3(fragment, source, now)
        if isinstance(read, DropReason):
            return read
        if isinstance(read, M3Read):
            return self._responded(read, fragment, source, local, now)
        return [SendFrame(read, KIND_KEEPALIVE, b"")]

    def _initiated(self, completed: Completed, source: Address, now: float) -> list[Effect] | DropReason:
        """M2 verified: install the session and send M3. It sends once something authenticated on it.

        Rule 2 allows data right behind M3; it would overtake the installation at the responder, whose lane is another
        process than the one that reads M3, and the first packet of each connection would be lost.
        """
        attempt, peer, context = completed.attempt, completed.attempt.peer, self._context
        slot = context.take_slot()
        if slot is None:
            context.drop(DropReason.INDEX_IN_USE)
            return self._attempts.abandon(peer.settings.peer_id, "no_room")
        attempt.slot = slot
        read = completed.read
        session = self._session(
            slot, peer, Role.INITIATOR, read.params, completed.written.keys,
            completed.sidi, read.sidr, completed.endpoint, None, now, attempt.trace_id,
        )  # fmt: skip
        live = self.track(peer, session, confirmed=False)
        sampled, session_id = bool(read.params.trace_flags & TRACE_SAMPLED), session.session_id.hex()
        verified = AnswerVerified(peer.settings.name, attempt.id, session_id, str(source), sampled)
        effects = [Tell(verified), *completed.effects, *peer.add(live, now)]
        keys = completed.written.keys
        effects.append(Install(session, keys.to_initiator, keys.to_responder))
        return effects + self._attempts.send_m3(attempt)

    def _responded(
        self, read: M3Read, fragment: Fragment, source: Address, local: bytes | None, now: float
    ) -> list[Effect] | DropReason:
        """M3 verified: install, acknowledge, switch (rules 5 and 6)."""
        slot = self._context.take_slot()
        if slot is None:
            return DropReason.INDEX_IN_USE
        peer = self._context.peers[read.peer_id]
        keys = read.keys()
        trace_id = read.trace_id if peer.settings.trace and any(read.trace_id) else b""
        session = self._session(
            slot, peer, Role.RESPONDER, read.params, keys, read.sidr, read.sidi, source, local, now, trace_id
        )
        live = self.track(peer, session, confirmed=True)
        live.confirm(self._context.written, now)
        effects = peer.add(live, now)
        self._admission.accepted(read, fragment, slot, now)
        attempt = self._attempts.of(read.peer_id)
        if attempt is not None and attempt.m3 is None:
            effects += self._attempts.abandon(read.peer_id, "peer_was_quicker")  # it holds no M2 that could cross
        effects += [Install(session, keys.to_responder, keys.to_initiator), SendFrame(slot, KIND_KEEPALIVE, b"")]
        effects += peer.responded(live, read.no, now)
        effects += self._attempts.proven(peer)
        peer.trouble = None
        effects.append(self._completed(peer, session, None, self._admission.answers.take(read.no)))
        return effects + peer.heard(live, now) + peer.path_began(self._context.timers, now)

    def heard(self, slot: int, now: float) -> list[Effect]:
        """Something authenticated on a session."""
        held = self._live.get(slot)
        if held is None:
            return []
        peer, live = held
        if not live.confirm(self._context.written, now):
            return peer.heard(live, now)
        attempt = self._attempts.of(peer.settings.peer_id)
        effects: list[Effect] = []
        started = None
        if attempt is not None and attempt.slot == slot:
            started = attempt.started
            effects += self._attempts.succeeded(peer.settings.peer_id)
        peer.trouble = None
        effects.append(self._completed(peer, live.session, None if started is None else now - started))
        effects += peer.confirmed(live, now) + peer.heard(live, now)
        return effects + peer.path_began(self._context.timers, now)

    def unconfirmed(self, peer: Peer, slot: int | None, now: float) -> list[Effect]:
        """No packet came on the session of our M3: drop it; a fresh M1, unless another session serves."""
        peer_id = peer.settings.peer_id
        served = peer.sending is not None and peer.selected != slot and peer.sending.session.role is Role.RESPONDER
        effects = peer.remove(slot, Why.LOST, now) if slot is not None and slot in self._live else []
        if served and peer.sending is not None and not peer.sending.is_stale(self._context.timers, now):
            return effects + self._attempts.abandon(peer_id, "peer_was_quicker")
        return effects + self._attempts.again(peer_id, now)

    def _session(
        self, slot: int, peer: Peer, role: Role, params: Params, keys: SessionKeys, index_in: int, index_out: int,
        endpoint: Address, source: bytes | None, now: float, trace_id: bytes = b"",
    ) -> Session:  # fmt: skip
        return Session(
            slot, peer.settings.peer_id, keys.session_id, role, params.aead, params.policy, params.lanes, params.mtu,
            index_in, index_out, endpoint, source, now, now + self._context.timers.reject_after, trace_id,
        )  # fmt: skip

    def track(self, peer: Peer, session: Session, *, confirmed: bool) -> LiveSession:
        """Keep the clocks of a session that lanes hold, or are about to."""
        timers, random = self._context.timers, self._context.random
        path = Path(session.slot, session.endpoint, session.source, random)
        previous = peer.sending
        if previous is not None and previous.path.endpoint == session.endpoint:
            path.rtt = previous.path.rtt
        rekey_at = rekey_time(session.role, session.derived_at, timers, self._context.fraction())
        live = LiveSession(session, path, rekey_at, confirmed)
        self._context.indices.add(session.index_in)
        self._live[session.slot] = (peer, live)
        return live

    def _completed(self, peer: Peer, session: Session, seconds: float | None, asked: Asked | None = None) -> Tell:
        at = session.derived_at
        suite = f"X-Wing, {frames.SUITES[session.aead]}"
        return Tell(
            HandshakeCompleted(
                peer.settings.name, session.session_id.hex(), session.role.name.lower(), suite,
                str(session.endpoint), seconds, session.trace_id.hex(), POLICY_NAMES[session.policy],
                None if asked is None else at - asked.began, None if asked is None else at - asked.whole,
            )
        )  # fmt: skip
