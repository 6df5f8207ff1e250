"""Invariant: a private key file is read and written back byte for byte, or refused by a ConfigError that shows none of it."""

import re

from pqvpn.crypto.secret import Secret
from pqvpn.errors import ConfigError
from pqvpn.identity.private_key import IdentityKey
from pqvpn.reasons import Reason

TOKENS = (
    b"-----",
    b"BEGIN",
    b"END",
    b" PQVPN PRIVATE KEY",
    b"\n",
    b"\r\n",
    b"=",
    b"==",
    b"AAAA",
    b"+",
    b"/",
    b"-",
    b"_",
)
_REFUSALS = {  # with N for every number
    "it is not text",
    "its first line is not -----BEGIN PQVPN PRIVATE KEY-----",
    "its last line is not -----END PQVPN PRIVATE KEY----- with a line end",
    "what stands between its first and last line is not baseN",
    "it is not in canonical form: lines of N, no spaces, zero padding bits",
    "it holds N bytes, not N",
}


def check(data: bytes) -> None:
    try:
        key = IdentityKey.decode(Secret(data))
    except ConfigError as error:
        assert error.reason is Reason.KEY_MALFORMED
        assert re.sub(r"\d+", "N", error.detail.removeprefix("not a private key file: ")) in _REFUSALS
    else:
        assert key.encode().expose() == data
        assert repr(key) == "<IdentityKey>"
