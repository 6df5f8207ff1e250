"""The sessions of one peer: which one sends, which are on their way out (PROTOCOL section 2, rules 5 and 6).

Owns the set of at most three sessions and the choice between them. Knows no handshake message and no other peer.
Every
method returns the effects of what it changed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pqvpn.facts import Fact, PathMtuChanged, SessionEnded
from pqvpn.protocol.effects import (
    KIND_CONTROL,
    Effect,
    Erase,
    Role,
    SelectForSending,
    SendFrame,
    SetPathMtu,
    Surveyed,
    Tell,
    Trigger,
    Why,
)
from pqvpn.protocol.pmtu import PathMtu, Probe
from pqvpn.protocol.session import LiveSession
from pqvpn.protocol.settings import PeerSettings, Timers
from pqvpn.protocol.survey import Survey
from pqvpn.reasons import Reason
from pqvpn.wire.address import Address
from pqvpn.wire.control import Close, CloseReason, MtuProbe

SESSIONS = 3


@dataclass(slots=True)
class Peer:
    """A configured peer and what we hold with it."""

    settings: PeerSettings
    own_id: bytes
    endpoints: tuple[Address, ...]
    sessions: dict[int, LiveSession] = field(default_factory=dict)
    selected: int | None = None
    crossing: tuple[int, int, float] | None = None  # rule 6: the slot kept, the other, since when
    path_mtu: PathMtu | None = None
    survey: Survey | None = None  # an operator looks at the path
    last_endpoint: Address | None = None  # where a session last was
    last_received: float | None = None
    trouble: Reason | None = None  # why the last attempt failed
    wanted: Trigger | None = None  # a session is wanted as soon as an address is known
    attempt: str = ""  # the trace id of the current or last attempt, hex
    trigger: str = ""  # why it began
    warned_at: float = float("-inf")  # of degraded security

    @property
    def sending(self) -> LiveSession | None:
        """The session that packets leave on."""
        return None if self.selected is None else self.sessions[self.selected]

    def is_authentic(self, target: Address) -> bool:
        """Whether the operator wrote this address, or the peer has proven to be there; a look-up alone proves nothing."""
        live = self.sending
        known = target in self.settings.endpoints or target == self.last_endpoint
        return known or (live is not None and target == live.path.endpoint)

    def targets(self) -> tuple[Address, ...]:
        """Where to knock, best first: where the peer is, where it was, where it is said to be."""
        live = self.sending
        known = [live.path.endpoint] if live is not None and live.unanswered_since is None else []
        known += [*self.endpoints, *([live.path.endpoint] if live is not None else [])]
        known += [self.last_endpoint] if self.last_endpoint is not None else []
        return tuple(dict.fromkeys(known))

    def add(self, live: LiveSession, now: float) -> list[Effect]:
        """Take a session that was just installed; makes room for it. It does not send yet."""
        effects: list[Effect] = []
        while len(self.sessions) >= SESSIONS:
            idle = [slot for slot in self.sessions if slot != self.selected]
            oldest = min(idle, key=lambda slot: self.sessions[slot].session.derived_at)
            effects += self.remove(oldest, Why.REPLACED, now)
        self.sessions[live.session.slot] = live
        self.last_endpoint = live.session.endpoint
        return effects

    def confirmed(self, live: LiveSession, now: float) -> list[Effect]:
        """A packet authenticated on a session that we opened: it takes over, unless a crossing one is kept (rule 6)."""
        rival = self._rival(live, Role.RESPONDER, lambda other: other.session.derived_at >= live.session.derived_at)
        return self._decide(live, rival, now)

    def responded(self, live: LiveSession, number: int, now: float) -> list[Effect]:
        """The peer opened a session: it takes over (rule 5), unless one that we opened meanwhile is kept (rule 6).

        Crossing are handshakes of which neither was complete when the other began. A session of ours that was
        confirmed
        before the peer's M1 came in is simply older: the peer may have lost it. `number`: of the biscuit, so that no
        clock is needed to know which was first.
        """
        rival = self._rival(live, Role.INITIATOR, lambda other: not other.confirmed or other.written >= number)
        return self._decide(live, rival, now)

    def heard(self, live: LiveSession, now: float) -> list[Effect]:
        """A packet authenticated on a session; ends a crossing when it is the one kept."""
        self.last_received = now if self.last_received is None else max(now, self.last_received)
        if self.crossing is None:
            return []
        kept, other, since = self.crossing
        if live.session.slot != kept or live.activity.received <= since:
            return []
        self.crossing = None
        effects = self._select(live)
        return effects + (self.remove(other, Why.REPLACED, now) if other in self.sessions else [])

    def remove(self, slot: int, why: Why, now: float, close: CloseReason | None = None) -> list[Effect]:
        """Erase a session, telling the peer if `close` says so, and send on the best that is left."""
        live = self.sessions.pop(slot)
        if self.crossing is not None and slot in self.crossing[:2]:
            self.crossing = None
        effects: list[Effect] = []
        if close is not None:
            effects.append(SendFrame(slot, KIND_CONTROL, Close(close).encode()))
        if self.selected == slot:
            self.selected = None
            effects += self._fall_back(now)
        effects += [Erase(slot, why), Tell(self._ended(live, why))]
        return effects

    def remove_all(self, why: Why, now: float, close: CloseReason) -> list[Effect]:
        """Erase every session, telling the peer on each; the one in use last, so that no other is selected meanwhile."""
        effects: list[Effect] = []
        for slot in sorted(self.sessions, key=lambda slot: slot == self.selected):
            effects += self.remove(slot, why, now, close)
        return effects

    def take_over(self, live: LiveSession, now: float) -> list[Effect]:
        """Send on this session from now on; the others are replaced (rule 5)."""
        self._replace_all_but(live, None, now)
        return self._select(live)

    def mtu_changed(self, before: int) -> list[Effect]:
        """Tell the lanes when the path's size is no longer `before`."""
        live, path = self.sending, self.path_mtu
        if path is None or path.current == before:
            return []
        session_id = "" if live is None else live.session.session_id.hex()
        changed = PathMtuChanged(self.settings.name, session_id, before, path.current, path.top)
        return [SetPathMtu(self.settings.peer_id, path.current), Tell(changed)]

    def probes(self, probes: list[Probe]) -> list[Effect]:
        """Send path MTU probes on the session in use."""
        if self.selected is None:
            return []
        return [SendFrame(self.selected, KIND_CONTROL, MtuProbe(p.number, p.size).encode(), p.size) for p in probes]

    def surveyed(self, now: float) -> list[Effect]:
        """What is due of the survey under way."""
        if self.survey is None:
            return []
        effects = self.survey.tick(self.sending, now)
        if any(isinstance(effect, Surveyed) for effect in effects):
            self.survey = None
        return effects

    def path_began(self, timers: Timers, now: float) -> list[Effect]:
        """The session in use is on a path that is new to us: look how much it carries."""
        live = self.sending
        if live is None:
            return []
        if self.path_mtu is None or self.path_mtu.top != live.session.mtu:
            self.path_mtu = PathMtu(
                live.session.mtu, timers.mtu_probe_timeout, timers.mtu_confirm_interval, timers.mtu_raise_interval
            )
        probes = self.path_mtu.start(now, live.path.rtt)
        return [SetPathMtu(self.settings.peer_id, self.path_mtu.current), *self.probes(probes)]

    def _rival(self, live: LiveSession, role: Role, overlaps: Callable[[LiveSession], bool]) -> LiveSession | None:
        """The session of the other role whose handshake crossed this one's."""
        for other in self.sessions.values():
            candidate = other is not live and other.session.role is role and other.replaced_at is None
            if candidate and overlaps(other):
                return other
        return None

    def _decide(self, live: LiveSession, rival: LiveSession | None, now: float) -> list[Effect]:
        if rival is None:
            return self.take_over(live, now)
        ours_kept = self.own_id < self.settings.peer_id
        kept = live if (live.session.role is Role.INITIATOR) == ours_kept else rival
        other = rival if kept is live else live
        self.crossing = (kept.session.slot, other.session.slot, now)
        self._replace_all_but(kept, other, now)
        if kept is live and live.session.role is Role.INITIATOR:
            # what confirmed it is the packet that rule 6 waits for
            self.crossing = None
            return self._select(kept) + self.remove(other.session.slot, Why.REPLACED, now)
        return self._select(kept if kept.confirmed else other)

    def _replace_all_but(self, kept: LiveSession, rival: LiveSession | None, now: float) -> None:
        for other in self.sessions.values():
            pending = not other.confirmed and other.session.role is Role.INITIATOR
            if other is not kept and other is not rival and other.replaced_at is None and not pending:
                other.replaced_at = now

    def _select(self, live: LiveSession) -> list[Effect]:
        if self.selected == live.session.slot:
            return []
        self.selected = live.session.slot
        live.replaced_at = None
        return [SelectForSending(self.settings.peer_id, live.session.slot)]

    def _fall_back(self, now: float) -> list[Effect]:
        usable = [s for s in self.sessions.values() if s.replaced_at is None and now < s.session.expires_at]
        if not usable:
            return [SelectForSending(self.settings.peer_id, None)]
        return self._select(max(usable, key=lambda s: (s.confirmed, s.session.derived_at)))

    def _ended(self, live: LiveSession, why: Why) -> Fact:
        return SessionEnded(self.settings.name, live.session.session_id.hex(), why.value)
