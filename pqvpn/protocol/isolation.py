"""One peer's misfortune is nobody else's: what is due is done peer by peer, and an unexpected error ends one peer only.

Owns removing all that is held with a peer, in order or by force, and taking it in anew. Knows no datagram: what a stranger
sends leads to no renewal, or a mistake of ours would let strangers end sessions.
"""

from collections.abc import Callable, Mapping

from pqvpn.protocol.attempts import Attempts
from pqvpn.protocol.context import Context
from pqvpn.protocol.effects import Effect, Erase, Failed, SelectForSending, Trigger, Why
from pqvpn.protocol.peer import Peer
from pqvpn.protocol.roster import Roster
from pqvpn.protocol.session import LiveSession
from pqvpn.wire.control import CloseReason

Step = Callable[[], list[Effect]]


class Isolation:
    """Of one core. `live`: its sessions by slot; `done` gives back what erased ones held."""

    def __init__(
        self,
        context: Context,
        roster: Roster,
        attempts: Attempts,
        live: Mapping[int, tuple[Peer, LiveSession]],
        done: Callable[[list[Effect]], list[Effect]],
    ) -> None:
        self._context, self._roster, self._attempts, self._live, self._done = context, roster, attempts, live, done

    def each(self, peer: Peer, now: float, step: Step) -> list[Effect]:
        """Do what is due for one peer; when that fails, the others get their turn and this one begins anew."""
        try:
            return step()
        except Exception as error:  # noqa: BLE001 - the boundary of one peer: told, its sessions end, the others live on
            peer_id = peer.settings.peer_id
            return [Failed(peer_id, error), *self.renew(peer_id, now)]

    def renew(self, peer_id: bytes, now: float) -> list[Effect]:
        """Forget all that is held with a peer and call it again; what its address is stays known. Never raises."""
        old = self._context.peers.get(peer_id)
        if old is None:
            return []
        armed = peer_id in self._context.armed
        try:
            effects = self._done(self.drop(old, now, Why.LOST))
        except Exception:  # noqa: BLE001 - what is broken cannot always be ended in order: then without goodbye
            effects = self._tear_out(peer_id)
        # the error may have come between a session's removal and its erasure
        effects += self._done([Erase(slot, Why.LOST) for slot, (peer, _) in self._live.items() if peer is old])
        effects += self._roster.add(old.settings)
        peer = self._context.peers.get(peer_id)
        if peer is None:
            return effects
        peer.endpoints, peer.last_endpoint, peer.warned_at = old.endpoints, old.last_endpoint, old.warned_at
        if armed:
            self._context.armed.add(peer_id)
        try:
            return effects + self._attempts.start(peer, now, Trigger.LOST)
        except Exception as error:  # noqa: BLE001 - the next packet, or keepalive, tries again
            return [*effects, Failed(peer_id, error)]

    def drop(self, peer: Peer, now: float, why: Why = Why.REMOVED) -> list[Effect]:
        """Remove a peer and all that is held with it, telling it so."""
        peer_id = peer.settings.peer_id
        effects = self._attempts.forget(peer_id) + peer.remove_all(why, now, CloseReason.ADMINISTRATIVE)
        self._roster.forget(peer_id)
        self._context.evidence.forget(peer_id)
        return [*effects, SelectForSending(peer_id, None)]

    def _tear_out(self, peer_id: bytes) -> list[Effect]:
        self._attempts.succeeded(peer_id)
        if peer_id in self._context.peers:
            self._roster.forget(peer_id)
        return [SelectForSending(peer_id, None)]
