"""Any secret, in any spelling, anywhere in any structure, never comes out; addresses neither; and redacting is idempotent."""

import base64
import ipaddress
import json
import random
import re
import urllib.parse
from collections.abc import Callable
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pqvpn.telemetry.redaction import Policy, Redactor
from pqvpn.telemetry.redaction.pseudonyms import MADE

KEY = bytes(range(32))
REDACTORS = [Redactor(Policy(addresses, KEY)) for addresses in ("pseudonym", "mask", "keep")]
PSEUDONYM, MASK, KEEP = REDACTORS
NAMES = ["peer", "detail", "text", "endpoint", "host", "key", "status", "note", "token", "exception.message", "version"]
LONG = settings(deadline=None)  # other tests run beside these
WINDOW = 12
"""Bytes of a secret that must not stand together in what comes out."""


def base64_of(encode: Callable[[bytes], bytes], before: int, strip: bool) -> Callable[[bytes], str]:
    def spelled(secret: bytes) -> str:
        text = encode(b"xyz"[:before] + secret).decode()
        return text.rstrip("=") if strip else text

    return spelled


SPELLINGS: list[Callable[[bytes], Any]] = [
    bytes, bytearray, list, tuple, bytes.hex, repr, lambda s: s.hex().upper(), lambda s: s.hex(":"), lambda s: repr(s)[2:-1],
    lambda s: json.dumps(repr(s)), lambda s: json.dumps(s.decode("latin-1")), lambda s: s.decode("latin-1"),
    lambda s: str(list(s)),
    lambda s: s.decode("utf-8", "surrogateescape"), lambda s: s.decode("utf-8", "replace"), urllib.parse.quote_from_bytes,
    lambda s: urllib.parse.quote(base64.b64encode(s).decode(), safe=""), lambda s: base64.encodebytes(s).decode(),
    int.from_bytes, lambda s: base64.b32encode(s).decode(), base64.b64encode,
    *(base64_of(encode, before, strip) for encode in (base64.b64encode, base64.urlsafe_b64encode)
      for before in (0, 1, 2) for strip in (True, False)),
]  # fmt: skip

secrets = st.builds(
    lambda seed, size: random.Random(seed).randbytes(size), st.integers(0, 2**64), st.sampled_from([32, 48, 64])
)
around = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Ll", "Lu", "Nd"])
    | st.sampled_from("az09 =/-_.:%\\\"'\n"),
    max_size=6,
)


@st.composite
def hidden(draw: st.DrawFn) -> tuple[Any, bytes]:
    """A secret in some spelling, somewhere in a structure."""
    secret = draw(secrets)
    spelled = draw(st.sampled_from(SPELLINGS))(secret)
    if isinstance(spelled, str):
        before, after = draw(around), draw(around)
        assume(not before or not before[-1].isalnum() or not after[:1].isalnum())
        spelled = before + spelled + after
    for _ in range(draw(st.integers(0, 4))):
        wrap = draw(st.sampled_from(["list", "tuple", "dict", "exception", "key"]))
        if wrap == "list":
            spelled = [draw(st.integers()), spelled]
        elif wrap == "tuple":
            spelled = (spelled, None)
        elif wrap == "dict":
            spelled = {draw(st.sampled_from(NAMES)): spelled, "seconds": 1}
        elif wrap == "key" and isinstance(spelled, str | bytes):
            spelled = {spelled: 1}
        else:
            spelled = ValueError(spelled)
    return spelled, secret


def flat(value: Any) -> str:
    """All of what came out, as one text."""
    if isinstance(value, dict):
        return " ".join(f"{flat(k)} {flat(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(flat, value))
    return str(value)


def windows(secret: bytes) -> list[str]:
    found = []
    for start in range(len(secret) - WINDOW + 1):
        part = secret[start : start + WINDOW]
        found += [
            part.hex(),
            part.decode("latin-1"),
            repr(part)[2:-1],
            urllib.parse.quote_from_bytes(part),
            str(list(part))[1:-1],
        ]
        found += [part.hex(":"), part.decode("utf-8", "surrogateescape"), json.dumps(part.decode("latin-1"))[1:-1]]
        # the characters of base64 that these bytes alone decide, in each of the three alignments
        for before, first in ((0, 0), (1, 2), (2, 3)):
            text = base64.b64encode(bytes(before) + part).decode()[first:14]
            found += [text, text.translate(str.maketrans("+/", "-_")), urllib.parse.quote(text, safe="")]
    return found


@LONG
@given(hidden())
def test_a_secret_never_comes_out(given: tuple[Any, bytes]) -> None:
    value, secret = given
    searched = windows(secret)
    for redactor in REDACTORS:
        for shown in (
            redactor.body(value),
            redactor.value("detail", value),
            redactor.fields({"detail": value, "note": value}),
        ):
            text = flat(shown)
            assert not any(part in text or part.upper() in text.upper() for part in searched)


plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(),
    st.text(st.sampled_from("abAB01289/+=-_.:%\\\"'<> \n@?[]{}()xuéÿ\x00tokensckyphr"), max_size=60),
    st.lists(st.sampled_from(["token=", "key: ", "://", "@", "1.2.3.4", "fe80::1", "::", ":", "'", '"', "b'", "\\x41", "%41",
                              "bearer ",
                              "authorization: ", "-----BEGIN A-----", "-----END A-----", "<redacted>", "<ip4>",
                              "ip4-00112233", "a.b:1",
                              "A" * 33,
                              "aB3" * 8, "aa:", "eyJhbGciOi.", "?", " ", "\n", "/", "pqvpn1" + "q" * 58])).map("".join),
)  # fmt: skip
structures = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(NAMES) | st.text() | st.integers(), inner)
    ),
    max_leaves=12,
)


@LONG
@given(structures)
@example("token='token='token='")
@example({"host": "a:b:1"})
def test_it_never_raises_and_the_second_time_changes_nothing(value: Any) -> None:
    for redactor in REDACTORS:
        for name in ("detail", "host", "version", "exception.stacktrace"):
            once = redactor.value(name, value)
            assert redactor.value(name, once) == once
        once = redactor.body(value)
        assert redactor.body(once) == once


# -- addresses -------------------------------------------------------------------------------------------------------


def spelled4(address: ipaddress.IPv4Address) -> list[str]:
    dotted = str(address)
    mapped = ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
    in_hex = f"::ffff:{address.packed[:2].hex()}:{address.packed[2:].hex()}"
    forms = [dotted, f"::ffff:{dotted}", f"::FFFF:{dotted}", str(mapped), mapped.exploded, in_hex]
    return [*forms, ".".join(f"{octet:03}" for octet in address.packed)]


def spelled6(address: ipaddress.IPv6Address) -> list[str]:
    packed = [address.packed[i : i + 2].hex() for i in range(0, 16, 2)]
    short = [group.lstrip("0") or "0" for group in packed]
    last = str(ipaddress.IPv4Address(address.packed[12:]))
    forms = [address.compressed, address.exploded, ":".join(short), f"{':'.join(short[:6])}:{last}"]
    return [*forms, *(form.upper() for form in forms)]


def public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not (address.is_loopback or address.is_unspecified)


addresses4 = st.ip_addresses(v=4).filter(public)
addresses6 = st.ip_addresses(v=6).filter(lambda a: public(a) and a.ipv4_mapped is None)
SENTENCES = [
    "{}", "at {}", "({})", "to {}.", "{}: no route", "from {}, to x", "addr:{}", "a={}", "'{}'", '"{}"', "[{}]", "\\n{}\\n",
    "{}/24",
    "peer\n{}\nx", "<{}>", "{};", "{} {}", "{}->{}", "https://[{}]:443/x", "port {} 53",
]  # fmt: skip


@LONG
@given(addresses4, st.sampled_from(SENTENCES), st.integers(1, 65535), st.data())
def test_ipv4_addresses_get_one_name_and_keep_their_port(
    address: Any, sentence: str, port: int, data: st.DataObject
) -> None:
    form = data.draw(st.sampled_from(spelled4(address)))
    check(address, "ip4", form, sentence, port)


@LONG
@given(addresses6, st.sampled_from(SENTENCES), st.integers(1, 65535), st.data())
def test_ipv6_addresses_get_one_name_and_keep_their_port(
    address: Any, sentence: str, port: int, data: st.DataObject
) -> None:
    form = data.draw(st.sampled_from(spelled6(address)))
    check(address, "ip6", form, sentence, port)
    zoned = PSEUDONYM.text(f"at {form}%wlan0 now")
    assert re.fullmatch(r"at ip6-[0-9a-f]{8}%wlan0 now", zoned)
    assert MASK.text(f"at {form}%wlan0 now") == "at <ip6>%wlan0 now"


def check(address: Any, kind: str, form: str, sentence: str, port: int) -> None:
    name = PSEUDONYM.value("detail", address)
    assert re.fullmatch(rf"{kind}-[0-9a-f]{{8}}", name)
    shown = PSEUDONYM.text(sentence.replace("{}", form))
    assert shown in (sentence.replace("{}", name), sentence.replace("[{}]:", "{}:").replace("{}", name))
    assert MASK.text(sentence.replace("{}", form)).count(f"<{kind}>") == sentence.count("{}")
    assert KEEP.text(sentence.replace("{}", form)) == sentence.replace("{}", form)
    bracketed = f"[{form}]:{port}" if ":" in form else f"{form}:{port}"
    assert PSEUDONYM.text(f"to {bracketed} failed") == f"to {name}:{port} failed"
    assert PSEUDONYM.value("endpoint", bracketed) == f"{name}:{port}"
    encoded = urllib.parse.quote(form, safe="")
    assert PSEUDONYM.text(f"x={encoded} ") == f"x={name} "


@LONG
@given(st.ip_addresses(), st.binary(min_size=32, max_size=32))
def test_pseudonyms_are_the_installations_own(address: Any, key: bytes) -> None:
    assume(public(address) and public(getattr(address, "ipv4_mapped", None) or address))
    first, again = (Redactor(Policy("pseudonym", key)).text(str(address)) for _ in range(2))
    assert first == again
    assert MADE.fullmatch(first)
    assert Redactor(Policy("pseudonym", bytes([key[0] ^ 1]) + key[1:])).text(str(address)) != first


@LONG
@given(
    st.times(),
    st.dates(),
    st.lists(st.integers(0, 255), min_size=6, max_size=6),
    st.lists(st.integers(0, 99), min_size=1, max_size=3),
)
def test_times_dates_macs_and_versions_are_no_addresses(
    time: Any, date: Any, mac: list[int], version: list[int]
) -> None:
    shown = ":".join(f"{octet:02x}" for octet in mac)
    numbers = ".".join(map(str, version))
    text = f"{date}T{time} {time.isoformat('seconds')} {shown} {shown.upper()} v{numbers}.1 {numbers} {date}"
    for redactor in REDACTORS:
        assert redactor.text(text) == text


@LONG
@given(st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1))
def test_session_and_trace_ids_stay(session: int, span: int) -> None:
    text = f"session {session:032x} in 00-{session:032x}-{span:016x}-01"
    for redactor in REDACTORS:
        assert redactor.text(text) == text
        assert redactor.text(f"{session:032x}") == f"{session:032x}"
