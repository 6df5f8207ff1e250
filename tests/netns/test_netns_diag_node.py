"""What is wrong with the node itself: every fault produced for real, and `pqvpn diag` names it first.

alpha 10.0.0.1 --veth0-- 10.0.0.2 beta     inside 10.7.0.0/24
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnosed import diagnose, evidence, first, healthy, two_nodes
from netparty import bring_up, connected, start

from lab import wait_for
from lab.chaos import wallclock
from lab.nodes import Node
from lab.traffic import ping

pytestmark = pytest.mark.netns


@pytest.fixture
def pair() -> Iterator[tuple[Node, Node]]:
    with two_nodes(None) as (alpha, beta):
        yield alpha, beta


def test_an_interface_that_was_deleted(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    bring_up(alpha, beta)
    healthy(alpha)
    alpha.namespace.delete_link("pqvpn0")
    assert "no interface pqvpn0" in evidence(first(alpha, "tun.gone"))


def test_an_interface_that_is_off_or_incomplete_and_then_mended(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    bring_up(alpha, beta)
    alpha.namespace.delete_address("pqvpn0", "10.7.0.1/24")
    first(alpha, "tun.down")
    alpha.namespace.add_address("pqvpn0", "10.7.0.1/24")
    alpha.namespace.add_route("10.7.0.2/32", interface="pqvpn0")
    alpha.namespace.down("pqvpn0")
    wait_for("the other evidence", lambda: "pqvpn0 is down" in evidence(first(alpha, "tun.down")), 30)


def test_another_interface_has_our_address(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    bring_up(alpha, beta)
    alpha.namespace.add_address("veth0", "10.7.0.1/24")
    conflict = first(alpha, "tun.address_conflict")
    assert "veth0" in evidence(conflict)
    alpha.namespace.delete_address("veth0", "10.7.0.1/24")
    healthy(alpha)


def test_a_process_that_ends_again_and_again(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    bring_up(alpha, beta)
    alpha.kill("lane-0")
    assert "lane-0 ended once" in evidence(first(alpha, "node.child_died"))
    for _ in range(2):
        before = alpha.pids("lane-0")
        wait_for("lane-0", lambda: alpha.pids("lane-0"), 10)
        alpha.kill("lane-0", signal.SIGSEGV)
        wait_for("its successor", lambda: (now := alpha.pids("lane-0")) and now != before, 15)  # noqa: B023 - called at once
    again = first(alpha, "node.child_restarting")
    assert "lane-0 ended 3 times" in evidence(again)
    assert again["subject"] == {"kind": "node", "name": "alpha"}


def test_control_hangs(pair: tuple[Node, Node]) -> None:
    """Stopped, it answers nobody; what was known before is still told, and how old it is."""
    alpha, beta = pair
    bring_up(alpha, beta)
    wait_for("records", lambda: (alpha.folder / "state" / "last.json").exists() and diagnose(alpha)["healthy"], 30)
    pid = alpha.kill("control", signal.SIGSTOP)

    def hanging() -> dict[str, Any] | None:
        told = diagnose(alpha)
        return told if told["verdicts"] and told["verdicts"][0]["code"] == "node.not_reporting" else None

    try:
        told = wait_for("the verdict, before the watchdog replaces control", hanging, 30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert "did not answer within 1 s" in evidence(told["verdicts"][0])
    known = told["knowledge"]
    assert (known["source"], known["running"], known["answers"]) == ("recorded", True, False)
    assert [each["name"] for each in told["peers"]] == ["beta"]
    wait_for("it to answer again", lambda: diagnose(alpha)["knowledge"]["answers"], 30)


@pytest.mark.slow
def test_the_observer_hangs(pair: tuple[Node, Node]) -> None:
    """What it would say is missing, until the watchdog replaces it; the node itself is asked, and says that it is well."""
    alpha, beta = pair
    bring_up(alpha, beta)
    wait_for(
        "the node to be settled",
        lambda: alpha.status()["node"]["uptime_seconds"] > 11 and diagnose(alpha)["healthy"],
        60,
    )
    pid = alpha.kill("observer", signal.SIGSTOP)

    def told() -> set[str]:
        found = diagnose(alpha)
        assert found["peers"][0]["state"] == "up"
        return {verdict["code"] for verdict in found["verdicts"]} & {"cli.observer_unreachable", "node.child_died"}

    try:
        seen = wait_for("the verdict", told, 40)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert "cli.observer_unreachable" in seen


def test_a_node_that_was_stopped_and_one_that_was_killed(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    never = first(alpha, "node.not_running")
    assert "it never ran" in evidence(never)
    bring_up(alpha, beta)
    wait_for("records", lambda: diagnose(alpha)["knowledge"]["events"], 10)
    alpha.down()
    assert "stopped by SIGTERM after" in evidence(first(alpha, "node.not_running"))
    alpha.up()
    healthy(alpha)
    alpha.kill("supervisor")
    assert alpha.process is not None
    alpha.process.wait(5.0)
    killed = first(alpha, "node.killed")
    assert "never said that it stops" in evidence(killed)
    assert killed["since"] is not None
    assert "session with beta agreed" in alpha.cli("diag", "logs", "--peer", "beta").stdout
    alpha.set({"node": {"mtu": 12}})
    assert "it could not start now: 1 error" in evidence(first(alpha, "node.killed"))


def test_a_wall_clock_that_is_wrong_and_jumps_is_a_note_and_never_the_cause(pair: tuple[Node, Node]) -> None:
    """Alpha and whoever asks it live 400 days ago; the tunnel does not mind, and diag says so beside a real fault."""
    alpha, beta = pair
    clock = alpha.folder / "clock"
    clock.write_bytes(wallclock.SHIFT.pack(-400 * 86400.0))
    alpha.runs_by = (sys.executable, wallclock.__file__, str(clock))
    bring_up(alpha, beta)
    connected(alpha, beta)
    wait_for("a healthy node", lambda: _asked(alpha) == (True, []), 30)
    session = alpha.peer("beta")["session_id"]
    with open(clock, "r+b") as shift:
        shift.write(wallclock.SHIFT.pack(-400 * 86400.0 + 7200.0))
    wait_for("the note", lambda: _asked(alpha) == (True, [("host.clock_jumped", "note")]), 30)
    assert "it went ahead by 2 h" in _ask(alpha)["verdicts"][0]["evidence"][0]
    assert ping(alpha.namespace, beta.address, 3).lost == 0
    assert alpha.peer("beta")["session_id"] == session
    alpha.namespace.delete_link("pqvpn0")
    told = wait_for("the fault", lambda: (t := _asked(alpha)[1]) and t[0][0] == "tun.gone" and t, 30)
    assert told[-1] == ("host.clock_jumped", "note")


def _ask(node: Node) -> dict[str, Any]:
    """What diag says to somebody who has the node's clock."""
    command = [*node.runs_by, "diag", "--json", "--config", str(node.config)]
    return dict(json.loads(node.namespace.run(command, check=False).stdout))


def _asked(node: Node) -> tuple[bool, list[tuple[str, str]]]:
    told = _ask(node)
    return told["healthy"], [(each["code"], each["severity"]) for each in told["verdicts"]]


@pytest.mark.slow
def test_a_collector_that_is_down(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    alpha.set({"telemetry": {"endpoint": "http://127.0.0.1:9", "insecure": True}})
    bring_up(alpha, beta)
    down = first(alpha, "telemetry.collector_unreachable", timeout=60)
    assert down["severity"] == "warning"


def test_a_disk_without_room(pair: tuple[Node, Node]) -> None:
    """As many bytes are wanted as no disk has."""
    alpha, beta = pair
    alpha.set({"health": {"disk_free": "1000GiB"}})
    bring_up(alpha, beta)
    low = first(alpha, "host.disk_low")
    assert low["severity"] == "warning"
    assert "MiB" in evidence(low)


@pytest.mark.needs("mount", "umount")
@pytest.mark.slow
def test_a_full_disk(pair: tuple[Node, Node]) -> None:
    """The state folder lies on a file system of its own, which is full at the start, and becomes full again later."""
    alpha, beta = pair
    state = alpha.folder / "state"
    state.mkdir(0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(state)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        alpha.set({"health": {"disk_free": "64KiB"}})
        _fill(state)
        bring_up(alpha, beta)
        for _ in range(2):
            full = first(alpha, "telemetry.disk_full")
            assert full["subject"] == {"kind": "node", "name": "alpha"}
            assert "No space left on device" in evidence(full)
            assert full["severity"] == "warning"
            (state / "filler").unlink()
            healthy(alpha)
            wait_for("records on the disk", lambda: list((state / "spool").glob("*")), 10)
            _fill(state)
    finally:
        alpha.down()
        subprocess.run(["umount", "-l", str(state)], check=True)


def _fill(folder: Path) -> None:
    """Take every byte that is left."""
    with contextlib.suppress(OSError), open(folder / "filler", "ab", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def test_a_state_folder_that_cannot_be_written(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    state = alpha.folder / "state"
    state.write_text("a file where the folder should be")
    bring_up(alpha, beta)
    wait_for(
        "the verdict",
        lambda: any(
            v["code"] in ("host.state_unwritable", "telemetry.spool_unwritable") for v in diagnose(alpha)["verdicts"]
        ),
        40,
    )
    told = diagnose(alpha)
    assert told["verdicts"][0]["severity"] == "warning"
    assert told["knowledge"]["source"] == "live"


def test_a_configuration_that_cannot_be_read_does_not_hide_the_node(pair: tuple[Node, Node]) -> None:
    """Diag still finds the node by its folder names, which the file says before the place where it is broken."""
    alpha, beta = pair
    bring_up(alpha, beta)
    healthy(alpha)
    text = alpha.config.read_text()
    alpha.config.write_text(text + "\n[peer.gamma]\ncard = 3\n")
    assert diagnose(alpha)["healthy"]
    alpha.config.write_text(text)


def test_a_bundle_of_a_running_node_holds_no_secret_and_no_address(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    bring_up(alpha, beta)
    wait_for("records", lambda: diagnose(alpha)["knowledge"]["events"], 10)
    place = alpha.folder / "b.tar.gz"
    told = json.loads(alpha.cli("diag", "bundle", "-o", str(place), "--json").stdout)
    assert [each["name"] for each in told["files"]][:2] == ["SUMMARY.txt", "manifest.json"]
    with tarfile.open(place) as archive:
        contents = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    key = (alpha.folder / "identity.key").read_text().split()
    for needle in (*(word for word in key if len(word) > 20), "10.0.0.2", "10.7.0.2", "0200000A"):
        assert [name for name, content in contents.items() if needle.encode() in content] == [], needle
    assert {"spool/logs.jsonl", "spool/metrics.jsonl", "kernel.json", "log/pqvpn.log"} <= contents.keys()


def test_nothing_runs_and_nothing_was_ever_recorded(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    done = alpha.cli("diag", check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("PROBLEM  alpha: does not run\n")
    start(alpha)
    assert diagnose(alpha)["knowledge"]["source"] == "live"
