"""In whose service control works at a moment: the context that records made meanwhile carry.

Owns the way from an input or an effect to (session ID, peer's name, attempt), in hex, empty where there is none. A
stranger's datagram is in nobody's service, and finding that out costs a look at two of its bytes.
"""

import contextlib
from collections.abc import Mapping

from pqvpn.control.lanes import Lanes
from pqvpn.control.supervision import PeerSpec
from pqvpn.protocol import effects
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Effect, Session
from pqvpn.telemetry import context
from pqvpn.wire.cookie import TYPE_COOKIE_REPLY
from pqvpn.wire.handshake import HEADER_SIZE, TYPE_HANDSHAKE, Msg

Context = tuple[str, str, str]
NOBODY: Context = ("", "", "")


class Whose:
    """`peers`: the configured ones by ID, as they are at the moment of asking."""

    def __init__(self, core: Core, lanes: Lanes, peers: Mapping[bytes, PeerSpec]) -> None:
        self._core, self._lanes, self.peers = core, lanes, peers

    def peer(self, peer_id: bytes) -> Context:
        """A configured peer."""
        spec = self.peers.get(peer_id)
        return NOBODY if spec is None else ("", spec.name, "")

    def slot(self, slot: int) -> Context:
        """The session in a slot."""
        entry = self._lanes.book.get(slot)
        return NOBODY if entry is None else self._session(entry.session)

    def blamed(self, effect: Effect) -> bytes | None:
        """The peer whose sessions an effect is about, None for a stranger's and for what is only sent or told."""
        match effect:
            case effects.Install(session):
                return session.peer_id
            case effects.SelectForSending() | effects.SetPathMtu():
                return effect.peer_id
            case effects.SendFrame() | effects.MoveEndpoint():
                return self.owner(effect.slot)
            case _:
                return None

    def owner(self, slot: int) -> bytes | None:
        """The peer of the session in a slot."""
        entry = self._lanes.book.get(slot)
        return None if entry is None else entry.session.peer_id

    def datagram(self, datagram: bytes) -> Context:
        """The attempt that an answer says it is for."""
        if len(datagram) < HEADER_SIZE or datagram[0] not in (TYPE_HANDSHAKE, TYPE_COOKIE_REPLY):
            return NOBODY
        if datagram[0] == TYPE_HANDSHAKE and datagram[2] != Msg.M2:
            return NOBODY
        found = self._core.attempt_at(int.from_bytes(datagram[4:8], "little"))
        return NOBODY if found is None else ("", *found)

    def effect(self, effect: Effect) -> Context:
        """Whom an effect is about."""
        match effect:
            case effects.Transmit():
                return ("", effect.peer, effect.attempt) if effect.peer else NOBODY
            case effects.Install(session):
                return self._session(session)
            case effects.SelectForSending() | effects.SetPathMtu() | effects.Surveyed() | effects.Failed():
                return self.peer(effect.peer_id)
            case effects.Tell(fact):
                about = (getattr(fact, name, "") for name in ("session_id", "peer", "attempt"))
                session_id, peer, attempt = about
                return (session_id, peer, attempt)
            case _:
                return self.slot(effect.slot)

    def _session(self, session: Session) -> Context:
        return (session.session_id.hex(), self.peer(session.peer_id)[1], "")


def working_for(whose: Context) -> contextlib.AbstractContextManager[None]:
    """Attach the context, unless it is nobody's: then what is in force stays."""
    return contextlib.nullcontext() if whose == NOBODY else context.attached(*whose)
