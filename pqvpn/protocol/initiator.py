"""The initiator's side of the handshake XW-IKref, step by step (PROTOCOL section 2).

Owns writing M1, M1c and M3 and reading M2. Keeps no state: `Attempt` is a frozen value that the caller holds, and
reading an M2 works on a copy, so that one that fails changes nothing. When to send, repeat and give up is the core's.

    attempt = write_m1(local, remote, pay, randomness, taken)      -> attempt.datagrams, attempt.sidi
    m2 = read_m2(local, attempt, body)                             -> M2Read | DropReason
    m3 = write_m3(attempt, m2, randomness, trace_id)               -> m3.datagram, m3.keys
"""

from collections.abc import Container
from dataclasses import dataclass

from pqvpn.crypto import aead, labels, xwing
from pqvpn.crypto.refused import Refused
from pqvpn.crypto.secret import Secret, key_or_none
from pqvpn.drops import DropReason
from pqvpn.protocol import datagrams, keys
from pqvpn.protocol.keys import SessionKeys
from pqvpn.protocol.parties import Local, Randomness, Remote
from pqvpn.protocol.transcript import Tag, Transcript
from pqvpn.wire import handshake
from pqvpn.wire.handshake import Msg
from pqvpn.wire.offer import POLICY_FULL, TRACE_SAMPLED, Params, Pay, parse_params

NO_TRACE = bytes(16)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An M1 or M1c that is out. `datagrams` have MAC2 zero: see `datagrams.with_mac2`."""

    remote: Remote
    msg: Msg
    sidi: int
    msg_id: int
    pay: Pay
    datagrams: tuple[bytes, ...]
    m2_mac_key: Secret  # MAC1 of M2's fragments
    mac1_key: Secret  # K_mac1 of the responder, for M3
    ephemeral: xwing.PrivateKey
    transcript: Transcript  # after M1; never changed

    @property
    def mac1(self) -> bytes:
        """MAC1 of fragment 0, to which a cookie reply is bound."""
        return datagrams.mac1_of(self.datagrams[0])


@dataclass(frozen=True, slots=True)
class M2Read:
    """An M2 that verified completely."""

    sidr: int
    params: Params
    biscuit: bytes
    k6: Secret
    transcript: Transcript  # after key("6")


@dataclass(frozen=True, slots=True)
class M3Written:
    """M3 (216 bytes, repeated byte-identical) and the keys of the session that it completes."""

    datagram: bytes
    keys: SessionKeys


def write_m1(
    local: Local,
    remote: Remote,
    pay: Pay,
    randomness: Randomness,
    taken: Container[int] = (),
    card: bytes | None = None,
) -> Attempt | DropReason:
    """M1 to `remote`, or M1c when `card` (ours, 1256 bytes) is given. `pay.policy` is set from `remote`.

    `taken`: indices of ours that sidi must not have. A drop (DECAPSULATION) means that the peer's card holds a key
    to which nothing can be encapsulated. Raises ValueError on an M1c with a psk or a policy other than full.
    """
    if card is not None and (remote.psk is not None or remote.policy != POLICY_FULL):
        raise ValueError("M1c has neither a psk nor a policy other than full")
    msg = Msg.M1 if card is None else Msg.M1C
    pay = pay._replace(policy=remote.policy)
    sidi, msg_id = randomness.index(taken), randomness.message_id()
    ephemeral = xwing.PrivateKey(randomness.ephemeral_seed())
    try:
        ss_s, ct_s = randomness.encapsulate(remote.key)
    except Refused as refused:
        return refused.reason

    transcript = Transcript.start(local.network_key, remote.peer_id)
    transcript.mix(Tag.HEADER, handshake.transcript_header(msg, sidi))
    transcript.mix(Tag.EPK, ephemeral.public)
    transcript.mix(Tag.CT_S, ct_s)
    k1 = transcript.key(labels.KEY_1, ss_s.expose())
    who_ct = aead.seal(k1, local.peer_id if card is None else card, transcript.h)
    transcript.mix(Tag.ID_CT if card is None else Tag.CARD_CT, who_ct)
    transcript.mix(Tag.ID_I, local.peer_id)
    k2 = transcript.key(labels.KEY_2, key_or_none(remote.psk).expose())
    pay_ct = aead.seal(k2, pay.encode(), transcript.h)
    transcript.mix(Tag.PAY_CT, pay_ct)

    body = handshake.M1(ephemeral.public, ct_s, who_ct, pay_ct).encode()
    mac1_key = keys.mac1_key(local.network_key, remote.peer_id)
    return Attempt(
        remote, msg, sidi, msg_id, pay,
        datagrams=datagrams.split(msg, sidi, msg_id, body, mac1_key),
        m2_mac_key=transcript.m2_mac_key(),
        mac1_key=mac1_key,
        ephemeral=ephemeral,
        transcript=transcript,
    )  # fmt: skip


def read_m2(local: Local, attempt: Attempt, body: bytes) -> M2Read | DropReason:
    """Verify the M2 that answers `attempt` (found by the index in its header, its MAC1 checked with `m2_mac_key`)."""
    m2 = handshake.parse_m2(body)
    if isinstance(m2, DropReason):
        return m2
    try:
        return _open_m2(local, attempt, m2)
    except Refused as refused:
        return refused.reason


def _open_m2(local: Local, attempt: Attempt, m2: handshake.M2) -> M2Read:
    transcript = attempt.transcript.copy()
    transcript.mix(Tag.HEADER, handshake.transcript_header(Msg.M2, attempt.sidi))
    transcript.mix(Tag.SIDR, m2.sidr.to_bytes(4, "little"))
    transcript.mix(Tag.CT_E, m2.ct_e)
    k3 = transcript.key(labels.KEY_3, attempt.ephemeral.decapsulate(m2.ct_e).expose())
    ct_i = aead.unseal(k3, m2.ct_i_enc, transcript.h)
    transcript.mix(Tag.CT_I_ENC, m2.ct_i_enc)
    transcript.mix(Tag.CT_I, ct_i)
    transcript.key(labels.KEY_4, local.key.decapsulate(ct_i).expose())  # k4 is not used
    transcript.mix(Tag.BISCUIT, m2.biscuit)
    k5 = transcript.key(labels.KEY_5, b"")
    params = parse_params(aead.unseal(k5, m2.conf_r, transcript.h))
    if isinstance(params, DropReason):
        raise Refused(params)
    _check_within(attempt.pay, params)
    transcript.mix(Tag.CONF_R, m2.conf_r)
    k6 = transcript.key(labels.KEY_6, b"")
    return M2Read(m2.sidr, params, m2.biscuit, Secret(k6), transcript)


def _check_within(pay: Pay, params: Params) -> None:
    if params.policy != pay.policy:
        raise Refused(DropReason.POLICY_MISMATCH)
    within = (
        params.aead & pay.aeads
        and params.lanes <= pay.lanes
        and params.mtu <= pay.mtu
        and not params.features & ~pay.features
        and not params.trace_flags & ~(pay.trace_flags & TRACE_SAMPLED)
    )
    if not within:
        raise Refused(DropReason.BAD_HANDSHAKE)


def write_m3(attempt: Attempt, m2: M2Read, randomness: Randomness, trace_id: bytes = NO_TRACE) -> M3Written:
    """M3 and the session's keys. `trace_id` (16 bytes) is sent only when offered and chosen as sampled."""
    transcript = m2.transcript.copy()
    transcript.mix(Tag.HEADER, handshake.transcript_header(Msg.M3, m2.sidr))
    told = trace_id if m2.params.trace_flags & TRACE_SAMPLED else NO_TRACE
    conf_i = aead.seal(m2.k6.expose(), told, transcript.h)
    body = handshake.M3(attempt.sidi, m2.biscuit, conf_i).encode()
    (datagram,) = datagrams.split(Msg.M3, m2.sidr, randomness.message_id(), body, attempt.mac1_key)
    session = keys.derive(transcript.session_secret(), m2.params.lanes, m2.params.aead, m2.params.policy)
    return M3Written(datagram, session)
