"""Invariant: the replay ring accepts each counter once and agrees with a set of all counters seen, whatever the jumps.

An input is a list of 4-byte steps: how far to jump, whether a run is meant, and its length.
"""

from pqvpn.protocol.replay import WINDOW, ReplayWindow

SHORT_RUN = 700


def check(data: bytes) -> None:
    window, seen, highest, at = ReplayWindow(), set[int](), -1, 0
    if data and data[0] == 0xFF:
        highest = int.from_bytes(data[1:5], "little")
        window.start_above(highest)
        seen.update(range(max(0, highest - WINDOW - 70), highest + 1))
        at = highest
        data = data[5:]
    for place in range(0, len(data) - 3, 4):
        way, far, run = data[place], int.from_bytes(data[place + 1 : place + 3], "little"), data[place + 3]
        at = max(0, at + (far if way & 1 else -far) * (1, 1, 64, 1 << 20)[way >> 1 & 3])
        count = 1 + run % 64 if way & 8 else 1
        counters = range(at, at + count)
        fresh = [c > highest or (highest - c <= WINDOW and c not in seen) for c in counters]
        if count > 1:
            assert window.check_run(at, count) == (all(fresh) or at > highest)
            if all(fresh):
                window.accept_run(at, count)
        else:
            assert window.check(at) == fresh[0]
            if fresh[0]:
                window.accept(at)
        if all(fresh):
            seen.update(counters)
            highest = max(highest, at + count - 1)
            assert not any(window.check(c) for c in counters)
        assert window.highest == highest
        at += count - 1
    assert len(window._ring) == 8192
