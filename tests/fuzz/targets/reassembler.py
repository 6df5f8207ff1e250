"""Invariant: chunks in any order give exactly the bodies sent, never more slots than the caps, and nothing raises.

An input is a list of 5-byte steps: key and source, message and index, place, content, time.
"""

from pqvpn.drops import DropReason
from pqvpn.protocol.fragments import Reassembler

_SLOTS, _PER_SOURCE, _LIFE = 8, 3, 3.0
_COUNTS = {1: 3, 4: 4, 3: 1}


def check(data: bytes) -> None:
    table, now = Reassembler(_LIFE, _SLOTS, _PER_SOURCE), 0.0
    for at in range(0, len(data) - 4, 5):
        who, what, place, content, pause = data[at : at + 5]
        now += (pause & 0x3F) / 16
        table.expire(now)
        msg = (1, 4, 3)[what % 3]
        count, idx = _COUNTS[msg], place % _COUNTS[msg]
        chunk = bytes((idx, content & 1)) * 512
        group = bytes((who >> 6, who & 1))
        out = table.add(who.to_bytes(1, "big"), group, bool(who & 1), msg, what >> 6, idx, count, chunk, now)
        assert len(table) <= _SLOTS
        assert max(table._groups.values(), default=0) <= _PER_SOURCE
        assert sum(table._groups.values()) == len(table)
        if isinstance(out, DropReason):
            assert out in (DropReason.REASSEMBLY_FULL, DropReason.REASSEMBLY_CONFLICT)
        elif out is not None:
            assert len(out) == 1024 * count
            assert [out[1024 * i] for i in range(count)] == list(range(count))
            assert not table.holds(who.to_bytes(1, "big"))
    table.expire(now + _LIFE)
    assert len(table) == 0
    assert not table._groups
