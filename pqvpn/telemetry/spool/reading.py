"""Reading segments without a lock: of a running node, of a dead one, of a copied folder, of one that means harm.

Owns the list of a folder's segments and the walk through one of them, which passes over damage and names it. Work and
memory are bounded by a segment's size, whatever is in it. Changes nothing on disk and raises nothing for what it reads.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pqvpn.telemetry.spool import layout
from pqvpn.telemetry.spool.files import open_folder, open_to_read
from pqvpn.telemetry.spool.layout import HEADER_SIZE, RECORD_HEAD, Head, Record

SUFFIX: Final = ".seg"
TORN_FOLDER: Final = "torn"
CURSOR_FILE: Final = "sent.json"
LAST_SEQUENCE: Final = (1 << 63) - 1
_OURS: Final = (TORN_FOLDER, CURSOR_FILE, f".{CURSOR_FILE}")
_NAME: Final = re.compile(r"([0-9a-f]{16})\.seg")
_LARGEST_SEGMENT: Final = 1 << 30
_MOST_FILES: Final = 100_000
_CHUNK: Final = 64 << 10
_WORK: Final = 4
"""How often a damaged segment's bytes may be checked while the next good record is looked for."""


@dataclass(frozen=True, slots=True)
class Located:
    """A record and where it stands in its segment: from `start` up to `end`."""

    record: Record
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no record. `at_end`: nothing follows them, so they may be a record that was being written."""

    start: int
    length: int
    at_end: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder's segments in order, and the names of files that are not the spool's."""

    sequences: tuple[int, ...]
    foreign: tuple[str, ...]


def name_of(sequence: int) -> str:
    """The file of a segment."""
    return f"{sequence:016x}{SUFFIX}"


def listing(folder: int) -> Listing:
    """What an open folder holds. Raises OSError."""
    sequences, foreign = [], []
    with os.scandir(folder) as entries:
        for entry, _ in zip(entries, range(_MOST_FILES), strict=False):
            match = _NAME.fullmatch(entry.name)
            if match and entry.is_file(follow_symlinks=False) and int(match[1], 16) <= LAST_SEQUENCE:
                sequences.append(int(match[1], 16))
            elif entry.name not in _OURS:
                foreign.append(entry.name)
    return Listing(tuple(sorted(sequences)), tuple(sorted(foreign)))


def scan(file: int, start: int, end: int) -> Iterator[Located | Damage]:
    """The records of an open segment that lie between two offsets, and what is none of them."""
    work = _WORK * (end - start) + layout.LARGEST
    at = start
    while at < end:
        located = _read(file, at, end)
        if located is not None:
            yield located
            at = located.end
            continue
        next_at, work = _resynchronised(file, at + 1, end, work)
        yield Damage(at, next_at - at, next_at == end)
        at = next_at


def heads(file: int, start: int, end: int) -> Iterator[tuple[Head, int]]:
    """The heads of the records between two offsets and where each ends, unverified; ends at the first damage."""
    at = start
    while at < end:
        head = layout.decode_head(_pread(file, RECORD_HEAD, at))
        if head is None or at + head.size > end:
            return
        at += head.size
        yield head, at


def _read(file: int, at: int, end: int) -> Located | None:
    data = _pread(file, RECORD_HEAD, at)
    head = layout.decode_head(data)
    if head is None or at + head.size > end:
        return None
    record = layout.decode_record(head, data, _pread(file, head.length, at + RECORD_HEAD))
    return Located(record, at, at + head.size) if record else None


def _resynchronised(file: int, at: int, end: int, work: int) -> tuple[int, int]:
    """Where the next good record begins (`end`: nowhere), and the work that is left for further searches."""
    while at < end and work > 0:
        chunk = _pread(file, min(_CHUNK, end - at), at)
        if len(chunk) < len(layout.MARK):
            break
        work -= len(chunk)
        found = chunk.find(layout.MARK)
        while found >= 0 and work > 0:
            located = _read(file, at + found, end)
            if located is not None:
                return located.start, work
            head = layout.decode_head(_pread(file, RECORD_HEAD, at + found))
            work -= head.size if head else RECORD_HEAD
            found = chunk.find(layout.MARK, found + 1)
        at += len(chunk) - len(layout.MARK) + 1
    return end, work


def _pread(file: int, length: int, at: int) -> bytes:
    """What a failing disk does not give is missing, like what was cut off."""
    try:
        return os.pread(file, length, at)
    except OSError:
        return b""


class Reader:
    """The spool of one folder, to read. `notes` says what was passed over, in sentences for an operator."""

    def __init__(self, folder: Path) -> None:
        self._path = folder
        self._notes: dict[str, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be read so far, each once."""
        return tuple(self._notes)

    def sequences(self) -> tuple[int, ...]:
        """The segments there are, oldest first; none when there is no spool."""
        with self._folder() as folder:
            if folder < 0:
                return ()
            try:
                found = listing(folder)
            except OSError as error:
                self._note(f"{self._path} cannot be read: {error.strerror}")
                return ()
        for name in found.foreign:
            self._note(f"{_shown(name)} is not part of the spool")
        return found.sequences

    def created_ns(self, sequence: int) -> int | None:
        """When a segment was begun; None when it is none."""
        with self._segment(sequence) as (file, size):
            return self._header(file, sequence) if size else None

    def size(self) -> int:
        """Bytes that the segments take together."""
        total = 0
        with self._folder() as folder:
            for sequence in self.sequences() if folder >= 0 else ():
                with contextlib.suppress(OSError):
                    status = os.stat(name_of(sequence), dir_fd=folder, follow_symlinks=False)
                    total += status.st_size if stat.S_ISREG(status.st_mode) else 0
        return total

    def records(self, sequence: int, start: int = 0) -> Iterator[Located]:
        """The good records of a segment that begin at `start` or behind it."""
        with self._segment(sequence) as (file, size):
            if not size or self._header(file, sequence) is None:
                return
            for found in scan(file, max(start, HEADER_SIZE), size):
                if isinstance(found, Located):
                    yield found
                else:
                    self._note_damage(sequence, found)

    def _note_damage(self, sequence: int, damage: Damage) -> None:
        if damage.at_end:
            self._note(f"{name_of(sequence)} ends with {damage.length} bytes of a record that is not complete")
        else:
            self._note(f"{name_of(sequence)} is damaged: {damage.length} bytes at {damage.start} were passed over")

    def _header(self, file: int, sequence: int) -> int | None:
        try:
            return layout.decode_header(_pread(file, HEADER_SIZE, 0))
        except layout.HeaderError as error:
            self._note(f"{name_of(sequence)} was passed over: {error}")
            return 0 if error.torn else None

    @contextlib.contextmanager
    def _folder(self) -> Iterator[int]:
        try:
            folder = open_folder(self._path)
        except FileNotFoundError:
            yield -1
            return
        except OSError as error:
            self._note(f"{self._path} cannot be read: {error.strerror}")
            yield -1
            return
        try:
            yield folder
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _segment(self, sequence: int) -> Iterator[tuple[int, int]]:
        """(descriptor, size); size 0 when there is nothing to read."""
        file = -1
        with self._folder() as folder:
            if folder >= 0:
                try:
                    file = open_to_read(folder, name_of(sequence))
                except FileNotFoundError:
                    pass  # it was the oldest, and its time came
                except OSError as error:
                    self._note(f"{name_of(sequence)} cannot be read: {error.strerror}")
        if file < 0:
            yield -1, 0
            return
        try:
            size = os.fstat(file).st_size
            if size > _LARGEST_SEGMENT:
                self._note(f"{name_of(sequence)} is larger than any segment; only its beginning was read")
            yield file, min(size, _LARGEST_SEGMENT)
        finally:
            os.close(file)

    def _note(self, text: str) -> None:
        if len(self._notes) < 100:
            self._notes.setdefault(text)


def _shown(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode()[:80]
