"""How far the records were sent, and what was lost unsent: one small file that is replaced as a whole.

Owns `sent.json`. A lost or damaged one costs duplicates, never a record, so it is not synced. Knows no segment.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from pqvpn.telemetry.spool.files import Files, open_folder, open_to_read
from pqvpn.telemetry.spool.reading import CURSOR_FILE, LAST_SEQUENCE

_SCHEMA: Final = 1
_LARGEST: Final = 64 << 10


class Loss(msgspec.Struct, frozen=True, array_like=True):
    """Records that were lost unsent, and the spans, data points and log records in them, as far as known."""

    records: int = 0
    items: int = 0

    def __add__(self, other: "Loss") -> "Loss":
        return Loss(self.records + other.records, self.items + other.items)


class Cursor(msgspec.Struct, frozen=True):
    """Everything before `offset` in segment `sequence` was sent: there `records` records with `items` in them.

    `torn`: pieces that were set aside so far. `losses`: by cause.
    """

    schema: int = _SCHEMA
    sequence: int = 0
    offset: int = 0
    records: int = 0
    items: int = 0
    torn: int = 0
    losses: dict[str, Loss] = msgspec.field(default_factory=dict)

    def moved(self, sequence: int, offset: int, records: int = 0, items: int = 0) -> "Cursor":
        """At another place, with the same counts of losses."""
        return msgspec.structs.replace(self, sequence=sequence, offset=offset, records=records, items=items)

    def behind(self, offset: int, items: int) -> "Cursor":
        """Behind one more record of the segment."""
        return self.moved(self.sequence, offset, self.records + 1, self.items + items)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Cursor)


def load(folder: int) -> Cursor | None:
    """What was saved; None when there is nothing to rely on."""
    try:
        file = open_to_read(folder, CURSOR_FILE)
    except OSError:
        return None
    try:
        cursor = _decoder.decode(os.read(file, _LARGEST))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    finally:
        os.close(file)
    numbers = (cursor.sequence, cursor.offset, cursor.records, cursor.items, cursor.torn)
    return cursor if cursor.schema == _SCHEMA and all(0 <= each < LAST_SEQUENCE for each in numbers) else None


def place_of(folder: Path) -> tuple[int, int]:
    """(segment, offset) up to which the records of a folder were sent, as far as known; takes no lock."""
    try:
        opened = open_folder(folder)
    except OSError:
        return 0, 0
    try:
        cursor = load(opened) or Cursor()
    finally:
        os.close(opened)
    return cursor.sequence, cursor.offset


def save(files: Files, folder: int, cursor: Cursor) -> bool:
    """Replace the file; False when the disk refuses: after a restart some records are then sent again."""
    with contextlib.suppress(OSError):
        files.write_file(folder, CURSOR_FILE, _encoder.encode(cursor))
        return True
    return False
