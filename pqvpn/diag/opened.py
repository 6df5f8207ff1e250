"""A bundle of somebody else, read: into memory, bounded, nothing of it is ever written to disk.

Owns which members are read and how much of them, and the records they hold as a store like any other. A bundle may be
torn, foreign, of a later version or hostile: what can be read is read, the rest is told in notes.
"""

import gzip
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pqvpn.diag import bundle
from pqvpn.diag.inquiry import Inquiry
from pqvpn.diag.knowledge import Knowledge, mapping, mappings
from pqvpn.diag.records import NANO, as_number, events_of
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason
from pqvpn.telemetry import names
from pqvpn.telemetry.store import EventRecord, Histogram, LogRecord, MetricRecord, SpanRecord

UNPACKED_MOST = 192 << 20
MEMBERS_MOST = 200
_MEMBER_MOST = 32 << 20
_RECORDS_MOST = 200_000
_TEXT_MOST = 4096
_WANTED = (bundle.MANIFEST, bundle.KNOWLEDGE, bundle.SPANS, bundle.LOGS, bundle.METRICS, bundle.SUMMARY)
_CHUNK = 1 << 16
_TORN = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError)
_LEVELS = ("debug", "info", "warning", "error", "critical")
_Made = TypeVar("_Made")
_Found = TypeVar("_Found", SpanRecord, LogRecord, MetricRecord)


class Opened:
    """A bundle's content. Raises PqvpnError when the file cannot be read or is no bundle at all."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.notes: list[str] = []
        self.files = self._read(place)
        self.manifest = mapping(self._json(bundle.MANIFEST))
        if self.manifest.get("format") != bundle.FORMAT and bundle.KNOWLEDGE not in self.files:
            raise PqvpnError(Reason.BUNDLE_UNREADABLE, "it is not a bundle of pqvpn diag", place=str(place))
        version = self.manifest.get("version")
        if version != bundle.VERSION:
            self.notes.append(
                f"the bundle has format {version!s:.20}, this version reads {bundle.VERSION}: shown as far as understood"
            )
        self.records = BundleRecords(self)

    def inquiry(self) -> Inquiry:
        """The same questions as to a node."""
        return Inquiry(self.records, self.knowledge)

    def knowledge(self) -> Knowledge:
        """What was known when the bundle was made."""
        told = mapping(self._json(bundle.KNOWLEDGE))
        logs = self.records.logs(limit=_RECORDS_MOST)
        created = as_number(told.get("now")) or as_number(self.manifest.get("created_unix"))
        newest = max((record.time_ns / NANO for record in logs[-1:]), default=0.0)
        running = told.get("running")
        return Knowledge(
            now=created or newest,
            at=as_number(told.get("at")) or newest,
            source=str(told.get("source") or "recorded")[:20],
            running=running if isinstance(running, bool) else None,
            answers=told.get("answers") is True,
            status=mapping(told.get("status")),
            health=tuple(mappings(told.get("health"))),
            interface=mapping(told.get("interface")),
            export=mapping(told.get("export")),
            observed=told.get("observed") is True,
            written=as_number(told.get("written")),
            stopped=str(told.get("stopped") or "")[:40],
            events=events_of(logs),
            rising={str(k): as_number(v) for k, v in mapping(told.get("rising")).items()},
            clock_synchronised=_flag(told.get("clock_synchronised")),
            configured_name=_text(told.get("configured_name"))[:64],
            configuration_errors=_texts(told.get("configuration_errors")),
            bundle=str(self.place),
            notes=(*_texts(told.get("notes")), *self.notes),
        )

    def _read(self, place: Path) -> dict[str, bytes]:
        """The members that are known by name, as far as the archive can be read."""
        found: dict[str, bytes] = {}
        try:
            with open(place, "rb") as file, gzip.GzipFile(fileobj=file) as unpacked:
                stream = _Bounded(unpacked)
                for name, content in self._members(stream):
                    found.setdefault(name, content)
                while stream.read(_CHUNK):  # to the end, where the checksum stands: a bundle may lack that alone
                    pass
        except FileNotFoundError:
            raise PqvpnError(Reason.BUNDLE_UNREADABLE, "there is no such file", place=str(place)) from None
        except _TORN as error:
            if not found:
                detail = (
                    "it is not a bundle of pqvpn diag"
                    if not isinstance(error, PermissionError)
                    else "permission denied"
                )
                raise PqvpnError(Reason.BUNDLE_UNREADABLE, detail, place=str(place)) from None
            self.notes.append(f"the bundle is torn or too large ({type(error).__name__}); what came before is shown")
        return found

    def _members(self, stream: "_Bounded") -> Iterator[tuple[str, bytes]]:
        with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
            for place, member in enumerate(archive):
                if place >= MEMBERS_MOST:
                    self.notes.append(f"the bundle has more than {MEMBERS_MOST} members; the rest was left out")
                    return
                if (
                    not member.isreg()
                    or member.issparse()
                    or member.name.startswith("/")
                    or ".." in member.name.split("/")
                ):
                    self.notes.append(f"left out, for it is no plain file of a bundle: {member.name[:60]!r}")
                elif member.name in _WANTED and member.size <= _MEMBER_MOST:
                    file = archive.extractfile(member)
                    if file is not None:
                        yield member.name, file.read(_MEMBER_MOST)
                elif member.name in _WANTED:
                    self.notes.append(f"{member.name} was left out: it is too large")

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self.files.get(name, b"null"))
        except (ValueError, RecursionError):
            self.notes.append(f"{name} is damaged")
            return None

    def lines(self, name: str, make: Callable[[Mapping[str, Any]], _Made]) -> list[_Made]:
        """The records of a file; what cannot be read is counted and passed over."""
        found: list[_Made] = []
        damaged = 0
        for line in self.files.get(name, b"").split(b"\n")[: _RECORDS_MOST + 1]:
            if not line:
                continue
            try:
                found.append(make(json.loads(line)))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                damaged += 1
        if damaged:
            self.notes.append(f"{name} holds {damaged} records that cannot be read")
        return found


class _Bounded:
    """A stream that ends with an error where it would be too long: an archive may unpack to anything."""

    def __init__(self, stream: "BinaryIO | gzip.GzipFile") -> None:
        self._stream = stream
        self._left = UNPACKED_MOST

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes. Raises ValueError when more is unpacked than any bundle holds."""
        if size < 0 or size > self._left:
            raise ValueError("it unpacks to more than a bundle holds")
        data = self._stream.read(size)
        self._left -= len(data)
        return data


class BundleRecords:
    """The records of a bundle, with the queries of `pqvpn.telemetry.store.Store`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._logs = sorted(opened.lines(bundle.LOGS, _log), key=lambda each: each.time_ns)
        self._spans = sorted(opened.lines(bundle.SPANS, _span), key=lambda each: each.start_ns)
        self._metrics = sorted(opened.lines(bundle.METRICS, _metric), key=lambda each: each.time_ns)

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be read."""
        return tuple(self._opened.notes)

    def spans(
        self, *, since_ns: int = 0, session_id: str = "", trace_id: str = "", peer: str = "", limit: int = 10_000
    ) -> list[SpanRecord]:
        """Spans by their start."""
        found = [s for s in self._spans if s.start_ns >= since_ns and (not trace_id or s.trace_id == trace_id)]
        return _newest(found, session_id, peer, "", limit)

    def logs(
        self, *, since_ns: int = 0, session_id: str = "", trace_id: str = "", peer: str = "", component: str = "",
        level: str = "", limit: int = 10_000,
    ) -> list[LogRecord]:  # fmt: skip
        """Log records of `level` and above."""
        lowest = _LEVELS.index(level) if level in _LEVELS else 0
        found = [
            each
            for each in self._logs
            if each.time_ns >= since_ns
            and (not trace_id or each.trace_id == trace_id)
            and (_LEVELS.index(each.severity) if each.severity in _LEVELS else 0) >= lowest
        ]
        return _newest(found, session_id, peer, component, limit)

    def metrics(self, name: str = "", *, since_ns: int = 0, peer: str = "", limit: int = 10_000) -> list[MetricRecord]:
        """Points, of all instruments or of one."""
        found = [m for m in self._metrics if m.time_ns >= since_ns and (not name or m.name == name)]
        return _newest(found, "", peer, "", limit)


def _newest(found: list[_Found], session_id: str, peer: str, component: str, limit: int) -> list[_Found]:
    wanted = [
        (n, v) for n, v in ((names.SESSION_ID, session_id), (names.PEER, peer), (names.COMPONENT, component)) if v
    ]
    return [r for r in found if all(str(r.attributes.get(n, r.resource.get(n))) == v for n, v in wanted)][-limit:]


# -- records out of JSON; whatever does not fit raises and is counted ----------------------------------------------------


def _log(told: Mapping[str, Any]) -> LogRecord:
    return LogRecord(
        _time(told["time_ns"]), _text(told.get("severity")), _text(told.get("body")), _text(told.get("event")),
        _attributes(told.get("attributes")), _text(told.get("trace_id")), _text(told.get("span_id")),
        _attributes(told.get("resource")), _text(told.get("scope")),
    )  # fmt: skip


def _span(told: Mapping[str, Any]) -> SpanRecord:
    status = told.get("status")
    events = tuple(
        EventRecord(_text(e.get("name")), _time(e["time_ns"]), _attributes(e.get("attributes")))
        for e in mappings(told.get("events"))
    )
    return SpanRecord(
        _text(told["trace_id"]), _text(told["span_id"]), _text(told.get("parent_id")), _text(told.get("name")),
        _text(told.get("kind")), _time(told["start_ns"]), _time(told["end_ns"]),
        "ok" if status == "ok" else "error" if status == "error" else "unset", _text(told.get("description")),
        _attributes(told.get("attributes")), events[:1000], (), _attributes(told.get("resource")), _text(told.get("scope")),
    )  # fmt: skip


def _metric(told: Mapping[str, Any]) -> MetricRecord:
    kind = told.get("kind")
    value = told.get("value")
    return MetricRecord(
        _text(told["name"]), _text(told.get("unit")), _text(told.get("description")),
        "counter" if kind == "counter" else "updown" if kind == "updown" else "histogram" if kind == "histogram" else "gauge",
        _time(told["time_ns"]), _time(told.get("start_ns") or 0), _attributes(told.get("attributes")),
        None if value is None else as_number(value), _histogram(told.get("histogram")), (), _attributes(told.get("resource")),
        _text(told.get("scope")), told.get("delta") is True,
    )  # fmt: skip


def _histogram(told: Any) -> Histogram | None:
    if not isinstance(told, Mapping):
        return None
    bounds, buckets = (
        tuple(as_number(each) for each in list(told.get(name) or ())[:1000]) for name in ("bounds", "buckets")
    )
    return Histogram(
        int(as_number(told.get("count"))), as_number(told.get("sum")), bounds, tuple(int(b) for b in buckets)
    )


def _time(told: Any) -> int:
    if isinstance(told, bool) or not isinstance(told, int) or not 0 <= told < 1 << 63:
        raise ValueError("no time")
    return told


def _text(told: Any) -> str:
    return "" if told is None else str(told)[:_TEXT_MOST]


def _attributes(told: Any) -> dict[str, Any]:
    return {str(name)[:200]: _value(value) for name, value in list(mapping(told).items())[:200]}


def _value(told: Any) -> Any:
    if told is None or isinstance(told, bool | int | float):
        return told
    if isinstance(told, str):
        return told[:_TEXT_MOST]
    return tuple(_text(each) for each in told[:200]) if isinstance(told, Sequence) else _text(told)


def _texts(told: Any) -> tuple[str, ...]:
    return tuple(_text(each) for each in told[:100]) if isinstance(told, list) else ()


def _flag(told: Any) -> bool | None:
    return told if isinstance(told, bool) else None
