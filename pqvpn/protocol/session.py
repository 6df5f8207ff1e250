"""One agreed session as the core sees it: its age, what moved on it, what is owed (PROTOCOL section 5, timers).

Owns the clocks of a session. Knows no key, no lane and no other session: `peer.py` decides between several.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from pqvpn.protocol.effects import Activity, Role, Session
from pqvpn.protocol.paths import Path
from pqvpn.protocol.settings import Timers


class Due(Enum):
    """What a session wants at a moment."""

    EXPIRE = auto()  # past its life, or a replaced one past its grace
    REKEY = auto()  # old or worn enough, and data moved
    REVIVE = auto()  # data was sent and nothing authenticated came back
    KEEPALIVE = auto()  # something must be sent


@dataclass(slots=True)
class LiveSession:
    """A session that lanes hold. `session` is what was agreed; the rest is what happened since."""

    session: Session
    path: Path
    rekey_at: float
    confirmed: bool  # a packet authenticated on it, or the M3 that made it
    written: int = 0  # biscuits this node had written when the session was confirmed: tells older from crossing
    replaced_at: float | None = None  # another session sends since then
    worn: bool = False
    validated: bool = False  # a path challenge was answered
    activity: Activity = field(default_factory=Activity)
    answered_at: float = 0.0  # the last keepalive we asked for
    owed_since: float | None = None  # data came in, nothing was sent since
    unanswered_since: float | None = None  # data was sent, nothing came in since

    def confirm(self, written: int, now: float) -> bool:
        """A packet authenticated on this session; whether it is the first. `written`: number of the last biscuit."""
        first = not self.confirmed
        if first:
            self.confirmed, self.written = True, written
        self.heard(now)
        return first

    def heard(self, now: float) -> None:
        """Something authenticated came in now: the peer lives."""
        self.unanswered_since = None
        if now > self.activity.received:
            a = self.activity
            self.activity = Activity(now, a.data_received, a.sent, a.data_sent)

    def observe(self, seen: Activity) -> None:
        """Take over what the lanes counted. Times may lag by a tick, so that they never make a timer run backwards."""
        before = self.activity
        now = Activity(
            max(seen.received, before.received), max(seen.data_received, before.data_received),
            max(seen.sent, before.sent), max(seen.data_sent, before.data_sent),
        )  # fmt: skip
        if now.received >= now.data_sent:  # also when `heard` knew it before the lanes' counters were read
            self.unanswered_since = None
        elif now.data_sent > before.data_sent and (now.received > before.received or self.unanswered_since is None):
            self.unanswered_since = now.data_sent
        sent = max(now.sent, self.answered_at)  # a keepalive asked for may not be counted yet
        if sent >= now.data_received:
            self.owed_since = None
        elif now.sent > before.sent or self.owed_since is None:
            self.owed_since = now.data_received
        self.activity = now

    @property
    def data_moved(self) -> bool:
        """Whether anything but keepalives and control went over it."""
        return self.activity.data_sent > 0 or self.activity.data_received > 0

    @property
    def data_at(self) -> float:
        """When data last moved."""
        return max(self.activity.data_sent, self.activity.data_received)

    def expires_at(self, timers: Timers) -> float:
        """When its keys go: at the end of their life, or of the grace after it was replaced."""
        end = self.session.expires_at
        return end if self.replaced_at is None else min(end, self.replaced_at + timers.replaced_receives)

    def due(self, timers: Timers, persistent: float | None, now: float) -> list[Due]:
        """What is due. `persistent`: seconds between persistent keepalives, None: off."""
        if now >= self.expires_at(timers):
            return [Due.EXPIRE]
        if self.replaced_at is not None or not self.confirmed:
            return []
        wants = []
        if self.worn or (now >= self.rekey_at and (self.data_moved or persistent is not None)):
            wants.append(Due.REKEY)
        if self.unanswered_since is not None and now >= self.unanswered_since + timers.dead:
            wants.append(Due.REVIVE)
        if now >= self._keepalive_at(timers, persistent):
            wants.append(Due.KEEPALIVE)
        return wants

    def kept_alive(self, now: float) -> None:
        """A keepalive was asked for."""
        self.answered_at = now
        self.owed_since = None

    def deadline(self, timers: Timers, persistent: float | None) -> float:
        """The earliest time at which `due` could say something new."""
        times = [self.expires_at(timers)]
        if self.replaced_at is None and self.confirmed:
            times.append(self._keepalive_at(timers, persistent))
            if self.unanswered_since is not None:
                times.append(self.unanswered_since + timers.dead)
            if self.data_moved or persistent is not None:
                times.append(self.rekey_at)
        return min(times)

    def is_stale(self, timers: Timers, now: float) -> bool:
        """Data was sent and nothing authenticated came back for `dead` seconds."""
        return self.unanswered_since is not None and now >= self.unanswered_since + timers.dead

    def _keepalive_at(self, timers: Timers, persistent: float | None) -> float:
        at = float("inf")
        if self.owed_since is not None:
            at = self.owed_since + timers.keepalive
        if persistent is not None:
            at = min(at, max(self.activity.sent, self.answered_at, self.session.derived_at) + persistent)
        return at


def rekey_time(role: Role, derived_at: float, timers: Timers, jitter: float) -> float:
    """When this side re-keys; `jitter` is 0..1. The responder goes first, the initiator only if none has begun."""
    after = timers.rekey_after if role is Role.RESPONDER else timers.rekey_initiator_after
    return derived_at + after + jitter * timers.rekey_jitter
