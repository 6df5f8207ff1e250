"""Text forms: a card in one line, a card file, and the armour that card and key files share (PROTOCOL section 1).

Owns canonical base64 and armour. Readers are strict by construction: what they decode is encoded again and must give
the same text, so that one card has exactly one line and one file.
"""

import base64
import binascii
import hashlib

from pqvpn.errors import ConfigError
from pqvpn.identity.card import CARD_SIZE, Card
from pqvpn.reasons import Reason

LINE_PREFIX = "pqvpncard1:"
CARD_LABEL = "PQVPN CARD"
LINE_CHECK_SIZE = 4
LINE_LENGTH = len(LINE_PREFIX) + (CARD_SIZE + LINE_CHECK_SIZE) // 3 * 4

_COLUMNS = 64


def armour(label: str, data: bytes) -> str:
    """`-----BEGIN label-----`, standard base64 with padding in lines of 64, `-----END label-----`, each with LF."""
    body = base64.b64encode(data).decode("ascii")
    lines = [body[start : start + _COLUMNS] for start in range(0, len(body), _COLUMNS)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""))


def unarmour(label: str, text: str) -> bytes:
    """The data of an armoured text. Raises ValueError, saying what is wrong, on what `armour` does not write."""
    lines = text.split("\n")
    if lines[0] != f"-----BEGIN {label}-----":
        raise ValueError(f"its first line is not -----BEGIN {label}-----")
    if len(lines) < 3 or lines[-1] != "" or lines[-2] != f"-----END {label}-----":
        raise ValueError(f"its last line is not -----END {label}----- with a line end")
    try:
        data = base64.b64decode("".join(lines[1:-2]), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("what stands between its first and last line is not base64") from None
    if armour(label, data) != text:
        raise ValueError("it is not in canonical form: lines of 64, no spaces, zero padding bits")
    return data


def card_to_line(card: Card) -> str:
    """The card in one line of 1691 characters, without a line end."""
    check = hashlib.sha256(card.encoded).digest()[:LINE_CHECK_SIZE]
    return LINE_PREFIX + base64.urlsafe_b64encode(card.encoded + check).decode("ascii").rstrip("=")


def card_to_file(card: Card) -> str:
    """The contents of a `*.pqcard` file."""
    return armour(CARD_LABEL, card.encoded)


def card_from_text(text: str, place: str = "") -> Card:
    """A card from either of its text forms. Raises ConfigError (identity.card_malformed)."""
    try:
        encoded = _from_line(text.strip()) if text.strip().startswith(LINE_PREFIX) else unarmour(CARD_LABEL, text)
    except ValueError as error:
        raise ConfigError(Reason.CARD_MALFORMED, f"not a card: {error}", place=place) from None
    return Card.decode(encoded, place)


def _from_line(line: str) -> bytes:
    if len(line) != LINE_LENGTH:
        raise ValueError(f"the line has {len(line)} characters, not {LINE_LENGTH}")
    try:
        data = base64.b64decode(line[len(LINE_PREFIX) :], altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the line is not base64url") from None
    if base64.urlsafe_b64encode(data).decode("ascii") != line[len(LINE_PREFIX) :]:
        raise ValueError("the line is not canonical base64url")
    encoded, check = data[:-LINE_CHECK_SIZE], data[-LINE_CHECK_SIZE:]
    if hashlib.sha256(encoded).digest()[:LINE_CHECK_SIZE] != check:
        raise ValueError("the line's checksum does not fit: a character is wrong or missing")
    return encoded
