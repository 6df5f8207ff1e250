"""The search itself: what it is there to find, it finds, and chance does not look like a leak."""

import base64
import json
import random
import urllib.parse
from pathlib import Path

import pytest
from canaries import Canary, compressed, contents, report, search

RAW = random.Random(5).randbytes(32)
KEY = Canary("key", RAW)
OUTER = Canary.of_address("outer", "198.18.77.203")
OUTER6 = Canary.of_address("outer6", "2001:db8:5a5a::c0de")

WRITTEN = {
    "raw": b"a" + RAW,
    "half": RAW[:16] + b"z", "hex": RAW.hex().encode(), "HEX": RAW.hex().upper().encode(),
    "repr": repr(RAW).encode(),
    "json of repr": json.dumps(repr(RAW)).encode(), "json": json.dumps(RAW.decode("latin-1")).encode(),
    "utf-8": RAW.decode("latin-1").encode(), "url": urllib.parse.quote_from_bytes(RAW).encode(), "list": str(list(RAW)).encode(),
    "url, small": urllib.parse.quote_from_bytes(RAW).replace("%", "%").lower().encode() + RAW.hex().encode(),
    "gzip": b"junk" + compressed(b"x" * 1000 + RAW.hex().encode()) + b"junk",
    **{f"base64 behind {n}": base64.b64encode(b"q" * n + RAW + b"tail") for n in range(7)},
    **{f"base64url behind {n}": base64.urlsafe_b64encode(b"q" * n + RAW + b"tail") for n in range(7)},
    **{f"base64 alone {n}": base64.b64encode(b"q" * n + RAW).rstrip(b"=") for n in range(3)},
    **{f"base64 in url {n}": urllib.parse.quote(base64.b64encode(b"q" * n + RAW), safe="").encode() for n in range(3)},
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_every_spelling_is_found(name: str) -> None:
    (hit, *_) = search([OUTER, KEY], {"sink": WRITTEN[name]})
    assert (hit.canary, hit.sink.split(" ")[0]) == ("key", "sink")
    assert "key as" in report([hit])


@pytest.mark.parametrize(
    ("canary", "written"),
    [
        (OUTER, b"at 198.18.77.203:51820"), (OUTER, b"::ffff:c612:4dcb"), (OUTER, b"\xc6\x12\x4d\xcb"), (OUTER, b"3323088331"),
        (OUTER6, b"[2001:db8:5a5a::c0de]:7"), (OUTER6, b"2001:0db8:5a5a:0000:0000:0000:0000:c0de"),
        (OUTER6, b"2001:DB8:5A5A::C0DE"),
        (OUTER6, b"20010db85a5a0000000000000000c0de"), (OUTER6, b"2001%3Adb8%3A5a5a%3A%3Ac0de"),
    ],
)  # fmt: skip
def test_every_spelling_of_an_address_is_found(canary: Canary, written: bytes) -> None:
    assert [hit.canary for hit in search([canary], {"sink": written})][:1] == [canary.name]


def test_a_short_token_is_found() -> None:
    token = Canary.of_text("token", "q7Zk-93f")
    for written in (b"x q7Zk-93f", base64.b64encode(b"a:q7Zk-93f"), b"q7Zk-93f".hex().encode()):
        assert search([token], {"sink": written})


def test_chance_is_no_leak() -> None:
    noise = random.Random(6).randbytes(4 << 20)
    texts = b"".join((noise[: 1 << 19].hex().encode(), base64.b64encode(noise[: 1 << 20])))
    assert search([KEY, OUTER, OUTER6], {"noise": noise, "texts": texts}) == []


def test_files_are_read_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(RAW)
    (tmp_path / "a" / RAW.hex()).write_bytes(b"")
    found = search([KEY], contents(tmp_path))
    assert {hit.sink.split("/")[-1] for hit in found} == {"b", RAW.hex()}
    assert len({hit.sink for hit in found}) == 2
