"""The segments of a spool as its one writer knows them: totals, order, and the one that is being written.

Owns the arithmetic of backlog and budget and the descriptor of the current segment. Knows nothing of causes, of locks
or of when to rotate.
"""

import os
from dataclasses import dataclass
from typing import Final

from pqvpn.telemetry.spool import layout, reading
from pqvpn.telemetry.spool.cursor import Cursor, Loss
from pqvpn.telemetry.spool.files import FULL, Files, open_to_read
from pqvpn.telemetry.spool.layout import HEADER_SIZE, Record
from pqvpn.telemetry.spool.reading import name_of


@dataclass(slots=True)
class Segment:
    """One file. `size`: up to where it is durable. `records`, `items`: what is in it, 0 when all was sent before.

    `first_ns`, `last_ns`: wall clock of its first and last record; `written_at`: uptime of the last one of this process.
    """

    sequence: int
    size: int
    records: int = 0
    items: int = 0
    first_ns: int = 0
    last_ns: int = 0
    written_at: float | None = None

    @property
    def name(self) -> str:
        """Its file."""
        return name_of(self.sequence)

    def unsent(self, cursor: Cursor) -> tuple[int, int, int]:
        """(records, items, bytes) that lie behind the cursor."""
        if self.sequence < cursor.sequence:
            return 0, 0, 0
        if self.sequence > cursor.sequence:
            return self.records, self.items, self.size - HEADER_SIZE
        left = max(0, self.records - cursor.records), max(0, self.items - cursor.items)
        return *left, max(0, self.size - max(cursor.offset, HEADER_SIZE))


def measured(folder: int, sequence: int, count_from: int) -> Segment:
    """A segment that was found on disk; its records are counted when `count_from` is not behind it. Raises OSError."""
    file = open_to_read(folder, name_of(sequence))
    try:
        status = os.fstat(file)
        segment = Segment(sequence, status.st_size, last_ns=status.st_mtime_ns)
        if sequence < count_from:
            return segment
        for head, _ in reading.heads(file, HEADER_SIZE, status.st_size):
            segment.first_ns = segment.first_ns or head.time_ns
            segment.last_ns = head.time_ns
            segment.records += 1
            segment.items += head.items
        return segment
    finally:
        os.close(file)


def unsent(segments: dict[int, Segment], cursor: Cursor) -> tuple[Loss, int]:
    """What lies behind the cursor, and its bytes."""
    parts = [segment.unsent(cursor) for segment in segments.values()]
    return Loss(sum(p[0] for p in parts), sum(p[1] for p in parts)), sum(p[2] for p in parts)


_NEW: Final = -1


class Current:
    """The segment that is being written. Every method that writes leaves a valid segment behind, or raises OSError."""

    def __init__(self, files: Files, folder: int, segment: Segment, file: int = _NEW) -> None:
        self._files = files
        self._folder = folder
        self._file = file
        self.segment = segment

    @classmethod
    def reopened(cls, files: Files, folder: int, segment: Segment) -> "Current":
        """Go on with a segment that is whole."""
        return cls(files, folder, segment, files.reopen(folder, segment.name))

    @property
    def gone(self) -> bool:
        """Whether somebody removed the file."""
        return self._file != _NEW and os.fstat(self._file).st_nlink == 0

    def write(self, records: list[Record], uptime: float) -> None:
        """Add records; durable when it returns."""
        data = b"".join(map(layout.encode_record, records))
        made = self._file == _NEW
        if made:
            self._file = self._files.create(self._folder, self.segment.name)
            data = layout.encode_header(records[0].time_ns) + data
        self._write(data, made)
        segment = self.segment
        segment.size += len(data)
        segment.records += len(records)
        segment.items += sum(record.items for record in records)
        segment.first_ns = segment.first_ns or records[0].time_ns
        segment.last_ns, segment.written_at = records[-1].time_ns, uptime

    def _write(self, data: bytes, made: bool) -> None:
        self._files.write_all(self._file, data, self.segment.size)
        self._files.sync(self._file)
        if made:
            self._files.sync_folder(self._folder)

    def take_back(self, error: OSError) -> bool:
        """After a refusal: cut off what may have been written, as far as the disk lets us. False: it is closed for good.

        A disk that is full can be written on later. One that failed to sync may have lost what it had taken, so that
        the same file is not gone on with.
        """
        try:
            if self._file != _NEW and self.segment.size:
                self._files.truncate(self._file, self.segment.size)
                if error.errno in FULL:
                    return True
            elif self._file != _NEW:
                self._files.remove(self._folder, self.segment.name)
        except OSError:
            pass  # readers pass over what is torn
        self.close()
        return False

    def close(self) -> None:
        """Close the file."""
        if self._file != _NEW:
            os.close(self._file)
            self._file = _NEW
