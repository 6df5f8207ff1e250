"""Two nodes with fixed keys and one handshake between them, from the published vectors: what targets need to seal their own
inputs, so that mutations get past the tags.

Owns the fixed values. Everything is computed from `tests/vectors/handshake.json`; nothing is random.
"""

import json
from functools import cache
from pathlib import Path
from random import Random

from pqvpn.crypto import xwing
from pqvpn.crypto.secret import Secret
from pqvpn.identity.card import Card
from pqvpn.protocol import initiator, keys, responder
from pqvpn.protocol.parties import Local, Randomness, Remote
from pqvpn.wire.address import Address
from pqvpn.wire.handshake import Msg
from pqvpn.wire.offer import parse_pay

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "handshake.json").read_text())
PLAIN, M1C = VECTORS["handshakes"][0], VECTORS["handshakes"][3]
ORIGIN = Address.parse("192.0.2.1:51820").packed()
BISCUIT_KEY = Secret(bytes.fromhex(PLAIN["biscuit_key"]))
SIDI, SIDR = int(PLAIN["sidi"], 16), int(PLAIN["sidr"], 16)
BODY_M1, BODY_M1C, BODY_M2 = (bytes.fromhex(v) for v in (PLAIN["m1_body"], M1C["m1_body"], PLAIN["m2_body"]))
BODY_M3 = bytes.fromhex(PLAIN["m3_datagram"])[16:-16]
PAY = bytes.fromhex(PLAIN["pay"])
TRACE_ID = bytes.fromhex(PLAIN["trace_id"])
BISCUIT_T = PLAIN["biscuit_t"]

_SEEDS = {entry["who"]: Secret(bytes.fromhex(entry["seed"])) for entry in VECTORS["identities"]}
_KEYS = {who: xwing.PrivateKey(seed) for who, seed in _SEEDS.items()}
CARDS = {who: Card(xwing.PublicKey(key.public)) for who, key in _KEYS.items()}
SEED_I, SEED_R = _SEEDS["I"], _SEEDS["R"]
LOCAL_I, LOCAL_R = (Local(_KEYS[who], CARDS[who].peer_id) for who in "IR")
REMOTE_I, REMOTE_R = (Remote(CARDS[who].peer_id, CARDS[who].public_key) for who in "IR")


def find(peer_id: bytes) -> Remote | None:
    """The responder knows one peer."""
    return REMOTE_I if peer_id == REMOTE_I.peer_id else None


def randomness() -> Randomness:
    """Random choices that are the same each time, but for encapsulation, which is the library's own."""
    return Randomness(Random(1).randbytes)


@cache
def attempt() -> initiator.Attempt:
    """The initiator's M1 of the vectors, out and unanswered."""
    read = responder.read_m1(LOCAL_R, SIDI, BODY_M1, find)
    assert isinstance(read, responder.M1Read)
    pay = parse_pay(PAY)
    return initiator.Attempt(
        REMOTE_R,
        Msg.M1,
        SIDI,
        int(PLAIN["m1_msg_id"], 16),
        pay,  # type: ignore[arg-type] # the vectors' offer parses
        datagrams=tuple(bytes.fromhex(d) for d in PLAIN["m1_datagrams"]),
        m2_mac_key=Secret(bytes.fromhex(PLAIN["m2_mac1_key"])),
        mac1_key=keys.mac1_key(None, REMOTE_R.peer_id),
        ephemeral=xwing.PrivateKey(Secret(bytes.fromhex(PLAIN["ephemeral_seed"]))),
        transcript=read.transcript,
    )
