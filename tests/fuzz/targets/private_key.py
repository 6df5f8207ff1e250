"""Invariant: a private key file is read and written back byte for byte, or refused by a ConfigError that shows none of it."""

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


def check(data: bytes) -> None:
    try:
        key = IdentityKey.decode(Secret(data))
    except ConfigError as error:
        assert error.reason is Reason.KEY_MALFORMED
        shown = str(error) + repr(error)
        secret = (line.strip() for line in data.split(b"\n") if len(line) > 12 and b"-----" not in line)
        assert not any(line.decode("ascii", "replace") in shown for line in secret)
    else:
        assert key.encode().expose() == data
        assert "key" not in repr(key.seed).lower() or data.hex() not in repr(key.seed)
