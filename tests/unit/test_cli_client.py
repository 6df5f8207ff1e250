"""The control socket's client against a small real server: answers, refusals, silence, nonsense."""

import contextlib
import fcntl
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pqvpn.cli import client
from pqvpn.cli.output import RefusedError
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

Answer = Callable[[bytes], bytes]
Serve = Callable[[Answer], list[bytes]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a server that answers one connection with a function of the request; gives the requests it got."""
    threads: list[threading.Thread] = []
    listener = socket.socket(socket.AF_UNIX)

    def start(answer: Answer) -> list[bytes]:
        got: list[bytes] = []
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen()

        def run() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines, contextlib.suppress(ConnectionError):
                got.append(lines.readline())
                connection.sendall(answer(got[0]))
                lines.read()  # until the client has gone

        threads.append(threading.Thread(target=run))
        threads[0].start()
        return got

    yield start
    for thread in threads:
        thread.join(10)
    listener.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[None]:
    """A pid file that is locked as a running node does."""
    with open(tmp_path / "pid", "w+") as file:
        file.write("4711\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def says(value: object) -> Answer:
    return lambda _: json.dumps(value).encode() + b"\n"


def test_result(tmp_path: Path, serve: Serve) -> None:
    got = serve(says({"ok": True, "result": {"a": "ä" * 100_000}}))
    assert client.request(tmp_path, "reconnect", peer="beta") == {"a": "ä" * 100_000}
    assert [json.loads(line) for line in got] == [{"op": "reconnect", "peer": "beta"}]


def test_refusal_keeps_every_error(tmp_path: Path, serve: Serve) -> None:
    first = {"code": "config.mtu", "text": "t", "detail": "1000 is outside", "place": "node.mtu", "remedy": "r"}
    second = {"code": "code.of_tomorrow", "text": "news"}
    serve(says({"ok": False, "error": first, "errors": [first, second]}))
    with pytest.raises(RefusedError) as caught:
        client.request(tmp_path, "reload")
    assert caught.value.exit_code == 78
    mtu, unknown = caught.value.errors
    assert (mtu.reason, mtu.detail, mtu.place, mtu.remedy) == (Reason.CONFIG_MTU, "1000 is outside", "node.mtu", "r")
    assert (unknown.reason, unknown.detail) == (Reason.INTERNAL, "news")


@pytest.mark.parametrize(
    "answer",
    [b"", b"half", b"no json\n", b"[]\n", b"{}\n", b'{"ok": true}\n', b'{"ok": false, "error": 3}\n', b"\xff\n"],
)
@pytest.mark.usefixtures("running")
def test_nonsense(tmp_path: Path, serve: Serve, answer: bytes) -> None:
    def cut_off(_: bytes) -> bytes:
        return answer

    serve(cut_off)
    with pytest.raises(PqvpnError) as caught:
        client.request(tmp_path, "status", seconds=0.3)
    assert caught.value.reason is Reason.CONTROL_UNREACHABLE
    assert "4711" in caught.value.detail


@pytest.mark.usefixtures("running")
def test_an_answer_without_end_is_bounded(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_ANSWER_LIMIT", 1 << 16)
    serve(lambda _: b"x" * (1 << 18))
    with pytest.raises(PqvpnError, match="too long"):
        client.request(tmp_path, "status")


def test_not_running(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("4711\n")  # left behind by a killed one
    for runtime in (tmp_path, tmp_path / "none", tmp_path / ("x" * 200)):
        with pytest.raises(PqvpnError) as caught:
            client.request(runtime, "status")
        assert (caught.value.reason, caught.value.exit_code) == (Reason.NOT_RUNNING, 69)


@pytest.mark.usefixtures("running")
def test_running_but_no_socket(tmp_path: Path) -> None:
    with pytest.raises(PqvpnError) as caught:
        client.request(tmp_path, "status")
    assert caught.value.reason is Reason.CONTROL_UNREACHABLE


@pytest.mark.usefixtures("running")
def test_running_pid(tmp_path: Path) -> None:
    assert client.running_pid(tmp_path) == 4711
    assert not client.wait_until_ended(tmp_path, 0.05)
    assert client.running_pid(tmp_path / "none") is None


def test_asking_leaves_no_lock(tmp_path: Path) -> None:
    with open(tmp_path / "pid", "w") as file:
        assert client.running_pid(tmp_path) is None
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert client.running_pid(tmp_path) == 0
    assert client.wait_until_ended(tmp_path, 1.0)
