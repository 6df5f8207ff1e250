"""Envelopes read back: what `pqvpn diag crashes` shows, and by which id a server knows a report.

Owns the parsing of what is in the spool of crashes. Imports no SDK. What cannot be read is left out, never raised:
the folder may have come from anywhere.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pqvpn.telemetry.spool import Kind
from pqvpn.telemetry.spool.cursor import place_of
from pqvpn.telemetry.spool.reading import Reader

MOST: Final = 10_000
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Report:
    """One report on disk. `envelope`: the bytes as they are sent; `sent`: the server has it, or has refused it for good."""

    id: str
    time_ns: int
    envelope: bytes
    event: Mapping[str, Any]
    sent: bool


def event_id(envelope: bytes) -> str:
    """32 hex digits from the envelope's first line; empty when there are none."""
    found = _json(envelope.partition(b"\n")[0]).get("event_id")
    told = found.replace("-", "").lower() if isinstance(found, str) else ""
    return told if len(told) == 32 and set(told) <= _HEX else ""


def event_of(envelope: bytes) -> Mapping[str, Any]:
    """The event in an envelope; empty when there is none."""
    _, _, rest = envelope.partition(b"\n")
    head, _, body = rest.partition(b"\n")
    if _json(head).get("type") != "event":
        return {}
    length = _json(head).get("length")
    return _json(body[:length] if isinstance(length, int) and length >= 0 else body.partition(b"\n")[0])


def reports(folder: Path) -> tuple[list[Report], tuple[str, ...]]:
    """Every report of a spool, oldest first, and what could not be read. Takes no lock, changes nothing."""
    reader = Reader(folder)
    found = [report for report, _ in zip(_reports(reader, place_of(folder)), range(MOST), strict=False)]
    return found, reader.notes


def _reports(reader: Reader, sent: tuple[int, int]) -> Iterator[Report]:
    for sequence in reader.sequences():
        for located in reader.records(sequence):
            record = located.record
            known = event_id(record.payload) if record.kind == Kind.CRASHES else ""
            event = event_of(record.payload) if known else {}
            if event:
                yield Report(known, record.time_ns, record.payload, event, (sequence, located.end) <= sent)


def _json(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
