"""What people are told when a lab cannot be made."""

import errno
import json
import pathlib
import subprocess
from typing import Any

import pytest

from lab import obstacles


def refused(monkeypatch: pytest.MonkeyPatch, step: str, code: int, uid: int = 1000) -> obstacles.Obstacle:
    answer = json.dumps({"step": step, "errno": code, "text": "as the kernel says"})
    done: subprocess.CompletedProcess[Any] = subprocess.CompletedProcess([], 0, stdout=answer)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(obstacles.os, "geteuid", lambda: uid)
    found = obstacles.obstacle.__wrapped__()
    assert found is not None
    assert "as the kernel says" in found.text
    return found


def test_nothing_is_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    done: subprocess.CompletedProcess[Any] = subprocess.CompletedProcess([], 0, stdout="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert obstacles.obstacle.__wrapped__() is None


def test_user_namespaces_switched_off(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    switch = tmp_path / "kernel" / "switch"
    switch.parent.mkdir()
    switch.write_text("0\n")
    monkeypatch.setattr(obstacles, "_SYSTEM_SETTINGS", tmp_path)
    monkeypatch.setattr(obstacles, "_SWITCHES", (("kernel/switch", "0", "1"), ("kernel/other", "0", "1")))
    found = refused(monkeypatch, "namespace", errno.EPERM)
    assert found.remedy == (
        "allow them until the next start: sudo sysctl -w kernel.switch=1",
        "run the same command as root",
    )


def test_not_even_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    found = refused(monkeypatch, "namespace", errno.EPERM, uid=0)
    assert "even to root" in found.text
    assert "--privileged" in found.remedy[0]


@pytest.mark.parametrize(("uid", "command"), [(1000, "sudo chmod 0666"), (0, ": chmod 0666")])
def test_tun_is_closed(monkeypatch: pytest.MonkeyPatch, uid: int, command: str) -> None:
    found = refused(monkeypatch, "tun", errno.EACCES, uid)
    assert "not open" in found.text
    assert command in found.remedy[0]


def test_tun_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = refused(monkeypatch, "tun", errno.ENOENT)
    assert "missing" in found.text
    assert "mknod" in found.remedy[0]


def test_the_kernel_refuses_an_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "refuses" in refused(monkeypatch, "interface", errno.EPERM).text
