"""The key of pseudonyms: made once, for its owner alone, the same for every process; without a disk one for this run."""

import os
import stat
import threading
from pathlib import Path

import pytest

from pqvpn.config.paths import PSEUDONYM_KEY_NAME
from pqvpn.telemetry.redaction import Policy, Redactor, load
from pqvpn.telemetry.redaction.policy import KEY_SIZE, installation_key


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "of" / "a node"
    first = load(folder, "mask", frozenset({"beta.example"}))
    assert (first.addresses, first.hosts, len(first.key)) == ("mask", {"beta.example"}, KEY_SIZE)
    path = folder / PSEUDONYM_KEY_NAME
    assert path.read_bytes() == first.key == installation_key(folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [each.name for each in folder.iterdir()] == [PSEUDONYM_KEY_NAME]


def test_the_key_is_not_shown() -> None:
    assert repr(b"k" * 32) not in repr(Policy("mask", b"k" * 32))


def test_the_umask_does_not_matter(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        installation_key(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / PSEUDONYM_KEY_NAME).stat().st_mode) == 0o600


def test_a_looser_mode_is_tightened(tmp_path: Path) -> None:
    key = installation_key(tmp_path)
    (tmp_path / PSEUDONYM_KEY_NAME).chmod(0o644)
    assert installation_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / PSEUDONYM_KEY_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_what_is_no_key_gives_way(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PSEUDONYM_KEY_NAME).write_bytes(content)
    key = installation_key(tmp_path)
    assert len(key) == KEY_SIZE
    assert installation_key(tmp_path) == key == (tmp_path / PSEUDONYM_KEY_NAME).read_bytes()


def test_many_at_once_agree(tmp_path: Path) -> None:
    barrier, found = threading.Barrier(16), []

    def make() -> None:
        barrier.wait()
        found.append(installation_key(tmp_path))

    threads = [threading.Thread(target=make) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {(tmp_path / PSEUDONYM_KEY_NAME).read_bytes()}
    assert len(list(tmp_path.iterdir())) == 1


def refuse(*_: object, **__: object) -> int:
    raise OSError(30, "Read-only file system")


@pytest.mark.parametrize("call", ["open", "link", "fsync", "mkdir"])
def test_a_disk_that_refuses_costs_stability_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        first, second = installation_key(tmp_path / "state"), installation_key(tmp_path / "state")
    assert len(first) == len(second) == KEY_SIZE
    assert first != second
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_link_and_no_pipe_is_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"o" * KEY_SIZE)
    state = tmp_path / "state"
    state.mkdir()
    (state / PSEUDONYM_KEY_NAME).symlink_to(other)
    assert installation_key(state) != other.read_bytes() == b"o" * KEY_SIZE
    (state / PSEUDONYM_KEY_NAME).unlink()
    os.mkfifo(state / PSEUDONYM_KEY_NAME)
    assert len(installation_key(state)) == KEY_SIZE  # and it did not wait for a writer


def test_the_same_peer_is_the_same_name_in_every_process(tmp_path: Path) -> None:
    names = {Redactor(load(tmp_path)).text("at 192.0.2.7:51820") for _ in range(3)}
    assert len(names) == 1
    assert names != {Redactor(load(tmp_path / "elsewhere")).text("at 192.0.2.7:51820")}
