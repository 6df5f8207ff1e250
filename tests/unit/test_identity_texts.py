"""Cards, peer IDs and key files: one text each, and nothing forgiven."""

import base64
import hashlib

import pytest

from pqvpn.crypto import xwing
from pqvpn.crypto.secret import Secret
from pqvpn.errors import ConfigError
from pqvpn.identity import bech32m, peer_id, text
from pqvpn.identity.card import CARD_SIZE, Card
from pqvpn.identity.private_key import IdentityKey
from pqvpn.reasons import Reason


@pytest.fixture(scope="module")
def key():
    return IdentityKey(Secret(bytes(range(64))))


@pytest.fixture(scope="module")
def card(key):
    return key.card()


def refused(reason, function, *args):
    with pytest.raises(ConfigError) as caught:
        function(*args, "here")
    assert caught.value.reason is reason
    assert caught.value.place == "here"
    assert caught.value.detail
    return caught.value.detail


def test_card_round_trip(card):
    assert len(card.encoded) == CARD_SIZE
    assert Card.decode(card.encoded) == card
    assert card.sig_pk_hash != bytes(32)
    assert repr(card) == f"<Card of {peer_id.to_text(card.peer_id)}>"


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, b"X"), (4, b"\x02"), (4, b"\0"), (5, b"\x02"), (6, b"\x01"), (7, b"\x80"), (8, b"\xff\xff")],
)
def test_card_bytes_are_strict(card, place, value):
    spoiled = card.encoded[:place] + value + card.encoded[place + len(value) :]
    refused(Reason.CARD_MALFORMED, Card.decode, spoiled)


@pytest.mark.parametrize("size", [0, 1255, 1257])
def test_card_length(card, size):
    refused(Reason.CARD_MALFORMED, Card.decode, (card.encoded + b"\0")[:size])


def test_line_strips_white_space_at_the_ends_only(card):
    line = text.card_to_line(card)
    assert text.card_from_text(f" \t{line}\r\n\n") == card
    for spoiled in (
        line[:50] + " " + line[50:],
        line[:50] + "\n" + line[50:],
        line[:-1],
        line + "=",
        line + "A",
        line.replace("pqvpncard1:", "PQVPNCARD1:"),
        line.replace("pqvpncard1:", "pqvpncard2:"),
        line[:50] + ("A" if line[50] != "A" else "B") + line[51:],
        line[:50] + "+" + line[51:],
        line[:50] + "é" + line[51:],
    ):
        refused(Reason.CARD_MALFORMED, text.card_from_text, spoiled)


def test_line_checksum_is_checked(card):
    body = base64.urlsafe_b64encode(card.encoded + hashlib.sha256(b"other").digest()[:4]).decode()
    assert "checksum" in refused(Reason.CARD_MALFORMED, text.card_from_text, text.LINE_PREFIX + body)


def test_file_is_canonical(card):
    file = text.card_to_file(card)
    assert text.card_from_text(file) == card
    lines = file.split("\n")
    for spoiled in (
        file[:-1],
        file + "\n",
        "\n" + file,
        " " + file,
        file.replace("\n", "\r\n"),
        "\n".join([lines[0], lines[1][:60], lines[1][60:], *lines[2:]]),
        "\n".join([lines[0], "".join(lines[1:-2]), *lines[-2:]]),
        file.replace("PQVPN CARD", "PQVPN PRIVATE KEY"),
        file.replace("-----END", "----END"),
        "\n".join([lines[0], lines[-2], ""]),
        "",
        "\n",
    ):
        refused(Reason.CARD_MALFORMED, text.card_from_text, spoiled)


def test_armour_refuses_padding_bits():
    assert text.unarmour("X", "-----BEGIN X-----\nAA==\n-----END X-----\n") == b"\0"
    for body in ("AB==", "AA=", "AA", "A===", "AA==AA=="):
        with pytest.raises(ValueError, match=r"canonical|base64"):
            text.unarmour("X", f"-----BEGIN X-----\n{body}\n-----END X-----\n")


def test_peer_id_text(card):
    written = peer_id.to_text(card.peer_id)
    assert len(written) == peer_id.TEXT_LENGTH
    assert written.startswith("pqvpn1")
    assert peer_id.from_text(written.upper()) == card.peer_id
    for spoiled in (
        written[:-1],
        written + "q",
        "Pqvpn1" + written[6:],
        "pqvpm1" + written[6:],
        written[:20] + "b" + written[21:],
        "",
        "pqvpn1",
        written.upper().replace("K", "\u212a"),  # the Kelvin sign, whose lower case is k
        bech32m.encode("pqvpn", bytes(31)),
        bech32m.encode("pqvpn", bytes(33)),
        bech32m.encode("other", card.peer_id),
    ):
        refused(Reason.ID_MALFORMED, peer_id.from_text, spoiled)


def test_bech32m_refuses_padding_that_is_not_zero():
    symbols = bech32m._to_symbols(bytes(32))
    symbols[-1] |= 1
    checked = "".join(bech32m._CHARSET[v] for v in symbols + bech32m._checksum("pqvpn", symbols))
    assert "padding" in refused(Reason.ID_MALFORMED, peer_id.from_text, "pqvpn1" + checked)


def test_every_single_character_error_is_found(card):
    written = peer_id.to_text(card.peer_id)
    for place in range(6, len(written)):
        for symbol in "qpzry9x8gf2tvdw0s3jn54khce6mua7l".replace(written[place], ""):
            with pytest.raises(ConfigError):
                peer_id.from_text(written[:place] + symbol + written[place + 1 :])


def test_key_file_round_trip(key, card):
    again = IdentityKey.decode(key.encode())
    assert again.encode() == key.encode()
    assert again.card() == card
    assert again.xwing.public == xwing.PrivateKey(Secret(bytes(range(32)))).public


def test_key_file_errors_show_nothing_of_it(key):
    good = key.encode().expose()
    body = good.split(b"\n")[1]
    for spoiled in (
        b"",
        good[:-1],
        good.replace(b"PRIVATE KEY", b"CARD"),
        good.replace(b"\n", b"\r\n"),
        good.replace(b"AAEC", b"A EC"),
        b"\xff" + good,
        text.armour("PQVPN PRIVATE KEY", bytes(63)).encode(),
        text.armour("PQVPN PRIVATE KEY", bytes(65)).encode(),
    ):
        detail = refused(Reason.KEY_MALFORMED, IdentityKey.decode, Secret(spoiled))
        assert body.decode()[:8] not in detail
    assert repr(key) == "<IdentityKey>"
