"""Invariant: an M2 is a drop, or its parameters are within the offer; the attempt never changes, so the true M2 still opens.

The first byte says how the rest is used: as a body, or as parameters (16) and ct_i (1120) that are sealed here.
"""

from functools import cache

from pqvpn.crypto import aead, labels
from pqvpn.crypto.refused import Refused
from pqvpn.drops import DropReason
from pqvpn.protocol import initiator
from pqvpn.protocol.transcript import Tag, Transcript
from pqvpn.wire import handshake
from pqvpn.wire.handshake import Msg
from tests.fuzz import parties

SHORT_RUN = 1200


def check(data: bytes) -> None:
    if not data:
        return
    attempt = parties.attempt()
    before = (attempt.transcript.h, attempt.transcript.ck)
    body = data[1:] if data[0] & 1 else _sealed(data[1:17].ljust(16, b"\0"), data[17:])
    read = initiator.read_m2(parties.LOCAL_I, attempt, body)
    assert (attempt.transcript.h, attempt.transcript.ck) == before
    if isinstance(read, DropReason):
        return
    offer, params = attempt.pay, read.params
    assert params.policy == offer.policy
    assert params.aead & offer.aeads
    assert params.lanes <= offer.lanes
    assert params.mtu <= offer.mtu
    m3 = initiator.write_m3(attempt, read, parties.randomness(), parties.TRACE_ID)
    assert len(m3.datagram) == 216
    assert len(m3.keys.to_responder) == len(m3.keys.to_initiator) == params.lanes


@cache
def _start() -> tuple[bytes, Transcript, handshake.M2, bytes]:
    m2 = handshake.parse_m2(parties.BODY_M2)
    assert not isinstance(m2, DropReason)
    attempt = parties.attempt()
    transcript = attempt.transcript.copy()
    transcript.mix(Tag.HEADER, handshake.transcript_header(Msg.M2, attempt.sidi))
    transcript.mix(Tag.SIDR, m2.sidr.to_bytes(4, "little"))
    transcript.mix(Tag.CT_E, m2.ct_e)
    k3 = transcript.key(labels.KEY_3, attempt.ephemeral.decapsulate(m2.ct_e).expose())
    return k3, transcript, m2, aead.unseal(k3, m2.ct_i_enc, transcript.h)


def _sealed(params: bytes, ct_i: bytes) -> bytes:
    k3, start, m2, true_ct_i = _start()
    transcript = start.copy()
    ct_i = (ct_i + true_ct_i[len(ct_i) :])[: len(true_ct_i)]
    ct_i_enc = aead.seal(k3, ct_i, transcript.h)
    transcript.mix(Tag.CT_I_ENC, ct_i_enc)
    transcript.mix(Tag.CT_I, ct_i)
    try:
        transcript.key(labels.KEY_4, parties.LOCAL_I.key.decapsulate(ct_i).expose())
    except Refused:
        conf_r = bytes(32)
    else:
        transcript.mix(Tag.BISCUIT, m2.biscuit)
        conf_r = aead.seal(transcript.key(labels.KEY_5, b""), params, transcript.h)
    return handshake.M2(m2.sidr, m2.ct_e, ct_i_enc, m2.biscuit, conf_r).encode()
