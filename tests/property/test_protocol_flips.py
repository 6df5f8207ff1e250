"""No change to any message is ever accepted: single bits, exchanged parts, arbitrary bodies."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from pqvpn.crypto import xwing
from pqvpn.crypto.secret import Secret
from pqvpn.drops import DropReason
from pqvpn.identity.card import Card
from pqvpn.protocol import biscuit, cookie, datagrams, initiator, keys, responder
from pqvpn.protocol.parties import Local, Randomness, Remote
from pqvpn.wire.address import Address
from pqvpn.wire.cookie import CookieReply, parse_reply
from pqvpn.wire.handshake import Fragment, parse_fragment
from pqvpn.wire.offer import Pay

RANDOM = Randomness(os.urandom)
BISCUIT_KEY = Secret(b"b" * 32)
ORIGIN = Address.parse("[2001:db8::1]:51820").packed()
KEY_I, KEY_R = xwing.PrivateKey(Secret(b"i" * 32)), xwing.PrivateKey(Secret(b"r" * 32))
CARD_I, CARD_R = Card(xwing.PublicKey(KEY_I.public)), Card(xwing.PublicKey(KEY_R.public))
NODE_I, NODE_R = Local(KEY_I, CARD_I.peer_id), Local(KEY_R, CARD_R.peer_id)
TO_I, TO_R = Remote(CARD_I.peer_id, CARD_I.public_key), Remote(CARD_R.peer_id, CARD_R.public_key)


def body_of(parts: tuple[bytes, ...]) -> bytes:
    return b"".join(parse_fragment(part).chunk for part in parts)


def read_m1(sidi, body):
    return responder.read_m1(NODE_R, sidi, body, {TO_I.peer_id: TO_I}.get)


ATTEMPT = initiator.write_m1(NODE_I, TO_R, Pay(3, 4, 1432), RANDOM)
M1 = body_of(ATTEMPT.datagrams)
M1C_ATTEMPT = initiator.write_m1(NODE_I, TO_R, Pay(3, 4, 1432), RANDOM, card=CARD_I.encoded)
M1C = body_of(M1C_ATTEMPT.datagrams)
M1_READ = read_m1(ATTEMPT.sidi, M1)
PARAMS = responder.choose(M1_READ.pay, responder.Limits(3, 4, 1432))
M2_WRITTEN = responder.write_m2(NODE_R, M1_READ, PARAMS, BISCUIT_KEY, 1, ORIGIN, 5.0, RANDOM)
M2 = body_of(M2_WRITTEN.datagrams)
M3_WRITTEN = initiator.write_m3(ATTEMPT, initiator.read_m2(NODE_I, ATTEMPT, M2), RANDOM)
M3 = parse_fragment(M3_WRITTEN.datagram).chunk
MAC1_KEY = keys.mac1_key(None, NODE_R.peer_id)
COOKIE_KEY = keys.cookie_key(None, NODE_R.peer_id)
COOKIE_SECRET = Secret(b"c" * 32)
PROVING = datagrams.with_mac2(ATTEMPT.datagrams, cookie.make(COOKIE_SECRET, ORIGIN))
REPLY = cookie.write_reply(COOKIE_KEY, cookie.make(COOKIE_SECRET, ORIGIN), parse_fragment(PROVING[0]), b"n" * 12)


def read_m3(body, sidr=M2_WRITTEN.sidr, origin=ORIGIN):
    return responder.read_m3(NODE_R, sidr, body, (BISCUIT_KEY,), origin, 5.0, 30.0)


def flips(original: bytes) -> st.SearchStrategy[bytes]:
    """The original with one bit changed."""
    number, size = int.from_bytes(original, "big"), len(original)
    bits = st.integers(0, 8 * size - 1)
    return bits.map(lambda bit: (number ^ 1 << bit).to_bytes(size, "big"))


def test_the_originals_are_accepted():
    assert isinstance(M1_READ, responder.M1Read)
    assert isinstance(read_m3(M3), responder.M3Read)
    assert read_m3(M3).keys() == M3_WRITTEN.keys


@settings(max_examples=300)
@given(flips(M1))
def test_m1(body):
    """A bit in epk makes the next tag fail, because the transcript holds it."""
    assert isinstance(read_m1(ATTEMPT.sidi, body), DropReason)


@given(flips(M1C))
def test_m1c(body):
    assert isinstance(responder.read_m1c(NODE_R, M1C_ATTEMPT.sidi, body, lambda card: True), DropReason)


@settings(max_examples=300)
@given(flips(M2))
def test_m2(body):
    assert isinstance(initiator.read_m2(NODE_I, ATTEMPT, body), DropReason)


def test_m3_every_bit():
    number = int.from_bytes(M3, "big")
    for bit in range(8 * len(M3)):
        assert isinstance(read_m3((number ^ 1 << bit).to_bytes(len(M3), "big")), DropReason)


@given(st.integers(0, 31), flips(ORIGIN))
def test_m3_elsewhere(bit, origin):
    assert isinstance(read_m3(M3, sidr=M2_WRITTEN.sidr ^ 1 << bit), DropReason)
    assert read_m3(M3, origin=origin) is DropReason.BISCUIT


@given(st.sampled_from([*ATTEMPT.datagrams, M3_WRITTEN.datagram]).flatmap(flips))
def test_mac1(datagram):
    """Any bit but those of MAC2, which MAC1 does not cover, makes the datagram malformed or its MAC1 wrong."""
    fragment = parse_fragment(datagram)
    if isinstance(fragment, Fragment) and datagrams.check_mac1(MAC1_KEY, fragment):
        assert any(fragment.mac2)
        assert not cookie.proves_address((COOKIE_SECRET,), ORIGIN, fragment)


@given(st.sampled_from(M2_WRITTEN.datagrams).flatmap(flips))
def test_mac1_of_m2(datagram):
    fragment = parse_fragment(datagram)
    assert isinstance(fragment, DropReason) or not datagrams.check_mac1(ATTEMPT.m2_mac_key, fragment)


@given(st.sampled_from(PROVING).flatmap(flips))
def test_mac2(datagram):
    fragment = parse_fragment(datagram)
    assert isinstance(fragment, DropReason) or not cookie.proves_address((COOKIE_SECRET,), ORIGIN, fragment)


def test_cookie_reply_every_bit():
    """A bit in index, msg or msg_id finds no attempt; any other is malformed or does not open."""
    number = int.from_bytes(REPLY, "big")
    for bit in range(8 * len(REPLY)):
        reply = parse_reply((number ^ 1 << bit).to_bytes(len(REPLY), "big"))
        if isinstance(reply, CookieReply):
            found = (reply.msg, reply.index, reply.msg_id) == (ATTEMPT.msg, ATTEMPT.sidi, ATTEMPT.msg_id)
            verdict = cookie.read_reply(COOKIE_KEY, reply, ATTEMPT.mac1)
            assert not found or verdict is DropReason.BAD_COOKIE


@given(flips(ATTEMPT.mac1))
def test_cookie_reply_is_for_one_m1(mac1):
    assert cookie.read_reply(COOKIE_KEY, parse_reply(REPLY), mac1) is DropReason.BAD_COOKIE


def of_size(size: int) -> st.SearchStrategy[bytes]:
    return st.one_of(st.binary(max_size=40), st.binary(min_size=size, max_size=size))


@settings(max_examples=50)
@given(of_size(2432), of_size(3656), of_size(2440), of_size(184))
def test_arbitrary_bodies(m1, m1c, m2, m3):
    assert isinstance(read_m1(0x10, m1), DropReason)
    assert isinstance(responder.read_m1c(NODE_R, 0x10, m1c, lambda card: True), DropReason)
    assert isinstance(initiator.read_m2(NODE_I, ATTEMPT, m2), DropReason)
    assert isinstance(read_m3(m3), DropReason)


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_arbitrary_biscuits(sealed, bound):
    assert biscuit.unseal((BISCUIT_KEY,), sealed, bound) is DropReason.BISCUIT
