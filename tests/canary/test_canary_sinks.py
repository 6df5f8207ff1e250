"""Facts with canaries in every field come out of no sink; without the redactor they come out of each."""

import random
from pathlib import Path

import pytest
from canaries import Canary, report, search
from sinks import SINKS, unredacted

from pqvpn.telemetry.redaction import Policy, Redactor

_random = random.Random(11)
CANARIES = [
    Canary("identity seed", _random.randbytes(32)),
    Canary("identity key file", _random.randbytes(64)),
    Canary("psk", _random.randbytes(32)),
    Canary("token", b"q7Zk-93f_" + _random.randbytes(16).hex().encode()),
    Canary.of_address("outer address", "198.18.77.203"),
    Canary.of_address("outer address 6", "2001:db8:5a5a::c0de"),
    Canary.of_address("inner address", "10.213.97.41"),
]
AROUND = {"token": "authorization: Bearer {}", "outer address": "{}:51820", "outer address 6": "[{}]:51820"}
NOT_TOLD_AS_TEXT = ("packed", "packed in hex", "number")  # of an address: bytes go as bytes, and a number is a number
MASK = Redactor(Policy("mask", bytes(32)))


def told() -> list[str]:
    """Every canary in every spelling, in a sentence and alone."""
    found = []
    for canary in CANARIES:
        spelled = {
            name: text for name, text in canary.texts().items() if not (canary.address and name in NOT_TOLD_AS_TEXT)
        }
        if canary.name == "token":
            spelled = {name: text for name, text in spelled.items() if name == "raw"}
        for number, text in enumerate(spelled.values()):
            around = AROUND.get(canary.name, ("{}", "it says {} here", "a={}")[number % 3])
            found.append(around.format(text))
    return found


@pytest.mark.parametrize("name", SINKS)
def test_no_canary_comes_out(name: str, tmp_path: Path) -> None:
    written = SINKS[name](MASK, told(), tmp_path)
    assert sum(map(len, written.values())) > 200, "the sink wrote nothing"
    assert report(search(CANARIES, written)) == ""


@pytest.mark.parametrize("name", SINKS)
def test_without_the_redactor_every_canary_comes_out(name: str, tmp_path: Path) -> None:
    hits = search(CANARIES, SINKS[name](unredacted(), told(), tmp_path))
    assert {hit.canary for hit in hits} == {canary.name for canary in CANARIES}
