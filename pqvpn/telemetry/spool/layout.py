"""The bytes of a segment: its header and its records.

Owns encoding, decoding and checksums; pure. Knows no file. All integers are little-endian:

    segment  magic 8 | version 2 | zero 2 | created, ns 8 | CRC-32 of the 20 bytes before 4
    record   mark 4 | length of payload 4 | kind 1 | zero 3 | items 4 | time, ns 8 | id 16 | CRC-32 4 | payload

A record's checksum covers its header before the checksum, and the payload. The mark lets a reader find the next record
behind a damaged one.
"""

import os
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NewType

MAGIC: Final = b"PQVSPOOL"
VERSION: Final = 1
MARK: Final = b"\xabREC"
LARGEST: Final = 16 << 20
"""Bytes of a payload; what claims to be larger is damage."""

_HEADER = struct.Struct("<8sHHQ")
_CHECKSUM = struct.Struct("<I")
_RECORD = struct.Struct("<4sIB3xIQ16s")
HEADER_SIZE: Final = _HEADER.size + _CHECKSUM.size
RECORD_HEAD: Final = _RECORD.size + _CHECKSUM.size
_MOST_ITEMS: Final = (1 << 32) - 1
_LATEST: Final = (1 << 64) - 1

RecordId = NewType("RecordId", bytes)
"""16 random bytes that stay with a record for good; a receiver tells duplicates by them."""


class Kind(IntEnum):
    """What a payload is. The numbers are part of the format."""

    TRACES = 1  # ExportTraceServiceRequest
    METRICS = 2  # ExportMetricsServiceRequest
    LOGS = 3  # ExportLogsServiceRequest
    CRASHES = 4  # a crash report's envelope


@dataclass(frozen=True, slots=True)
class Record:
    """One batch. `items`: spans, data points or log records in it. `time_ns`: the wall clock when it was made.

    `kind` is a `Kind`, or a number that a later version wrote.
    """

    id: RecordId
    kind: int
    time_ns: int
    items: int
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return RECORD_HEAD + len(self.payload)


@dataclass(frozen=True, slots=True)
class Head:
    """A record without its payload. `length` of the payload; `checksum` as it was written."""

    id: RecordId
    kind: int
    time_ns: int
    items: int
    length: int
    checksum: int

    @property
    def size(self) -> int:
        """Bytes of the whole record on disk."""
        return RECORD_HEAD + self.length


def new_record(kind: Kind, payload: bytes, items: int, time_ns: int) -> Record:
    """A record with an id of its own."""
    bounded = min(max(items, 0), _MOST_ITEMS), min(max(time_ns, 0), _LATEST)
    return Record(RecordId(os.urandom(16)), kind, bounded[1], bounded[0], payload)


def encode_header(created_ns: int) -> bytes:
    """The first bytes of a segment."""
    head = _HEADER.pack(MAGIC, VERSION, 0, created_ns)
    return head + _CHECKSUM.pack(zlib.crc32(head))


class HeaderError(ValueError):
    """Not the header of a segment that this version reads. `torn`: it may be the beginning of one."""

    def __init__(self, text: str, *, torn: bool = False) -> None:
        super().__init__(text)
        self.torn = torn


def decode_header(data: bytes) -> int:
    """When the segment was created, ns. Raises HeaderError."""
    if not data[: len(MAGIC)].strip(b"\0") or (len(data) < HEADER_SIZE and data[: len(MAGIC)] in _beginnings()):
        raise HeaderError("its header was not written", torn=True)
    if data[: len(MAGIC)] != MAGIC or len(data) < HEADER_SIZE:
        raise HeaderError("it is not a segment")
    _, version, _, created_ns = _HEADER.unpack_from(data)
    if version != VERSION:
        raise HeaderError(f"it has format version {version}, this program reads {VERSION}")
    if _CHECKSUM.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
        raise HeaderError("its header is damaged", torn=True)
    return int(created_ns)


def _beginnings() -> frozenset[bytes]:
    return frozenset(MAGIC[:end] for end in range(len(MAGIC) + 1))


def encode_record(record: Record) -> bytes:
    """A record as it stands in a segment."""
    head = _RECORD.pack(MARK, len(record.payload), record.kind, record.items, record.time_ns, record.id)
    return head + _CHECKSUM.pack(zlib.crc32(record.payload, zlib.crc32(head))) + record.payload


def decode_head(data: bytes) -> Head | None:
    """The head of a record at the start of `data`; None when there is none."""
    if len(data) < RECORD_HEAD or data[:4] != MARK:
        return None
    _, length, kind, items, time_ns, record_id = _RECORD.unpack_from(data)
    if length > LARGEST:
        return None
    return Head(record_id, kind, time_ns, items, length, _CHECKSUM.unpack_from(data, _RECORD.size)[0])


def decode_record(head: Head, data: bytes, payload: bytes) -> Record | None:
    """The whole record, `data` beginning with its head; None when the checksum says otherwise."""
    if len(payload) != head.length or zlib.crc32(payload, zlib.crc32(data[: _RECORD.size])) != head.checksum:
        return None
    return Record(head.id, head.kind, head.time_ns, head.items, payload)
