"""Invariant: an M3 is a drop, or its session has what the biscuit says: peer, number, valid parameters, keys for each lane.

The first byte says how the rest is used: as a body, or as biscuit content (120) and trace identifier (16) that are sealed here.
"""

from pqvpn.crypto import aead, labels
from pqvpn.drops import DropReason
from pqvpn.protocol import biscuit, responder
from pqvpn.protocol.transcript import Tag, Transcript
from pqvpn.wire import handshake
from pqvpn.wire.handshake import Msg
from tests.fuzz import parties

_NONCE = bytes(12)
_CONTENT = 120
_NOW, _AGE = 7.9, 30.0
_BOUND = biscuit.associated_data(parties.LOCAL_R.peer_id, parties.SIDI, parties.SIDR, parties.ORIGIN)


def check(data: bytes) -> None:
    if not data:
        return
    content = data[1 : 1 + _CONTENT].ljust(_CONTENT, b"\0")
    trace_id = data[1 + _CONTENT : 17 + _CONTENT].ljust(16, b"\0")
    body = data[1:] if data[0] & 1 else _sealed(content, trace_id)
    read = responder.read_m3(parties.LOCAL_R, parties.SIDR, body, (parties.BISCUIT_KEY,), parties.ORIGIN, _NOW, _AGE)
    if isinstance(read, DropReason):
        return
    assert len(read.trace_id) == 16
    assert 1 <= read.params.lanes <= 16
    assert 576 <= read.params.mtu <= 2040
    assert read.params.policy in (0, 1)
    keys = read.keys()
    assert len(keys.to_responder) == len(keys.to_initiator) == read.params.lanes
    if not data[0] & 1:
        assert read.no == int.from_bytes(content[:8], "little")
        assert read.peer_id == content[8:40]
        assert read.trace_id == trace_id
        assert 0 <= int(_NOW) - int.from_bytes(content[104:108], "little") <= _AGE


def _sealed(content: bytes, trace_id: bytes) -> bytes:
    sealed = _NONCE + aead.siv_seal(parties.BISCUIT_KEY.expose(), _NONCE, content, _BOUND)
    transcript = Transcript(content[72:104], content[40:72])
    transcript.mix(Tag.BISCUIT, sealed)
    params = content[108:120] + bytes(4)
    conf_r = aead.seal(transcript.key(labels.KEY_5, b""), params, transcript.h)
    transcript.mix(Tag.CONF_R, conf_r)
    k6 = transcript.key(labels.KEY_6, b"")
    transcript.mix(Tag.HEADER, handshake.transcript_header(Msg.M3, parties.SIDR))
    return handshake.M3(parties.SIDI, sealed, aead.seal(k6, trace_id, transcript.h)).encode()
