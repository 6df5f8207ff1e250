"""The runtime folder: one node per configuration, the kernel's lock, a socket for its owner only."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pqvpn.errors import NetworkError, PqvpnError
from pqvpn.host.runtime import RuntimeFolder
from pqvpn.reasons import Reason

HOLDER = """
import sys
from pathlib import Path
from pqvpn.host.runtime import RuntimeFolder
folder = Path(sys.argv[1])
claimed = RuntimeFolder(folder, folder / "pid", folder / "control.sock")
listener = claimed.listen()
print("claimed", flush=True)
sys.stdin.read()
"""


def claim(folder: Path) -> RuntimeFolder:
    return RuntimeFolder(folder, folder / "pid", folder / "control.sock")


def test_the_folder_is_private_and_the_pid_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    claimed = claim(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "pid").stat().st_mode) == 0o600
    assert (folder / "pid").read_text() == f"{os.getpid()}\n"
    claimed.release()


def test_a_second_claim_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    claimed = claim(tmp_path)
    with pytest.raises(PqvpnError) as refused:
        claim(tmp_path)
    assert refused.value.reason is Reason.ALREADY_RUNNING
    assert refused.value.exit_code == os.EX_CONFIG  # a restart cannot help
    assert str(os.getpid()) in refused.value.detail
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"  # the refused one changed nothing
    claimed.release()
    claim(tmp_path).release()


def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"claimed\n"
        with pytest.raises(PqvpnError, match=str(holder.pid)):
            claim(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (tmp_path / "control.sock").exists()  # left behind
    claimed = claim(tmp_path)
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"
    with claimed.listen() as listener, socket.socket(socket.AF_UNIX) as asker:
        asker.connect(str(tmp_path / "control.sock"))
        listener.accept()[0].close()
    claimed.release()


def test_the_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        claimed = claim(tmp_path)
        with claimed.listen() as listener:
            assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600
            assert not listener.get_inheritable()
            assert listener.getblocking() is False
        assert os.umask(0) == 0  # as it was
    finally:
        os.umask(before)
    claimed.release()
    assert not (tmp_path / "control.sock").exists()
    assert (tmp_path / "pid").read_bytes() == b""


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    claimed = claim(tmp_path)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        claimed.release()
        claim(tmp_path).release()
        child.kill()


def test_a_folder_that_cannot_be_made_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NetworkError) as refused:
        claim(tmp_path / "file" / "run")
    assert refused.value.reason is Reason.KERNEL_REFUSED
    assert refused.value.place.endswith("run")


def test_a_link_in_the_place_of_the_pid_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("keep me")
    (tmp_path / "pid").symlink_to(target)
    with pytest.raises(NetworkError):
        claim(tmp_path)
    assert target.read_text() == "keep me"


def test_a_socket_path_that_is_too_long_has_a_reason(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    claimed = claim(folder)
    with pytest.raises(NetworkError) as refused:
        claimed.listen()
    assert refused.value.reason is Reason.KERNEL_REFUSED
    claimed.release()
