"""Whatever the disk and the kernel do to the writer: what was acknowledged is read back, and opening always succeeds."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pqvpn.errors import TelemetryError
from pqvpn.reasons import Reason
from pqvpn.telemetry.spool import Keeper, Kind, Loss, Reader, Spool, layout
from pqvpn.telemetry.spool.files import Files
from pqvpn.telemetry.spool.layout import HEADER_SIZE, RECORD_HEAD
from tests.unit import spool_rig
from tests.unit.spool_rig import AGE, ERRORS, Counting, Failing, number, payload

MIB = 1 << 20
ROOMY, TIGHT = MIB, MIB // 4


def read_back(folder: Path) -> list[int]:
    reader = Reader(folder)
    return [number(found.record.payload) for sequence in reader.sequences() for found in reader.records(sequence)]


@pytest.mark.parametrize("size", [ROOMY, TIGHT])
@pytest.mark.parametrize("how", ["before", "half", "after", "power"])
def test_a_writer_that_is_killed_at_any_call_loses_nothing_acknowledged(tmp_path: Path, how: str, size: int) -> None:
    command = [sys.executable, "-m", "tests.unit.spool_rig", str(tmp_path), how, str(size)]
    runs = int(subprocess.run(command, check=True, timeout=300, capture_output=True).stdout)
    assert runs > 50
    most_lost = 0
    for run in range(1, runs + 1):
        folder = tmp_path / str(run)
        acknowledged = list(map(int, (folder / "acknowledged").read_text().split()))
        before = read_back(folder / "spool")
        with Spool(folder / "spool", size, AGE) as spool:
            found = read_back(folder / "spool")
            assert found == before, run  # mending takes nothing away
            assert found == sorted(set(found)), run
            lost = spool.losses.get("size", Loss()).records
            first = acknowledged.index(found[0]) if found and acknowledged else 0
            assert size == TIGHT or (lost, first) == (0, 0), run
            most_lost = max(most_lost, lost)
            assert set(found) >= set(acknowledged[first:]), run
            assert len(found) - len(acknowledged[first:]) <= 3, run  # at most the batch that was being written
            unsent = [number(record.payload) for record in spool.unsent()]
            assert unsent == found[len(found) - len(unsent) :], run
            assert len(unsent) == spool.backlog().records, run
            spool.append(Kind.LOGS, payload(9999), 1)
            assert number(list(spool.unsent())[-1].payload) == 9999, run
            assert spool.torn <= 1, run
    assert (most_lost > 0) is (size == TIGHT)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("length", [1, 3, 1000])
def test_a_disk_that_refuses_any_call_leaves_a_valid_spool(tmp_path: Path, error: int, length: int) -> None:
    counting = Counting()
    spool_rig.scenario(_folder(tmp_path, "whole"), counting, ROOMY)
    assert counting.count > 50
    for at in range(1, counting.count + 1, 1 if length == 1 else 3):
        folder = _folder(tmp_path, str(at))
        files = Failing(range(at, at + length), error)
        acknowledged: list[int] = []
        refused = 0
        reasons: set[Reason] = set()
        for _ in range(2):
            try:
                spool = Spool(folder / "spool", ROOMY, AGE, files=files)
            except TelemetryError as caught:
                reasons.add(caught.reason)
                continue
            with spool:
                for n in range(12):
                    try:
                        spool.append(Kind.LOGS, payload(100 * refused + n), 1)
                        acknowledged.append(100 * refused + n)
                    except TelemetryError as caught:
                        refused += 1
                        reasons.add(caught.reason)
                for record, _ in zip(spool.unsent(), range(2), strict=False):
                    spool.sent(record.id)
        found = read_back(folder / "spool")
        remaining = iter(found)
        assert all(n in remaining for n in acknowledged), at  # all of them, in order
        assert len(found) <= len(acknowledged) + refused
        assert reasons <= {Reason.DISK_FULL if error == errno.ENOSPC else Reason.SPOOL_UNWRITABLE}


def test_what_was_half_written_is_taken_back(tmp_path: Path) -> None:
    files = Failing(range(0), errno.ENOSPC)
    with Spool(tmp_path / "spool", ROOMY, AGE, files=files) as spool:
        spool.append(Kind.LOGS, payload(0), 1)
        files.at = range(files.count + 1, files.count + 2)
        with pytest.raises(TelemetryError):
            spool.append(Kind.LOGS, payload(1), 1)
        spool.append(Kind.LOGS, payload(2)[:10], 1)
        reader = Reader(tmp_path / "spool")
        assert [number(found.record.payload) for found in reader.records(1)] == [0, 2]
        assert (reader.sequences(), reader.notes) == ((1,), ())


def _folder(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name


def test_what_the_disk_refuses_waits_in_memory_and_keeps_its_id(tmp_path: Path) -> None:
    now = [0.0]
    files = Failing(range(0), errno.ENOSPC)
    with Keeper(tmp_path / "spool", ROOMY, AGE, files=files, now=lambda: now[0]) as keeper:
        ids = [keeper.append(Kind.LOGS, payload(n), 2) for n in range(3)]
        files.at = range(10**9)
        ids += [keeper.append(Kind.LOGS, payload(n), 2) for n in range(3, 6)]
        assert keeper.trouble
        assert (keeper.trouble.reason, keeper.trouble.since) == (Reason.DISK_FULL, 0.0)
        assert [record.id for record in keeper.unsent()] == ids
        assert (keeper.backlog().records, keeper.backlog().items) == (6, 12)
        assert read_back(tmp_path / "spool") == [0, 1, 2]
        calls = files.count
        keeper.append(Kind.LOGS, payload(6), 2)
        assert files.count == calls  # it is not tried again with each record
        files.at = range(0)
        now[0] += 10.0
        keeper.tidy()
        assert keeper.trouble is None
        assert read_back(tmp_path / "spool") == list(range(7))
        assert [record.id for record in keeper.unsent()][:6] == ids
        assert keeper.losses == {}


def test_memory_is_bounded_and_what_is_lost_from_it_is_counted_for_good(tmp_path: Path) -> None:
    now = [0.0]
    files = Failing(range(10**9), errno.EROFS)
    with Keeper(
        tmp_path / "spool", ROOMY, AGE, files=files, now=lambda: now[0], memory=10 * (PAYLOAD_SIZE + 1)
    ) as keeper:
        for n in range(15):
            keeper.append(Kind.LOGS, payload(n), 2)
        assert [number(record.payload) for record in keeper.unsent()] == list(range(5, 15))
        assert keeper.losses == {"memory": Loss(5, 10)}
        for record, _ in zip(keeper.unsent(), range(3), strict=False):
            keeper.sent(record.id)
        keeper.drop(next(keeper.unsent()).id, "refused", 2)
        assert keeper.backlog().records == 6
        files.at = range(0)
        now[0] += 10.0
        keeper.tidy()
        assert read_back(tmp_path / "spool") == list(range(9, 15))
    with Keeper(tmp_path / "spool", ROOMY, AGE) as keeper:
        assert keeper.losses == {"memory": Loss(5, 10), "refused": Loss(1, 2)}


PAYLOAD_SIZE = len(payload(0)) + RECORD_HEAD


def test_whoever_watches_does_not_wait_for_a_disk_that_hangs(tmp_path: Path) -> None:
    hanging, released = threading.Event(), threading.Event()

    class Hanging(Files):
        def sync(self, file: int) -> None:
            hanging.set()
            released.wait(20.0)

    with Keeper(tmp_path / "spool", ROOMY, AGE, files=Hanging()) as keeper:
        writer = threading.Thread(target=keeper.append, args=(Kind.LOGS, payload(1), 1))
        writer.start()
        assert hanging.wait(20.0)
        seen: list[object] = []
        watcher = threading.Thread(target=lambda: seen.extend((keeper.trouble, keeper.losses)))
        watcher.start()
        watcher.join(5.0)
        assert seen == [None, {}]
        released.set()
        writer.join()


def test_a_batch_larger_than_the_memory_goes_to_a_disk_that_works(tmp_path: Path) -> None:
    with Keeper(tmp_path / "spool", 16 * MIB, AGE, memory=PAYLOAD_SIZE) as keeper:
        keeper.append_many([(Kind.LOGS, payload(n), 1) for n in range(1000)])
        assert keeper.losses == {}
        assert read_back(tmp_path / "spool") == list(range(1000))


def test_a_record_too_large_is_lost_alone(tmp_path: Path) -> None:
    with Keeper(tmp_path / "spool", MIB, AGE) as keeper:
        keeper.append_many([(Kind.LOGS, payload(1), 1), (Kind.LOGS, bytes(MIB), 7), (Kind.LOGS, payload(2), 1)])
        assert read_back(tmp_path / "spool") == [1, 2]
        assert keeper.losses == {"too_large": Loss(1, 7)}
        assert keeper.trouble is None


def test_a_spool_in_use_is_told_and_taken_over(tmp_path: Path) -> None:
    now = [0.0]
    with Spool(tmp_path / "spool", ROOMY, AGE), Keeper(tmp_path / "spool", ROOMY, AGE, now=lambda: now[0]) as keeper:
        assert keeper.trouble
        assert keeper.trouble.reason is Reason.SPOOL_IN_USE
        keeper.append(Kind.LOGS, payload(1), 1)
        assert keeper.backlog().records == 1
    assert keeper.losses == {"memory": Loss(1, 1)}  # closed while the other one still wrote


# -- torn at every byte ------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, bytes, list[int]]:
    """(segment, its content, where its records end)."""
    with Spool(tmp_path / "spool", ROOMY, AGE) as spool:
        for n in range(6):
            spool.append(Kind.LOGS, bytes([n]) * (7 * n), 1)
    segment = tmp_path / "spool" / "0000000000000001.seg"
    ends = [HEADER_SIZE]
    for n in range(6):
        ends.append(ends[-1] + RECORD_HEAD + 7 * n)
    assert segment.stat().st_size == ends[-1]
    return segment, segment.read_bytes(), ends


def check(segment: Path, whole: list[int], *, torn: bool, trace: object) -> None:
    """Opening succeeds, these records are read back, and writing goes on."""
    with Spool(segment.parent, ROOMY, AGE) as spool:
        assert [len(record.payload) // 7 for record in spool.unsent()] == whole, trace
        assert spool.torn == torn, trace
        spool.append(Kind.LOGS, b"new", 1)
        assert list(spool.unsent())[-1].payload == b"new", trace
        assert len(list(spool.unsent())) == len(whole) + 1, trace
    with Spool(segment.parent, ROOMY, AGE) as spool:
        assert len(list(spool.unsent())) == len(whole) + 1, trace
        assert spool.torn == torn, trace  # what was set aside once is not met again


def renew(segment: Path, content: bytes) -> None:
    for path in segment.parent.glob("*.*"):
        path.unlink()
    segment.write_bytes(content)


def test_a_segment_cut_at_any_byte(small) -> None:
    segment, content, ends = small
    for cut in range(len(content) + 1):
        renew(segment, content[:cut])
        whole = [n for n in range(6) if ends[n + 1] <= cut]
        check(segment, whole, torn=cut not in (0, *ends), trace=cut)


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_a_segment_whose_end_was_not_written(small, fill: bytes) -> None:
    """What some file systems leave after a loss of power: the size is there, the content is not."""
    segment, content, ends = small
    for cut in range(HEADER_SIZE, len(content)):
        renew(segment, content[:cut] + fill * (len(content) - cut))
        whole = [n for n in range(6) if content[: ends[n + 1]] == segment.read_bytes()[: ends[n + 1]]]
        check(segment, whole, torn=True, trace=cut)


def test_any_byte_flipped_costs_one_record(small) -> None:
    segment, content, ends = small
    for at in range(HEADER_SIZE, len(content)):
        renew(segment, content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        struck = next(n for n in range(6) if at < ends[n + 1])
        with Spool(segment.parent, ROOMY, AGE) as spool:
            found = [len(record.payload) // 7 for record in spool.unsent()]
            assert found == [n for n in range(6) if n != struck], at
            spool.append(Kind.LOGS, b"new", 1)
            assert list(spool.unsent())[-1].payload == b"new"


def test_a_damaged_header_costs_no_record(small) -> None:
    segment, content, _ = small
    for at in range(12, HEADER_SIZE):
        renew(segment, content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        with Spool(segment.parent, ROOMY, AGE) as spool:
            assert len(list(spool.unsent())) == 6
            spool.append(Kind.LOGS, b"new", 1)
            assert len(list(spool.unsent())) == 7
        assert len(read_back(segment.parent)) == 7


def test_what_is_torn_is_set_aside_bounded(tmp_path: Path) -> None:
    for n in range(10):
        with Spool(tmp_path / "spool", ROOMY, AGE) as spool:
            spool.append(Kind.LOGS, payload(n), 1)
        with (sorted((tmp_path / "spool").glob("*.seg"))[-1]).open("ab") as segment:
            segment.write(b"\xabREC" + os.urandom(100_000))
    with Spool(tmp_path / "spool", ROOMY, AGE) as spool:
        assert spool.torn == 10
        assert [number(record.payload) for record in spool.unsent()] == list(range(10))
    pieces = list((tmp_path / "spool" / "torn").iterdir())
    assert 1 <= len(pieces) <= 4
    assert sum(piece.stat().st_size for piece in pieces) <= 64 << 10


@pytest.mark.parametrize("torn", ["file", "symlink", "folder of folders"])
def test_a_place_for_torn_ends_that_cannot_be_used_is_no_obstacle(tmp_path: Path, torn: str) -> None:
    with Spool(tmp_path / "spool", ROOMY, AGE) as spool:
        spool.append(Kind.LOGS, payload(1), 1)
    place = tmp_path / "spool" / "torn"
    if torn == "file":
        place.write_text("in the way")
    elif torn == "symlink":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    else:
        for n in range(20):
            (place / str(n)).mkdir(parents=True)
    with (tmp_path / "spool" / "0000000000000001.seg").open("ab") as segment:
        segment.write(b"torn")
    with Spool(tmp_path / "spool", ROOMY, AGE) as spool:
        assert spool.torn == 1
        spool.append(Kind.LOGS, payload(2), 1)
    assert read_back(tmp_path / "spool") == [1, 2]
    assert not (tmp_path / "elsewhere").exists() or not list((tmp_path / "elsewhere").iterdir())


# -- a disk that is really full ----------------------------------------------------------------------------------------

_FULL = """
import json, os, resource, sys
from pathlib import Path
from pqvpn.telemetry.spool import Keeper, Kind, Reader
folder, how = Path(sys.argv[1]), sys.argv[2]
ballast = folder / "ballast"
if how == "tmpfs":
    ballast.write_bytes(bytes(500_000))
now = [0.0]
with Keeper(folder / "spool", 64 << 20, 86400.0, now=lambda: now[0]) as keeper:
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    ids, reason = [], None
    for n in range(100):
        ids.append(keeper.append(Kind.LOGS, bytes(10_000), 1).hex())
    reason = keeper.trouble and keeper.trouble.reason.code
    waiting = keeper.backlog().records
    if how == "tmpfs":
        ballast.unlink()
        folder.joinpath("more").touch()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    now[0] += 10
    keeper.tidy()
    after = keeper.trouble and keeper.trouble.reason.code
    reader = Reader(folder / "spool")
    found = [f.record.id.hex() for s in reader.sequences() for f in reader.records(s)]
    print(json.dumps([reason, waiting, after, found == ids, len(found), list(reader.notes), keeper.losses]))
"""


@pytest.mark.netns
@pytest.mark.needs("unshare", "mount")
def test_a_disk_that_is_full_and_has_room_again(tmp_path: Path) -> None:
    inside = 'mount -t tmpfs -o size=1300k,mode=700 tmpfs "$1" && exec "$2" -c "$3" "$1" tmpfs'
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        inside,
        "sh",
        str(tmp_path),
        sys.executable,
        _FULL,
    ]
    told = subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert json.loads(told.stdout) == ["telemetry.disk_full", 100, None, True, 100, [], {}]


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FULL, str(tmp_path), "limit"]
    told = subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert json.loads(told.stdout) == ["telemetry.disk_full", 100, None, True, 100, [], {}]


def test_a_head_that_promises_more_than_there_is_is_torn() -> None:
    record = layout.encode_record(layout.new_record(Kind.LOGS, b"x" * 50, 1, 1))
    head = layout.decode_head(record)
    assert head
    assert head.size == len(record)
    assert layout.decode_record(head, record, record[RECORD_HEAD:-1]) is None
    huge = record[:4] + (layout.LARGEST + 1).to_bytes(4, "little") + record[8:]
    assert layout.decode_head(huge) is None
