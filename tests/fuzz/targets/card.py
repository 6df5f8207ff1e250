"""Invariant: a card's bytes, line or file give a card that is written back the same way, or a ConfigError; nothing else.

The first byte says which reader gets the rest.
"""

from pqvpn.errors import ConfigError
from pqvpn.identity import peer_id, text
from pqvpn.identity.card import Card
from pqvpn.reasons import Reason


def check(data: bytes) -> None:
    if not data:
        return
    try:
        if data[0] & 1:
            card = Card.decode(data[1:])
            assert card.encoded == data[1:]
        else:
            written = data[1:].decode("utf-8", "replace")
            card = text.card_from_text(written)
            assert written.strip() == text.card_to_line(card) or written == text.card_to_file(card)
    except ConfigError as error:
        assert error.reason is Reason.CARD_MALFORMED
        assert error.detail
        assert len(error.detail) < 300
    else:
        assert card.peer_id == peer_id.of_card(card.encoded)
        assert text.card_from_text(text.card_to_line(card)) == text.card_from_text(text.card_to_file(card)) == card
