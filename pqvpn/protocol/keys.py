"""Keys that are derived or rotated: MAC1 and cookie keys, lane keys, session IDs, rotating secrets (PROTOCOL 2 to 5).

Owns derivations beside the transcript. `derive` is called once a session; it is the end of S.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pqvpn.crypto import kdf, labels
from pqvpn.crypto.secret import Secret, key_or_none

LANE_KEY_SIZE = 44  # key 32 || iv 12
SESSION_ID_SIZE = 16


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Keys of all lanes in lane order, key 32 || iv 12 each, and the session ID (16 bytes, the same on both ends)."""

    to_responder: tuple[Secret, ...]  # direction 0
    to_initiator: tuple[Secret, ...]  # direction 1
    session_id: bytes


def derive(session_secret: Secret, lanes: int, aead: int, policy: int) -> SessionKeys:
    """All keys of a session from S: K(d, l) = HKDF-Expand(S, "lane" || d || l || aead || policy, 44)."""
    secret = session_secret.expose()

    def lane_keys(direction: int) -> tuple[Secret, ...]:
        return tuple(
            Secret(kdf.expand(secret, labels.LANE + bytes((direction, lane, aead, policy)), LANE_KEY_SIZE))
            for lane in range(lanes)
        )

    return SessionKeys(lane_keys(0), lane_keys(1), kdf.expand(secret, labels.SESSION_ID, SESSION_ID_SIZE))


def mac1_key(network_key: Secret | None, id_r: bytes) -> Secret:
    """K_mac1 of datagrams to the responder `id_r` (PROTOCOL section 3)."""
    return Secret(kdf.expand(key_or_none(network_key).expose(), labels.MAC1 + id_r, 32))


def cookie_key(network_key: Secret | None, id_r: bytes) -> Secret:
    """K_cookie of cookie replies from the responder `id_r` (PROTOCOL section 4)."""
    return Secret(kdf.expand(key_or_none(network_key).expose(), labels.COOKIE + id_r, 32))


class Rotating:
    """A random secret of 32 bytes, replaced every `period` seconds; the one before is accepted for one period more.

    Biscuit keys and cookie secrets. Call `tick` at `deadline` even when idle: what is not replaced is not forgotten.
    """

    __slots__ = ("_period", "_random", "current", "deadline", "previous")

    def __init__(self, random: Callable[[int], bytes], period: float, now: float) -> None:
        self._random = random
        self._period = period
        self.current = Secret(random(32))
        self.previous: Secret | None = None
        self.deadline = now + period

    def tick(self, now: float) -> None:
        """Rotate when due. After a pause of more than a period the previous secret is too old and goes as well."""
        if now < self.deadline:
            return
        self.previous = self.current if now < self.deadline + self._period else None
        self.current = Secret(self._random(32))
        self.deadline = now + self._period

    def accepted(self, now: float) -> tuple[Secret, ...]:
        """The secrets that are good at `now`, current first."""
        self.tick(now)
        return (self.current,) if self.previous is None else (self.current, self.previous)
