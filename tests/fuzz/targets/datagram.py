"""Invariant: a handshake datagram parses to a fragment that covers all of its bytes, or is MALFORMED or of another VERSION."""

from pqvpn.drops import DropReason
from pqvpn.wire.handshake import COUNTS, INDEX_LANE_BITS, header, parse_fragment


def check(data: bytes) -> None:
    found = parse_fragment(data)
    if isinstance(found, DropReason):
        assert found in (DropReason.MALFORMED, DropReason.VERSION)
        return
    head = header(found.msg, found.idx, found.index, found.msg_id)
    assert found.covered == head + found.chunk
    assert head + found.chunk + found.mac1 + found.mac2 == data
    assert found.idx < found.count == COUNTS[found.msg]
    assert found.index & INDEX_LANE_BITS == 0 != found.index
