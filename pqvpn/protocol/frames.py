"""Control frames of an authenticated peer: path challenges, probes, close (PROTOCOL section 5).

Owns what each operation leads to. Knows no key: the lane has authenticated the frame.
"""

from pqvpn.crypto.aead import Aead
from pqvpn.drops import DropReason
from pqvpn.facts import PathValidated, Roamed
from pqvpn.protocol.effects import KIND_CONTROL, Effect, SendFrame, Tell, Why
from pqvpn.protocol.peer import Peer
from pqvpn.protocol.session import LiveSession
from pqvpn.protocol.settings import Timers
from pqvpn.wire.address import Address
from pqvpn.wire.control import Close, MtuAck, MtuProbe, PathChallenge, PathResponse, parse_frame

SUITES = {int(aead): aead.suite for aead in Aead}


def receive(
    peer: Peer,
    live: LiveSession,
    body: bytes,
    source: Address,
    local: bytes | None,
    timers: Timers,
    now: float,
) -> list[Effect] | DropReason:
    """Act on one frame, or say why it is discarded."""
    frame = parse_frame(body)
    if isinstance(frame, DropReason):
        return frame
    if isinstance(frame, PathChallenge):
        answer = live.path.challenged(frame.nonce, source, local, now)
        return DropReason.RESPONSE_LIMIT if answer is None else answer
    if isinstance(frame, PathResponse):
        return _responded(peer, live, frame, source, timers, now)
    if isinstance(frame, Close):
        return peer.remove(live.session.slot, Why.CLOSED, now)
    if isinstance(frame, MtuProbe):
        if not live.path.probed(now):
            return DropReason.RESPONSE_LIMIT
        return [SendFrame(live.session.slot, KIND_CONTROL, MtuAck(frame.id, frame.size).encode())]
    return _acknowledged(peer, frame, now)


def _responded(
    peer: Peer, live: LiveSession, frame: PathResponse, source: Address, timers: Timers, now: float
) -> list[Effect]:
    if peer.survey is not None and peer.survey.responded(frame.nonce, source, now):
        return []
    moved, effects = live.path.responded(frame.nonce, source, now)
    name, session_id = peer.settings.name, live.session.session_id.hex()
    if not live.validated and live.path.sample is not None:
        live.validated = True
        effects.append(Tell(PathValidated(name, session_id, str(source), live.path.sample)))
    if not moved:
        return effects
    peer.last_endpoint = source
    effects.append(Tell(Roamed(name, session_id, str(source), validated=True)))
    return effects + (peer.path_began(timers, now) if peer.selected == live.session.slot else [])


def _acknowledged(peer: Peer, frame: MtuAck, now: float) -> list[Effect]:
    if peer.survey is not None and peer.survey.acknowledged(frame.id, frame.size, now):
        return []
    if peer.path_mtu is None:
        return []
    before = peer.path_mtu.current
    peer.path_mtu.acknowledged(frame.id, frame.size, now)
    return peer.mtu_changed(before)
