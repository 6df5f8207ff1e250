"""What the core shows of itself for `status`: one frozen record a peer.

Owns the words for a peer's state. Knows no format: the control process makes JSON of it.
"""

from dataclasses import dataclass
from enum import StrEnum

from pqvpn.protocol.effects import Session
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
    """One peer as of now. Times are `now` units; `reason` stands whenever `state` is not up."""

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
