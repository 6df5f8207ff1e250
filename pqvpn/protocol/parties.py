"""Who takes part in a handshake: our node, the other one, and where its random choices come from.

Owns three small values that the steps share. `Randomness` is the only way in which chance enters: with all of its
methods scripted a handshake is reproduced byte for byte.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass

from pqvpn.crypto import xwing
from pqvpn.crypto.secret import Secret
from pqvpn.wire.handshake import INDEX_LANE_BITS, is_base_index
from pqvpn.wire.offer import POLICY_FULL


@dataclass(frozen=True, slots=True)
class Local:
    """Our node: its parsed static key, its peer ID (32 bytes) and the mesh's network key."""

    key: xwing.PrivateKey
    peer_id: bytes
    network_key: Secret | None = None


@dataclass(frozen=True, slots=True)
class Remote:
    """A configured peer: its ID, its parsed static key, the psk with it and exactly the policy in force for it now."""

    peer_id: bytes
    key: xwing.PublicKey
    psk: Secret | None = None
    policy: int = POLICY_FULL


class Randomness:
    """Random choices of a handshake. `random(n)` gives n bytes of cryptographic quality."""

    def __init__(self, random: Callable[[int], bytes], encapsulate: xwing.Encapsulate = xwing.encapsulate) -> None:
        self._random = random
        self._encapsulate = encapsulate

    def index(self, taken: Container[int] = ()) -> int:
        """A session index for lane 0: 28 random bits, not zero, low 4 bits zero, not among `taken`."""
        while True:
            index = int.from_bytes(self._random(4), "little") & ~INDEX_LANE_BITS
            if is_base_index(index) and index not in taken:
                return index

    def message_id(self) -> int:
        """64 bits, one a message, so that its fragments find each other."""
        return int.from_bytes(self._random(8), "little")

    def nonce(self) -> bytes:
        """12 bytes for AES-256-GCM-SIV."""
        return self._random(12)

    def ephemeral_seed(self) -> Secret:
        """The seed of a fresh X-Wing key."""
        return Secret(self._random(xwing.SEED_SIZE))

    def encapsulate(self, public: xwing.PublicKey) -> xwing.Encapsulation:
        """A fresh secret for the owner of `public`. Raises Refused(DECAPSULATION)."""
        return self._encapsulate(public)
