"""The replay window of one lane in one direction (RFC 6479's ring; PROTOCOL section 5): 8192 counters, window
8128.

Owns which counters were seen. Knows no key: the caller checks before the AEAD opens a packet and accepts only
after it authenticated. One byte a counter instead of one bit: slices of a bytearray are compared, searched
and filled in C, so that a run of 64 packets costs about as much as one.
"""

RING = 8192
WINDOW = 8128  # RFC 6479: the ring less one block of 64
_MASK = RING - 1
_SEEN = b"\x01" * RING
_FRESH = bytes(RING)


class ReplayWindow:
    """Counters accepted so far. `highest` is the largest of them, -1 when there is none."""

    __slots__ = ("_ring", "highest")

    def __init__(self) -> None:
        self.highest = -1
        self._ring = bytearray(RING)

    def start_above(self, counter: int) -> None:
        """Take every counter up to and including this one as seen: a lane that replaces a dead one does not
        know which were.
        """
        self.highest = counter
        self._ring[:] = _SEEN

    def check(self, counter: int) -> bool:
        """Whether the counter is new and not older than the window. Changes nothing."""
        highest = self.highest
        if counter > highest:
            return True
        return highest - counter <= WINDOW and not self._ring[counter & _MASK]

    def accept(self, counter: int) -> None:
        """Mark a counter that `check` allowed and whose packet authenticated."""
        ahead = counter - self.highest
        if ahead > 0:
            if ahead > 1:
                self._forget(self.highest + 1, ahead - 1)
            self.highest = counter
        self._ring[counter & _MASK] = 1

    def check_run(self, first: int, count: int) -> bool:
        """Whether all of `count` (1..8128) consecutive counters from `first` are new. False says nothing of
        which is not.
        """
        highest = self.highest
        if first > highest:
            return True
        if highest - first > WINDOW:
            return False
        start = first & _MASK
        end = start + min(count, highest - first + 1)
        if end <= RING:
            return self._ring.find(1, start, end) < 0
        return self._ring.find(1, start) < 0 and self._ring.find(1, 0, end - RING) < 0

    def accept_run(self, first: int, count: int) -> None:
        """Mark `count` (1..8128) consecutive counters that `check_run` allowed and whose packets
        authenticated.
        """
        last = first + count - 1
        ahead = last - self.highest
        if ahead > 0:
            if first > self.highest + 1:
                self._forget(self.highest + 1, first - self.highest - 1)
            self.highest = last
        self._fill(first & _MASK, count, _SEEN)

    def _forget(self, first: int, count: int) -> None:
        """Free the places of counters that were skipped: they held counters now older than the window."""
        if count >= RING:
            self._ring[:] = _FRESH
        else:
            self._fill(first & _MASK, count, _FRESH)

    def _fill(self, start: int, count: int, value: bytes) -> None:
        """Write `count` equal bytes from place `start`, around the ring's end."""
        end = start + count
        if end <= RING:
            self._ring[start:end] = value[:count]
        else:
            self._ring[start:] = value[: RING - start]
            self._ring[: end - RING] = value[: end - RING]
