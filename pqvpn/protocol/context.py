"""What the parts of one core share: settings, keys, chance, counters of drops, names given out (slots and indices).

Owns no decision. `Core` makes one and hands it to its parts.
"""

from collections.abc import Callable

from pqvpn.crypto import xwing
from pqvpn.drops import DROP_COUNT, DropReason
from pqvpn.protocol.effects import SLOTS
from pqvpn.protocol.evidence import Evidence
from pqvpn.protocol.gate import Gate, OpenGate
from pqvpn.protocol.parties import Local, Randomness
from pqvpn.protocol.peer import Peer
from pqvpn.protocol.responder import Limits
from pqvpn.protocol.settings import NodeSettings, Timers

Random = Callable[[int], bytes]


class Context:
    """Shared by the parts of one core."""

    def __init__(self, settings: NodeSettings, random: Random, gate: Gate | None = None) -> None:
        """Parse the node's static key once. Raises ValueError when the seed has another length than 32."""
        self.settings = settings
        self.gate: Gate = gate or OpenGate()
        self.random = random
        self.randomness = Randomness(random)
        self.local = Local(xwing.PrivateKey(settings.seed), settings.peer_id, settings.network_key)
        self.drops = [0] * DROP_COUNT
        self.peers: dict[bytes, Peer] = {}
        self.evidence = Evidence(self.peers)
        self.armed: set[bytes] = set()  # peers for which auth-plaintext was armed locally
        self.indices: set[int] = set()  # ours, of sessions and attempts
        self.written = 0  # biscuits so far: the number of the last
        self._next_slot = 0
        self._slots: set[int] = set()

    @property
    def timers(self) -> Timers:
        """Time constants in force."""
        return self.settings.timers

    @property
    def limits(self) -> Limits:
        """What we agree to as responder, and offer as initiator."""
        s = self.settings
        return Limits(s.aeads, s.lanes, s.mtu, s.prefer_chacha)

    @property
    def can_shake_hands(self) -> bool:
        """Whether every primitive that a handshake needs gave its known answer (PROTOCOL section 8)."""
        return self.settings.handshakes and self.settings.aeads != 0

    def drop(self, reason: DropReason, count: int = 1) -> None:
        """Count discarded datagrams."""
        self.drops[reason] += count

    def fraction(self) -> float:
        """A random number in [0, 1): jitter."""
        return int.from_bytes(self.random(4), "little") / 2**32

    def take_slot(self) -> int | None:
        """A free slot, or None when all 1024 are taken. Slots come back as late as possible: an event that a lane
        sent
        about the session before must not be taken for one about its successor."""
        for _ in range(SLOTS):
            slot = self._next_slot
            self._next_slot = (slot + 1) % SLOTS
            if slot not in self._slots:
                self._slots.add(slot)
                return slot
        return None

    def keep_slot(self, slot: int) -> None:
        """Mark a slot as taken that lanes already use."""
        self._slots.add(slot)
        self._next_slot = (slot + 1) % SLOTS

    def free_slot(self, slot: int) -> None:
        """Give a slot back."""
        self._slots.discard(slot)
