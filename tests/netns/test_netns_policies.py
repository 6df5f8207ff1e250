"""Every policy of what goes wrong is changed by a reload, under a transfer; breakers: `test_netns_breakers.py`."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from flows import Flow, both_ways, told, wait_replaced
from netparty import make_pair

from lab import Lab, wait_for
from lab.nodes import Node

pytestmark = pytest.mark.netns

_PORT = 9464
_TOKENS = ("first-token-of-at-least-32-bytes-", "other-token-of-at-least-32-bytes-")


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    fast = {"interval": "300ms", "fail_scale": 0.1, "recover_scale": 0.1}
    with Lab() as lab:
        yield make_pair(lab, settings={"health": fast, "restart": {"burst": 100}}).nodes


@pytest.fixture
def transfer(pair: tuple[Node, Node]) -> Iterator[Flow]:
    """Both ways; sessions and processes of the tunnel are the same afterwards."""
    alpha, beta = pair
    text = alpha.config.read_text()
    with both_ways(alpha, beta) as there:
        yield there
    alpha.config.write_text(text)
    alpha.cli("reload")


def reload(node: Node, section: str, **values: Any) -> None:
    node.set({section: values})
    said = node.cli("reload").stdout
    assert f"{section} changed" in said
    assert "started anew" not in said, said


def secret(node: Node, name: str, content: str) -> None:
    place = node.folder / name
    place.touch(0o600)
    place.write_text(content)


def ask(node: Node, host: str, token: str = "") -> int | None:
    """The status of GET /livez, None where nobody listens."""
    with node.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as out:
        out.settimeout(5.0)
        try:
            out.connect((host, _PORT))
            head = f"Authorization: Bearer {token}\r\n" if token else ""
            out.sendall(f"GET /livez HTTP/1.1\r\nHost: node\r\n{head}\r\n".encode())
            answer = out.recv(4096)
        except OSError:
            return None
    return int(answer.split()[1]) if answer else None


def wait_answer(node: Node, status: int | None, host: str, token: str = "") -> None:
    wait_for(f"{status} from {host}", lambda: ask(node, host, token) == status, 30.0)


def item(node: Node, name: str) -> tuple[str, str]:
    """State and code of an item; nothing while the observer does not answer."""
    answer = node.cli("health", "--json", check=False).stdout
    items = json.loads(answer)["items"] if answer else []
    return next(((each["state"], each["code"]) for each in items if each["item"] == name), ("", ""))


def test_the_health_endpoint_comes_moves_and_goes(pair: tuple[Node, Node], transfer: Flow) -> None:
    alpha, _ = pair
    before = set(alpha.pids()) - set(alpha.pids("observer"))
    reload(alpha, "health", listen=f"127.0.0.1:{_PORT}")
    wait_answer(alpha, 200, "127.0.0.1")
    (observer,) = alpha.pids("observer")
    reload(alpha, "health", listen=f"localhost:{_PORT}")  # over itself
    wait_replaced(alpha, "observer", observer, 30.0)
    wait_answer(alpha, 200, "127.0.0.1")
    secret(alpha, "token", _TOKENS[0])
    reload(alpha, "health", listen=f"10.0.0.1:{_PORT}", token_file="token")
    wait_answer(alpha, 401, "10.0.0.1")
    assert (ask(alpha, "127.0.0.1"), ask(alpha, "10.0.0.1", _TOKENS[0])) == (None, 200)
    secret(alpha, "token", _TOKENS[1])
    assert "health changed" in alpha.cli("reload").stdout, "what the file holds is a setting, too"
    wait_answer(alpha, 200, "10.0.0.1", _TOKENS[1])
    assert ask(alpha, "10.0.0.1", _TOKENS[0]) == 401
    with alpha.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", _PORT + 1))
        taken.listen(1)
        text = alpha.config.read_text()
        alpha.set({"health": {"listen": f"127.0.0.1:{_PORT + 1}"}})
        refused = alpha.cli("reload", check=False)
        assert refused.returncode != 0
        assert "health.listen" in refused.stderr
        alpha.config.write_text(text)
    assert ask(alpha, "10.0.0.1", _TOKENS[1]) == 200, "nothing has changed"
    text = alpha.config.read_text()
    alpha.config.write_text(
        "".join(line for line in text.splitlines(True) if not line.startswith(('listen = "10.', "token")))
    )
    assert "health changed" in alpha.cli("reload").stdout
    wait_answer(alpha, None, "10.0.0.1")
    assert before <= set(alpha.pids()), "of all processes only the observer was replaced"
    assert not told(alpha, "process.ended")


def test_mending_stops_and_goes_on(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    session = alpha.peer("beta")["session_id"]
    reload(alpha, "health", mend=False)
    acted = len(told(alpha, "health.acted"))
    alpha.namespace.delete_route("10.7.0.2/32", interface="pqvpn0")
    wait_for("health to tell of it", lambda: item(alpha, "tun.addresses")[0] == "failing", 20.0)
    assert len(told(alpha, "health.acted")) == acted, "three looks, and nothing was done"
    reload(alpha, "health", mend=True)
    wait_for("the route to be put back", lambda: len(told(alpha, "health.acted")) == acted + 1, 20.0)
    wait_for("health to tell of it", lambda: item(alpha, "tun.addresses")[0] == "ok", 20.0)
    assert alpha.peer("beta")["session_id"] == session


def test_policies_of_restarts(pair: tuple[Node, Node], transfer: Flow) -> None:
    alpha, _ = pair
    reload(alpha, "restart", observer="never", spares=False, hang_after="60s")
    wait_for("no spare", lambda: not alpha.pids("spare"))
    alpha.kill("observer")
    wait_for("the observer to be gone", lambda: not alpha.pids("observer"))
    (control,) = alpha.pids("control")
    reload(alpha, "restart", observer="always", spares=True)
    wait_for("an observer", lambda: alpha.pids("observer"), 20.0)  # it was left where it was by the former policy
    wait_for("a spare", lambda: alpha.pids("spare"), 20.0)
    reload(alpha, "restart", hang_after="500ms")
    os.kill(control, signal.SIGSTOP)
    wait_replaced(alpha, "control", control, 30.0)


def test_crash_reports_go_where_a_reload_says(pair: tuple[Node, Node], transfer: Flow) -> None:
    alpha, _ = pair
    with alpha.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 9465))
        server.listen(8)
        server.settimeout(60.0)
        secret(alpha, "crashes.dsn", "http://0123456789abcdef0123456789abcdef@127.0.0.1:9465/1")
        (observer,) = alpha.pids("observer")
        reload(alpha, "crash_reports", dsn_file="crashes.dsn")
        wait_replaced(alpha, "observer", observer, 30.0)
        (lane,) = alpha.pids("lane-0")
        alpha.kill("lane-0", signal.SIGSEGV)
        wait_replaced(alpha, "lane-0", lane)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(4096).startswith(b"POST /api/1/envelope/")


def test_what_takes_a_restart_is_named(pair: tuple[Node, Node], transfer: Flow) -> None:
    alpha, _ = pair
    alpha.set({"telemetry": {"sample": 0.5}, "log": {"level": "debug"}})
    said = alpha.cli("reload").stdout
    assert "telemetry.sample" in said
    assert "log.level" in said
