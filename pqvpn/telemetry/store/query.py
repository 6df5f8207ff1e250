"""Queries over the segments of a spool.

Owns filters, order and bounds. Segments are walked from the newest to the oldest, each one forwards, and no more than
`limit` records are held at any time. What the bytes are is `spool/reading.py` and `decode.py`.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pqvpn.config.paths import SPOOL_FOLDER
from pqvpn.telemetry import names
from pqvpn.telemetry.spool.layout import Kind, Record
from pqvpn.telemetry.spool.reading import Reader
from pqvpn.telemetry.store import wire
from pqvpn.telemetry.store.decode import LEVELS, DamagedItem, Decoder
from pqvpn.telemetry.store.records import LogRecord, MetricRecord, SpanRecord

LIMIT: Final = 10_000
"""Records of one answer, unless asked for more."""
_MOST_RECORDS: Final = 300_000
_MOST_ITEMS: Final = 1_000_000
_LATE_NS: Final = 3600 * 10**9
"""A batch may hold what happened up to an hour before it was written, and clocks are set."""
_MOST_NOTES: Final = 100

_Found = TypeVar("_Found", SpanRecord, LogRecord, MetricRecord)
_Decode = Callable[[memoryview, memoryview, memoryview], Iterator[_Found]]


@dataclass(frozen=True, slots=True)
class Extent:
    """What the spool covers: wall clock of its oldest and newest batch, 0 when it is empty."""

    segments: int
    bytes: int
    oldest_ns: int
    newest_ns: int


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a record must be; `attributes` as (name, value), in the record or its resource."""

    since_ns: int = 0
    until_ns: int | None = None
    trace_id: str = ""
    name: str = ""
    lowest: int = 0
    attributes: tuple[tuple[str, str], ...] = ()

    def needles(self) -> tuple[bytes, ...]:
        """Bytes that the encoded record or its resource must hold: a test that costs less than decoding."""
        found = [value.encode() for _, value in self.attributes]
        found += [bytes.fromhex(self.trace_id)] if _is_hex(self.trace_id) else []
        found += [self.name.encode()] if self.name else []
        return tuple(found)

    def fits(self, record: Any, time_ns: int) -> bool:
        """Whether the decoded record is wanted."""
        return (
            self.since_ns <= time_ns
            and (self.until_ns is None or time_ns <= self.until_ns)
            and (not self.trace_id or record.trace_id == self.trace_id)
            and (not self.name or record.name == self.name)
            and (not self.lowest or LEVELS[record.severity] >= self.lowest)
            and all(str(record.attributes.get(k, record.resource.get(k))) == v for k, v in self.attributes)
        )


class Store:
    """The records in a state folder. `limit` keeps the newest; answers are newest last unless told otherwise."""

    def __init__(self, state_folder: Path, *, spool: Path | None = None) -> None:
        self._folder = spool or state_folder / SPOOL_FOLDER
        self._reader = Reader(self._folder)
        self._notes: dict[str, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was passed over so far, in sentences for an operator."""
        return (*self._reader.notes, *self._notes)

    def extent(self) -> Extent:
        """What the spool covers."""
        sequences = self._reader.sequences()
        first = next((found for s in sequences for found in self._reader.records(s)), None)
        newest = 0
        for sequence in reversed(sequences):
            newest = max((found.record.time_ns for found in self._reader.records(sequence)), default=0)
            if newest:
                break
        oldest = first.record.time_ns if first else 0
        return Extent(len(sequences), self._reader.size(), oldest, newest)

    def spans(
        self,
        *,
        since_ns: int = 0,
        until_ns: int | None = None,
        session_id: str = "",
        trace_id: str = "",
        peer: str = "",
        component: str = "",
        name: str = "",
        limit: int = LIMIT,
        newest_first: bool = False,
    ) -> list[SpanRecord]:
        """Spans by their start. They are in the spool once they ended."""
        wanted = _Wanted(since_ns, until_ns, trace_id, name, 0, _labels(session_id, peer, component))
        found = self._query(Kind.TRACES, Decoder().span, wanted, _span_time, limit)
        return sorted(found, key=_span_time, reverse=newest_first)

    def logs(
        self,
        *,
        since_ns: int = 0,
        until_ns: int | None = None,
        session_id: str = "",
        trace_id: str = "",
        peer: str = "",
        component: str = "",
        level: str = "",
        limit: int = LIMIT,
        newest_first: bool = False,
    ) -> list[LogRecord]:
        """Log records of `level` and above."""
        labels = _labels(session_id, peer, component)
        wanted = _Wanted(since_ns, until_ns, trace_id, "", LEVELS.get(level, 0), labels)
        return sorted(self._query(Kind.LOGS, Decoder().log, wanted, _time, limit), key=_time, reverse=newest_first)

    def metrics(
        self,
        name: str = "",
        *,
        since_ns: int = 0,
        until_ns: int | None = None,
        peer: str = "",
        component: str = "",
        limit: int = LIMIT,
        newest_first: bool = False,
    ) -> list[MetricRecord]:
        """Data points, of all instruments or of one."""
        wanted = _Wanted(since_ns, until_ns, "", name, 0, _labels("", peer, component))
        found = self._query(Kind.METRICS, Decoder().metric, wanted, _time, limit)
        return sorted(found, key=_time, reverse=newest_first)

    def follow(
        self,
        *,
        session_id: str = "",
        trace_id: str = "",
        peer: str = "",
        component: str = "",
        level: str = "",
        poll: float = 0.5,
        stop: threading.Event | None = None,
    ) -> Iterator[LogRecord]:
        """Log records as they are written from now on, looked for every `poll` seconds until `stop` is set."""
        stop = stop or threading.Event()
        labels = _labels(session_id, peer, component)
        wanted = _Wanted(trace_id=trace_id, lowest=LEVELS.get(level, 0), attributes=labels)
        place = self._end()
        while not stop.is_set():
            reader = Reader(self._folder)  # of its own: a record that is being written is nothing to note
            sequences = reader.sequences()
            if sequences and sequences[-1] < place[0]:
                place = (0, 0)  # somebody put another spool there
            for sequence in (s for s in sequences if s >= place[0]):
                for located in reader.records(sequence, place[1] if sequence == place[0] else 0):
                    place = (sequence, located.end)
                    if located.record.kind == Kind.LOGS:
                        yield from _Walk(self._note, wanted).items(located.record, Decoder().log, _time)
            stop.wait(poll)

    def _end(self) -> tuple[int, int]:
        sequences = self._reader.sequences()
        if not sequences:
            return 0, 0
        return sequences[-1], max((found.end for found in self._reader.records(sequences[-1])), default=0)

    def _query(
        self, kind: Kind, decode: "_Decode[_Found]", wanted: _Wanted, time_of: Callable[[_Found], int], limit: int
    ) -> list[_Found]:
        found: list[_Found] = []
        walk = _Walk(self._note, wanted)
        for sequence in reversed(self._reader.sequences()):
            room = limit - len(found)
            if room <= 0 or walk.exhausted:
                break
            newest: deque[_Found] = deque(maxlen=room)
            for located in self._reader.records(sequence):
                if walk.wants(located.record, kind):
                    newest.extend(walk.items(located.record, decode, time_of))
                if walk.exhausted:
                    break
            found += reversed(newest)
        if walk.exhausted:
            self._note("the spool holds more than can be searched at once; the rest was left out")
        return found

    def _note(self, text: str) -> None:
        if len(self._notes) < _MOST_NOTES:
            self._notes.setdefault(text)


class _Walk:
    """The items of records that are wanted, up to a bound of work."""

    def __init__(self, note: Callable[[str], None], wanted: _Wanted) -> None:
        self._note = note
        self._wanted = wanted
        self._needles = wanted.needles()
        self._records_left = _MOST_RECORDS
        self._items_left = _MOST_ITEMS

    @property
    def exhausted(self) -> bool:
        """Whether the bound was reached."""
        return self._records_left <= 0 or self._items_left <= 0

    def wants(self, record: Record, kind: Kind) -> bool:
        """Whether there may be something in a record."""
        self._records_left -= 1
        return record.kind == kind and record.time_ns + _LATE_NS >= self._wanted.since_ns

    def items(self, record: Record, decode: "_Decode[_Found]", time_of: Callable[[_Found], int]) -> Iterator[_Found]:
        """What is wanted of a record."""
        damaged = 0
        try:
            for resource, scope, item in wire.items(record.payload):
                self._items_left -= 1
                if self._items_left <= 0:
                    return
                if not self._may_fit(resource, item):
                    continue
                try:
                    for each in decode(resource, scope, item):
                        self._items_left -= 1
                        if self.exhausted:
                            return
                        if self._wanted.fits(each, time_of(each)):
                            yield each
                except DamagedItem:
                    damaged += 1
        except wire.WireError as error:
            self._note(f"batch {record.id.hex()[:8]} is not what its kind says: {error}")
        if damaged:
            self._note(f"batch {record.id.hex()[:8]} holds {damaged} items that cannot be read")

    def _may_fit(self, resource: memoryview, item: memoryview) -> bool:
        if not self._needles:
            return True
        data, around = bytes(item), bytes(resource)
        return all(needle in data or needle in around for needle in self._needles)


def _labels(session_id: str, peer: str, component: str) -> tuple[tuple[str, str], ...]:
    pairs = ((names.SESSION_ID, session_id), (names.PEER, peer), (names.COMPONENT, component))
    return tuple((name, value) for name, value in pairs if value)


def _is_hex(text: str) -> bool:
    try:
        return bool(text) and bool(bytes.fromhex(text))
    except ValueError:
        return False


def _time(record: LogRecord | MetricRecord) -> int:
    return record.time_ns


def _span_time(span: SpanRecord) -> int:
    return span.start_ns
