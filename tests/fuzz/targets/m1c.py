"""Invariant: an M1c is a drop, or carries a card that is valid and not our own, at policy full, with an answer not longer.

The first byte says how the rest is used: as a body, or as card (1256) and offer (32) that are sealed here.
"""

from functools import cache

from pqvpn.crypto import aead, labels
from pqvpn.crypto.secret import key_or_none
from pqvpn.drops import DropReason
from pqvpn.identity import peer_id
from pqvpn.identity.card import CARD_SIZE
from pqvpn.protocol import responder
from pqvpn.protocol.transcript import Tag, Transcript
from pqvpn.wire import handshake
from pqvpn.wire.handshake import Msg
from tests.fuzz import parties
from tests.fuzz.targets.m1 import answer_is_small

SHORT_RUN = 1200
_SIDI = int(parties.M1C["sidi"], 16)


def check(data: bytes) -> None:
    if not data:
        return
    body = data[1:] if data[0] & 1 else _sealed(data[1:33].ljust(32, b"\0"), data[33:].ljust(CARD_SIZE, b"\0"))
    read = responder.read_m1c(parties.LOCAL_R, _SIDI, body, lambda _: not data[0] & 2)
    if isinstance(read, DropReason):
        return
    assert not data[0] & 2
    assert read.card is not None
    assert read.card.peer_id == read.remote.peer_id == peer_id.of_card(read.card.encoded) != parties.LOCAL_R.peer_id
    assert (read.remote.policy, read.remote.psk) == (0, None)
    answer_is_small(read, len(body))


@cache
def _start() -> tuple[bytes, Transcript]:
    m1 = handshake.parse_m1(parties.BODY_M1C, Msg.M1C)
    assert not isinstance(m1, DropReason)
    transcript = Transcript.start(None, parties.LOCAL_R.peer_id)
    transcript.mix(Tag.HEADER, handshake.transcript_header(Msg.M1C, _SIDI))
    transcript.mix(Tag.EPK, m1.epk)
    transcript.mix(Tag.CT_S, m1.ct_s)
    return transcript.key(labels.KEY_1, parties.LOCAL_R.key.decapsulate(m1.ct_s).expose()), transcript


def _sealed(pay: bytes, card: bytes) -> bytes:
    k1, start = _start()
    transcript = start.copy()
    card = card[:CARD_SIZE]
    card_ct = aead.seal(k1, card, transcript.h)
    transcript.mix(Tag.CARD_CT, card_ct)
    transcript.mix(Tag.ID_I, peer_id.of_card(card))
    k2 = transcript.key(labels.KEY_2, key_or_none(None).expose())
    return parties.BODY_M1C[: 1216 + 1120] + card_ct + aead.seal(k2, pay, transcript.h)
