"""`pqvpn health` and `pqvpn log-level`: what they print, and with which code they end."""

import fcntl
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pqvpn.cli import client, health, loglevel, main
from pqvpn.config import paths
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

Answer = Callable[[str, int, bytes], None]


def item(name: str, state: str = "ok", key: str = "", code: str = "", suppressed_by: str = "") -> dict[str, Any]:
    return {
        "item": name, "key": key, "state": state, "text": f"text of {name}", "since_seconds": 75.0, "code": code,
        "cause": f"cause of {code}" if code else "", "evidence": "seen by itself" if code else "",
        "remedy": "mend it" if code else "", "suppressed_by": suppressed_by, "depends_on": [],
    }  # fmt: skip


def report(*items: dict[str, Any], state: str = "ok") -> dict[str, Any]:
    return {"schema": 1, "node": {"name": "alpha", "state": "running"}, "state": state, "items": list(items)}


BROKEN = report(
    item("tun.interface", "failing", code="tun.gone"),
    item("peer", "warning", "gamma", "network.stale"),
    item("host.disk", "unknown"),
    item("tun.addresses", "failing", code="tun.down", suppressed_by="tun.interface"),
    item("peer", "failing", "beta", "network.no_reply", "tun.interface"),
    item("host.clock"),
    state="failing",
)


def test_the_worst_comes_first_with_evidence_and_remedy() -> None:
    lines = health.plain(BROKEN).splitlines()
    assert lines[0] == "alpha: failing, running"
    assert lines[1] == "  failing  tun.interface: cause of tun.gone [tun.gone], for 1 m 15 s"
    assert lines[2].strip() == "seen by itself"
    assert lines[3].strip() == "remedy: mend it"
    assert lines[4].startswith("  warning  peer gamma: ")
    assert "host.disk: not known: text of host.disk, for 1 m 15 s" in lines[7]
    assert lines[8] == "  2 more follow from tun.interface: tun.addresses, peer beta"
    assert lines[9] == "  ok       1 of 6: host.clock"


def test_a_healthy_node_is_two_lines() -> None:
    assert health.plain(report(item("host.clock"), item("peer", key="beta"))) == (
        "alpha: ok, running\n  ok       2 of 2: host.clock, peer"
    )


def test_colour_is_for_terminals() -> None:
    assert "\033[31m" in health.plain(BROKEN, coloured=True)
    assert "\033" not in health.plain(BROKEN)


class Runtime:
    """A runtime folder with a locked pid file and a health socket that answers once for each in `answers`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "pqvpn.toml"
        self.config.write_text('[node]\nruntime_dir = "run"\n')
        self.run = folder / "run"
        self.run.mkdir()
        self.paths: list[str] = []
        self._lock = open(paths.pid_file(self.run), "w")  # noqa: SIM115 - closed by `close`
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def answer(self, status: int, body: bytes) -> None:
        self._listener = listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(paths.health_socket(self.run)))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                self.paths.append(connection.recv(4096).split()[1].decode())
                head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode() + body)

        self._thread = threading.Thread(target=serve)
        self._thread.start()

    def close(self) -> None:
        if self._thread:
            self._thread.join(5.0)
        if self._listener:
            self._listener.close()
        self._lock.close()


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime(tmp_path)
    yield made
    made.close()


def run(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main.run(words)
    return ended.value.code


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warning", 1), ("failing", 2), ("unknown", 1), ("other", 1)])
def test_exit_codes_follow_the_state(
    runtime: Runtime, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    runtime.answer(200, json.dumps(report(state=state)).encode())
    assert run("health", "--json", "--config", str(runtime.config)) == code
    assert json.loads(capsys.readouterr().out)["state"] == state
    assert runtime.paths == ["/health"]


@pytest.mark.parametrize(("status", "code", "said"), [(200, 0, "ready\n"), (503, 1, "not ready: tun.interface\n")])
def test_ready_is_for_container_checks(
    runtime: Runtime, capsys: pytest.CaptureFixture[str], status: int, code: int, said: str
) -> None:
    runtime.answer(status, json.dumps({"ok": status == 200, "failing": ["tun.interface"], "node": "running"}).encode())
    assert run("health", "--ready", "--config", str(runtime.config)) == code
    assert capsys.readouterr().out == said
    assert runtime.paths == ["/readyz"]


def test_without_node_without_observer_without_telemetry(runtime: Runtime) -> None:
    with pytest.raises(PqvpnError) as refused:
        health.ask(runtime.config, "/health")
    assert refused.value.reason is Reason.OBSERVER_UNREACHABLE
    runtime.config.write_text('[node]\nruntime_dir = "run"\n[telemetry]\nenabled = false\n')
    with pytest.raises(PqvpnError) as refused:
        health.ask(runtime.config, "/health")
    assert refused.value.reason is Reason.TELEMETRY_OFF
    assert refused.value.exit_code == os.EX_UNAVAILABLE
    runtime.close()
    with pytest.raises(PqvpnError) as refused:
        health.ask(runtime.config, "/health")
    assert refused.value.reason is Reason.NOT_RUNNING


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]", b"[" * 100_000, b"\xff\xfe"])
def test_an_answer_that_is_none_is_told(runtime: Runtime, body: bytes) -> None:
    runtime.answer(200, body)
    with pytest.raises(PqvpnError) as refused:
        health.ask(runtime.config, "/health")
    assert refused.value.reason is Reason.OBSERVER_UNREACHABLE


# log-level


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    requests: list[dict[str, Any]] = []

    def request(_: Path, operation: str, **arguments: Any) -> dict[str, Any]:
        requests.append({"op": operation, **arguments})
        levels = [{"area": "*", "level": "info", "seconds": None}, {"area": "data", "level": "debug", "seconds": 599.0}]
        return {"levels": levels, "areas": ["data", "path"]}

    monkeypatch.setattr(client, "request", request)
    return requests


def test_levels_are_shown(asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    loglevel.log_level()
    assert capsys.readouterr().out.splitlines() == [
        "*            info",
        "data         debug, falls back in 9 m 59 s",
        "Areas: data, path",
    ]
    assert asked == [{"op": "log_level"}]


def test_levels_are_set_for_a_while(asked: list[dict[str, Any]]) -> None:
    loglevel.log_level(["data=debug", "*=warning"], "10m")
    assert asked[:2] == [
        {"op": "log_level", "area": "data", "level": "debug", "for_seconds": 600.0},
        {"op": "log_level", "area": "*", "level": "warning", "for_seconds": 600.0},
    ]


@pytest.mark.parametrize(
    "words", [("data",), ("data=",), ("=debug",), ("data=debug", "--for", "soon"), ("--for", "10m")]
)
def test_what_is_not_understood_is_refused_before_anything_is_set(
    asked: list[dict[str, Any]], words: tuple[str, ...]
) -> None:
    assert run("log-level", *words) == os.EX_USAGE
    assert asked == []
