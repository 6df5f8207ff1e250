"""The biscuit: the responder's state between M2 and M3, sealed and carried by the initiator (PROTOCOL section 2).

```
 0          12                                                                            132      148
 | nonce 12 | sealed: no u64 | ID_I 32 | ck 32 | h 32 | t u32 | params[0:12]  (120 bytes) | tag 16 |
```

Owns the layout, sealing and opening. Its key rotates in `keys.Rotating`; which numbers were used is the core's to know.
"""

import struct
from dataclasses import dataclass

from pqvpn.crypto import aead, labels
from pqvpn.crypto.secret import Secret
from pqvpn.drops import DropReason
from pqvpn.protocol.transcript import Transcript
from pqvpn.wire.offer import PARAMS_BOUND_SIZE, PARAMS_SIZE, Params, parse_params

_CONTENT = struct.Struct("<Q32s32s32sI12s")
_INDICES = struct.Struct("<II")
_T_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Biscuit:
    """What a responder must remember. `t`: seconds of its own CLOCK_BOOTTIME; `no` counts from 1 per start."""

    no: int
    id_i: bytes
    transcript: Transcript
    t: int
    params: Params


def associated_data(id_r: bytes, sidi: int, sidr: int, origin: bytes) -> bytes:
    """What a biscuit is bound to; `origin` is M1's source (`Address.packed()`), or relay sid 16 || channel u32."""
    return labels.BISCUIT + id_r + _INDICES.pack(sidi, sidr) + origin


def seal(key: Secret, nonce: bytes, biscuit: Biscuit, bound: bytes) -> bytes:
    """148 bytes; `bound` comes from `associated_data`."""
    content = _CONTENT.pack(
        biscuit.no,
        biscuit.id_i,
        biscuit.transcript.ck,
        biscuit.transcript.h,
        biscuit.t & _T_MASK,
        biscuit.params.encode()[:PARAMS_BOUND_SIZE],
    )
    return nonce + aead.siv_seal(key.expose(), nonce, content, bound)


def unseal(keys: tuple[Secret, ...], sealed: bytes, bound: bytes) -> Biscuit | DropReason:
    """Open with the first key that fits, current before previous."""
    nonce, ciphertext = sealed[: aead.NONCE_SIZE], sealed[aead.NONCE_SIZE :]
    for key in keys:
        content = aead.siv_unseal(key.expose(), nonce, ciphertext, bound)
        if content is not None:
            return _read(content)
    return DropReason.BISCUIT


def _read(content: bytes) -> Biscuit | DropReason:
    if len(content) != _CONTENT.size:
        return DropReason.BISCUIT
    no, id_i, ck, h, t, head = _CONTENT.unpack(content)
    params = parse_params(head + bytes(PARAMS_SIZE - PARAMS_BOUND_SIZE))
    return params if isinstance(params, DropReason) else Biscuit(no, id_i, Transcript(h, ck), t, params)
