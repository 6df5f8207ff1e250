"""What a crash left at the end of the last segment, and how it is set aside.

Owns the bounded folder `torn/`. Best effort throughout: what cannot be mended stays where it is, and nothing here keeps
a node from starting.
"""

import contextlib
import os
from dataclasses import dataclass
from typing import Final

from pqvpn.telemetry.spool import layout
from pqvpn.telemetry.spool.files import Files, open_folder_at, open_to_read
from pqvpn.telemetry.spool.layout import HEADER_SIZE
from pqvpn.telemetry.spool.reading import TORN_FOLDER, Located, name_of, scan

_MOST_PIECES: Final = 4
_LARGEST_PIECE: Final = 16 << 10
BOUND: Final = _MOST_PIECES * _LARGEST_PIECE
"""Bytes that `torn/` takes at most."""


@dataclass(frozen=True, slots=True)
class Mended:
    """`end` of the last good record; `torn`: something was set aside. `whole`: writing may go on at `end`."""

    end: int
    torn: bool
    whole: bool


def mend(files: Files, folder: int, sequence: int) -> Mended:
    """Cut what is torn off the end of a segment. Raises OSError when the segment cannot be read at all."""
    file = open_to_read(folder, name_of(sequence))
    try:
        size = os.fstat(file).st_size
        sound = _has_header(file)
        end, clean = _last_good(file, size)
        if sound and clean and end == size:
            return Mended(end, torn=False, whole=True)
        if end == size and size:
            return Mended(end, torn=False, whole=False)
        _set_aside(files, folder, f"{sequence:016x}-{end}", os.pread(file, _LARGEST_PIECE, end))
    finally:
        os.close(file)
    with contextlib.suppress(OSError):
        if end <= HEADER_SIZE and not sound:
            files.remove(folder, name_of(sequence))
            return Mended(0, torn=size > 0, whole=False)
        _cut(files, folder, sequence, end)
        return Mended(end, torn=True, whole=sound and clean)
    return Mended(end, torn=True, whole=False)


def _has_header(file: int) -> bool:
    try:
        layout.decode_header(os.pread(file, HEADER_SIZE, 0))
    except layout.HeaderError:
        return False
    return True


def _last_good(file: int, size: int) -> tuple[int, bool]:
    """(end of the last good record, whether nothing before it is damaged)."""
    end, clean = min(HEADER_SIZE, size), True
    for found in scan(file, HEADER_SIZE, size):
        if isinstance(found, Located):
            end = found.end
        elif not found.at_end:
            clean = False
    return end if size >= HEADER_SIZE else 0, clean


def _cut(files: Files, folder: int, sequence: int, end: int) -> None:
    file = files.reopen(folder, name_of(sequence))
    try:
        files.truncate(file, end)
        files.sync(file)
    finally:
        os.close(file)


def _set_aside(files: Files, folder: int, name: str, piece: bytes) -> None:
    """Keep a piece for whoever wants to look; the oldest gives way."""
    if not piece.strip(b"\0"):
        return
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            os.mkdir(TORN_FOLDER, 0o700, dir_fd=folder)
        torn = open_folder_at(folder, TORN_FOLDER)
        try:
            pieces = sorted(os.listdir(torn))
            for old in pieces[: max(0, len(pieces) - _MOST_PIECES + 1)]:
                files.remove(torn, old)
            files.write_file(torn, name, piece)
        finally:
            os.close(torn)
