"""What is told to a service manager, and what it passes on."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pqvpn.host.systemd import Manager, passed


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "notify"


def _listener(place: Path | str) -> socket.socket:
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.bind(str(place))
    heard.settimeout(5)
    return heard


def test_without_a_manager_nothing_happens() -> None:
    manager = Manager({})
    assert not manager.listens
    assert not manager.tell("READY=1")
    assert manager.watchdog is None
    manager.keep("x", 0)
    manager.wait(5.0)


def test_messages_and_descriptors(place: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(place), "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "A": "b"}
    with _listener(place) as heard:
        manager = Manager(environment)
        assert environment == {"A": "b"}, "children are not told"
        assert manager.watchdog == 3.0
        assert manager.tell("READY=1", "STATUS=up")
        assert heard.recv(999) == b"READY=1\nSTATUS=up"
        reading, writing = os.pipe()
        manager.keep("pipe", writing)
        data, descriptors, _, _ = socket.recv_fds(heard, 999, 4)
        assert data == b"FDSTORE=1\nFDNAME=pipe\nFDPOLL=0"
        os.write(descriptors[0], b"x")
        assert os.read(reading, 1) == b"x"
        manager.forget("pipe")
        assert heard.recv(999) == b"FDSTOREREMOVE=1\nFDNAME=pipe"
        manager.reloading()
        assert heard.recv(999).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        for each in (reading, writing, *descriptors):
            os.close(each)
        manager.close()


def test_wait_ends_when_the_manager_has_come_to_it() -> None:
    with _listener(f"\0pqvpn-{os.urandom(8).hex()}") as heard:
        manager = Manager({"NOTIFY_SOCKET": "@" + heard.getsockname()[1:].decode()})
        done = threading.Event()
        waiting = threading.Thread(target=lambda: (manager.wait(20.0), done.set()))
        waiting.start()
        data, descriptors, _, _ = socket.recv_fds(heard, 999, 4)
        assert data == b"BARRIER=1"
        assert not done.is_set()
        os.close(descriptors[0])
        waiting.join(10)
        assert done.is_set()
        manager.close()


def test_a_watchdog_of_somebody_else_is_none() -> None:
    assert Manager({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog is None
    assert Manager({"WATCHDOG_USEC": "soon"}).watchdog is None


def test_a_manager_that_went_away_is_not_told(place: Path) -> None:
    with _listener(place):
        manager = Manager({"NOTIFY_SOCKET": str(place)})
    assert not manager.tell("READY=1")
    manager.close()


_PASSED = """
import os, sys
from pqvpn.host.systemd import passed
os.environ["LISTEN_PID"] = str(os.getpid())
found = passed(os.environ)
print(sorted(found), [os.get_inheritable(found[n]) for n in found], "LISTEN_FDS" in os.environ)
"""


def test_passed_descriptors_have_names() -> None:
    """In a process of its own, where 3 and 4 are free."""
    place = "import os, sys; os.dup2(0, 3, True); os.dup2(0, 4, True); os.execv(sys.executable, sys.argv[1:])"
    said = subprocess.run(
        [sys.executable, "-c", place, sys.executable, "-c", _PASSED],
        env={**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "tun-0:counters"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        close_fds=False,
        check=True,
    )
    assert said.stdout.strip() == "['counters', 'tun-0'] [False, False] False"


def test_descriptors_of_another_process_are_left_alone() -> None:
    assert passed({"LISTEN_FDS": "2", "LISTEN_PID": "1"}) == {}
    assert passed({}) == {}
