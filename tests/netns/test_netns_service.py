"""A node as a service: what it tells the manager, and a supervisor that is killed and finds its descriptors again.

alpha --veth0-- beta      alpha's default route leads to beta outside as well: what is not in the tunnel would leave
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows import assert_never_reused, flow
from manager import Manager, interface_index
from netparty import connected, make_nodes, start

from lab import Lab, WaitTimeoutError, ended, wait_for
from lab.nodes import Node
from lab.wire import Wire

pytestmark = pytest.mark.netns

_WATCHDOG = 2.0
_SIGNS = 3
"""One is due every quarter of the watchdog's time."""
_TIMERS = {"m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": "1s", "dead": "2s", "keepalive": "1s"}


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Manager, Node]]:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
        a.add_route("default", via="10.0.0.2")
        settings = {"timers": _TIMERS, "node": {"lanes": 2}}
        alpha, beta = make_nodes(lab, a, b, "10.0.0.1", "10.0.0.2", settings)
        with Manager(alpha, watchdog=_WATCHDOG) as manager:
            manager.start()
            start(beta)
            connected(alpha, beta)
            yield manager, beta


def test_it_is_told_what_happens(service: tuple[Manager, Node]) -> None:
    manager, _ = service
    assert set(manager.store) == {"description", "counters", "tun-0", "tun-1", "udp-0", "udp-1", "udp-2"}
    assert any(line.startswith("STATUS=running on pqvpn0") for line in manager.said)
    count = manager.said.count("READY=1")
    manager.node.cli("reload")
    wait_for("the end of the reload", lambda: manager.said.count("READY=1") == count + 1)
    assert "RELOADING=1" in manager.said
    signs = manager.said.count("WATCHDOG=1")
    wait_for("signs of life", lambda: manager.said.count("WATCHDOG=1") >= signs + 2)


def test_killed_supervisor_leaves_interface_and_connection(service: tuple[Manager, Node]) -> None:
    manager, beta = service
    alpha = manager.node
    index = interface_index(alpha)
    port = alpha.status()["node"]["listen"]
    with (
        Wire(alpha.namespace, "veth0", (), only_foreign=True) as foreign,
        alpha.namespace.capture("veth0", limit=1 << 30) as seen,
        flow(alpha, beta, patience=40.0) as there,
        flow(beta, alpha, patience=40.0) as back,
    ):
        for _ in range(3):
            pids = alpha.pids()
            alpha.kill("supervisor")
            assert alpha.process is not None
            assert alpha.process.wait(5.0) == -signal.SIGKILL
            wait_for("the children to follow", lambda: ended(pids), timeout=5.0)  # noqa: B023
            assert interface_index(alpha) == index, "nothing of it was closed"
            manager.start()
            assert interface_index(alpha) == index
            there.more()
            back.more()
    assert seen.dropped == 0
    assert_never_reused(seen.frames)
    assert (foreign.foreign, foreign.dropped) == (0, 0), foreign.first_foreign.hex()
    assert alpha.status()["node"]["listen"] == port
    connected(alpha, beta)


def test_what_does_not_fit_is_made_anew(service: tuple[Manager, Node]) -> None:
    manager, beta = service
    alpha = manager.node
    index = interface_index(alpha)
    alpha.kill("supervisor")
    assert alpha.process is not None
    alpha.process.wait(5.0)
    alpha.set({"node": {"lanes": 1}})
    manager.start()
    assert interface_index(alpha) not in (index, 0)
    assert set(manager.store) == {"description", "counters", "tun-0", "udp-0", "udp-1"}
    connected(alpha, beta)


def test_orderly_end_leaves_nothing(service: tuple[Manager, Node]) -> None:
    manager, _ = service
    manager.node.down()
    assert "STOPPING=1" in manager.said
    assert manager.store == {}
    assert interface_index(manager.node) == 0


def test_hung_control_is_replaced_while_the_node_shows_life(service: tuple[Manager, Node]) -> None:
    manager, beta = service
    alpha = manager.node
    manager.start()
    connected(alpha, beta)
    supervisor, index = alpha.pids("supervisor"), interface_index(alpha)
    before = manager.signs()
    hung = alpha.kill("control", signal.SIGSTOP)
    # while it hangs it answers no `status`: its end shows that it was found out
    wait_for("the end of what hangs", lambda: hung not in alpha.namespace.processes(), 20.0)
    shown = manager.signs() - before
    wait_for("another control", lambda: alpha.pids("control") and alpha.pids("control") != [hung], 20.0)
    assert shown >= _SIGNS, "it takes two seconds to find out, and a sign is due every half"
    assert "node.child_hung" in alpha.log()
    assert (alpha.pids("supervisor"), interface_index(alpha)) == (supervisor, index), "nothing else was replaced"
    after = manager.signs()
    wait_for("signs of life from then on", lambda: manager.said.count("WATCHDOG=1") >= after + _SIGNS)
    connected(alpha, beta)


def test_hung_supervisor_shows_no_life_and_its_successor_goes_on(service: tuple[Manager, Node]) -> None:
    manager, beta = service
    alpha = manager.node
    index = interface_index(alpha)
    children = alpha.pids()
    supervisor = alpha.kill("supervisor", signal.SIGSTOP)
    stat = Path(f"/proc/{supervisor}/stat")
    wait_for("it to stand still", lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    before = manager.signs()
    with pytest.raises(WaitTimeoutError):
        wait_for("a sign of life", lambda: manager.said.count("WATCHDOG=1") > before, _WATCHDOG + 0.5)
    os.kill(supervisor, signal.SIGKILL)  # as the manager does then
    assert alpha.process is not None
    assert alpha.process.wait(5.0) == -signal.SIGKILL
    wait_for("the children to follow", lambda: ended(children), 5.0)
    manager.start()
    assert interface_index(alpha) == index
    after = manager.signs()
    wait_for("signs of life again", lambda: manager.said.count("WATCHDOG=1") >= after + _SIGNS)
    connected(alpha, beta)
