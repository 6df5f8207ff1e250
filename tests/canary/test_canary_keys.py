"""Keys of sessions and of a node, as the pure core has them: no fact, effect, command or failure shows one to anybody."""

import random
import traceback
from typing import Any

import msgspec
from canaries import Canary, report, search

from pqvpn.crypto import xwing
from pqvpn.crypto.secret import Secret
from pqvpn.identity.card import Card
from pqvpn.identity.private_key import IdentityKey
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Effect, Install, Tell, Transmit
from pqvpn.protocol.settings import NodeSettings, PeerSettings
from pqvpn.telemetry import envelope
from pqvpn.telemetry.redaction import Policy, Redactor
from pqvpn.wire.address import Address

KEEP = Redactor(Policy("keep", bytes(32)))
CHANCE = random.Random(21)
IDENTITIES = [IdentityKey(Secret(CHANCE.randbytes(64))) for _ in range(2)]
PSK, NETWORK_KEY = Secret(CHANCE.randbytes(32)), Secret(CHANCE.randbytes(32))
ADDRESSES = [Address.parse("192.0.2.1:51820"), Address.parse("192.0.2.2:51820")]


def core(number: int, psk: Secret = PSK) -> tuple[Core, list[Effect]]:
    own, other = IDENTITIES[number], IDENTITIES[1 - number]
    other_card = other.card()
    made = Core(NodeSettings(own.card().peer_id, own.seed, NETWORK_KEY), CHANCE.randbytes, 100.0)
    peer = PeerSettings(
        other_card.peer_id, "other", other_card.public_key.raw, psk, (ADDRESSES[1 - number],), trace=True
    )
    return made, made.set_peers((peer,), 100.0)


def conversation(psk: Secret = PSK) -> tuple[list[Effect], list[Core]]:
    """Everything that two cores want done from the wish for a session until nothing more comes."""
    cores, everything = [], []
    for number in (0, 1):
        made, effects = core(number, psk if number else PSK)
        cores.append(made)
        everything += effects
    waiting = [(0, effect) for effect in cores[0].want_session(IDENTITIES[1].card().peer_id, 100.0)]
    while waiting:
        number, effect = waiting.pop(0)
        everything.append(effect)
        if isinstance(effect, Transmit):
            came = cores[1 - number].receive(effect.datagram, ADDRESSES[number], None, 100.1)
            waiting += [(1 - number, each) for each in came]
    for made in cores:
        everything += made.close(101.0)
    return everything, cores


def canaries(effects: list[Effect]) -> list[Canary]:
    found = [Canary("psk", PSK.expose()), Canary("network key", NETWORK_KEY.expose())]
    for number, identity in enumerate(IDENTITIES):
        found.append(Canary(f"seed {number}", identity.seed.expose()))
        found.append(Canary(f"key file {number}", identity.encode().expose()))
        found.append(Canary(f"signature seed {number}", identity.mldsa65_seed().expose()))
    for effect in effects:
        if isinstance(effect, Install):
            found += [Canary("key of a lane", key.expose()[:32]) for key in (*effect.receive, *effect.send)]
    return found


def shown(effects: list[Effect], cores: list[Core]) -> dict[str, bytes]:
    """In all the ways in which somebody might show them."""
    facts = [effect.fact for effect in effects if isinstance(effect, Tell)]
    assert facts, "the cores told nothing"
    found: dict[str, Any] = {
        "repr of effects": [repr(effect) for effect in effects if not isinstance(effect, Transmit)],
        "repr of cores": [repr(vars(each)) for each in cores],
        "effects, redacted": [KEEP.body(effect) for effect in effects],
        "facts on their way": [msgspec.msgpack.encode(envelope.stamped(fact, "control")).hex() for fact in facts],
        "facts": [repr(msgspec.to_builtins(fact)) for fact in facts],
        "views": [repr(each.peers(101.0)) for each in cores],
        "identities": [repr(IDENTITIES), f"{IDENTITIES[0]} {PSK} {PSK:>40} {[PSK]}"],
    }
    return {name: repr(value).encode() for name, value in found.items()}


def test_a_session_shows_no_key() -> None:
    effects, cores = conversation()
    wanted = canaries(effects)
    assert sum(canary.name == "key of a lane" for canary in wanted) >= 4
    assert report(search(wanted, shown(effects, cores))) == ""


def test_a_wrong_psk_shows_none_either() -> None:
    effects, cores = conversation(Secret(CHANCE.randbytes(32)))
    assert not any(isinstance(effect, Install) for effect in effects[-3:])
    assert report(search(canaries(effects), shown(effects, cores))) == ""


def test_failures_with_keys_at_hand_show_none() -> None:
    """Exceptions of the primitives, of parsers of key files and cards, raised over secrets."""
    secret = CHANCE.randbytes(32)
    attempts: list[Any] = [
        lambda: Secret(secret).__reduce__(),
        lambda: hash(Secret(secret)),
        lambda: IdentityKey(Secret(secret)),
        lambda: IdentityKey.decode(Secret(secret)),
        lambda: IdentityKey.decode(Secret(b"-----BEGIN PQVPN PRIVATE KEY-----\n" + secret.hex().encode() + b"\n")),
        lambda: xwing.PrivateKey(Secret(secret[:31])),
        lambda: Card.decode(secret),
        lambda: msgspec.msgpack.encode(Secret(secret)),
    ]
    told = {}
    for number, attempt in enumerate(attempts):
        try:
            attempt()
        except Exception as error:  # noqa: BLE001 - whatever it is, its text is what is looked at
            told[f"failure {number}"] = "".join(traceback.format_exception(error)).encode()
    assert len(told) == len(attempts)
    assert report(search([Canary("secret", secret)], told)) == ""
