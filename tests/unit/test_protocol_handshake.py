"""The handshake between two nodes: what is agreed, and every reason for which a step refuses."""

import dataclasses
import os

import pytest

from pqvpn.crypto import xwing
from pqvpn.crypto.aead import ALL_AEADS, Aead
from pqvpn.crypto.refused import Refused
from pqvpn.crypto.secret import Secret
from pqvpn.drops import DropReason
from pqvpn.identity.card import Card
from pqvpn.protocol import cookie, datagrams, initiator, keys, responder
from pqvpn.protocol.parties import Local, Randomness, Remote
from pqvpn.protocol.transcript import Transcript
from pqvpn.wire.address import Address
from pqvpn.wire.handshake import M2, Fragment, Msg, parse_fragment, parse_m2
from pqvpn.wire.offer import Params, Pay

NETWORK_KEY = Secret(b"n" * 32)
PSK = Secret(b"p" * 32)
BISCUIT_KEY = Secret(b"b" * 32)
ORIGIN = Address.parse("192.0.2.1:51820").packed()
LIMITS = responder.Limits(ALL_AEADS, 4, 1432)
PAY = Pay(ALL_AEADS, 16, 1500, trace_flags=1)
TRACE = b"t" * 16
RANDOM = Randomness(os.urandom)

KEY_I, KEY_R = xwing.PrivateKey(Secret(b"i" * 32)), xwing.PrivateKey(Secret(b"r" * 32))
CARD_I, CARD_R = Card(xwing.PublicKey(KEY_I.public)), Card(xwing.PublicKey(KEY_R.public))
NODE_I, NODE_R = Local(KEY_I, CARD_I.peer_id, NETWORK_KEY), Local(KEY_R, CARD_R.peer_id, NETWORK_KEY)
TO_R = Remote(CARD_R.peer_id, CARD_R.public_key, PSK)
TO_I = Remote(CARD_I.peer_id, CARD_I.public_key, PSK)


def body_of(parts: tuple[bytes, ...]) -> bytes:
    return b"".join(parse_fragment(part).chunk for part in parts)


def find(peer_id: bytes) -> Remote | None:
    return {TO_I.peer_id: TO_I}.get(peer_id)


def begin(local=NODE_I, remote=TO_R, pay=PAY, **more) -> initiator.Attempt:
    return initiator.write_m1(local, remote, pay, RANDOM, **more)


def read_m1(attempt, local=NODE_R, look_up=find):
    return responder.read_m1(local, attempt.sidi, body_of(attempt.datagrams), look_up)


def answer(m1, limits=LIMITS, no=1, now=100.0):
    params = responder.choose(m1.pay, limits)
    return responder.write_m2(NODE_R, m1, params, BISCUIT_KEY, no, ORIGIN, now, RANDOM)


def read_m3(datagram, keys_accepted=(BISCUIT_KEY,), origin=ORIGIN, now=100.5, local=NODE_R):
    fragment = parse_fragment(datagram)
    return responder.read_m3(local, fragment.index, fragment.chunk, keys_accepted, origin, now, 30.0)


@pytest.fixture(scope="module")
def attempt() -> initiator.Attempt:
    return begin()


@pytest.fixture(scope="module")
def m2(attempt) -> responder.M2Written:
    return answer(read_m1(attempt))


@pytest.fixture(scope="module")
def m3(attempt, m2) -> initiator.M3Written:
    read = initiator.read_m2(NODE_I, attempt, body_of(m2.datagrams))
    return initiator.write_m3(attempt, read, RANDOM, TRACE)


def test_both_sides_agree(attempt, m2, m3):
    accepted = read_m3(m3.datagram)
    session = accepted.keys()
    assert session.session_id == m3.keys.session_id
    assert session.to_responder == m3.keys.to_responder
    assert session.to_initiator == m3.keys.to_initiator
    assert accepted.params == Params(Aead.AES_256_GCM, 4, 1432, 0, 1)
    assert (accepted.sidi, accepted.sidr, accepted.no) == (attempt.sidi, m2.sidr, 1)
    assert (accepted.peer_id, accepted.trace_id) == (NODE_I.peer_id, TRACE)
    different = {key.expose() for side in (session.to_responder, session.to_initiator) for key in side}
    assert len(different) == 8


def test_macs(attempt, m2, m3):
    mac1_key = keys.mac1_key(NETWORK_KEY, NODE_R.peer_id)
    for datagram in (*attempt.datagrams, m3.datagram):
        assert datagrams.check_mac1(mac1_key, parse_fragment(datagram))
    for datagram in m2.datagrams:
        assert datagrams.check_mac1(attempt.m2_mac_key, parse_fragment(datagram))
        assert not datagrams.check_mac1(mac1_key, parse_fragment(datagram))
    other_mesh = keys.mac1_key(None, NODE_R.peer_id)
    assert not datagrams.check_mac1(other_mesh, parse_fragment(attempt.datagrams[0]))


def test_no_reply_is_larger_than_its_request(attempt, m2, m3):
    m1_size, m2_size = sum(map(len, attempt.datagrams)), sum(map(len, m2.datagrams))
    assert (m1_size, m2_size, len(m3.datagram)) == (2576, 2536, 216)
    assert len(m2.datagrams) == len(attempt.datagrams)
    first = parse_fragment(attempt.datagrams[0])
    reply = cookie.write_reply(keys.cookie_key(None, NODE_R.peer_id), bytes(16), first, bytes(12))
    assert len(reply) == 60 < len(attempt.datagrams[-1])


def test_nothing_secret_prints(attempt, m2, m3):
    shown = repr((attempt, read_m1(attempt), m3, read_m3(m3.datagram), NODE_I))
    for secret in (NETWORK_KEY, PSK, attempt.m2_mac_key, m3.keys.to_responder[0]):
        assert secret.expose().hex() not in shown
        assert repr(secret.expose())[2:-1] not in shown


@pytest.mark.parametrize(
    ("local", "look_up", "verdict"),
    [
        (NODE_R, lambda peer_id: None, DropReason.UNKNOWN_PEER),
        (dataclasses.replace(NODE_R, network_key=None), find, DropReason.BAD_HANDSHAKE),
        (dataclasses.replace(NODE_R, peer_id=bytes(32)), find, DropReason.BAD_HANDSHAKE),
        (dataclasses.replace(NODE_R, key=KEY_I), find, DropReason.BAD_HANDSHAKE),
        (NODE_R, lambda peer_id: dataclasses.replace(TO_I, psk=None), DropReason.BAD_HANDSHAKE),
        (NODE_R, lambda peer_id: dataclasses.replace(TO_I, policy=1), DropReason.POLICY_MISMATCH),
    ],
)
def test_m1_refusals(attempt, local, look_up, verdict):
    assert read_m1(attempt, local, look_up) is verdict


def test_m1_at_another_index(attempt):
    body = body_of(attempt.datagrams)
    assert responder.read_m1(NODE_R, attempt.sidi ^ 0x10, body, find) is DropReason.BAD_HANDSHAKE
    assert responder.read_m1(NODE_R, attempt.sidi, body[:-1], find) is DropReason.MALFORMED


def test_a_node_does_not_answer_itself():
    to_self = Remote(NODE_R.peer_id, CARD_R.public_key, PSK)
    own = begin(local=NODE_R, remote=to_self)
    assert read_m1(own, look_up=lambda peer_id: to_self) is DropReason.UNKNOWN_PEER


def test_bad_offers_are_refused():
    for change in ({"lanes": 0}, {"mtu": 100}):
        assert read_m1(begin(pay=PAY._replace(**change))) is DropReason.BAD_HANDSHAKE


def test_ephemeral_key_is_checked(attempt):
    m1 = dataclasses.replace(read_m1(attempt), epk=b"\xff" * 1216)
    assert answer(m1) is DropReason.DECAPSULATION


@pytest.mark.parametrize(
    ("offered", "limits", "chosen"),
    [
        (3, responder.Limits(3, 4, 1432), Aead.AES_256_GCM),
        (3, responder.Limits(3, 4, 1432, prefer_chacha=True), Aead.CHACHA20_POLY1305),
        (1, responder.Limits(3, 4, 1432, prefer_chacha=True), Aead.AES_256_GCM),
        (2, responder.Limits(3, 4, 1432), Aead.CHACHA20_POLY1305),
        (3, responder.Limits(2, 4, 1432), Aead.CHACHA20_POLY1305),
    ],
)
def test_choice_of_cipher(offered, limits, chosen):
    assert responder.choose(PAY._replace(aeads=offered), limits).aead is chosen


def test_choice_is_the_smaller_of_both():
    assert responder.choose(PAY._replace(aeads=1), responder.Limits(2, 4, 1432)) is DropReason.BAD_HANDSHAKE
    params = responder.choose(Pay(3, 2, 1300, policy=1), responder.Limits(3, 8, 1432))
    assert params == Params(Aead.AES_256_GCM, 2, 1300, 1, 0)


def test_a_failed_m2_changes_nothing(attempt, m2):
    before = (attempt.transcript.h, attempt.transcript.ck)
    body = body_of(m2.datagrams)
    for place in (4, 1124, 2260, 2408, 2439):
        spoiled = bytearray(body)
        spoiled[place] ^= 1
        assert isinstance(initiator.read_m2(NODE_I, attempt, bytes(spoiled)), DropReason)
        assert (attempt.transcript.h, attempt.transcript.ck) == before
    assert isinstance(initiator.read_m2(NODE_I, attempt, body), initiator.M2Read)
    assert (attempt.transcript.h, attempt.transcript.ck) == before


def test_m2_to_another_attempt(m2):
    assert initiator.read_m2(NODE_I, begin(), body_of(m2.datagrams)) is DropReason.BAD_HANDSHAKE


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"aead": Aead.CHACHA20_POLY1305}, DropReason.BAD_HANDSHAKE),
        ({"lanes": 3}, DropReason.BAD_HANDSHAKE),
        ({"mtu": 1301}, DropReason.BAD_HANDSHAKE),
        ({"trace_flags": 1}, DropReason.BAD_HANDSHAKE),
        ({"policy": 1}, DropReason.POLICY_MISMATCH),
    ],
)
def test_initiator_refuses_what_it_did_not_offer(change, verdict):
    """Even the responder itself must not choose more than was offered."""
    modest = begin(pay=Pay(aeads=1, lanes=2, mtu=1300))
    m1 = read_m1(modest)
    params = responder.choose(m1.pay, LIMITS)._replace(**change)
    sent = responder.write_m2(NODE_R, m1, params, BISCUIT_KEY, 1, ORIGIN, 0.0, RANDOM)
    assert initiator.read_m2(NODE_I, modest, body_of(sent.datagrams)) is verdict


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"origin": Address.parse("192.0.2.1:51821").packed()}, DropReason.BISCUIT),
        ({"origin": Address.parse("192.0.2.2:51820").packed()}, DropReason.BISCUIT),
        ({"keys_accepted": (Secret(bytes(32)),)}, DropReason.BISCUIT),
        ({"keys_accepted": ()}, DropReason.BISCUIT),
        ({"local": dataclasses.replace(NODE_R, peer_id=bytes(32))}, DropReason.BISCUIT),
        ({"now": 131.0}, DropReason.STALE_HANDSHAKE),
        ({"now": 99.0}, DropReason.STALE_HANDSHAKE),
    ],
)
def test_m3_refusals(m3, change, verdict):
    assert read_m3(m3.datagram, **change) is verdict


def test_m3_with_the_previous_biscuit_key(m3):
    accepted = read_m3(m3.datagram, keys_accepted=(Secret(bytes(32)), BISCUIT_KEY), now=130.9)
    assert isinstance(accepted, responder.M3Read)


def test_trace_id_stays_home_when_not_sampled():
    attempt = begin(pay=PAY._replace(trace_flags=0))
    read = initiator.read_m2(NODE_I, attempt, body_of(answer(read_m1(attempt)).datagrams))
    accepted = read_m3(initiator.write_m3(attempt, read, RANDOM, TRACE).datagram)
    assert accepted.trace_id == initiator.NO_TRACE


class TestM1c:
    open_r = Remote(CARD_R.peer_id, CARD_R.public_key)

    def test_enrols(self):
        attempt = begin(remote=self.open_r, card=CARD_I.encoded)
        assert (attempt.msg, len(attempt.datagrams)) == (Msg.M1C, 4)
        body = body_of(attempt.datagrams)
        m1 = responder.read_m1c(NODE_R, attempt.sidi, body, lambda card: card == CARD_I)
        assert m1.card == CARD_I
        read = initiator.read_m2(NODE_I, attempt, body_of(answer(m1).datagrams))
        m3 = initiator.write_m3(attempt, read, RANDOM)
        assert read_m3(m3.datagram).keys() == m3.keys
        refused = responder.read_m1c(NODE_R, attempt.sidi, body, lambda card: False)
        assert refused is DropReason.UNKNOWN_PEER
        assert responder.read_m1c(NODE_R, attempt.sidi, body[:-1], lambda card: True) is DropReason.MALFORMED

    def test_has_neither_psk_nor_other_policies(self):
        for remote in (TO_R, dataclasses.replace(self.open_r, policy=1)):
            with pytest.raises(ValueError, match="M1c"):
                begin(remote=remote, card=CARD_I.encoded)

    def test_bad_card_is_a_drop(self):
        attempt = begin(remote=self.open_r, card=b"PQVX" + CARD_I.encoded[4:])
        body = body_of(attempt.datagrams)
        verdict = responder.read_m1c(NODE_R, attempt.sidi, body, lambda card: True)
        assert verdict is DropReason.BAD_HANDSHAKE

    def test_own_card_is_a_drop(self):
        attempt = begin(local=NODE_R, remote=self.open_r, card=CARD_R.encoded)
        verdict = responder.read_m1c(NODE_R, attempt.sidi, body_of(attempt.datagrams), lambda card: True)
        assert verdict is DropReason.UNKNOWN_PEER


def test_a_card_without_a_usable_point_is_a_drop():
    unusable = xwing.PublicKey(CARD_R.public_key.raw[:1184] + bytes(32))
    attempt = initiator.write_m1(NODE_I, dataclasses.replace(TO_R, key=unusable), PAY, RANDOM)
    assert attempt is DropReason.DECAPSULATION


def test_a_forged_inner_ciphertext_is_a_drop(attempt, m2, monkeypatch):
    """ct_i is sealed by the responder, but what it holds may still be refused."""
    monkeypatch.setattr(xwing.PrivateKey, "decapsulate", _refuse)
    assert initiator.read_m2(NODE_I, attempt, body_of(m2.datagrams)) is DropReason.DECAPSULATION


def _refuse(self, ciphertext):
    raise Refused(DropReason.DECAPSULATION)


def test_indices():
    drawn = iter((b"\x0f\0\0\0", b"\x15\0\0\0", b"\x25\0\0\0"))
    assert Randomness(lambda count: next(drawn)).index(taken={0x10}) == 0x20
    for index in (RANDOM.index() for _ in range(50)):
        assert index & 0x0F == 0
        assert 0 < index < 2**32


def test_rotating_secrets():
    made = iter(bytes((number,)) * 32 for number in range(9))
    rotating = keys.Rotating(lambda count: next(made), 120.0, now=10.0)
    first = rotating.current
    assert rotating.accepted(129.9) == (first,)
    second = rotating.accepted(130.0)[0]
    assert rotating.accepted(249.9) == (second, first)
    third = rotating.accepted(250.0)
    assert third[1] == second
    assert third[0] not in (first, second)
    assert len(rotating.accepted(1000.0)) == 1  # asleep for long: the previous one is too old as well
    assert rotating.deadline == 1120.0


def test_cookie_needs_mac2(attempt):
    secret = Secret(b"c" * 32)
    first = parse_fragment(attempt.datagrams[0])
    assert isinstance(first, Fragment)
    assert not cookie.proves_address((secret,), ORIGIN, first)
    proving = datagrams.with_mac2(attempt.datagrams, cookie.make(secret, ORIGIN))
    assert all(cookie.proves_address((secret,), ORIGIN, parse_fragment(d)) for d in proving)
    assert not cookie.proves_address((), ORIGIN, parse_fragment(proving[0]))
    for before, after in zip(attempt.datagrams, proving, strict=True):
        assert before[:-16] == after[:-16]
    assert not cookie.proves_address((secret,), ORIGIN, parse_fragment(answer(read_m1(attempt)).datagrams[0]))


def test_transcript_separates_lengths_and_tags():
    states = []
    for parts in (((3, b"ab"), (4, b"c")), ((3, b"a"), (4, b"bc")), ((4, b"ab"), (3, b"c"))):
        transcript = Transcript(bytes(32), bytes(32))
        for tag, data in parts:
            transcript.mix(tag, data)
        states.append(transcript.h)
    assert len(set(states)) == 3


def test_every_answer_is_new(attempt):
    first, second = (parse_m2(body_of(answer(read_m1(attempt)).datagrams)) for _ in range(2))
    assert isinstance(first, M2)
    assert all(a != b for a, b in zip(first, second, strict=True))
