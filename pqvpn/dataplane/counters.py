"""Counters: shared memory that lanes write and everybody else reads.

Owns the layout of one memfd: for each lane its drop counters and totals, then for each (lane, slot) sixteen words; at the
end a word of each process that changes while it makes progress.
Words
are native u64, each written by one lane only and read without a lock; times are nanoseconds of CLOCK_BOOTTIME, 0:
never.
Knows nothing of sessions beyond the slot and the first 8 bytes of the session ID (the tag) that say whose numbers
these are.
"""

import mmap
import os
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pqvpn.drops import DROP_COUNT

MAX_LANES: Final = 16
SLOTS: Final = 1024
_WORDS: Final = 16  # a slot
_HEAD: Final = DROP_COUNT + 16  # a lane's drops and totals
LANE_WORDS: Final = _HEAD + SLOTS * _WORDS
_PROGRESS: Final = MAX_LANES * LANE_WORDS
"""Word offset of the signs of progress, behind the lanes' words."""
_WATCHED: Final = 32
SIZE: Final = (_PROGRESS + _WATCHED) * 8


class Total(IntEnum):
    """Words of a lane after its drop counters."""

    TUN_READS = 0
    TUN_WRITES = 1
    UDP_SENDS = 2
    UDP_RECEIVES = 3
    BURSTS = 4  # turns of the event loop
    FAULTS = 5  # internal errors caught at the boundary
    EVENTS_LOST = 6  # events that control did not take
    HANDED_OVER = 7  # packets given to another lane
    PID = 8  # of the process that writes
    PROBES = 9  # packets from the inside to `routes.PROBE_ADDRESS`: taken, and gone


class Field(IntEnum):
    """Words of a slot."""

    TAG = 0  # first 8 bytes of the session ID as little-endian u64
    RX_PACKETS = 1
    RX_BYTES = 2  # inner bytes
    TX_PACKETS = 3
    TX_BYTES = 4  # inner bytes
    LAST_RECEIVED_ANY = 5
    LAST_RECEIVED_DATA = 6
    LAST_SENT_ANY = 7
    LAST_SENT_DATA = 8
    SEND_RESERVED = 9  # counters below may have been used
    RECEIVE_FROM = 10  # highest counter received, plus one
    SEND_COUNTER = 11  # next counter, as of the last burst
    ARRIVED = 12  # packets of any kind that authenticated; less than RECEIVE_FROM by what was lost on the way


@dataclass(frozen=True, slots=True)
class Activity:
    """What one session did, summed over lanes (times: the latest), seconds of CLOCK_BOOTTIME, 0.0: never."""

    rx_packets: int = 0
    rx_bytes: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0
    last_received_any: float = 0.0
    last_received_data: float = 0.0
    last_sent_any: float = 0.0
    last_sent_data: float = 0.0


def tag_of(session_id: bytes) -> int:
    """The tag of a session: its ID's first 8 bytes."""
    return int.from_bytes(session_id[:8], "little")


def lane_base(lane: int) -> int:
    """Word offset of a lane: its drop counters."""
    return lane * LANE_WORDS


def total_base(lane: int) -> int:
    """Word offset of a lane's totals."""
    return lane * LANE_WORDS + DROP_COUNT


def slot_base(lane: int, slot: int) -> int:
    """Word offset of a slot's fields in a lane."""
    return lane * LANE_WORDS + _HEAD + slot * _WORDS


def progress_word(process: str) -> int:
    """Word offset of the sign of progress of a process: control, observer or lane-N. Raises ValueError for others."""
    if process in ("control", "observer"):
        return _PROGRESS + (process == "observer")
    return _PROGRESS + 2 + int(process.removeprefix("lane-"))


class Counters:
    """The mapping. `words` is the writable view that lanes use directly; the methods are for readers."""

    def __init__(self, fd: int) -> None:
        """Map an existing memfd; the descriptor stays the caller's. Raises ValueError or OSError when it is none."""
        self._map = mmap.mmap(fd, SIZE)
        self.words: memoryview = memoryview(self._map).cast("Q")

    @staticmethod
    def create() -> int:
        """A new zeroed memfd of the right size; inheritable only where passed on explicitly."""
        fd = os.memfd_create("pqvpn-counters", os.MFD_CLOEXEC)
        os.ftruncate(fd, SIZE)
        return fd

    def close(self) -> None:
        """Unmap."""
        self.words.release()
        self._map.close()

    def progress(self, process: str) -> int:
        """The sign of progress of a process; it changes while the process's loop turns."""
        return int(self.words[progress_word(process)])

    def show_progress(self, process: str) -> None:
        """Change the own sign of progress, asked for by the supervisor."""
        self.words[progress_word(process)] += 1

    def drops(self) -> list[int]:
        """Discarded packets by `DropReason` number, summed over lanes."""
        sums = [0] * DROP_COUNT
        for lane in range(MAX_LANES):
            base = lane_base(lane)
            for i, value in enumerate(self.words[base : base + DROP_COUNT]):
                if value:
                    sums[i] += value
        return sums

    def lane_drops(self, lane: int) -> list[int]:
        """Discarded packets of one lane by `DropReason` number."""
        base = lane_base(lane)
        return self.words[base : base + DROP_COUNT].tolist()

    def totals(self, lane: int) -> dict[str, int]:
        """A lane's totals by lower-case name."""
        base = total_base(lane)
        return {word.name.lower(): self.words[base + word] for word in Total}

    def activity(self, slot: int, session_id: bytes | None = None) -> Activity:
        """What the session in `slot` did; with `session_id`, lanes that still show another one are left out."""
        tag = None if session_id is None else tag_of(session_id)
        sums = [0] * 5
        latest = [0] * 4
        for lane in range(MAX_LANES):
            base = slot_base(lane, slot)
            words = self.words[base : base + _WORDS].tolist()
            if tag is not None and words[Field.TAG] != tag:
                continue
            for i in range(Field.RX_PACKETS, Field.TX_BYTES + 1):
                sums[i] += words[i]
            for i in range(4):
                latest[i] = max(latest[i], words[Field.LAST_RECEIVED_ANY + i])
        return Activity(sums[1], sums[2], sums[3], sums[4], *(t / 1e9 for t in latest))

    def resume_at(self, lane: int, slot: int, session_id: bytes) -> tuple[int, int]:
        """`(send_counter, receive_from)` for a replaced lane to take the session up; (0, 0): it never had it."""
        base = slot_base(lane, slot)
        if self.words[base + Field.TAG] != tag_of(session_id):
            return 0, 0
        return self.words[base + Field.SEND_RESERVED], self.words[base + Field.RECEIVE_FROM]
