"""The spool: the one store of telemetry, an append-only sequence of checksummed segments on disk.

Owns durability, the budget of size and age, and the cursor of what was sent. One process writes (it holds the folder's
lock), any number read (`reading.py`). Theory of operation: a batch of records is written and synced as a whole; when
the disk refuses, the segment is cut back to its last durable record and TelemetryError is raised. The oldest segment
gives way first, and what it held unsent is counted by cause. Records have random ids that stay with them, and what was
sent is remembered after the fact: a crash sends a record again, never not at all.

Methods may be called from any thread. Knows nothing of what is in a payload, nor where it is sent.
"""

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pqvpn.errors import TelemetryError
from pqvpn.reasons import Reason
from pqvpn.telemetry.spool import cursor as cursors
from pqvpn.telemetry.spool import layout, mending, reading, segments
from pqvpn.telemetry.spool.cursor import Cursor, Loss
from pqvpn.telemetry.spool.files import Files, claim_folder, open_to_read, refused
from pqvpn.telemetry.spool.layout import HEADER_SIZE, Kind, Record, RecordId
from pqvpn.telemetry.spool.segments import Current, Segment

SEGMENTS: Final = 16
"""Parts of the budget of size, and of age: what is dropped at once."""
_MOST_HANDED_OUT: Final = 1024
_ROOM_BESIDE: Final = 64 << 10  # the cursor and its successor
SIZE_CAUSE, AGE_CAUSE, REMOVED_CAUSE, DAMAGED_CAUSE = "size", "age", "removed", "damaged"


def uptime() -> float:
    """CLOCK_BOOTTIME in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits to be sent. `oldest_ns`: the wall clock of the oldest of it, 0 when there is none."""

    records: int = 0
    items: int = 0
    bytes: int = 0
    oldest_ns: int = 0


class Spool:
    """`size` in bytes and `age` in seconds bound it; `sends` False: nobody sends, so dropping the oldest is no loss.

    `on_append` is called after records became durable, in the thread that appended them.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        age: float,
        *,
        sends: bool = True,
        clock: Callable[[], int] = time.time_ns,
        now: Callable[[], float] = uptime,
        files: Files | None = None,
        on_append: Callable[[], None] | None = None,
    ) -> None:
        """Raises TelemetryError when the folder cannot be made, or another process writes it."""
        self._path = folder
        self._size = size - mending.BOUND - _ROOM_BESIDE
        self._age = age
        self._sends = sends
        self._clock = clock
        self._now = now
        self._files = files or Files()
        self._on_append = on_append
        self._lock = threading.RLock()
        self._segments: dict[int, Segment] = {}
        self._current: Current | None = None
        self._cursor = Cursor()
        self._handed_out: OrderedDict[RecordId, Cursor] = OrderedDict()
        self._known_damage: set[tuple[int, int]] = set()
        self._notes: list[str] = []
        self._next = 1
        self._folder = claim_folder(self._files, folder)
        try:
            self._take_stock()
        except OSError as error:
            self.close()
            raise refused(error, folder) from None

    # -- writing -----------------------------------------------------------------------------------------------------

    @property
    def largest(self) -> int:
        """Bytes of the largest payload that it takes."""
        return min(layout.LARGEST, self._size // 2 - layout.RECORD_HEAD - HEADER_SIZE)

    def append(self, kind: Kind, payload: bytes, items: int) -> RecordId:
        """Keep one record; durable when it returns. Raises TelemetryError, and nothing was kept then."""
        return self.append_many([(kind, payload, items)])[0]

    def append_many(self, batch: Sequence[tuple[Kind, bytes, int]]) -> list[RecordId]:
        """Keep several with one sync, all or none (all within `largest` bytes). Raises TelemetryError."""
        time_ns = self._clock()
        records = [layout.new_record(kind, payload, items, time_ns) for kind, payload, items in batch]
        self.put(records)
        return [record.id for record in records]

    def put(self, records: list[Record]) -> None:
        """`append_many` of records that have their ids already."""
        if not records:
            return
        length = sum(record.size for record in records)
        if length > self.largest + layout.RECORD_HEAD:
            raise TelemetryError(Reason.RECORDS_DROPPED, f"{length} bytes at once, {self.largest} is the most")
        with self._lock:
            self._write(records, length)
        if self._on_append:
            self._on_append()

    def _write(self, records: list[Record], length: int) -> None:
        try:
            self._find_again()
            self._rotate_if_due(length)
            self._make_room(length + HEADER_SIZE)
            current = self._current = self._current or self._begin()
            current.write(records, self._now())
        except OSError as error:
            if self._current and not self._current.take_back(error):
                self._current = None
            raise refused(error, self._path) from None
        self._segments[current.segment.sequence] = current.segment

    def _begin(self) -> Current:
        segment = Segment(self._next, 0)
        self._next += 1  # also when it fails: a name is used once
        return Current(self._files, self._folder, segment)

    def _find_again(self) -> None:
        """Somebody may have removed or moved the folder or the segment while we hold them open."""
        try:
            seen, held = os.stat(self._path, follow_symlinks=False), os.fstat(self._folder)
            moved = (seen.st_dev, seen.st_ino) != (held.st_dev, held.st_ino)
        except FileNotFoundError:
            moved = True
        if moved:
            self._forget_all()
            folder = claim_folder(self._files, self._path)
            os.close(self._folder)
            self._folder = folder
            self._take_stock()
        elif self._current and self._current.gone:
            self._lose(self._segments.pop(self._current.segment.sequence), REMOVED_CAUSE)
            self._close_current()

    def _forget_all(self) -> None:
        self._close_current()
        for segment in self._segments.values():
            self._lose(segment, REMOVED_CAUSE)
        self._segments.clear()

    def _rotate_if_due(self, length: int) -> None:
        if not self._current:
            return
        segment = self._current.segment
        is_old = self._clock() - segment.first_ns > self._age / SEGMENTS * 1e9
        if segment.records and (is_old or segment.size + length > max(self._size // SEGMENTS, HEADER_SIZE + length)):
            self._close_current()

    # -- the budget --------------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Let go of what is too old. Also done with each append. Never raises."""
        with self._lock, contextlib.suppress(OSError):
            self._make_room(0)

    def _make_room(self, length: int) -> None:
        self._drop_aged()
        while self._segments and sum(s.size for s in self._segments.values()) + length > self._size:
            self._drop_oldest(SIZE_CAUSE)

    def _drop_aged(self) -> None:
        while self._segments:
            oldest = next(iter(self._segments.values()))
            if oldest.written_at is not None:  # by a clock that nobody sets
                age = self._now() - oldest.written_at
            else:
                age = (self._clock() - oldest.last_ns) / 1e9
            if age <= self._age:
                return
            self._drop_oldest(AGE_CAUSE)

    def _drop_oldest(self, cause: str) -> None:
        segment = next(iter(self._segments.values()))
        if self._current and self._current.segment is segment:
            self._close_current()
        with contextlib.suppress(FileNotFoundError):
            self._files.remove(self._folder, segment.name)
        self._lose(self._segments.pop(segment.sequence), cause)

    def _lose(self, segment: Segment, cause: str) -> None:
        records, items, _ = segment.unsent(self._cursor)
        if records and self._sends:
            self.count_loss(cause, records, items)

    def count_loss(self, cause: str, records: int, items: int = 0) -> None:
        """Count records that were lost, here or by whoever feeds or drains the spool; the counts outlive a restart."""
        with self._lock:
            losses = dict(self._cursor.losses)
            losses[cause] = losses.get(cause, Loss()) + Loss(records, items)
            self._move_cursor(msgspec.structs.replace(self._cursor, losses=losses))

    # -- sending -----------------------------------------------------------------------------------------------------

    def unsent(self) -> Iterator[Record]:
        """The durable records behind the cursor, in order; ends when there is no more for now."""
        with self._lock:
            place = self._cursor
        while True:
            with self._lock:
                file, place, end = self._open_behind(place)
            if file < 0:
                return
            try:
                for found in reading.scan(file, place.offset, end):
                    if isinstance(found, reading.Damage):
                        self._note_damage(place.sequence, found)
                        place = msgspec.structs.replace(place, offset=found.start + found.length)
                        continue
                    place = place.behind(found.end, found.record.items)
                    self._hand_out(found.record.id, place)
                    yield found.record
            finally:
                os.close(file)

    def _open_behind(self, place: Cursor) -> tuple[int, Cursor, int]:
        """(descriptor, where to read on, end) of the next segment that has something behind `place`; -1: none has."""
        for segment in list(self._segments.values()):
            if segment.sequence < place.sequence:
                continue
            if segment.sequence > place.sequence:
                place = place.moved(segment.sequence, HEADER_SIZE)
            place = msgspec.structs.replace(place, offset=max(place.offset, HEADER_SIZE))
            if place.offset < segment.size:
                with contextlib.suppress(OSError):
                    return open_to_read(self._folder, segment.name), place, segment.size
        return -1, place, 0

    def _hand_out(self, record_id: RecordId, place: Cursor) -> None:
        with self._lock:
            self._handed_out[record_id] = place
            if len(self._handed_out) > _MOST_HANDED_OUT:
                self._handed_out.popitem(last=False)

    def sent(self, record_id: RecordId) -> None:
        """This record of `unsent()`, and all before it, need not be sent again. Never raises; repeats do nothing.

        Of what `unsent()` gave, the latest 1024 are known.
        """
        with self._lock:
            place = self._handed_out.pop(record_id, None)
            if place is None or (place.sequence, place.offset) <= (self._cursor.sequence, self._cursor.offset):
                return
            replace = msgspec.structs.replace
            self._move_cursor(replace(place, losses=self._cursor.losses, torn=self._cursor.torn))

    def drop(self, record_id: RecordId, cause: str, items: int = 0) -> None:
        """This record of `unsent()` will never be taken: count it as lost and go on behind it. It stays readable."""
        self.count_loss(cause, 1, items)
        self.sent(record_id)

    def _move_cursor(self, cursor: Cursor) -> None:
        self._cursor = cursor
        cursors.save(self._files, self._folder, cursor)

    # -- what it says ------------------------------------------------------------------------------------------------

    @property
    def losses(self) -> dict[str, Loss]:
        """What was lost unsent, by cause; counts from the spool's beginning."""
        return dict(self._cursor.losses)

    @property
    def torn(self) -> int:
        """Pieces that crashes left and that were set aside."""
        return self._cursor.torn

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found and left alone when the spool was opened, in sentences for an operator."""
        return tuple(self._notes)

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes of all its segments."""
        with self._lock:
            return sum(segment.size for segment in self._segments.values())

    def backlog(self) -> Backlog:
        """What waits to be sent."""
        with self._lock:
            waiting, length = segments.unsent(self._segments, self._cursor)
            oldest = (s.first_ns for s in self._segments.values() if s.unsent(self._cursor)[0])
            return Backlog(waiting.records, waiting.items, length if waiting.records else 0, next(oldest, 0))

    def close(self) -> None:
        """Close the files and give up the lock."""
        with self._lock:
            self._close_current()
            if self._folder >= 0:
                os.close(self._folder)
                self._folder = -1

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- opening -----------------------------------------------------------------------------------------------------

    def _take_stock(self) -> None:
        """Read what is there. Raises OSError when the folder itself cannot be listed."""
        saved = cursors.load(self._folder)
        self._cursor = msgspec.structs.replace(saved or Cursor(), losses=_sum(saved, self._cursor))
        found = reading.listing(self._folder)
        self._notes += [f"{name!a} is not part of the spool and was left alone" for name in found.foreign[:16]]
        self._next = max((*found.sequences, self._cursor.sequence, self._next - 1)) + 1
        known = [sequence for sequence in found.sequences if self._is_ours(sequence)]
        whole = self._mend(known[-1]) if known else False
        for sequence in known:
            with contextlib.suppress(OSError):
                self._segments[sequence] = segments.measured(self._folder, sequence, self._cursor.sequence)
        here = self._segments.get(self._cursor.sequence)
        if here and self._cursor.offset > here.size:
            self._cursor = self._cursor.moved(here.sequence, here.size, here.records, here.items)
        if whole and known[-1] in self._segments and known[-1] >= self._cursor.sequence:
            with contextlib.suppress(OSError):
                self._current = Current.reopened(self._files, self._folder, self._segments[known[-1]])

    def _is_ours(self, sequence: int) -> bool:
        try:
            file = open_to_read(self._folder, reading.name_of(sequence))
        except OSError:
            return False
        try:
            layout.decode_header(os.pread(file, HEADER_SIZE, 0))
        except layout.HeaderError as error:
            if not error.torn:
                self._notes.append(f"{reading.name_of(sequence)} was left alone: {error}")
            return error.torn
        except OSError:
            return False
        finally:
            os.close(file)
        return True

    def _mend(self, sequence: int) -> bool:
        """Set aside what a crash left of the last segment; whether it can be written on."""
        try:
            mended = mending.mend(self._files, self._folder, sequence)
        except OSError:
            return False
        if mended.torn:
            self._cursor = msgspec.structs.replace(self._cursor, torn=self._cursor.torn + 1)
            self._move_cursor(self._cursor)
        return mended.whole

    def _note_damage(self, sequence: int, damage: reading.Damage) -> None:
        with self._lock:
            if (sequence, damage.start) not in self._known_damage and len(self._known_damage) < _MOST_HANDED_OUT:
                self._known_damage.add((sequence, damage.start))
                self.count_loss(DAMAGED_CAUSE, 1)

    def _close_current(self) -> None:
        if self._current:
            self._current.close()
            self._current = None


def _sum(saved: Cursor | None, held: Cursor) -> dict[str, Loss]:
    """Losses as saved; those that this process knows when nothing was saved (the folder is a new one)."""
    return saved.losses if saved else held.losses
