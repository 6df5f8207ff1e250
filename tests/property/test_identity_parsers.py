"""Cards, IDs and key files from arbitrary text: a value that is written back the same, or a ConfigError."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from pqvpn.crypto import xwing
from pqvpn.crypto.secret import Secret
from pqvpn.errors import ConfigError
from pqvpn.identity import bech32m, peer_id, text
from pqvpn.identity.card import CARD_SIZE, Card
from pqvpn.identity.private_key import IdentityKey

CARD = Card(xwing.PublicKey(xwing.PrivateKey(Secret(bytes(32))).public))
LINE, FILE = text.card_to_line(CARD), text.card_to_file(CARD)
ID_TEXT = peer_id.to_text(CARD.peer_id)


@st.composite
def edited(draw, original: str) -> str:
    """The original with one to three small edits."""
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(original)))
        cut = draw(st.integers(0, 2))
        original = original[:place] + draw(st.text(max_size=2)) + original[place + cut :]
    return original


@given(st.one_of(st.text(), edited(LINE), edited(FILE)))
def test_cards(given_text):
    """A card file has no checksum of its own: another card may come out, which then has another ID."""
    try:
        card = text.card_from_text(given_text)
    except ConfigError:
        return
    if card != CARD:
        assert card.peer_id != CARD.peer_id
    assert given_text.strip() == text.card_to_line(card) or given_text == text.card_to_file(card)


@given(st.one_of(st.binary(max_size=100), st.binary(min_size=CARD_SIZE, max_size=CARD_SIZE)))
def test_card_bytes(data):
    with suppress(ConfigError):
        assert Card.decode(data).encoded == data


@given(st.integers(0, CARD_SIZE - 1), st.integers(0, 7))
def test_a_changed_card_has_another_id(place, bit):
    spoiled = bytearray(CARD.encoded)
    spoiled[place] ^= 1 << bit
    with suppress(ConfigError):
        assert Card.decode(bytes(spoiled)).peer_id != CARD.peer_id


@given(st.one_of(st.text(), edited(ID_TEXT)))
def test_peer_ids(given_text):
    try:
        found = peer_id.from_text(given_text)
    except ConfigError:
        return
    assert peer_id.to_text(found) == given_text.lower()


@given(st.binary(max_size=50))
def test_bech32m_round_trip(data):
    if len(data) <= 48:
        written = bech32m.encode("pqvpn", data)
        assert bech32m.decode("pqvpn", written) == bech32m.decode("pqvpn", written.upper()) == data


@given(st.binary(min_size=64, max_size=64), st.data())
def test_key_files(raw, data):
    key = IdentityKey(Secret(raw))
    good = key.encode().expose().decode()
    assert IdentityKey.decode(Secret(good.encode())).encode() == key.encode()
    spoiled = data.draw(edited(good))
    try:
        again = IdentityKey.decode(Secret(spoiled.encode())).encode().expose().decode()
    except ConfigError:
        return
    assert again == spoiled
