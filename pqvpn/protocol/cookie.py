"""Cookies: proof that whoever sends an M1 receives at its address (PROTOCOL section 4).

Owns making, checking, sealing and opening. `origin` is `Address.packed()` of M1's source, or for a relayed handshake
relay sid 16 || channel u32. The secret rotates in `keys.Rotating`; when to ask for cookies is decided by `limits.py`.
"""

from pqvpn.crypto import aead, mac
from pqvpn.crypto.secret import Secret
from pqvpn.drops import DropReason
from pqvpn.protocol import datagrams
from pqvpn.wire.cookie import COOKIE_SIZE, CookieReply
from pqvpn.wire.handshake import NO_MAC2, Fragment


def make(secret: Secret, origin: bytes) -> bytes:
    """The cookie of an address, 16 bytes."""
    return mac.blake2s_128(secret.expose(), origin)


def proves_address(secrets: tuple[Secret, ...], origin: bytes, fragment: Fragment) -> bool:
    """Whether the fragment's MAC2 was made with a cookie of one of `secrets` for `origin`; no MAC2 proves nothing."""
    if fragment.mac2 in (b"", NO_MAC2):
        return False
    return any(datagrams.check_mac2(make(secret, origin), fragment) for secret in secrets)


def write_reply(cookie_key: Secret, cookie: bytes, fragment: Fragment, nonce: bytes) -> bytes:
    """The 60 bytes that answer fragment 0 of an M1 or M1c. `cookie_key`: K_cookie of ourselves."""
    sealed = aead.siv_seal(cookie_key.expose(), nonce, cookie, fragment.mac1)
    return CookieReply(fragment.msg, fragment.index, fragment.msg_id, nonce, sealed).encode()


def read_reply(cookie_key: Secret, reply: CookieReply, mac1: bytes) -> bytes | DropReason:
    """The cookie in a reply. `cookie_key`: K_cookie of the responder; `mac1`: of fragment 0 of the outstanding M1.

    The caller has found the attempt by the reply's index and compared its msg and msg_id.
    """
    cookie = aead.siv_unseal(cookie_key.expose(), reply.nonce, reply.sealed, mac1)
    return DropReason.BAD_COOKIE if cookie is None or len(cookie) != COOKIE_SIZE else cookie
