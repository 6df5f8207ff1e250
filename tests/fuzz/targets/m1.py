"""Invariant: an M1 is a drop, or it names a configured peer, offers its policy, and gets an answer that is not longer.

The first byte says how the rest is used: as a body, or as identity (32) and offer (32) that are sealed here, so that the
checks behind the tags are reached.
"""

from functools import cache

from pqvpn.crypto import aead, labels
from pqvpn.crypto.secret import key_or_none
from pqvpn.drops import DropReason
from pqvpn.protocol import responder
from pqvpn.protocol.transcript import Tag, Transcript
from pqvpn.wire import handshake
from pqvpn.wire.handshake import Msg
from tests.fuzz import parties

SHORT_RUN = 1200
_LIMITS = responder.Limits(aeads=3, lanes=4, mtu=1432)


def check(data: bytes) -> None:
    if not data:
        return
    body = data[1:] if data[0] & 1 else _sealed(data[1:33].ljust(32, b"\0"), data[33:65].ljust(32, b"\0"), data[0])
    read = responder.read_m1(parties.LOCAL_R, parties.SIDI, body, parties.find)
    if isinstance(read, DropReason):
        return
    assert read.remote is parties.REMOTE_I
    answer_is_small(read, len(body))


def answer_is_small(read: responder.M1Read, length: int) -> None:
    """What an M1 that opened may cause: a typed drop, or an answer of no more bytes."""
    pay = read.pay
    assert pay.policy == read.remote.policy
    assert 1 <= pay.lanes <= 16
    assert 576 <= pay.mtu <= 2040
    assert 0 <= pay.aeads <= 3
    params = responder.choose(pay, _LIMITS)
    if isinstance(params, DropReason):
        assert not pay.aeads
        return
    assert params.lanes <= min(pay.lanes, 4)
    assert params.mtu <= min(pay.mtu, 1432)
    m2 = responder.write_m2(
        parties.LOCAL_R, read, params, parties.BISCUIT_KEY, 1, parties.ORIGIN, 7.0, parties.randomness()
    )
    if isinstance(m2, DropReason):
        assert m2 is DropReason.DECAPSULATION
        return
    sent = length + handshake.COUNTS[Msg.M1] * 48  # headers and MACs of M1; M1c has one datagram more
    assert sum(map(len, m2.datagrams)) <= sent


@cache
def _start() -> tuple[bytes, Transcript]:
    """k1 and the transcript of the vectors' M1 up to it."""
    m1 = handshake.parse_m1(parties.BODY_M1)
    assert not isinstance(m1, DropReason)
    transcript = Transcript.start(None, parties.LOCAL_R.peer_id)
    transcript.mix(Tag.HEADER, handshake.transcript_header(Msg.M1, parties.SIDI))
    transcript.mix(Tag.EPK, m1.epk)
    transcript.mix(Tag.CT_S, m1.ct_s)
    return transcript.key(labels.KEY_1, parties.LOCAL_R.key.decapsulate(m1.ct_s).expose()), transcript


def _sealed(who: bytes, pay: bytes, how: int) -> bytes:
    """A body whose tags are right; `how` bit 1: from the configured peer whatever `who` says."""
    k1, start = _start()
    transcript = start.copy()
    id_i = parties.REMOTE_I.peer_id if how & 2 else who
    id_ct = aead.seal(k1, id_i, transcript.h)
    transcript.mix(Tag.ID_CT, id_ct)
    transcript.mix(Tag.ID_I, id_i)
    k2 = transcript.key(labels.KEY_2, key_or_none(None).expose())
    return parties.BODY_M1[: 1216 + 1120] + id_ct + aead.seal(k2, pay, transcript.h)
