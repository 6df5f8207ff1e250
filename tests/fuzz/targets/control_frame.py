"""Invariant: an authenticated control frame parses to a value whose encoding starts it, or is a typed drop."""

from pqvpn.drops import DropReason
from pqvpn.wire.control import MtuProbe, parse_frame


def check(data: bytes) -> None:
    frame = parse_frame(data)
    if isinstance(frame, DropReason):
        assert frame in (DropReason.BAD_LENGTH, DropReason.UNKNOWN_KIND)
        return
    encoded = frame.encode()
    assert data.startswith(encoded)
    assert parse_frame(encoded + bytes(32)) == (
        frame._replace(size=len(encoded) + 32) if isinstance(frame, MtuProbe) else frame
    )
