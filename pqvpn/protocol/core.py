"""The core: everything a node decides about peers, handshakes, sessions and paths, without touching the world.

Owns the routing of inputs to the parts and what spans several of them. Bytes and `now` in, effects out:

    datagrams   -> admission.py (what strangers get)  attempts.py (handshakes we began)  handshakes.py (to sessions)
    sessions    -> peer.py (which one sends)  session.py (clocks)  paths.py (where to)  pmtu.py (how large)

Nothing received makes an input raise: what is refused is counted in `drops`. `now` is CLOCK_BOOTTIME in seconds and
never runs backwards. The driver calls `tick` when `deadline()` has come, after `observe` for every live session.
"""

from pqvpn.drops import DropReason
from pqvpn.facts import Problem, Roamed
from pqvpn.protocol import frames
from pqvpn.protocol.admission import Admission
from pqvpn.protocol.attempts import Attempts
from pqvpn.protocol.context import Context, Random
from pqvpn.protocol.effects import (
    KIND_KEEPALIVE,
    Activity,
    Effect,
    Erase,
    MoveEndpoint,
    SelectForSending,
    SendFrame,
    Session,
    Surveyed,
    Tell,
    Transmit,
    Trigger,
    Why,
)
from pqvpn.protocol.gate import Gate
from pqvpn.protocol.handshakes import Handshakes
from pqvpn.protocol.isolation import Isolation
from pqvpn.protocol.peer import Peer
from pqvpn.protocol.roster import Roster
from pqvpn.protocol.session import Due, LiveSession
from pqvpn.protocol.settings import POLICY_FULL, NodeSettings, PeerSettings
from pqvpn.protocol.survey import Survey
from pqvpn.protocol.views import PeerView, view_of
from pqvpn.reasons import Reason
from pqvpn.wire.address import Address
from pqvpn.wire.control import CloseReason
from pqvpn.wire.cookie import TYPE_COOKIE_REPLY, parse_reply
from pqvpn.wire.handshake import TYPE_HANDSHAKE, Msg, parse_fragment

HEARTBEAT = 1.0  # with sessions, the driver looks at the lanes' counters at least so often
SOONEST = 0.01  # between two ticks, at least


class Core:
    """One node's decisions. `random(n)` gives n bytes of cryptographic quality."""

    def __init__(self, settings: NodeSettings, random: Random, now: float, gate: Gate | None = None) -> None:
        """Raises ValueError when the node's seed has another length than 32. `gate` None: everything is let through."""
        self._context = Context(settings, random, gate)
        self._roster = Roster(self._context)
        self._live: dict[int, tuple[Peer, LiveSession]] = {}
        self._attempts = Attempts(self._context, self._roster.remote)
        self._admission = Admission(self._context, self._roster.find, now)
        self._isolation = Isolation(self._context, self._roster, self._attempts, self._live, self._done)
        self._handshakes = Handshakes(self._context, self._attempts, self._admission, self._live)
        self._ticked = now
        self._deadline: float | None = None  # cached: a stranger's datagram must not cost a walk over all sessions

    @property
    def drops(self) -> list[int]:
        """Discarded datagrams and frames, indexed by `DropReason`."""
        return self._context.drops

    # -- configuration ------------------------------------------------------------------------------

    def set_peers(self, peers: tuple[PeerSettings, ...], now: float) -> list[Effect]:
        """The complete list of peers. Sessions of peers that stay as they were are not touched."""
        effects: list[Effect] = []
        self._context.evidence.changed()
        wanted = {peer.peer_id: peer for peer in peers}
        for peer_id in [peer_id for peer_id in self._context.peers if peer_id not in wanted]:
            effects += self._isolation.drop(self._context.peers[peer_id], now)
        for settings in peers:
            known = self._context.peers.get(settings.peer_id)
            if known is None:
                effects += self._roster.add(settings)
            elif known.settings != settings:
                effects += self._change_peer(known, settings, now)
        return self._done(effects)

    def set_endpoints(self, peer_id: bytes, addresses: tuple[Address, ...], now: float) -> list[Effect]:
        """Candidate addresses of a peer, best first; empty: the name did not resolve, the last known ones stay."""
        peer = self._context.peers.get(peer_id)
        if peer is None or not addresses:
            return []
        effects = [] if set(addresses) <= set(peer.endpoints) else self._attempts.proven(peer)
        peer.endpoints = addresses
        self._context.evidence.changed()
        return self._done(effects + (self._attempts.start(peer, now, peer.wanted) if peer.wanted else []))

    def released(self, peer_id: bytes, now: float) -> list[Effect]:
        """An operator's hold on this configured peer ended: what waits for it need not wait any longer."""
        return self._done(self._peer_due(self._context.peers[peer_id], now))

    def good_news(self, now: float) -> list[Effect]:
        """The network changed, or the machine slept: what failed before says nothing of what works now."""
        effects = [effect for peer in self._context.peers.values() for effect in self._attempts.proven(peer)]
        return self._done(effects + self._attempts.hurry(now))

    def arm_degraded(self, peer_id: bytes, now: float, armed: bool = True) -> list[Effect]:
        """Arm or disarm auth-plaintext for a peer that allows it: by a local self-test or an operator, nothing else.

        Sessions of the other policy are erased; nothing that came from the network leads here.
        """
        peer = self._context.peers.get(peer_id)
        (self._context.armed.add if armed else self._context.armed.discard)(peer_id)
        return self._done(self._enforce_policy(peer, now) if peer is not None else [])

    # -- from the network ---------------------------------------------------------------------------

    def receive(self, datagram: bytes, source: Address, local: bytes | None, now: float) -> list[Effect]:
        """A datagram of type 1 or 3 from anyone. `local`: our address that got it."""
        kind = datagram[0] if datagram else None
        result: list[Effect] | DropReason
        if kind == TYPE_HANDSHAKE:
            result = self._handshake(datagram, source, local, now)
        elif kind == TYPE_COOKIE_REPLY:
            reply = parse_reply(datagram)
            result = reply if isinstance(reply, DropReason) else self._attempts.receive_cookie(reply, source, now)
        else:
            result = DropReason.MALFORMED
        return self._counted(result)

    def icmp(self, kind: str, destination: Address, now: float) -> list[Effect]:
        """ICMP about a datagram that we sent, `kind` in the words of the fact. Told, and never acted upon."""
        self._context.evidence.icmp(kind, destination, now)
        return [*self._context.evidence.take()]

    def attempt_at(self, index: int) -> tuple[str, str] | None:
        """(peer's name, trace id in hex) of the attempt whose M1 has this index: in whose service an answer is read."""
        attempt = self._attempts.at(index)
        return None if attempt is None else (attempt.peer.settings.name, attempt.id)

    def first_authenticated(self, slot: int, now: float) -> list[Effect]:
        """A lane: the first packet authenticated on this session."""
        return self._done(self._handshakes.heard(slot, now))

    def control_frame(self, slot: int, body: bytes, source: Address, local: bytes | None, now: float) -> list[Effect]:
        """A lane: the body of an authenticated kind 1 packet (operation, its fields, padding as received)."""
        if slot not in self._live:
            return []
        effects = self._handshakes.heard(slot, now)
        held = self._live.get(slot)
        if held is None:
            return self._done(effects)
        return self._done(effects) + self._counted(
            frames.receive(*held, body, source, local, self._context.timers, now)
        )

    def roamed(self, slot: int, source: Address, local: bytes | None, allowed: int, now: float) -> list[Effect]:
        """A lane: the highest counter came from another address; `allowed` bytes may go there before it answers."""
        effects = self._handshakes.heard(slot, now)
        held = self._live.get(slot)
        if held is None:
            return self._done(effects)
        peer, live = held
        moved = live.path.roamed(source, local, allowed, now)
        if any(isinstance(effect, SendFrame) for effect in moved):
            session_id = live.session.session_id.hex()
            moved.append(Tell(Roamed(peer.settings.name, session_id, str(source), validated=False)))
        return self._done(effects + moved)

    # -- from the lanes and the operator ------------------------------------------------------------

    def observe(self, slot: int, seen: Activity, now: float) -> list[Effect]:
        """What the lanes' shared counters say of a session."""
        held = self._live.get(slot)
        if held is None:
            return []
        live = held[1]
        before = live.activity.received
        live.observe(seen)
        self._deadline = None
        if live.activity.received <= before:
            return []
        since_installed = live.activity.received >= live.session.derived_at
        effects = self._handshakes.heard(slot, live.activity.received) if since_installed else []
        return self._done(effects)

    def want_session(
        self, peer_id: bytes, now: float, force: bool = False, trigger: Trigger = Trigger.TRAFFIC
    ) -> list[Effect]:
        """A packet waits for a peer without session, or (`force`) an operator wants a new handshake. Idempotent."""
        peer = self._context.peers.get(peer_id)
        if peer is None or (peer.sending is not None and not force):
            return []
        effects = self._attempts.proven(peer) if force else []
        return self._done(effects + self._attempts.start(peer, now, Trigger.OPERATOR if force else trigger))

    def survey(self, peer_id: bytes, now: float) -> list[Effect]:
        """An operator asks what a peer's path is like now; `Surveyed` tells. Nothing that the node goes by changes."""
        peer = self._context.peers.get(peer_id)
        if peer is None or peer.sending is None or not peer.sending.confirmed:
            return [Surveyed(peer_id, None)]
        if peer.survey is None:
            number = 0 if peer.path_mtu is None else peer.path_mtu.number
            timeout = self._context.timers.mtu_probe_timeout
            peer.survey = Survey(peer_id, self._context.random, timeout, number, now)
        return self._done(peer.surveyed(now))

    def worn(self, slot: int, now: float) -> list[Effect]:
        """A lane: a send counter passed the cipher's rekey limit."""
        held = self._live.get(slot)
        if held is None or held[1].worn:
            return []
        held[1].worn = True
        return self._done(self._session_due(*held, now))

    def lost(self, slot: int, now: float) -> list[Effect]:
        """Control: this session cannot go on (a lane was replaced and its keys are nowhere). Drop it, begin anew."""
        held = self._live.get(slot)
        if held is None:
            return []
        peer = held[0]
        effects = self._done(peer.remove(slot, Why.LOST, now, CloseReason.ADMINISTRATIVE))
        return effects + (self._attempts.start(peer, now, Trigger.LOST) if peer.sending is None else [])

    def adopt(self, sessions: tuple[Session, ...], now: float, selected: tuple[int, ...] = ()) -> list[Effect]:
        """Control was restarted: go on with the sessions that lanes hold, without their keys.

        `selected`: the slots that send; where none is named the newest does. Sessions of unknown peers, of another
        policy than ours, or past their life are erased.
        """
        effects: list[Effect] = []
        for session in sorted(sessions, key=lambda s: (s.slot in selected, s.derived_at)):
            if session.slot in self._live:
                continue
            self._context.keep_slot(session.slot)
            peer = self._context.peers.get(session.peer_id)
            if peer is None or session.policy != self._roster.policy(peer, now) or now >= session.expires_at:
                self._context.free_slot(session.slot)
                effects.append(Erase(session.slot, Why.REMOVED))
                continue
            live = self._handshakes.track(peer, session, confirmed=True)
            effects += self._done(peer.add(live, now)) + peer.take_over(live, now)
            # a challenge that was out died with its nonce: without this the lane would wait for ever within its budget
            effects.append(MoveEndpoint(session.slot, session.endpoint, session.source, None))
            effects += peer.path_began(self._context.timers, now)
        return effects

    def close(self, now: float) -> list[Effect]:
        """Shutdown: tell every peer on every session."""
        effects: list[Effect] = []
        for peer in self._context.peers.values():
            effects += self._attempts.abandon(peer.settings.peer_id, "shutdown")
            effects += peer.remove_all(Why.CLOSED, now, CloseReason.SHUTDOWN)
        return self._done(effects)

    # -- time ---------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `tick` is to be called, at the latest; secrets rotate, so there always is such a time."""
        if self._deadline is None:
            self._deadline = self._next_deadline()
        return min(self._deadline, max(self._context.evidence.due, self._ticked + SOONEST))

    def _next_deadline(self) -> float:
        timers = self._context.timers
        times = [self._attempts.deadline(), self._admission.deadline()]
        for peer, live in self._live.values():
            times += [live.deadline(timers, peer.settings.keepalive), live.path.deadline(timers)]
        for peer in self._context.peers.values():
            probing = peer.path_mtu.deadline() if peer.path_mtu is not None and peer.sending else None
            times += [] if probing is None else [probing]
            times += [] if peer.survey is None else [peer.survey.deadline()]
        if self._live or self._context.armed or self._to_be_called():
            times.append(self._ticked + min(HEARTBEAT, timers.keepalive / 5))
        # what stays due after a tick waits for something else, such as a handshake under way: the driver must not spin
        return max(min(times), self._ticked + SOONEST)

    def _to_be_called(self) -> bool:
        """Whether a peer that is to be connected always has no session: it may have closed the last one just now."""
        peers = self._context.peers.values()
        return any(p.settings.keepalive is not None and p.sending is None for p in peers)

    def tick(self, now: float) -> list[Effect]:
        """Time passed: everything that is due."""
        self._ticked, self._deadline = now, None
        self._context.evidence.flush(now)
        self._admission.tick(now)
        effects: list[Effect] = []
        each = self._isolation.each
        for peer, live in list(self._live.values()):
            if live.session.slot in self._live:
                effects += each(peer, now, lambda: self._session_due(peer, live, now))  # noqa: B023 - called at once
        effects = self._done(effects)
        sent, unconfirmed = self._attempts.tick(now, each)
        effects += sent
        for attempt in unconfirmed:
            late, slot = attempt.peer, attempt.slot
            effects += self._done(each(late, now, lambda: self._handshakes.unconfirmed(late, slot, now)))  # noqa: B023
        for peer in list(self._context.peers.values()):
            effects += each(peer, now, lambda: self._peer_due(peer, now))  # noqa: B023 - called at once
        return effects + self._context.evidence.take()

    def renew(self, peer_id: bytes, now: float) -> list[Effect]:
        """An unexpected error in one peer's service: end what is held with it and begin anew. Never by a stranger's bytes."""
        return self._isolation.renew(peer_id, now)

    def peers(self, now: float) -> tuple[PeerView, ...]:
        """For status: every configured peer."""
        return tuple(
            view_of(peer, self._attempts.of(peer_id), self._context, now)
            for peer_id, peer in self._context.peers.items()
        )

    # -- what is due --------------------------------------------------------------------------------

    def _session_due(self, peer: Peer, live: LiveSession, now: float) -> list[Effect]:
        timers, slot = self._context.timers, live.session.slot
        effects = live.path.tick(timers, now) + self._attempts.path_outcome(peer, live)
        for due in live.due(timers, peer.settings.keepalive, now):
            if due is Due.EXPIRE:
                why = Why.EXPIRED if live.replaced_at is None else Why.REPLACED
                calling = self._attempts.of(peer.settings.peer_id) is not None  # else nobody missed them: it is idle
                peer.trouble = peer.trouble or (Reason.KEYS_EXPIRED if calling and peer.selected == slot else None)
                effects += peer.remove(slot, why, now)
                if peer.sending is None and self._attempts.of(peer.settings.peer_id) is not None:
                    # rekeying failed; keys that expire in silence are no reason to refuse the next packet
                    effects.append(SelectForSending(peer.settings.peer_id, None, refuse=True))
                return effects
            if due is Due.KEEPALIVE:
                live.kept_alive(now)
                effects.append(SendFrame(slot, KIND_KEEPALIVE, b""))
            elif peer.selected == slot and (due is Due.REKEY or live.data_at > now - 2 * timers.dead):
                cause = Trigger.REKEY if due is Due.REKEY else Trigger.SILENCE
                effects += self._attempts.start(peer, now, cause)
        moving = live.data_at > now - timers.rtt_interval
        missed = live.unanswered_since is not None or live.path.unanswered > 0
        if peer.selected == slot and live.confirmed and (moving or missed):
            effects += live.path.measure(timers, now)
        return effects

    def _peer_due(self, peer: Peer, now: float) -> list[Effect]:
        timers = self._context.timers
        effects = self._done(self._enforce_policy(peer, now))
        live = peer.sending
        if live is None and peer.settings.keepalive is not None:
            effects += self._attempts.start(peer, now, Trigger.KEEPALIVE)
        if live is not None and live.confirmed and peer.path_mtu is not None:
            moving = live.activity.data_sent > now - timers.mtu_confirm_interval
            before = peer.path_mtu.current
            effects += peer.probes(peer.path_mtu.tick(now, moving, live.path.rtt))
            effects += peer.mtu_changed(before)
        return effects + peer.surveyed(now)

    def _enforce_policy(self, peer: Peer, now: float) -> list[Effect]:
        """Erase sessions of another policy than the one in force, and warn while a peer is degraded."""
        effects: list[Effect] = []
        policy = self._roster.policy(peer, now)
        for slot, live in list(peer.sessions.items()):
            if live.session.policy != policy:
                effects += peer.remove(slot, Why.REMOVED, now, CloseReason.ADMINISTRATIVE)
        attempt = self._attempts.of(peer.settings.peer_id)
        if attempt is not None and attempt.m1 is not None and attempt.m1.remote.policy != policy:
            effects += self._attempts.abandon(peer.settings.peer_id, "policy")
        if policy != POLICY_FULL and now >= peer.warned_at + self._context.timers.degraded_warning:
            peer.warned_at = now
            effects.append(Tell(Problem(Reason.SECURITY_DEGRADED, "core", "auth-plaintext", peer.settings.name)))
        return effects

    # -- peers --------------------------------------------------------------------------------------

    def _change_peer(self, peer: Peer, settings: PeerSettings, now: float) -> list[Effect]:
        before = peer.settings
        if (before.public_key, before.psk) != (settings.public_key, settings.psk):
            return self._isolation.drop(peer, now) + self._roster.add(settings)
        peer.settings = settings
        effects = self._enforce_policy(peer, now)
        if before.endpoints != settings.endpoints:
            peer.endpoints = settings.endpoints
            effects += self._attempts.proven(peer)
        return effects + (self._attempts.start(peer, now, peer.wanted) if peer.wanted else [])

    def _handshake(
        self, datagram: bytes, source: Address, local: bytes | None, now: float
    ) -> list[Effect] | DropReason:
        """A datagram of type 1; a refused M1 or M3 is evidence of what is wrong with a peer's settings, or ours."""
        fragment = parse_fragment(datagram)
        if isinstance(fragment, DropReason):
            if fragment is DropReason.VERSION:
                self._context.evidence.refused(fragment, source, None, now)
            return fragment
        result = self._handshakes.receive(fragment, source, local, now)
        if isinstance(result, DropReason) and fragment.msg is not Msg.M2:
            self._context.evidence.refused(result, source, self._admission.named, now)
        return result

    def _counted(self, result: list[Effect] | DropReason) -> list[Effect]:
        told = self._context.evidence.take()
        if isinstance(result, DropReason):
            self._context.drop(result)
            return [*told]
        if told:
            return self._done(result) + told
        if all(isinstance(effect, Transmit) for effect in result):
            return result  # an answer to a stranger, or nothing: no session, no timer changed
        return self._done(result)

    def _done(self, effects: list[Effect]) -> list[Effect]:
        """Give back what erased sessions held. Every list of effects passes here before it leaves, but a stranger's."""
        self._deadline = None
        for effect in effects:
            if isinstance(effect, Erase) and effect.slot in self._live:
                _, live = self._live.pop(effect.slot)
                self._context.indices.discard(live.session.index_in)
                self._context.free_slot(effect.slot)
                self._admission.erased(effect.slot)
        return effects
