"""Log files: rotation by size and age, compression, retention, and disks that refuse."""

import errno
import gzip
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from pqvpn.telemetry.logfiles import files
from pqvpn.telemetry.logfiles.files import LogFiles

DAY = 86400.0


class Clock:
    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        self.time += 0.001  # two rotations have two names
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> LogFiles:
    return LogFiles(tmp_path / "state" / "log", 10_000, DAY, 100_000, clock)


def line(number: int, size: int = 100) -> bytes:
    head = f'{{"number":{number},"fill":"'.encode()
    return head + b"x" * (size - len(head) - 3) + b'"}'


def everything(log: LogFiles) -> list[int]:
    """The numbers of all lines, oldest first."""
    found = []
    for path in sorted(log.folder.glob(f"{files.NAME}-*")):
        text = gzip.decompress(path.read_bytes()) if path.suffix == files.PACKED else path.read_bytes()
        found += [json.loads(each)["number"] for each in text.splitlines()]
    return found + [json.loads(each)["number"] for each in log.path.read_bytes().splitlines()]


def test_files_are_private_in_a_private_folder(log: LogFiles) -> None:
    before = os.umask(0)
    try:
        log.write([line(1)])
        log.rotate()
        log.write([line(2)])
    finally:
        os.umask(before)
    assert stat.S_IMODE(log.folder.stat().st_mode) == 0o700
    paths = list(log.folder.iterdir())
    assert len(paths) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}


def test_a_file_that_is_full_is_set_aside_compressed(log: LogFiles) -> None:
    for number in range(250):
        log.write([line(number)])
    assert everything(log) == list(range(250))
    aside = sorted(path.name for path in log.folder.iterdir() if path.name != files.NAME)
    assert len(aside) == 2
    assert all(name.endswith("Z.gz") for name in aside)
    assert log.path.stat().st_size <= 10_000


def test_a_file_that_is_old_is_set_aside_also_after_a_restart(log: LogFiles, clock: Clock) -> None:
    log.write([json.dumps({"number": 1, "time": "2023-11-14T22:13:20.5Z"}).encode()])
    clock.time += DAY - 10
    successor = LogFiles(log.folder, 10_000, DAY, 100_000, clock)
    successor.write([line(2)])
    assert len(list(log.folder.iterdir())) == 1
    clock.time += 20
    successor.write([line(3)])
    assert len(list(log.folder.iterdir())) == 2
    assert everything(successor) == [1, 2, 3]


def test_the_oldest_go_and_the_total_stays_within_its_limit(tmp_path: Path, clock: Clock) -> None:
    log = LogFiles(tmp_path, 4_000, DAY, 20_000, clock)
    for number in range(2_000):
        log.write([line(number, 90) + os.urandom(8).hex().encode()])  # not JSON any more; little to compress
        assert log.total() <= 20_000
    kept = list(tmp_path.iterdir())
    assert len(kept) > 3
    newest = log.path.read_bytes() or b"1999"
    assert b"1999" in newest


def test_one_batch_that_is_larger_than_a_file_is_kept_whole(log: LogFiles) -> None:
    log.write([line(number) for number in range(300)])
    assert everything(log) == list(range(300))


def test_what_a_killed_predecessor_left_is_compressed_and_its_half_is_removed(log: LogFiles) -> None:
    log.folder.mkdir(parents=True)
    (log.folder / f"{files.NAME}-20230101T000000.000000Z").write_bytes(line(1) + b"\n")
    (log.folder / f"{files.NAME}-20220101T000000.000000Z.gz.part").write_bytes(b"\x1f\x8b half")
    log.write([line(2)])
    assert everything(log) == [1, 2]
    assert not list(log.folder.glob("*.part"))


def test_a_folder_that_was_removed_is_made_again(log: LogFiles) -> None:
    log.write([line(1)])
    shutil.rmtree(log.folder)
    log.write([line(2)])
    assert everything(log) == [2]
    log.path.rename(log.folder / "elsewhere")
    log.write([line(3)])
    assert everything(log) == [3]


def test_a_disk_that_takes_half_a_line_has_none_of_it(log: LogFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write([line(1)])
    write, calls = os.write, []

    def full(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, bytes(data)[:30])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        log.write([line(2)])
    monkeypatch.undo()
    assert everything(log) == [1]
    log.write([line(2)])
    assert everything(log) == [1, 2]


def test_compression_that_fails_leaves_the_file_as_it_is(log: LogFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    log.write([line(1)])
    log.rotate()
    log.write([line(2)])
    assert everything(log) == [1, 2]
    assert not list(log.folder.glob("*.gz*"))
    monkeypatch.undo()
    log.rotate()
    assert len(list(log.folder.glob("*.gz"))) == 2
    assert everything(log) == [1, 2]


def test_a_link_that_somebody_planted_is_not_followed(log: LogFiles, tmp_path: Path) -> None:
    log.folder.mkdir(parents=True)
    (tmp_path / "victim").write_text("mine")
    log.path.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        log.write([line(1)])
    assert (tmp_path / "victim").read_text() == "mine"
