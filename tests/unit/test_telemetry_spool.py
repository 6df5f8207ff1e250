"""The spool in ordinary life: order, budget, age, cursor, one writer, many readers, and what foreign files get."""

import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pqvpn.errors import TelemetryError
from pqvpn.reasons import Reason
from pqvpn.telemetry.spool import Kind, Loss, Reader, Record, Spool, layout

MIB = 1 << 20
DAY = 86400.0


class Clocks:
    """Wall clock (ns) and uptime (s) that a test moves."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000 * 10**9
        self.up = 1000.0

    def pass_by(self, seconds: float) -> None:
        self.wall += int(seconds * 1e9)
        self.up += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def spool_at(tmp_path: Path, clocks: Clocks) -> Callable[..., Spool]:
    def make(size: int = 4 * MIB, age: float = DAY, **more: object) -> Spool:
        return Spool(tmp_path / "spool", size, age, clock=lambda: clocks.wall, now=lambda: clocks.up, **more)

    return make


def payloads(records: "list[Record]") -> list[bytes]:
    return [record.payload for record in records]


def read_back(folder: Path) -> list[Record]:
    reader = Reader(folder)
    return [found.record for sequence in reader.sequences() for found in reader.records(sequence)]


def test_records_come_back_in_order_with_all_they_had(spool_at, clocks, tmp_path) -> None:
    with spool_at() as spool:
        ids = [spool.append(Kind.TRACES, b"a" * 10, 3), spool.append(Kind.LOGS, b"", 0)]
        ids += spool.append_many([(Kind.METRICS, b"b", 1), (Kind.CRASHES, b"c", 2)])
        found = list(spool.unsent())
    assert [r.id for r in found] == ids
    assert len(set(ids)) == 4
    assert [(r.kind, r.payload, r.items) for r in found] == [
        (Kind.TRACES, b"a" * 10, 3), (Kind.LOGS, b"", 0), (Kind.METRICS, b"b", 1), (Kind.CRASHES, b"c", 2),
    ]  # fmt: skip
    assert {r.time_ns for r in found} == {clocks.wall}
    assert read_back(tmp_path / "spool") == found


def test_files_are_closed_to_others(spool_at, tmp_path) -> None:
    before = os.umask(0)
    try:
        with spool_at() as spool:
            spool.append(Kind.LOGS, b"x", 1)
            spool.sent(next(spool.unsent()).id)
    finally:
        os.umask(before)
    folder = tmp_path / "spool"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"0000000000000001.seg": 0o600, "sent.json": 0o600}


def test_an_open_folder_is_tightened(spool_at, tmp_path) -> None:
    (tmp_path / "spool").mkdir(mode=0o755)
    with spool_at():
        assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_what_was_sent_is_remembered_over_a_restart(spool_at) -> None:
    with spool_at() as spool:
        ids = [spool.append(Kind.LOGS, bytes([n]), 1) for n in range(5)]
        for record, _ in zip(spool.unsent(), range(2), strict=False):
            spool.sent(record.id)
        assert [r.id for r in spool.unsent()] == ids[2:]
        assert spool.backlog().records == 3
    with spool_at() as spool:
        assert [r.id for r in spool.unsent()] == ids[2:]
        assert spool.backlog().records == 3
        spool.append(Kind.LOGS, b"new", 1)
        assert len(list(spool.unsent())) == 4


def test_sent_takes_everything_before_with_it_and_never_goes_back(spool_at) -> None:
    with spool_at() as spool:
        ids = [spool.append(Kind.LOGS, b"x", 2) for _ in range(4)]
        list(spool.unsent())
        spool.sent(ids[2])
        assert spool.backlog().records == 1
        spool.sent(ids[0])
        spool.sent(ids[2])
        spool.sent(layout.RecordId(bytes(16)))
        assert [r.id for r in spool.unsent()] == ids[3:]
        assert spool.backlog().items == 2


def test_an_iteration_goes_on_with_what_is_appended_meanwhile(spool_at) -> None:
    with spool_at() as spool:
        spool.append(Kind.LOGS, b"1", 1)
        records = spool.unsent()
        assert next(records).payload == b"1"
        spool.append(Kind.LOGS, b"2", 1)
        assert next(records).payload == b"2"
        with pytest.raises(StopIteration):
            next(records)


def test_the_oldest_gives_way_and_what_it_held_unsent_is_counted(spool_at, tmp_path) -> None:
    with spool_at(size=MIB) as spool:
        ids = [spool.append(Kind.LOGS, os.urandom(10_000), 7) for _ in range(400)]
        held = [r.id for r in spool.unsent()]
        lost = 400 - len(held)
        assert lost > 0
        assert held == ids[lost:]
        assert spool.losses == {"size": Loss(lost, 7 * lost)}
        assert sum(p.stat().st_size for p in (tmp_path / "spool").iterdir()) <= MIB
        assert spool.size > MIB * 3 // 4
    with spool_at(size=MIB) as spool:
        assert spool.losses == {"size": Loss(lost, 7 * lost)}
        assert spool.backlog().records == len(held)


def test_what_was_sent_is_no_loss(spool_at) -> None:
    with spool_at(size=MIB) as spool:
        for _ in range(300):
            spool.append(Kind.LOGS, os.urandom(10_000), 1)
            for record in spool.unsent():
                spool.sent(record.id)
        assert spool.losses == {}
        assert spool.backlog() == type(spool.backlog())()


def test_without_anybody_who_sends_it_is_a_ring(spool_at) -> None:
    with spool_at(size=MIB, sends=False) as spool:
        for _ in range(300):
            spool.append(Kind.LOGS, os.urandom(10_000), 1)
        assert spool.losses == {}


def test_old_segments_go_and_are_counted(spool_at, clocks) -> None:
    with spool_at(age=1600.0) as spool:
        for n in range(20):
            spool.append(Kind.LOGS, bytes([n]), 1)
            clocks.pass_by(101.0)  # more than a sixteenth: each gets a segment of its own
        assert [r.payload[0] for r in spool.unsent()] == list(range(4, 20))  # the last was made when 4 was 1515 s old
        clocks.pass_by(10_000.0)
        spool.tidy()
        assert list(spool.unsent()) == []
        assert spool.losses == {"age": Loss(20, 20)}


def test_a_wall_clock_that_jumps_ahead_costs_nothing(spool_at, clocks) -> None:
    clocks.wall = 0
    with spool_at(age=1000.0) as spool:
        spool.append(Kind.LOGS, b"before", 1)
        clocks.wall = 1_800_000_000 * 10**9
        spool.append(Kind.LOGS, b"after", 1)
        assert payloads(list(spool.unsent())) == [b"before", b"after"]


def test_too_large_is_refused_and_nothing_changes(spool_at) -> None:
    with spool_at(size=MIB) as spool:
        spool.append(Kind.LOGS, b"small", 1)
        with pytest.raises(TelemetryError) as caught:
            spool.append(Kind.LOGS, bytes(spool.largest + 1), 1)
        assert caught.value.reason is Reason.RECORDS_DROPPED
        spool.append(Kind.LOGS, bytes(spool.largest), 1)
        assert [len(p) for p in payloads(list(spool.unsent()))] == [5, spool.largest]


def test_a_second_writer_is_told_and_readers_are_not_hindered(spool_at, tmp_path) -> None:
    with spool_at() as spool:
        spool.append(Kind.LOGS, b"x", 1)
        with pytest.raises(TelemetryError) as caught:
            spool_at()
        assert caught.value.reason is Reason.SPOOL_IN_USE
        assert payloads(read_back(tmp_path / "spool")) == [b"x"]
        shutil.copytree(tmp_path / "spool", tmp_path / "copy")
    assert payloads(read_back(tmp_path / "copy")) == [b"x"]
    spool_at().close()


def test_foreign_and_later_files_are_left_alone_and_named(spool_at, tmp_path) -> None:
    folder = tmp_path / "spool"
    with spool_at() as spool:
        spool.append(Kind.LOGS, b"x", 1)
    later = bytearray(layout.encode_header(0))
    later[8] = 2
    strange = {
        "0000000000000007.seg": bytes(later) + b"what 2.0 wrote",
        "0000000000000008.seg": b"not a segment at all, but long enough",
        "notes.txt": b"mine",
        "000000000000000Z.seg": b"",
    }
    for name, content in strange.items():
        (folder / name).write_bytes(content)
    (folder / "0000000000000009.seg").symlink_to("/etc/passwd")
    os.mkfifo(folder / "000000000000000a.seg")
    with spool_at() as spool:
        spool.append(Kind.LOGS, b"y", 1)
        assert payloads(list(spool.unsent())) == [b"x", b"y"]
        told = " ".join(spool.notes)
        assert all(name in told for name in strange)
        assert "format version 2" in told
    assert {name: (folder / name).read_bytes() for name in strange} == strange
    reader = Reader(folder)
    assert [f.record.payload for s in reader.sequences() for f in reader.records(s)] == [b"x", b"y"]
    assert "format version 2" in " ".join(reader.notes)


def test_a_symlink_is_no_spool(spool_at, tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "spool").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TelemetryError) as caught:
        spool_at()
    assert caught.value.reason is Reason.SPOOL_UNWRITABLE
    reader = Reader(tmp_path / "spool")
    assert reader.sequences() == ()
    assert reader.notes


def test_damage_in_the_middle_is_passed_over_and_counted(spool_at, tmp_path) -> None:
    with spool_at() as spool:
        for n in range(5):
            spool.append(Kind.LOGS, bytes([n]) * 1000, 1)
    segment = tmp_path / "spool" / "0000000000000001.seg"
    content = bytearray(segment.read_bytes())
    content[layout.HEADER_SIZE + 2 * (1000 + layout.RECORD_HEAD) + 500] ^= 1
    segment.write_bytes(content)
    reader = Reader(tmp_path / "spool")
    assert [f.record.payload[0] for f in reader.records(1)] == [0, 1, 3, 4]
    assert "is damaged" in reader.notes[0]
    with spool_at() as spool:
        spool.append(Kind.LOGS, b"\5", 1)
        assert [r.payload[0] for r in spool.unsent()] == [0, 1, 3, 4, 5]
        assert [r.payload[0] for r in spool.unsent()] == [0, 1, 3, 4, 5]
        assert spool.losses == {"damaged": Loss(1, 0)}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[" * 100_000, b'{"schema":9}', b'{"schema":1,"offset":-1}', b"\xff"]
)
def test_a_cursor_that_says_nothing_costs_duplicates_only(spool_at, tmp_path, content: bytes) -> None:
    with spool_at() as spool:
        ids = [spool.append(Kind.LOGS, b"x", 1) for _ in range(3)]
        list(spool.unsent())
        spool.sent(ids[0])
    (tmp_path / "spool" / "sent.json").write_bytes(content)
    with spool_at() as spool:
        assert [r.id for r in spool.unsent()] == ids


def test_a_cursor_beyond_the_end_hides_nothing_new(spool_at, tmp_path) -> None:
    with spool_at() as spool:
        spool.append(Kind.LOGS, b"old", 1)
    cursor = tmp_path / "spool" / "sent.json"
    for sequence, offset in ((1, 10**9), (7, 24)):
        cursor.write_text(f'{{"schema":1,"sequence":{sequence},"offset":{offset}}}')
        with spool_at() as spool:
            assert list(spool.unsent()) == []
            spool.append(Kind.LOGS, b"new", 1)
            assert payloads(list(spool.unsent())) == [b"new"]


def test_whoever_waits_is_told_of_what_was_appended(spool_at) -> None:
    told = threading.Event()
    with spool_at(on_append=told.set) as spool:
        assert not told.is_set()
        spool.append(Kind.LOGS, b"x", 1)
        assert told.is_set()


@pytest.mark.parametrize("removed", ["segment", "folder", "moved"])
def test_a_spool_that_somebody_removed_is_made_anew(spool_at, tmp_path, removed: str) -> None:
    folder = tmp_path / "spool"
    with spool_at() as spool:
        spool.append(Kind.LOGS, b"lost", 4)
        if removed == "segment":
            (folder / "0000000000000001.seg").unlink()
        elif removed == "folder":
            shutil.rmtree(folder)
        else:
            folder.rename(tmp_path / "away")
        spool.append(Kind.LOGS, b"kept", 1)
        assert payloads(list(spool.unsent())) == [b"kept"]
        assert spool.losses == {"removed": Loss(1, 4)}
    assert payloads(read_back(folder)) == [b"kept"]


def test_a_folder_that_cannot_be_made_is_refused_and_found_again(spool_at, tmp_path) -> None:
    folder = tmp_path / "spool"
    with spool_at() as spool:
        spool.append(Kind.LOGS, b"a", 1)
        shutil.rmtree(folder)
        folder.write_text("in the way")
        with pytest.raises(TelemetryError) as caught:
            spool.append(Kind.LOGS, b"b", 1)
        assert caught.value.reason is Reason.SPOOL_UNWRITABLE
        folder.unlink()
        spool.append(Kind.LOGS, b"c", 1)
        assert payloads(list(spool.unsent())) == [b"c"]


def test_threads_append_and_send_at_once(spool_at) -> None:
    with spool_at(size=64 * MIB) as spool:

        def fill(number: int) -> None:
            for n in range(50):
                spool.append(Kind.LOGS, bytes((number, n)), 1)

        threads = [threading.Thread(target=fill, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        seen: list[bytes] = []
        while len(seen) < 200:
            for record in spool.unsent():
                seen.append(record.payload)
                spool.sent(record.id)
        for thread in threads:
            thread.join()
        assert list(spool.unsent()) == []
    assert sorted(seen) == sorted(bytes((number, n)) for number in range(4) for n in range(50))
    for number in range(4):
        assert [n for who, n in seen if who == number] == list(range(50))
