"""The supervisor is stopped or killed: nothing leaves in the clear, and the next node or `pqvpn down` finds what is left.

alpha --veth0-- beta      alpha's default route leads to beta outside as well: what is not in the tunnel would leave
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from flows import flow, told, wait_replaced
from netparty import bring_up, connected, make_nodes

from lab import Lab, LabError, ended, wait_for
from lab.nodes import Node
from lab.traffic import ping

pytestmark = pytest.mark.netns

_TIMERS = {"m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": "1s", "dead": "2s", "keepalive": "1s"}
_HOLDS = """
import fcntl, os, socket, struct, sys
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"pqvpn0", 0x1001))
port = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
port.bind(("::", 51820))
print("holding", flush=True)
sys.stdin.read()
"""
_MARKER = b"must-not-be-seen-outside"


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.link(a, b, ["10.0.0.1/24", "fd00:0:0:1::1/64"], ["10.0.0.2/24", "fd00:0:0:1::2/64"])
        a.add_route("default", via="10.0.0.2")
        a.add_route("::/0", via="fd00:0:0:1::2")
        inner = (["10.7.0.1/24", "fd77::1/64"], ["10.7.0.2/24", "fd77::2/64"])
        nodes = make_nodes(lab, a, b, "10.0.0.1", "10.0.0.2", {"timers": _TIMERS}, inner=inner)
        bring_up(*nodes)
        yield nodes


def _say(node: Node, address: str) -> OSError | None:
    """Send the marker to an address inside; what the kernel said."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with node.namespace.socket(family, socket.SOCK_DGRAM) as out:
        try:
            out.sendto(_MARKER, (address, 9))
        except OSError as error:
            return error
    return None


def _routes(node: Node) -> list[str]:
    """Everything that the node put into the routing tables and rules."""
    shown = ""
    for family in ("-4", "-6"):
        shown += node.namespace.run(["ip", family, "route", "show", "table", "all", "proto", "157"]).stdout
        shown += "".join(
            line + "\n"
            for line in node.namespace.run(["ip", family, "rule"]).stdout.splitlines()
            if not line.startswith(("0:", "32766:", "32767:"))
        )
    return shown.splitlines()


def _answers(node: Node) -> bool:
    """Whether its control socket listens: it is made right before interface and port are opened."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.connect(str(node.folder / "run" / "control.sock"))
    return True


def _kill_supervisor(node: Node) -> None:
    """Kill it, and wait until its children have followed."""
    pids = node.pids()
    node.kill("supervisor")
    assert node.process is not None
    assert node.process.wait(5.0) == -signal.SIGKILL
    wait_for("the children to end", lambda: ended(pids), timeout=5.0)
    node.process = None


def test_stopped_supervisor_leaks_nothing(pair: tuple[Node, Node]) -> None:
    """Lanes go on without it; a lane that dies meanwhile is a black hole until somebody can replace it."""
    alpha, beta = pair
    connected(alpha, beta)
    (lane,) = alpha.pids("lane-0")
    with (
        alpha.namespace.capture("veth0", watch=[_MARKER], limit=0) as outside,
        alpha.namespace.capture("pqvpn0", watch=[_MARKER], limit=0) as inside,
        flow(alpha, beta, patience=30.0) as there,
    ):
        supervisor = alpha.kill("supervisor", signal.SIGSTOP)
        try:
            there.more()
            os.kill(lane, signal.SIGKILL)
            for _ in range(50):
                _say(alpha, "10.7.0.2")
                _say(alpha, "fd77::2")
            assert ping(alpha.namespace, "10.7.0.2", 1, timeout=0.2, payload=_MARKER).lost == 1
        finally:
            os.kill(supervisor, signal.SIGCONT)
        wait_replaced(alpha, "lane-0", lane)
        there.more()
    assert outside.dropped == 0
    assert inside.hits[_MARKER] >= 100, "the search would have found it"
    assert outside.hits[_MARKER] == 0


def test_killed_supervisor_leaks_nothing_and_the_connection_lives(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    connected(alpha, beta)
    with (
        alpha.namespace.capture("veth0", watch=[_MARKER], limit=0) as outside,
        flow(alpha, beta, patience=40.0) as there,
    ):
        _kill_supervisor(alpha)
        left = _routes(alpha)
        assert {line.split()[1] for line in left} == {"10.7.0.0/24", "10.7.0.2", "fd77::/64", "fd77::2"}
        assert all(line.startswith("unreachable ") for line in left)
        for address in ("10.7.0.2", "10.7.0.77", "fd77::2", "fd77::77"):
            assert isinstance(_say(alpha, address), OSError), address
        alpha.up(30.0)
        there.more()
    assert outside.dropped == 0
    assert outside.hits[_MARKER] == 0
    connected(alpha, beta)


def test_leftovers_are_taken_over(pair: tuple[Node, Node]) -> None:
    """A second life has the same routes as the first, and leaves nothing when it ends orderly."""
    alpha, beta = pair
    connected(alpha, beta)
    before = _routes(alpha)
    _kill_supervisor(alpha)
    alpha.up(30.0)
    assert _routes(alpha) == before
    alpha.down()
    assert _routes(alpha) == []
    assert beta.peer("alpha")["state"] != "up"


def test_a_node_is_up_again_at_once_after_it_was_killed(pair: tuple[Node, Node]) -> None:
    """With an observer that still has to report, to a crash server that does not answer."""
    alpha, beta = pair
    alpha.down()
    text = alpha.config.read_text()
    dsn = alpha.folder / "crashes.dsn"
    dsn.touch(0o600)
    dsn.write_text("http://0123456789abcdef0123456789abcdef@127.0.0.1:9465/1")
    alpha.set({"health": {"listen": "127.0.0.1:9464"}, "crash_reports": {"dsn_file": "crashes.dsn"}})
    with alpha.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as silent:
        silent.bind(("127.0.0.1", 9465))
        silent.listen(8)
        try:
            alpha.up()
            for _ in range(3):
                wait_for("the observer", (alpha.folder / "state" / "last.json").exists)
                connected(alpha, beta)
                alpha.kill("supervisor")
                assert alpha.process is not None
                assert alpha.process.wait(5.0) == -signal.SIGKILL  # not its children
                alpha.up()
            refused = told(alpha, "problem", reason="network.address_in_use")
            assert not refused, refused
            connected(alpha, beta)
            alpha.down()
        finally:
            alpha.config.write_text(text)


def test_what_a_killed_node_still_holds_is_waited_for(pair: tuple[Node, Node]) -> None:
    """Its interface and its port, held here by somebody else until the next node has asked for them in vain."""
    alpha, _ = pair
    alpha.down()
    with alpha.namespace.popen([sys.executable, "-c", _HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"holding\n"
        alpha.start()
        wait_for("the start to have come so far", lambda: _answers(alpha), 30.0)
        time.sleep(0.3)  # a start that gives up has done so by then; one that waits does so for a second
        holder.stdin.close()
        alpha.wait_running()
    alpha.down()


def test_down_removes_what_a_killed_node_left(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    bring_up(alpha)
    connected(alpha, beta)
    _kill_supervisor(alpha)
    assert _routes(alpha)
    said = alpha.cli("down").stdout
    assert "10.7.0.2/32" in said
    assert _routes(alpha) == []
    assert "Removed" not in alpha.cli("down").stdout
    bring_up(alpha)
    connected(alpha, beta)


def test_start_beside_another_interface_of_that_name(pair: tuple[Node, Node]) -> None:
    """Somebody else's interface is never taken over, nor its routes changed."""
    alpha, _ = pair
    alpha.down()
    alpha.namespace.run(["ip", "tuntap", "add", "dev", "pqvpn0", "mode", "tun"])
    with pytest.raises(LabError, match="interface"):
        alpha.up(30.0)
    assert _routes(alpha) == []
    alpha.namespace.delete_link("pqvpn0")
