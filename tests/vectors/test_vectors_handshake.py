"""Every byte and every intermediate value of `handshake.json`, which another implementation wrote."""

import json
from pathlib import Path

import pytest
from derandomised import Scripted, encapsulate, recorded_steps, shown

from pqvpn.crypto import xwing
from pqvpn.crypto.aead import Aead, transport_nonce
from pqvpn.crypto.secret import Secret
from pqvpn.drops import DropReason
from pqvpn.identity import peer_id, text
from pqvpn.identity.card import Card
from pqvpn.protocol import biscuit, cookie, datagrams, initiator, keys, responder
from pqvpn.protocol.parties import Local, Remote
from pqvpn.protocol.transcript import Transcript
from pqvpn.wire import transport
from pqvpn.wire.address import Address
from pqvpn.wire.cookie import CookieReply, parse_reply
from pqvpn.wire.handshake import Fragment, Msg, parse_fragment, parse_m2
from pqvpn.wire.offer import parse_pay

VECTORS = json.loads((Path(__file__).parent / "handshake.json").read_text())
ORIGIN = Address.parse("192.0.2.1:51820").packed()
unhex = bytes.fromhex


def secret_or_none(value: str) -> Secret | None:
    return Secret(unhex(value)) if value else None


@pytest.fixture(scope="module")
def keys_of() -> dict[str, xwing.PrivateKey]:
    return {entry["who"]: xwing.PrivateKey(Secret(unhex(entry["seed"]))) for entry in VECTORS["identities"]}


@pytest.mark.parametrize("vector", VECTORS["xwing"], ids=range(3))
def test_xwing(vector):
    key = xwing.PrivateKey(Secret(unhex(vector["seed"])))
    assert key.public.hex() == vector["pk"]
    assert key.decapsulate(unhex(vector["ct"])).expose().hex() == vector["ss"]
    shared, ciphertext = encapsulate(xwing.PublicKey(key.public), unhex(vector["eseed"]))
    assert (shared.expose().hex(), ciphertext.hex()) == (vector["ss"], vector["ct"])


@pytest.mark.parametrize("vector", VECTORS["identities"], ids=lambda vector: vector["who"])
def test_identity(vector):
    card = Card(xwing.PublicKey(xwing.PrivateKey(Secret(unhex(vector["seed"]))).public))
    assert card.encoded.hex() == vector["card"]
    assert card.peer_id.hex() == vector["peer_id"]
    assert peer_id.to_text(card.peer_id) == vector["peer_id_text"]
    assert peer_id.from_text(vector["peer_id_text"]) == card.peer_id
    assert text.card_to_line(card) == vector["card_line"]
    assert text.card_to_file(card) == vector["card_pem"]
    assert text.card_from_text(vector["card_line"]) == text.card_from_text(vector["card_pem"]) == card


class Case:
    """One handshake of the file: both nodes, and its messages as they are made."""

    def __init__(self, vector: dict, private: dict[str, xwing.PrivateKey]) -> None:
        self.v = vector
        cards = {who: Card(xwing.PublicKey(key.public)) for who, key in private.items()}
        network_key, psk = secret_or_none(vector["network_key"]), secret_or_none(vector["psk"])
        self.i = Local(private["I"], cards["I"].peer_id, network_key)
        self.r = Local(private["R"], cards["R"].peer_id, network_key)
        self.remote_r = Remote(cards["R"].peer_id, cards["R"].public_key, psk)
        self.remote_i = Remote(cards["I"].peer_id, cards["I"].public_key, psk)
        self.card = cards["I"].encoded if vector["m1_msg"] == Msg.M1C else None
        self.biscuit_key = Secret(unhex(vector["biscuit_key"]))

    def write_m1(self) -> initiator.Attempt:
        v = self.v
        randomness = Scripted(
            indices=(int(v["sidi"], 16),),
            message_ids=(int(v["m1_msg_id"], 16),),
            seeds=(unhex(v["ephemeral_seed"]),),
            eseeds=(unhex(v["eseed_s"]),),
        )
        pay = parse_pay(unhex(v["pay"]))
        attempt = initiator.write_m1(self.i, self.remote_r, pay, randomness, card=self.card)
        assert isinstance(attempt, initiator.Attempt)
        return attempt

    def read_m1(self) -> responder.M1Read:
        sidi, body = int(self.v["sidi"], 16), unhex(self.v["m1_body"])
        if self.card is not None:
            m1 = responder.read_m1c(self.r, sidi, body, lambda card: card.encoded == self.card)
        else:
            m1 = responder.read_m1(self.r, sidi, body, {self.remote_i.peer_id: self.remote_i}.get)
        assert isinstance(m1, responder.M1Read)
        return m1

    def write_m2(self, m1: responder.M1Read) -> responder.M2Written:
        v = self.v
        randomness = Scripted(
            indices=(int(v["sidr"], 16),),
            message_ids=(int(v["m2_msg_id"], 16),),
            eseeds=(unhex(v["eseed_e"]), unhex(v["eseed_i"])),
            nonces=(unhex(v["biscuit_nonce"]),),
        )
        chosen = v["chosen"]
        limits = responder.Limits(chosen["aead"], chosen["lanes"], chosen["mtu"])
        params = responder.choose(m1.pay, limits)
        assert params._asdict() == {**chosen, "features": 0}
        m2 = responder.write_m2(
            self.r, m1, params, self.biscuit_key, v["biscuit_no"], ORIGIN, v["biscuit_t"], randomness
        )
        assert isinstance(m2, responder.M2Written)
        return m2


@pytest.fixture(params=VECTORS["handshakes"], ids=lambda vector: vector["name"])
def case(request, keys_of) -> Case:
    return Case(request.param, keys_of)


def same_steps(recorded, expected) -> None:
    wanted = [
        (s["op"], s.get("tag") or s["name"], s["len"], s["input_sha256_or_hex"], s["h"], s["ck"], s.get("k", ""))
        for s in expected
        if s["op"] in ("mix", "key")
    ]
    assert recorded == wanted


def test_start(case):
    first, mixed = case.v["steps_m1_initiator"][:2]
    transcript = Transcript.start(case.i.network_key, case.r.peer_id)
    assert transcript.ck.hex() == first["ck"] == mixed["ck"]
    assert transcript.h.hex() == mixed["h"]


def test_m1_initiator(case):
    with recorded_steps() as steps:
        attempt = case.write_m1()
    same_steps(steps, case.v["steps_m1_initiator"])
    assert [d.hex() for d in attempt.datagrams] == case.v["m1_datagrams"]
    fragments = [parse_fragment(d) for d in attempt.datagrams]
    assert b"".join(f.chunk for f in fragments).hex() == case.v["m1_body"]
    assert attempt.mac1_key.expose().hex() == case.v["mac1_key"]
    assert attempt.m2_mac_key.expose().hex() == case.v["m2_mac1_key"]
    assert all(datagrams.check_mac1(attempt.mac1_key, f) for f in fragments)


def test_m1_m2_responder(case):
    with recorded_steps() as steps:
        m1 = case.read_m1()
        m2 = case.write_m2(m1)
    same_steps(steps, case.v["steps_m1_m2_responder"])
    assert [d.hex() for d in m2.datagrams] == case.v["m2_datagrams"]
    assert b"".join(parse_fragment(d).chunk for d in m2.datagrams).hex() == case.v["m2_body"]


def test_biscuit_content(case):
    (step,) = (s for s in case.v["steps_m1_m2_responder"] if s["op"] == "biscuit")
    assert step["k"] == case.v["biscuit_key"]
    sealed = parse_m2(unhex(case.v["m2_body"])).biscuit
    bound = biscuit.associated_data(case.r.peer_id, int(case.v["sidi"], 16), int(case.v["sidr"], 16), ORIGIN)
    content = biscuit.aead.siv_unseal(case.biscuit_key.expose(), sealed[:12], sealed[12:], bound)
    assert (len(content), shown(content)) == (step["len"], step["input_sha256_or_hex"])
    opened = biscuit.unseal((case.biscuit_key,), sealed, bound)
    assert (opened.no, opened.t, opened.id_i) == (case.v["biscuit_no"], case.v["biscuit_t"], case.i.peer_id)


def test_m2_m3_initiator(case):
    attempt = case.write_m1()
    with recorded_steps() as steps:
        m2 = initiator.read_m2(case.i, attempt, unhex(case.v["m2_body"]))
        randomness = Scripted(message_ids=(int(case.v["m3_msg_id"], 16),))
        m3 = initiator.write_m3(attempt, m2, randomness, unhex(case.v["trace_id"]))
    same_steps(steps, case.v["steps_m2_m3_initiator"])
    assert m3.datagram.hex() == case.v["m3_datagram"]
    check_keys(case, m3.keys)


def test_m3_responder(case):
    fragment = parse_fragment(unhex(case.v["m3_datagram"]))
    key = case.biscuit_key
    with recorded_steps() as steps:
        m3 = responder.read_m3(case.r, fragment.index, fragment.chunk, (key,), ORIGIN, 7.9, 30.0)
    same_steps(steps, case.v["steps_m3_responder"])
    assert m3.transcript.session_secret().expose().hex() == case.v["S"]
    assert (m3.no, m3.peer_id, m3.trace_id.hex()) == (1, case.i.peer_id, case.v["trace_id"])
    check_keys(case, m3.keys())


def check_keys(case, session: keys.SessionKeys) -> None:
    assert session.session_id.hex() == case.v["sid"]
    by_direction = (session.to_responder, session.to_initiator)
    assert len(case.v["lanes"]) == 2 * len(session.to_responder)
    for lane in case.v["lanes"]:
        key = by_direction[lane["direction"]][lane["lane"]].expose()
        assert (key[:32].hex(), key[32:].hex()) == (lane["key"], lane["iv"])


def test_transport(case):
    lanes = {(lane["direction"], lane["lane"]): lane for lane in case.v["lanes"]}
    aead = Aead(case.v["chosen"]["aead"])
    for packet in case.v["transport"]:
        lane = lanes[packet["direction"], packet["lane"]]
        index = int(case.v["sidr" if packet["direction"] == 0 else "sidi"], 16) | packet["lane"]
        header = transport.Header(packet["lane"], False, 0, index, packet["counter"])
        plaintext, sealed = unhex(packet["plaintext"]), unhex(packet["packet"])
        assert sealed.startswith(header.encode())
        assert transport.parse_header(sealed) == header
        nonce = transport_nonce(unhex(lane["iv"]), packet["counter"])
        cipher = aead.cipher(Secret(unhex(lane["key"])))
        assert header.encode() + cipher.encrypt(nonce, plaintext, header.encode()) == sealed
        assert cipher.decrypt(nonce, sealed[16:], sealed[:16]) == plaintext
        meta = transport.parse_meta(plaintext)
        kinds = {"ip": transport.Kind.IP, "keepalive": transport.Kind.KEEPALIVE}
        assert meta.kind is kinds.get(packet["what"], transport.Kind.CONTROL)
        data = plaintext[transport.META_SIZE :]
        assert transport.pad(meta.encode(), data, case.v["chosen"]["mtu"]) == plaintext


def test_cookie(case):
    vector = case.v["cookie"]
    origin = Address.parse(vector["address"]).packed()
    secret, nonce = Secret(unhex(vector["secret"])), unhex(vector["nonce"])
    made = cookie.make(secret, origin)
    assert made.hex() == vector["cookie"]
    cookie_key = keys.cookie_key(case.r.network_key, case.r.peer_id)
    assert cookie_key.expose().hex() == vector["k_cookie"]
    attempt = case.write_m1()
    first = parse_fragment(attempt.datagrams[0])
    assert isinstance(first, Fragment)
    assert cookie.write_reply(cookie_key, made, first, nonce).hex() == vector["reply"]

    reply = parse_reply(unhex(vector["reply"]))
    assert isinstance(reply, CookieReply)
    assert (reply.msg, reply.index, reply.msg_id) == (attempt.msg, attempt.sidi, attempt.msg_id)
    assert cookie.read_reply(cookie_key, reply, attempt.mac1) == made
    assert cookie.read_reply(cookie_key, reply, bytes(16)) is DropReason.BAD_COOKIE
    proving = datagrams.with_mac2(attempt.datagrams, made)
    assert [d.hex() for d in proving] == vector["m1_datagrams_with_mac2"]
    assert datagrams.with_mac2(proving, None) == attempt.datagrams
    for datagram in proving:
        assert cookie.proves_address((Secret(bytes(32)), secret), origin, parse_fragment(datagram))
        assert not cookie.proves_address((secret,), ORIGIN[:4] + b"\0\0", parse_fragment(datagram))
