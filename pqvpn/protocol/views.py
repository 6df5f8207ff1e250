"""What the core shows of itself for `status`: one frozen record a peer.

Owns the words for a peer's state. Knows no format: the control process makes JSON of it.
"""

from dataclasses import dataclass
from enum import StrEnum

from pqvpn.protocol.attempts import Attempt
from pqvpn.protocol.context import Context
from pqvpn.protocol.effects import Session
from pqvpn.protocol.peer import Peer
from pqvpn.reasons import Reason
from pqvpn.wire.address import Address


class PeerState(StrEnum):
    """A peer's state, computed from the last authenticated packet."""

    UP = "up"  # a session is selected, and what was sent got an answer
    CONNECTING = "connecting"  # no session yet, a handshake is under way
    STALE = "stale"  # packets were sent but nothing authenticated came back
    DOWN = "down"  # no session and none under way


@dataclass(frozen=True, slots=True)
class PeerView:
    """One peer as of now. Times are `now` units; `reason` stands whenever `state` is neither up nor
    freshly connecting."""

    peer_id: bytes
    name: str
    state: PeerState
    reason: Reason | None
    last_received: float | None
    endpoint: Address | None
    rtt: float | None  # seconds, smoothed
    path_mtu: int | None
    session: Session | None  # the one packets are sent on
    sessions: int  # held in all, 0..3
    attempt: str = ""  # trace id of the current or last attempt of ours, hex
    trigger: str = ""  # why it began: a `Trigger`
    probe_answered: float | None = None  # when the peer last answered a challenge on the path in use
    probes_unanswered: int = 0  # challenges since then


def view_of(peer: Peer, attempt: Attempt | None, context: Context, now: float) -> PeerView:
    """One peer's record. A session that was never confirmed does not count as up."""
    live = peer.sending
    state, reason = _state(peer, attempt, context, now)
    targets = peer.targets()
    return PeerView(
        peer.settings.peer_id,
        peer.settings.name,
        state,
        reason,
        peer.last_received,
        live.path.endpoint if live is not None else targets[0] if targets else None,
        None if live is None else live.path.rtt,
        None if peer.path_mtu is None or live is None else peer.path_mtu.current,
        None if live is None else live.session,
        len(peer.sessions),
        peer.attempt,
        peer.trigger,
        None if live is None else live.path.answered_at,
        0 if live is None else live.path.unanswered,
    )


def _state(peer: Peer, attempt: Attempt | None, context: Context, now: float) -> tuple[PeerState, Reason | None]:
    live = peer.sending
    if live is not None and live.confirmed:
        if live.is_stale(context.timers, now):
            return PeerState.STALE, Reason.STALE
        return PeerState.UP, None
    if not context.can_shake_hands:
        return PeerState.DOWN, Reason.SELF_TEST_FAILED
    if attempt is not None:
        slow = now >= attempt.started + context.timers.m1_fresh_after
        return PeerState.CONNECTING, peer.trouble or (Reason.NO_REPLY if slow else None)
    if not peer.targets():
        return PeerState.DOWN, Reason.NO_ENDPOINT
    return PeerState.DOWN, peer.trouble or Reason.IDLE
