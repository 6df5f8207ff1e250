"""Invariant: a cookie reply gives 16 bytes for the M1 that it answers, byte for byte what was written, or a typed drop."""

from pqvpn.drops import DropReason
from pqvpn.protocol import cookie, keys
from pqvpn.wire.cookie import parse_reply
from tests.fuzz import parties

_KEY = keys.cookie_key(None, parties.REMOTE_R.peer_id)


def check(data: bytes) -> None:
    reply = parse_reply(data)
    if isinstance(reply, DropReason):
        assert reply in (DropReason.MALFORMED, DropReason.VERSION)
        return
    assert reply.encode() == data
    opened = cookie.read_reply(_KEY, reply, parties.attempt().mac1)
    if isinstance(opened, DropReason):
        assert opened is DropReason.BAD_COOKIE
    else:
        assert opened.hex() == parties.PLAIN["cookie"]["cookie"]
