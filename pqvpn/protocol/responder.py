"""The responder's side of the handshake XW-IKref, step by step (PROTOCOL section 2).

Owns reading M1, M1c and M3 and writing M2. Stores nothing: between M2 and M3 everything it must know is in the biscuit.
It answers every completed M1 anew; limits, used numbers and indices in use are the core's.

    m1 = read_m1(local, sidi, body, find)                          -> M1Read | DropReason
    m1 = read_m1c(local, sidi, body, enrol)                        -> M1Read | DropReason
    params = choose(m1.pay, limits)                                -> Params | DropReason
    m2 = write_m2(local, m1, params, biscuit_key, no, origin, now, randomness, taken)    -> M2Written | DropReason
    m3 = read_m3(local, sidr, body, biscuit_keys, origin, now, max_age)                  -> M3Read | DropReason

After `read_m3` the caller still checks `no > used[peer_id]`, that the peer is configured with `params.policy` (for M1c:
that enrolment is on) and that sidr is not in use, and only then takes `m3.keys()`.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass

from pqvpn.crypto import aead, labels, xwing
from pqvpn.crypto.aead import Aead
from pqvpn.crypto.refused import Refused
from pqvpn.crypto.secret import Secret, key_or_none
from pqvpn.drops import DropReason
from pqvpn.errors import ConfigError
from pqvpn.identity.card import Card
from pqvpn.protocol import biscuit as biscuits
from pqvpn.protocol import datagrams, keys
from pqvpn.protocol.biscuit import Biscuit
from pqvpn.protocol.keys import SessionKeys
from pqvpn.protocol.parties import Local, Randomness, Remote
from pqvpn.protocol.transcript import Tag, Transcript
from pqvpn.wire import handshake
from pqvpn.wire.handshake import Msg
from pqvpn.wire.offer import FEATURES, POLICY_FULL, TRACE_SAMPLED, Params, Pay, parse_pay

Find = Callable[[bytes], Remote | None]  # peer ID -> configured peer
Enrol = Callable[[Card], bool]  # whether a stranger with this card is let in


@dataclass(frozen=True, slots=True)
class Limits:
    """What we take: cipher bits that passed their self-test, lanes, the largest inner packet."""

    aeads: int
    lanes: int
    mtu: int
    prefer_chacha: bool = False  # without AES instructions


@dataclass(frozen=True, slots=True)
class M1Read:
    """An M1 or M1c that opened. It is not authenticated: nothing may act on `pay` but the answer."""

    sidi: int
    remote: Remote
    pay: Pay
    epk: bytes
    card: Card | None  # of M1c
    transcript: Transcript  # after M1; never changed


@dataclass(frozen=True, slots=True)
class M2Written:
    """M2's three datagrams, to be sent from the address that received M1 to its source."""

    datagrams: tuple[bytes, ...]
    sidr: int


@dataclass(frozen=True, slots=True)
class M3Read:
    """An M3 that verified. `trace_id` is 0^16 when not sampled, and adopted only from a peer with `trace = true`."""

    peer_id: bytes
    sidi: int
    sidr: int
    no: int
    params: Params
    trace_id: bytes
    transcript: Transcript  # after M3's header

    def keys(self) -> SessionKeys:
        """The session's keys."""
        params = self.params
        return keys.derive(self.transcript.session_secret(), params.lanes, params.aead, params.policy)


def read_m1(local: Local, sidi: int, body: bytes, find: Find) -> M1Read | DropReason:
    """Decapsulate, open id_ct, look ID_I up, open pay_ct. Drops unknown IDs, our own, and a policy other than ours."""
    m1 = handshake.parse_m1(body)
    if isinstance(m1, DropReason):
        return m1
    try:
        transcript, id_i = _open_who(local, Msg.M1, sidi, m1)
        remote = None if id_i == local.peer_id else find(id_i)
        if remote is None:
            return DropReason.UNKNOWN_PEER
        transcript.mix(Tag.ID_CT, m1.who_ct)
        return _open_pay(transcript, sidi, m1, remote, None)
    except Refused as refused:
        return refused.reason


def read_m1c(local: Local, sidi: int, body: bytes, enrol: Enrol) -> M1Read | DropReason:
    """The same with the card in place of the look-up: no psk, policy full only. `enrol` False: UNKNOWN_PEER."""
    m1 = handshake.parse_m1(body, Msg.M1C)
    if isinstance(m1, DropReason):
        return m1
    try:
        transcript, encoded = _open_who(local, Msg.M1C, sidi, m1)
        card = _read_card(encoded)
        if card.peer_id == local.peer_id or not enrol(card):
            return DropReason.UNKNOWN_PEER
        transcript.mix(Tag.CARD_CT, m1.who_ct)
        remote = Remote(card.peer_id, card.public_key, None, POLICY_FULL)
        return _open_pay(transcript, sidi, m1, remote, card)
    except Refused as refused:
        return refused.reason


def _open_who(local: Local, msg: Msg, sidi: int, m1: handshake.M1) -> tuple[Transcript, bytes]:
    transcript = Transcript.start(local.network_key, local.peer_id)
    transcript.mix(Tag.HEADER, handshake.transcript_header(msg, sidi))
    transcript.mix(Tag.EPK, m1.epk)
    transcript.mix(Tag.CT_S, m1.ct_s)
    k1 = transcript.key(labels.KEY_1, local.key.decapsulate(m1.ct_s).expose())
    return transcript, aead.unseal(k1, m1.who_ct, transcript.h)


def _read_card(encoded: bytes) -> Card:
    try:
        return Card.decode(encoded)
    except ConfigError:  # here the card is a stranger's, not an operator's
        raise Refused(DropReason.BAD_HANDSHAKE) from None


def _open_pay(transcript: Transcript, sidi: int, m1: handshake.M1, remote: Remote, card: Card | None) -> M1Read:
    transcript.mix(Tag.ID_I, remote.peer_id)
    k2 = transcript.key(labels.KEY_2, key_or_none(remote.psk).expose())
    pay = parse_pay(aead.unseal(k2, m1.pay_ct, transcript.h))
    if isinstance(pay, DropReason):
        raise Refused(pay)
    if pay.policy != remote.policy:
        raise Refused(DropReason.POLICY_MISMATCH)
    transcript.mix(Tag.PAY_CT, m1.pay_ct)
    return M1Read(sidi, remote, pay, m1.epk, card, transcript)


def choose(pay: Pay, limits: Limits) -> Params | DropReason:
    """The parameters of a session: the lowest cipher both have, the smaller lanes and MTU, the policy offered."""
    common = pay.aeads & limits.aeads
    if not common:
        return DropReason.BAD_HANDSHAKE
    chacha = limits.prefer_chacha or not common & Aead.AES_256_GCM
    chosen = Aead.CHACHA20_POLY1305 if chacha and common & Aead.CHACHA20_POLY1305 else Aead.AES_256_GCM
    return Params(
        aead=chosen,
        lanes=min(pay.lanes, limits.lanes),
        mtu=min(pay.mtu, limits.mtu),
        policy=pay.policy,
        trace_flags=pay.trace_flags & TRACE_SAMPLED,
        features=pay.features & FEATURES,
    )


def write_m2(
    local: Local,
    m1: M1Read,
    params: Params,
    biscuit_key: Secret,
    no: int,
    origin: bytes,
    now: float,
    randomness: Randomness,
    taken: Container[int] = (),
) -> M2Written | DropReason:
    """Answer an M1. `origin`: `Address.packed()` of its source; `no`: one more for each M2; `taken`: our live indices.

    Drops (DECAPSULATION) when epk is no valid X-Wing key.
    """
    sidr = randomness.index(taken)
    transcript = m1.transcript.copy()
    try:
        ss_e, ct_e = randomness.encapsulate(xwing.PublicKey(m1.epk))
        ss_i, ct_i = randomness.encapsulate(m1.remote.key)
    except Refused as refused:
        return refused.reason
    mac_key = transcript.m2_mac_key()
    transcript.mix(Tag.HEADER, handshake.transcript_header(Msg.M2, m1.sidi))
    transcript.mix(Tag.SIDR, sidr.to_bytes(4, "little"))
    transcript.mix(Tag.CT_E, ct_e)
    k3 = transcript.key(labels.KEY_3, ss_e.expose())
    ct_i_enc = aead.seal(k3, ct_i, transcript.h)
    transcript.mix(Tag.CT_I_ENC, ct_i_enc)
    transcript.mix(Tag.CT_I, ct_i)
    transcript.key(labels.KEY_4, ss_i.expose())  # k4 is not used
    content = Biscuit(no, m1.remote.peer_id, transcript, int(now), params)
    bound = biscuits.associated_data(local.peer_id, m1.sidi, sidr, origin)
    biscuit = biscuits.seal(biscuit_key, randomness.nonce(), content, bound)
    conf_r = _confirm(transcript, biscuit, params)
    body = handshake.M2(sidr, ct_e, ct_i_enc, biscuit, conf_r).encode()
    return M2Written(datagrams.split(Msg.M2, m1.sidi, randomness.message_id(), body, mac_key), sidr)


def _confirm(transcript: Transcript, biscuit: bytes, params: Params) -> bytes:
    """conf_r: what M2's writer makes and M3's reader makes again, the same message both times, so k5 seals one."""
    transcript.mix(Tag.BISCUIT, biscuit)
    k5 = transcript.key(labels.KEY_5, b"")
    return aead.seal(k5, params.encode(), transcript.h)


def read_m3(
    local: Local,
    sidr: int,
    body: bytes,
    biscuit_keys: tuple[Secret, ...],
    origin: bytes,
    now: float,
    max_age: float,
) -> M3Read | DropReason:
    """Open the biscuit with M3's own source, verify conf_i, check the age (s). See the module for what is left."""
    m3 = handshake.parse_m3(body)
    if isinstance(m3, DropReason):
        return m3
    bound = biscuits.associated_data(local.peer_id, m3.sidi, sidr, origin)
    kept = biscuits.unseal(biscuit_keys, m3.biscuit, bound)
    if isinstance(kept, DropReason):
        return kept
    transcript = kept.transcript.copy()
    transcript.mix(Tag.CONF_R, _confirm(transcript, m3.biscuit, kept.params))
    k6 = transcript.key(labels.KEY_6, b"")
    transcript.mix(Tag.HEADER, handshake.transcript_header(Msg.M3, sidr))
    try:
        trace_id = aead.unseal(k6, m3.conf_i, transcript.h)
    except Refused as refused:
        return refused.reason
    if not 0 <= int(now) - kept.t <= max_age:
        return DropReason.STALE_HANDSHAKE
    return M3Read(kept.id_i, m3.sidi, sidr, kept.no, kept.params, trace_id, transcript)
