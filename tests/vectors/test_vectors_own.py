"""`own.json`, written by `make_own.py` without pqvpn: what the independent vectors do not cover."""

import json
from pathlib import Path

import make_own
import pytest
from derandomised import Scripted

from pqvpn.crypto.aead import Aead, transport_nonce
from pqvpn.crypto.secret import Secret
from pqvpn.identity.private_key import IdentityKey
from pqvpn.protocol import cookie, initiator, keys, responder
from pqvpn.protocol.parties import Local, Remote
from pqvpn.wire import control, transport
from pqvpn.wire.address import Address
from pqvpn.wire.handshake import parse_fragment
from pqvpn.wire.offer import parse_params, parse_pay

VECTORS = json.loads((Path(__file__).parent / "own.json").read_text())
H = VECTORS["handshake"]
ORIGIN = Address.parse(H["address"]).packed()
unhex = bytes.fromhex


def test_file_is_what_the_generator_writes():
    assert make_own.build() == VECTORS


@pytest.mark.parametrize("who", ["I", "R"])
def test_key_file_and_card(who):
    vector = VECTORS["identities"][who]
    key = IdentityKey.decode(Secret(vector["key_file"].encode()))
    assert key.encode().expose().decode() == vector["key_file"]
    assert key.mldsa65_seed().expose().hex() == vector["mldsa65_seed"]
    assert key.ed25519_seed().expose().hex() == vector["ed25519_seed"]
    assert key.sig_pk_hash().hex() == vector["sig_pk_hash"]
    assert key.card().encoded.hex() == vector["card"]
    assert key.card().peer_id.hex() == vector["peer_id"]


def party(who: str) -> tuple[Local, Remote]:
    key = IdentityKey.decode(Secret(VECTORS["identities"][who]["key_file"].encode()))
    card = key.card()
    local = Local(key.xwing, card.peer_id, Secret(unhex(H["network_key"])))
    return local, Remote(card.peer_id, card.public_key, Secret(unhex(H["psk"])), policy=1)


def test_handshake_with_policy_1_over_ipv6():
    (local_i, remote_i), (local_r, remote_r) = party("I"), party("R")
    eseeds = [unhex(eseed) for eseed in H["eseeds"]]
    randomness = Scripted(
        indices=(H["sidi"], H["sidr"]),
        message_ids=tuple(H["message_ids"]),
        seeds=(unhex(H["ephemeral_seed"]),),
        eseeds=tuple(eseeds),
        nonces=(unhex(H["biscuit_nonce"]),),
    )
    attempt = initiator.write_m1(local_i, remote_r, parse_pay(unhex(H["pay"])), randomness)
    assert [d.hex() for d in attempt.datagrams] == H["m1"]

    body = b"".join(parse_fragment(d).chunk for d in attempt.datagrams)
    m1 = responder.read_m1(local_r, attempt.sidi, body, {remote_i.peer_id: remote_i}.get)
    params = responder.choose(m1.pay, responder.Limits(3, 16, 1412, prefer_chacha=True))
    assert params == parse_params(unhex(H["params"]))
    biscuit_key = Secret(unhex(H["biscuit_key"]))
    m2 = responder.write_m2(local_r, m1, params, biscuit_key, H["biscuit_no"], ORIGIN, H["biscuit_t"], randomness)
    assert [d.hex() for d in m2.datagrams] == H["m2"]

    read = initiator.read_m2(local_i, attempt, b"".join(parse_fragment(d).chunk for d in m2.datagrams))
    m3 = initiator.write_m3(attempt, read, randomness, trace_id=b"\x55" * 16)
    assert m3.datagram.hex() == H["m3"][0]

    fragment = parse_fragment(m3.datagram)
    accepted = responder.read_m3(local_r, H["sidr"], fragment.chunk, (biscuit_key,), ORIGIN, 1030.9, 30.0)
    assert accepted.trace_id == bytes(16)
    assert accepted.transcript.session_secret().expose().hex() == H["session_secret"]
    for session in (m3.keys, accepted.keys()):
        assert session.session_id.hex() == H["session_id"]
        lanes = [[key.expose().hex() for key in side] for side in (session.to_responder, session.to_initiator)]
        assert lanes == H["lanes"]


def test_cookie_over_ipv6():
    local_r, _ = party("R")
    made = cookie.make(Secret(unhex(H["cookie_secret"])), ORIGIN)
    assert made.hex() == H["cookie"]
    cookie_key = keys.cookie_key(local_r.network_key, local_r.peer_id)
    first = parse_fragment(unhex(H["m1"][0]))
    assert cookie.write_reply(cookie_key, made, first, unhex(H["cookie_nonce"])).hex() == H["cookie_reply"]


@pytest.mark.parametrize("vector", VECTORS["transport"], ids=lambda v: f"{v['what']}-{v['aead']}")
def test_transport(vector):
    key, header, plaintext = unhex(vector["key"]), unhex(vector["header"]), unhex(vector["plaintext"])
    cipher = Aead(vector["aead"]).cipher(Secret(key[:32]))
    nonce = transport_nonce(key[32:], vector["counter"])
    if vector["policy"]:
        packet = header + plaintext + cipher.encrypt(nonce, b"", header + plaintext)
    else:
        packet = header + cipher.encrypt(nonce, plaintext, header)
    assert packet.hex() == vector["packet"]
    parsed = transport.parse_header(packet)
    assert parsed.encode() == header
    assert parsed.counter == vector["counter"]


def meta_and_data(what: str) -> tuple[transport.Meta | transport.RelayMeta, bytes]:
    (plaintext,) = {unhex(v["plaintext"]) for v in VECTORS["transport"] if v["what"] == what}
    meta = transport.parse_meta(plaintext)
    assert plaintext.startswith(meta.encode())
    return meta, plaintext[transport.META_SIZE :]


def test_meta_of_kinds_0_and_2():
    assert meta_and_data("relay")[0] == transport.RelayMeta(0x01020304, 8, 50)
    assert meta_and_data("tcp with gso and checksum")[0] == transport.Meta(transport.Kind.IP, 1, 1, 40, 20, 16)


@pytest.mark.parametrize(
    ("what", "frame"),
    [
        ("path response", control.PathResponse(make_own.fixed("path", 8))),
        ("close", control.Close(control.CloseReason.ADMINISTRATIVE)),
        ("mtu probe", control.MtuProbe(0x1234, 1400)),
        ("mtu ack", control.MtuAck(0x1234, 1400)),
    ],
)
def test_control_frames(what, frame):
    meta, data = meta_and_data(what)
    assert meta == transport.Meta(transport.Kind.CONTROL)
    assert control.parse_frame(data) == frame
    if isinstance(frame, control.MtuProbe):
        assert transport.pad_exactly(meta.encode(), frame.encode(), frame.size)[8:] == data
    else:
        assert transport.pad(meta.encode(), frame.encode(), 100)[8:] == data


def test_padding_stops_at_the_mtu():
    meta, data = meta_and_data("padding stops at the mtu")
    assert len(transport.pad(meta.encode(), data, 100)) == 108
    assert len(transport.pad(meta.encode(), data[:-20], 100)) == 96
