"""The observer of a real node: killed, stopped, without disk, asked over unix and TCP; what health says of faults.

alpha (10.7.0.1) --veth0-- beta (10.7.0.2)
"""

import collections
import contextlib
import gzip
import http.client
import ipaddress
import json
import os
import shlex
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flows import flow, told, wait_replaced
from netparty import bring_up, connected, make_nodes

from lab import Lab, ended, wait_for
from lab.nodes import PQVPN, ROOT, Node
from lab.traffic import ping

pytestmark = pytest.mark.netns

_TOKEN = "not-for-strangers"
_SETTINGS = {
    "timers": {"m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": "1s", "dead": "3s", "keepalive": "1s"},
    "health": {"interval": "500ms", "mend": False},  # what is taken away is to be told here
    "telemetry": {"flush_interval": "200ms", "metrics_interval": "1s"},
    "restart": {"hang_after": "30s"},  # what hangs is to be told here, not replaced
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def pair(lab: Lab) -> tuple[Node, Node]:
    a, b = lab.namespace("a"), lab.namespace("b")
    lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
    alpha, beta = make_nodes(lab, a, b, None, "10.0.0.2", _SETTINGS)
    (alpha.folder / "token").touch(0o600)
    (alpha.folder / "token").write_text(_TOKEN + "\n")
    alpha.set({"health": {"listen": "10.0.0.1:9464", "token_file": "token"}, "log": {"rotate_size": "16KiB"}})
    return alpha, beta


@pytest.fixture
def running(pair: tuple[Node, Node]) -> tuple[Node, Node]:
    """Both nodes up and observed, whatever the test before did."""
    idle = [node for node in pair if node.process is None or node.process.poll() is not None]
    bring_up(*idle)
    connected(*pair)
    for node in pair:
        wait_for(f"{node.name} to be healthy", lambda: state(node) == "ok")  # noqa: B023 - called at once
    return pair


def get(connection: socket.socket, path: str, token: str | None = None) -> tuple[int, Any]:
    """Ask over a connected socket."""
    wrapped = http.client.HTTPConnection("node")
    wrapped.sock = connection
    connection.settimeout(5.0)
    try:
        wrapped.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        response = wrapped.getresponse()
        body = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from None
    finally:
        wrapped.close()
    return response.status, json.loads(body) if "json" in response.headers["content-type"] else body.decode()


def ask(node: Node, path: str = "/health") -> tuple[int, Any]:
    """Over the unix socket."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5.0)
    connection.connect(str(node.folder / "run" / "health.sock"))
    return get(connection, path)


def state(node: Node) -> str:
    return str(ask(node)[1]["state"])


def items(node: Node) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = collections.defaultdict(lambda: collections.defaultdict(str))
    found.update((f"{i['item']}:{i['key']}".rstrip(":"), i) for i in ask(node)[1]["items"])
    return found


def recorded(node: Node) -> list[dict[str, Any]]:
    """Every line of the node's log files, oldest first."""
    folder, lines = node.folder / "state" / "log", []
    for path in (*sorted(folder.glob("pqvpn.log-*")), folder / "pqvpn.log"):
        data = path.read_bytes()
        lines += (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    return [json.loads(line) for line in lines]


def sessions(node: Node) -> set[str]:
    return {line["session_id"] for line in recorded(node) if line["event"] == "handshake.completed"}


# Its death


def test_killed_during_traffic(running: tuple[Node, Node]) -> None:
    """Nothing stops; what happens while there is no observer is recorded by the next one."""
    alpha, beta = running
    with flow(alpha, beta) as there, flow(beta, alpha) as back:
        for _ in range(3):
            before = alpha.peer("beta")["session_id"]
            pid = alpha.kill("observer")
            alpha.ask("reconnect", peer="beta")
            wait_for("a new session", lambda: alpha.peer("beta")["session_id"] not in (before, None))  # noqa: B023
            session = alpha.peer("beta")["session_id"]
            wait_replaced(alpha, "observer", pid)
            wait_for("its record", lambda: session in sessions(alpha))  # noqa: B023 - called at once
            there.more()
            back.more()
    ended = [line for line in recorded(alpha) if line["event"] == "process.ended"]
    assert {(line["fields"]["process"], line["fields"]["status"]) for line in ended} == {("observer", "SIGKILL")}
    assert not told(alpha, "session.ended", why="lost")
    wait_for("health again", lambda: ask(alpha, "/livez")[0] == 200)


def test_levels_outlive_those_who_log(running: tuple[Node, Node]) -> None:
    """What an operator set holds in the next control and the next observer, for the rest of its time."""
    alpha, _ = running
    alpha.ask("log_level", area="tun", level="error", for_seconds=600)
    before = {name: alpha.pids(name) for name in ("control", "observer")}
    for name, pids in before.items():
        alpha.kill(name)
        wait_for(f"the next {name}", lambda: alpha.pids(name) not in ([], pids))  # noqa: B023 - called at once
    (left,) = [each for each in alpha.ask("log_level")["levels"] if each["area"] == "tun"]
    assert left["level"] == "error"
    assert 500 < left["seconds"] < 600
    wait_for("health again", lambda: ask(alpha, "/livez")[0] == 200)


def test_stopped(running: tuple[Node, Node]) -> None:
    """An observer that hangs costs the tunnel nothing; what it costs a shutdown says test_netns_shutdown.py."""
    alpha, beta = running
    assert alpha.process is not None
    alpha.kill("observer", signal.SIGSTOP)
    with flow(alpha, beta) as there, flow(beta, alpha) as back:
        alpha.ask("reconnect", peer="beta")
        for _ in range(50):
            alpha.ask("log_level", area="data", level="debug", for_seconds=1)
        there.more()
        back.more()
    assert ping(alpha.namespace, "10.7.0.2", 3).lost == 0
    refused = alpha.cli("health", check=False)
    assert (refused.returncode, "cli.observer_unreachable" in refused.stderr) == (os.EX_UNAVAILABLE, True)
    alpha.down()


def test_it_knows_of_the_end(running: tuple[Node, Node]) -> None:
    alpha, _ = running
    took = alpha.down()
    print(f"ended after {took:.3f} s")
    last = json.loads((alpha.folder / "state" / "last.json").read_text())
    assert last["stopped"] == "SIGTERM"
    assert last["status"]["peers"][0]["name"] == "beta"
    assert [line["event"] for line in recorded(alpha)][-1] == "node.stopped"
    assert not list((alpha.folder / "run").glob("*.sock"))


def test_the_supervisors_death_is_no_loss(running: tuple[Node, Node]) -> None:
    """Killed, the node's last facts are written all the same: the observer ends by SIGTERM, not SIGKILL."""
    alpha, _ = running
    before = alpha.peer("beta")["session_id"]
    alpha.ask("reconnect", peer="beta")
    wait_for("a new session", lambda: alpha.peer("beta")["session_id"] not in (before, None))
    session, pids = alpha.peer("beta")["session_id"], alpha.pids()
    alpha.kill("supervisor")
    assert alpha.process is not None
    alpha.process.wait(5.0)
    wait_for("all processes to end", lambda: ended(pids))
    assert session in sessions(alpha)
    assert json.loads((alpha.folder / "state" / "last.json").read_text())["stopped"] == ""


# Health


def test_exit_codes(running: tuple[Node, Node]) -> None:
    alpha, beta = running
    well = alpha.cli("health", "--json")
    assert json.loads(well.stdout)["node"]["state"] == "running"
    assert alpha.cli("health", "--ready").stdout == "ready\n"
    beta.kill("supervisor")  # it says no goodbye, so it is expected to be there
    assert beta.process is not None
    beta.process.wait(5.0)

    def missed_when_called() -> bool:
        alpha.poke(ipaddress.ip_address("10.7.0.2"))
        return items(alpha)["peer:beta"]["state"] in ("warning", "failing")

    wait_for("beta to be missed", missed_when_called, timeout=30.0, interval=0.2)
    missed = alpha.cli("health", check=False)
    assert missed.returncode == 1
    assert "remedy" in missed.stdout
    assert "peer beta" in missed.stdout
    assert alpha.cli("health", "--ready", check=False).returncode == 0, "one peer's absence is not the node's failure"
    none = beta.cli("health", check=False)
    assert none.returncode == os.EX_UNAVAILABLE
    assert "node.not_running" in none.stderr


def test_interface_deleted(running: tuple[Node, Node]) -> None:
    alpha, _ = running
    alpha.namespace.delete_link("pqvpn0")
    wait_for("it to be told", lambda: items(alpha)["tun.interface"]["state"] == "failing", timeout=15.0)
    shown = alpha.cli("health", check=False)
    assert shown.returncode == 2
    first = shown.stdout.splitlines()[1]
    assert "tun.interface" in first
    assert "tun.gone" in first
    assert ask(alpha, "/readyz")[0] == 503
    wait_for("a line of it", lambda: any(li["event"] == "health.changed" for li in recorded(alpha)))
    alpha.down()


def test_interface_taken_apart(running: tuple[Node, Node]) -> None:
    """Down, then without its address, then another one has it: each named, each clears by itself."""
    alpha, _ = running
    inside = alpha.namespace
    inside.delete_route("10.7.0.2/32", interface="pqvpn0")
    wait_for("the route to be missed", lambda: items(alpha)["tun.addresses"]["state"] == "failing", timeout=15.0)
    assert "route 10.7.0.2/32" not in items(alpha)["tun.addresses"]["evidence"], "addresses are redacted"
    assert "route" in items(alpha)["tun.addresses"]["evidence"]
    inside.add_address("lo", "10.7.0.1/32")
    wait_for("the conflict", lambda: items(alpha)["tun.conflict"]["state"] == "failing", timeout=15.0)
    assert items(alpha)["tun.conflict"]["code"] == "tun.address_conflict"
    inside.delete_address("lo", "10.7.0.1/32")
    inside.add_route("10.7.0.2/32", interface="pqvpn0")
    wait_for("it to clear", lambda: state(alpha) == "ok", timeout=20.0)
    inside.down("pqvpn0")
    wait_for("down", lambda: items(alpha)["tun.interface"]["code"] == "tun.down", timeout=15.0)
    alpha.down()


def test_control_hangs(running: tuple[Node, Node]) -> None:
    alpha, _ = running
    alpha.kill("control", signal.SIGSTOP)
    try:
        wait_for("silence to be told", lambda: items(alpha)["node.control"]["state"] == "failing", timeout=15.0)
        assert items(alpha)["node.control"]["code"] == "node.not_reporting"
        assert ask(alpha, "/livez")[0] == 503
    finally:
        _continue(alpha)
    wait_for("it to clear", lambda: ask(alpha, "/livez")[0] == 200, timeout=15.0)


def _continue(node: Node) -> None:
    for pid in node.namespace.processes():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGCONT)


# HTTP


def test_over_tcp_with_the_token_only(running: tuple[Node, Node]) -> None:
    alpha, beta = running

    def there(path: str, token: str | None = None) -> tuple[int, Any]:
        connection = beta.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.settimeout(5.0)
        connection.connect(("10.0.0.1", 9464))
        return get(connection, path, token)

    for path in ("/health", "/metrics", "/livez"):
        assert there(path)[0] == 401
        assert there(path, "wrong")[0] == 401
    status, report = there("/health", _TOKEN)
    assert (status, report["node"]["name"]) == (200, "alpha")
    status, metrics = there("/metrics", _TOKEN)
    assert status == 200
    assert "pqvpn_peers" in metrics
    assert _outer_addresses_in(json.dumps(report) + metrics) == []
    assert ask(alpha, "/nothing")[0] == 404


def _outer_addresses_in(text: str) -> list[str]:
    return [address for address in ("10.0.0.1", "10.0.0.2", "10.7.0.1", "10.7.0.2") if address in text]


def test_nothing_secret_is_on_the_command_line(running: tuple[Node, Node]) -> None:
    alpha, _ = running
    (pid,) = alpha.pids("observer")
    shown = alpha.namespace.run(["sh", "-c", f"tr '\\0' '\\n' < /proc/{pid}/cmdline"]).stdout
    assert "pqvpn.observer" in shown
    assert _TOKEN not in shown


# Files


def test_log_files_rotate(running: tuple[Node, Node]) -> None:
    alpha, _ = running
    areas = [area for area in alpha.ask("log_level")["areas"] if area != "telemetry"]  # whose records these are
    for area in areas:
        for level in ("debug", "info", "warning", "error"):
            for _ in range(6):
                alpha.ask("log_level", area=area, level=level, for_seconds=60)
    folder = alpha.folder / "state" / "log"
    wanted = 5 * 4 * len(areas)
    wait_for("lines", lambda: len([li for li in recorded(alpha) if li["event"] == "log.level"]) >= wanted)
    assert len(list(folder.glob("*.gz"))) >= 2
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    lines = recorded(alpha)
    assert {"time", "level", "component", "process", "event", "message"} <= set.intersection(*(set(li) for li in lines))
    assert all(line["time"].endswith("Z") for line in lines)


@pytest.mark.slow
def test_disk_full(running: tuple[Node, Node]) -> None:
    """Full from the start: the node runs, says so, and goes on when there is room again."""
    alpha, _ = running
    alpha.down()
    state_folder, free = alpha.folder / "small", alpha.folder / "free"
    state_folder.mkdir()
    text = alpha.config.read_text()
    alpha.set({"node": {"state_dir": str(state_folder)}})
    place, flag = shlex.quote(str(state_folder)), shlex.quote(str(free))
    script = f"""
        mount -t tmpfs -o size=1M tmpfs {place}
        dd if=/dev/zero of={place}/fill bs=4k 2>/dev/null || true
        (while [ ! -e {flag} ]; do sleep 0.1; done; rm {place}/fill; sleep 60) >/dev/null 2>&1 &
        exec {shlex.join([*PQVPN, "up", "--config", str(alpha.config)])}
    """
    with open(alpha.log_file, "ab") as log:
        alpha.process = alpha.namespace.popen(
            ["unshare", "--mount", "sh", "-ec", script], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        alpha.wait_running(30.0)
        assert ping(alpha.namespace, "10.7.0.2", 10).lost < 10
        wait_for("the disk to be told", lambda: items(alpha)["host.disk"]["state"] == "failing", timeout=20.0)
        assert items(alpha)["host.disk"]["code"] == "telemetry.disk_full"
        shown = alpha.cli("health", check=False)
        assert shown.returncode == 1
        assert "host.disk" in shown.stdout
        free.touch()
        wait_for("room", lambda: items(alpha)["host.disk"]["code"] == "host.disk_low", timeout=20.0)
        wait_for("records", lambda: items(alpha)["telemetry.records"]["state"] == "ok", timeout=20.0)
        assert ping(alpha.namespace, "10.7.0.2", 3).lost == 0
    finally:
        alpha.down()
        alpha.config.write_text(text)


def test_telemetry_off(running: tuple[Node, Node]) -> None:
    alpha, _ = running
    alpha.down()
    text = alpha.config.read_text()
    alpha.config.write_text(text.replace("[telemetry]\n", "[telemetry]\nenabled = false\n"))
    try:
        alpha.up()
        assert {each["component"] for each in alpha.status()["processes"]} == {"supervisor", "control", "lane-0"}
        refused = alpha.cli("health", check=False)
        assert (refused.returncode, "cli.telemetry_off" in refused.stderr) == (os.EX_UNAVAILABLE, True)
        assert not (alpha.folder / "run" / "health.sock").exists()
        alpha.down()
    finally:
        alpha.config.write_text(text)


@pytest.mark.slow
def test_detached_nodes_log_stays_small(running: tuple[Node, Node]) -> None:
    """Standard error of a node in the background is a file that nobody rotates."""
    alpha, _ = running
    alpha.down()
    alpha.cli("up", "--detach")
    try:
        began = time.monotonic()
        wait_for("its start to be over", lambda: time.monotonic() - began > 16.0, timeout=20.0)
        log = alpha.folder / "run" / "pqvpn.log"
        size = log.stat().st_size
        for level in ("debug", "info", "warning"):
            alpha.ask("log_level", area="data", level=level, for_seconds=1)
        alpha.ask("reconnect", peer="beta")
        time.sleep(0.5)
        assert log.stat().st_size == size
    finally:
        alpha.cli("down")
        alpha.process = None
