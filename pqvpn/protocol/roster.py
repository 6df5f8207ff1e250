"""The configured peers: their keys, and the security policy in force for each (PROTOCOL section 8).

Owns who is known and what is demanded of them. Knows no session and no datagram.
"""

from pqvpn.crypto import xwing
from pqvpn.crypto.refused import Refused
from pqvpn.facts import Problem
from pqvpn.protocol.context import Context
from pqvpn.protocol.effects import Effect, Tell
from pqvpn.protocol.parties import Remote
from pqvpn.protocol.peer import Peer
from pqvpn.protocol.settings import POLICY_AUTH_PLAINTEXT, POLICY_FULL, PeerSettings
from pqvpn.reasons import Reason


class Roster:
    """Peers of one node, kept in `Context.peers`, with their parsed keys."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keys: dict[bytes, xwing.PublicKey] = {}

    def add(self, settings: PeerSettings) -> list[Effect]:
        """Take a peer in; a card without a valid key is told and left out."""
        try:
            self._keys[settings.peer_id] = xwing.PublicKey(settings.public_key)
        except Refused:
            return [Tell(Problem(Reason.BAD_AUTH, "core", "the card holds no valid X-Wing key", settings.name))]
        self._context.peers[settings.peer_id] = Peer(settings, self._context.settings.peer_id, settings.endpoints)
        return []

    def forget(self, peer_id: bytes) -> None:
        """The peer is no longer configured."""
        del self._context.peers[peer_id], self._keys[peer_id]
        self._context.armed.discard(peer_id)

    def policy(self, peer: Peer, now: float) -> int:
        """Degraded only if configured, armed here, and not past its end; never by anything received."""
        settings = peer.settings
        ended = settings.degraded_until is not None and now >= settings.degraded_until
        if settings.allow_degraded and settings.peer_id in self._context.armed and not ended:
            return POLICY_AUTH_PLAINTEXT
        return POLICY_FULL

    def remote(self, peer: Peer, now: float) -> Remote:
        """The peer as a handshake sees it now."""
        settings = peer.settings
        return Remote(settings.peer_id, self._keys[settings.peer_id], settings.psk, self.policy(peer, now))

    def find(self, peer_id: bytes, now: float) -> Remote | None:
        """A configured peer by its ID."""
        peer = self._context.peers.get(peer_id)
        return None if peer is None else self.remote(peer, now)
