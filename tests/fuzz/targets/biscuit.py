"""Invariant: a biscuit opens to what was sealed, for the same key and source only; anything else is a typed drop.

The first byte says how the rest is used: as a sealed biscuit, or as content that is sealed here.
"""

from pqvpn.crypto import aead
from pqvpn.crypto.secret import Secret
from pqvpn.drops import DropReason
from pqvpn.protocol import biscuit
from tests.fuzz import parties

_NONCE = bytes(range(12))
_BOUND = biscuit.associated_data(parties.LOCAL_R.peer_id, parties.SIDI, parties.SIDR, parties.ORIGIN)
_ELSEWHERE = biscuit.associated_data(parties.LOCAL_R.peer_id, parties.SIDI, parties.SIDR, parties.ORIGIN[:-1] + b"\0")
_KEYS = (Secret(bytes(32)), parties.BISCUIT_KEY)
_TYPED = (DropReason.BISCUIT, DropReason.BAD_HANDSHAKE)


def check(data: bytes) -> None:
    if not data:
        return
    sealed = data[1:]
    if not data[0] & 1:
        sealed = _NONCE + aead.siv_seal(parties.BISCUIT_KEY.expose(), _NONCE, data[1:], _BOUND)
    if len(sealed) != 148:
        return  # M3's layout gives 148 bytes, always
    opened = biscuit.unseal(_KEYS, sealed, _BOUND)
    assert biscuit.unseal(_KEYS, sealed, _ELSEWHERE) is DropReason.BISCUIT
    if isinstance(opened, DropReason):
        assert opened in _TYPED
    else:
        assert biscuit.seal(parties.BISCUIT_KEY, sealed[:12], opened, _BOUND) == sealed
