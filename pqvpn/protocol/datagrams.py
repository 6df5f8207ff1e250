"""Cutting messages into datagrams, and their MACs (PROTOCOL section 3).

Owns MAC1 and MAC2 and the split. The way back, reassembly, keeps state and lives in `fragments.py`.
"""

from pqvpn.crypto import mac
from pqvpn.crypto.secret import Secret
from pqvpn.wire import handshake
from pqvpn.wire.handshake import CHUNK_SIZE, COUNTS, NO_MAC2, TRAILER_SIZES, Fragment, Msg


def split(msg: Msg, index: int, msg_id: int, body: bytes, mac1_key: Secret) -> tuple[bytes, ...]:
    """A message's datagrams in order, with MAC1, and with MAC2 zero where the message has one."""
    return tuple(_datagram(msg, idx, index, msg_id, body, mac1_key) for idx in range(COUNTS[msg]))


def _datagram(msg: Msg, idx: int, index: int, msg_id: int, body: bytes, mac1_key: Secret) -> bytes:
    chunk = body[idx * CHUNK_SIZE : (idx + 1) * CHUNK_SIZE]
    covered = handshake.header(msg, idx, index, msg_id) + chunk
    tagged = covered + mac.blake2s_128(mac1_key.expose(), covered)
    return tagged + NO_MAC2 if TRAILER_SIZES[msg] > mac.MAC_SIZE else tagged


def with_mac2(datagrams: tuple[bytes, ...], cookie: bytes | None) -> tuple[bytes, ...]:
    """M1 or M1c again, byte-identical except for MAC2, made with `cookie` (16 bytes) or zero without one."""
    tagged = (datagram[: -mac.MAC_SIZE] for datagram in datagrams)
    if cookie is None:
        return tuple(covered + NO_MAC2 for covered in tagged)
    return tuple(covered + mac.blake2s_128(cookie, covered) for covered in tagged)


def mac1_of(datagram: bytes) -> bytes:
    """MAC1 of an M1 or M1c datagram that we made: what a cookie reply is bound to."""
    return datagram[-2 * mac.MAC_SIZE : -mac.MAC_SIZE]


def check_mac1(key: Secret, fragment: Fragment) -> bool:
    """Whether MAC1 fits. `key`: K_mac1 of the responder for M1, M1c and M3, K_m2 of the attempt for M2."""
    return mac.verify(key.expose(), fragment.covered, fragment.mac1)


def check_mac2(cookie: bytes, fragment: Fragment) -> bool:
    """Whether MAC2 was made with `cookie`. Zero MAC2 is to be told apart before: it means "none"."""
    return mac.verify(cookie, fragment.covered + fragment.mac1, fragment.mac2)
