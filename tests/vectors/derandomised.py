"""Handshakes without chance: a derandomised X-Wing encapsulator (kyber-py, tests only) and scripted randomness."""

import hashlib
from collections.abc import Container, Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from kyber_py.ml_kem import ML_KEM_768

from pqvpn.crypto import xwing
from pqvpn.crypto.secret import Secret
from pqvpn.protocol.parties import Randomness
from pqvpn.protocol.transcript import Transcript


def encapsulate(public: xwing.PublicKey, eseed: bytes) -> xwing.Encapsulation:
    """X-Wing encapsulation from eseed = ML-KEM m 32 || X25519 scalar 32."""
    ss_m, ct_m = ML_KEM_768._encaps_internal(public.raw[:1184], eseed[:32])
    scalar = X25519PrivateKey.from_private_bytes(eseed[32:])
    ct_x = scalar.public_key().public_bytes_raw()
    ss_x = scalar.exchange(X25519PublicKey.from_public_bytes(public.raw[1184:]))
    return xwing.Encapsulation(xwing.combine(ss_m, ss_x, ct_x, public.raw[1184:]), ct_m + ct_x)


class Scripted(Randomness):
    """Gives what it was told, in order, and nothing else."""

    def __init__(
        self,
        *,
        indices: tuple[int, ...] = (),
        message_ids: tuple[int, ...] = (),
        eseeds: tuple[bytes, ...] = (),
        nonces: tuple[bytes, ...] = (),
        seeds: tuple[bytes, ...] = (),
    ) -> None:
        super().__init__(self._refuse)
        self._indices, self._message_ids = list(indices), list(message_ids)
        self._eseeds, self._nonces, self._seeds = list(eseeds), list(nonces), list(seeds)

    @staticmethod
    def _refuse(count: int) -> bytes:
        raise AssertionError(f"{count} unscripted random bytes")

    def index(self, taken: Container[int] = ()) -> int:
        return self._indices.pop(0)

    def message_id(self) -> int:
        return self._message_ids.pop(0)

    def nonce(self) -> bytes:
        return self._nonces.pop(0)

    def ephemeral_seed(self) -> Secret:
        return Secret(self._seeds.pop(0))

    def encapsulate(self, public: xwing.PublicKey) -> xwing.Encapsulation:
        return encapsulate(public, self._eseeds.pop(0))


Step = tuple[str, str, int, str, str, str, str]


@contextmanager
def recorded_steps() -> Iterator[list[Step]]:
    """Every mix and key call of every transcript meanwhile: (op, tag or label, length, input, h, ck, k), in hex."""
    steps: list[Step] = []
    mix, key = Transcript.mix, Transcript.key

    def recording_mix(self, tag, data):
        mix(self, tag, data)
        steps.append(("mix", f"{int(tag):02x}", len(data), shown(data), self.h.hex(), self.ck.hex(), ""))

    def recording_key(self, label, ikm):
        k = key(self, label, ikm)
        steps.append(("key", label.decode(), len(ikm), shown(ikm), self.h.hex(), self.ck.hex(), k.hex()))
        return k

    Transcript.mix, Transcript.key = recording_mix, recording_key
    try:
        yield steps
    finally:
        Transcript.mix, Transcript.key = mix, key


def shown(data: bytes) -> str:
    """Inputs over 64 bytes by their hash, as the vector file has them."""
    return data.hex() if len(data) <= 64 else "sha256:" + hashlib.sha256(data).hexdigest()
