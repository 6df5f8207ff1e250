"""Invariant: a peer ID's text gives 32 bytes that are written back the same way but for case, or a ConfigError."""

from pqvpn.errors import ConfigError
from pqvpn.identity import peer_id
from pqvpn.reasons import Reason

TOKENS = (b"pqvpn1", b"PQVPN1", b"1", b"q", b"qqqqqq", b"\xc4\xb0", b"\xe2\x84\xaa")


def check(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        found = peer_id.from_text(text)
    except ConfigError as error:
        assert error.reason is Reason.ID_MALFORMED
        assert len(error.detail) < 200
    else:
        assert len(found) == 32
        assert peer_id.to_text(found) == text.lower()
        assert text in (text.lower(), text.upper())
