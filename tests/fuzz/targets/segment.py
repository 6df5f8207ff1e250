"""Invariant: a segment of any bytes gives the records that are whole, once each, reading and writing go on, nothing raises."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from pqvpn.telemetry.spool import Kind, Reader, Spool, layout
from pqvpn.telemetry.store import Store

SHORT_RUN = 600
TOKENS = (
    layout.MARK,
    layout.MAGIC,
    b"\1\0\0\0",
    b"\2\0\0\0",
    b"\xff\xff\xff\x7f",
    b"\0" * 24,
    b"\x0a\x02\x12\x00",
    b"\x12\x80\x80\x80\x80\x01",
)


def check(data: bytes) -> None:
    """First byte: 1 gives the segment a sound header and makes every checksum right, 0 takes the bytes as they are."""
    folder = _folder() / "spool"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    content = data[1:]
    (folder / "0000000000000001.seg").write_bytes(_mended(content) if data[:1] == b"\1" else content)
    store = Store(_folder())
    found = [*store.spans(limit=500), *store.logs(limit=500), *store.metrics(limit=500)]
    assert len(found) <= 1500
    assert all(isinstance(note, str) and note.isprintable() for note in store.notes)
    before = _ids(folder)
    with Spool(folder, 1 << 20, 86400.0, clock=lambda: 1) as spool:
        record_id = spool.append(Kind.LOGS, b"", 0)
        waiting = [record.id for record in spool.unsent()]
        assert waiting[-1] == record_id
        assert waiting[:-1] == before
        assert spool.torn <= 1
    assert _ids(folder) == [*before, record_id]


def _ids(folder: Path) -> list[bytes]:
    reader = Reader(folder)
    return [found.record.id for sequence in reader.sequences() for found in reader.records(sequence)]


def _mended(content: bytes) -> bytes:
    """The payloads between marks, as records that verify: what is in them is reached by the decoder."""
    records = []
    for number, payload in enumerate(content.split(layout.MARK)[:20]):
        kind = payload[0] if payload else 0
        record_id = layout.RecordId(number.to_bytes(16, "big"))
        records.append(layout.encode_record(layout.Record(record_id, kind, 1, 1, payload[1:])))
    return layout.encode_header(1) + b"".join(records)


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pqvpn-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
