"""A node from `pqvpn up` to its end: privileges, exit codes, a second start, names that do not resolve, the full tunnel.

alpha 10.0.1.1 --veth1-- router --veth2-- 10.0.2.2 beta      each reaches the other by its default route only
"""

import base64
import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator

import pytest
from flows import flow, payloads, told, wait_told
from netparty import bring_up, connected, make_nodes

from lab import Lab, ended, wait_for
from lab.nodes import PQVPN, ROOT, Node
from lab.traffic import ping

pytestmark = pytest.mark.netns

_TIMERS = {"m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": "1s"}
_NET_ADMIN = 1 << 12
_DAC_READ_SEARCH = 1 << 2
_MARKER = b"must-not-be-seen-outside"
_FAR = "203.0.113.7"  # behind beta
_PSK = bytes(range(7, 39))

# Prints what /proc shows of processes; run inside, where the lab's user may look at them.
_LOOK = """
import json, pathlib, sys
print(json.dumps({pid: {name: pathlib.Path("/proc", pid, name).read_bytes().decode("latin-1")
    for name in ("status", "cmdline", "environ", "limits")} for pid in sys.argv[1:]}))
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        a, router, b = lab.namespace("a"), lab.router("router"), lab.namespace("b")
        lab.link(a, router, ["10.0.1.1/24"], ["10.0.1.254/24"], names=("veth1", "veth1"))
        lab.link(b, router, ["10.0.2.2/24"], ["10.0.2.254/24"], names=("veth2", "veth2"))
        a.add_route("default", via="10.0.1.254")
        b.add_route("default", via="10.0.2.254")
        b.add_address("lo", f"{_FAR}/32")
        nodes = make_nodes(lab, a, b, "10.0.1.1", "10.0.2.2", {"timers": _TIMERS})
        for node, other in (nodes, nodes[::-1]):
            psk = node.folder / "shared.psk"
            psk.touch(0o600)
            psk.write_text(base64.b64encode(_PSK).decode() + "\n")
            node.set({f"peer.{other.name}": {"psk_file": "shared.psk"}})
        yield nodes


@pytest.fixture
def running(pair: tuple[Node, Node]) -> tuple[Node, Node]:
    """Both nodes up, whatever the test before did."""
    idle = [node for node in pair if node.process is None or node.process.poll() is not None]
    for node in idle:
        node.start()
    for node in idle:
        node.wait_running(30.0)
    connected(*pair)
    return pair


def _left(node: Node) -> list[str]:
    """What of the node the kernel and the runtime folder still have."""
    run, found = node.namespace.run, []
    for family in ("-4", "-6"):
        found += run(["ip", family, "route", "show", "table", "all", "proto", "157"]).stdout.splitlines()
        # every rule but the three that the kernel makes
        found += re.findall(r"^(?!0:|32766:|32767:)\d+:.*", run(["ip", family, "rule"]).stdout, re.MULTILINE)
    found += re.findall("pqvpn0", run(["ip", "link"]).stdout)
    return found + [str(path) for path in (node.folder / "run").glob("*.sock")]


def _look(node: Node) -> dict[str, dict[str, str]]:
    """status, cmdline, environ and limits of the node's processes, by component."""
    processes = {str(each["pid"]): each["component"] for each in node.status()["processes"]}
    shown = json.loads(node.namespace.run([sys.executable, "-c", _LOOK, *processes]).stdout)
    return {component: shown[pid] for pid, component in processes.items()}


# Privileges and secrets


def test_processes_keep_only_what_they_need(running: tuple[Node, Node]) -> None:
    """As docs/threat-model.md says."""
    alpha, _ = running
    wait_for("the observer to answer", lambda: alpha.cli("health", check=False).returncode != os.EX_UNAVAILABLE)
    wait_for("the spare", lambda: "spare" in {p["component"] for p in alpha.status()["processes"]})
    # a process that was just started imports first and confines itself then, before it reads a byte from anywhere
    wait_for(
        "the spare to confine itself", lambda: f"CapEff:\t{0:016x}" in _look(alpha).get("spare", {}).get("status", "")
    )
    seen = _look(alpha)
    assert set(seen) == {"supervisor", "control", "lane-0", "observer", "spare"}
    for component, shown in seen.items():
        status = dict(line.split(":\t", 1) for line in shown["status"].splitlines() if ":\t" in line)
        capabilities = {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        allowed = _NET_ADMIN | _DAC_READ_SEARCH if component == "supervisor" else 0
        assert capabilities["CapEff"] & ~allowed == 0, (component, capabilities)
        assert capabilities["CapPrm"] & ~allowed == 0, (component, capabilities)
        # a child cannot narrow this set itself; without privileges to be won by exec it bounds nothing
        assert capabilities["CapBnd"] & ~(_NET_ADMIN | _DAC_READ_SEARCH) == 0, (component, capabilities)
        assert capabilities["CapInh"] == capabilities["CapAmb"] == 0, (component, capabilities)
        if component == "supervisor":
            assert capabilities["CapEff"] & _NET_ADMIN
            belongs_to_root = alpha.config.stat().st_uid == 0
            assert bool(capabilities["CapEff"] & _DAC_READ_SEARCH) != belongs_to_root or os.geteuid() != 0
        assert status["NoNewPrivs"].strip() == "1", component
        assert re.search(r"Max core file size +0 +0 ", shown["limits"]), component


def test_no_secret_in_arguments_or_environment(running: tuple[Node, Node]) -> None:
    alpha, _ = running
    body = "".join(line for line in (alpha.folder / "identity.key").read_text().splitlines() if "-----" not in line)
    raw = base64.b64decode(body)
    secrets = [body[:40], raw[:32].hex(), raw[32:].hex(), _PSK.hex(), base64.b64encode(_PSK).decode()]
    secrets += [each.decode("latin-1") for each in (raw[:32], raw[32:], _PSK)]
    for component, shown in _look(alpha).items():
        assert shown["cmdline"], component
        for secret in secrets:
            assert secret not in shown["cmdline"], component
            assert secret not in shown["environ"], component
        if component != "supervisor":
            names = {entry.partition("=")[0] for entry in shown["environ"].split("\0") if entry}
            assert names <= {"PATH", "LANG", "LC_ALL", "TZ"}, component
    for secret in secrets:
        assert secret not in alpha.log()


# Starting and ending


def test_second_start_is_refused(running: tuple[Node, Node]) -> None:
    alpha, _ = running
    (pid,) = alpha.pids("supervisor")
    for arguments in (("up",), ("up", "--detach")):
        refused = alpha.cli(*arguments, check=False)
        assert refused.returncode == 78
        assert "node.already_running" in refused.stderr
        assert str(pid) in refused.stderr
    assert alpha.pids("supervisor") == [pid]
    assert ping(alpha.namespace, "10.7.0.2", 3).lost == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_cleanly(running: tuple[Node, Node], number: signal.Signals) -> None:
    """In under a second on an idle machine; here the bound is generous. The peer hears of it at once."""
    alpha, beta = running
    session, pids = beta.peer("alpha")["session_id"], alpha.pids()
    assert alpha.process is not None
    began = time.monotonic()
    alpha.process.send_signal(number)
    assert alpha.process.wait(5.0) == 0
    took = time.monotonic() - began
    print(f"{number.name}: ended after {took:.3f} s")
    assert took < 2.0
    assert _left(alpha) == []
    assert not set(pids) & set(alpha.namespace.processes())
    wait_told(beta, "session.ended", session_id=session, why="closed", timeout=5.0)
    assert beta.peer("alpha")["session_id"] is None
    assert told(alpha, "node.stopped", cause=number.name)


def test_connection_survives_a_restart_of_the_node(running: tuple[Node, Node]) -> None:
    alpha, beta = running
    with flow(alpha, beta, patience=30.0) as there:
        beta.down()
        beta.up(30.0)
        there.more()


def test_detached_node(pair: tuple[Node, Node]) -> None:
    alpha, _ = pair
    alpha.down()
    assert alpha.cli("status", check=False).returncode == 69
    assert "node.not_running" in alpha.cli("reload", check=False).stderr
    answer = json.loads(alpha.cli("up", "--detach", "--json").stdout)
    try:
        assert alpha.cli("status").returncode == 0
        assert alpha.pids("supervisor") == [answer["pid"]]
        assert alpha.cli("up", check=False).returncode == 78
    finally:
        down = alpha.cli("down", "--json")
    assert json.loads(down.stdout)["stopped"] == answer["pid"]
    assert _left(alpha) == []
    again = alpha.cli("down", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout) == {"stopped": None, "removed": []}


# Names


def test_name_that_does_not_resolve_at_first(pair: tuple[Node, Node]) -> None:
    """Never fatal: the node runs, says why there is no tunnel, and gets there once the name is known.

    The node sees a hosts file of its own, and a name server that nobody answers for.
    """
    alpha, beta = pair
    alpha.down()
    if beta.process is None:
        beta.up(30.0)
    text = alpha.config.read_text()
    alpha.set({"peer.beta": {"endpoint": "beta.test:51820"}})
    files = {"hosts": "127.0.0.1 localhost\n", "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"}
    files["nsswitch.conf"] = "hosts: files dns\n"
    mounts = []
    for name, content in files.items():
        (alpha.folder / name).write_text(content)
        mounts.append(f"mount --bind {shlex.quote(str(alpha.folder / name))} /etc/{name}")
    up = shlex.join([*PQVPN, "up", "--config", str(alpha.config)])
    with open(alpha.log_file, "ab") as log:
        alpha.process = alpha.namespace.popen(
            ["unshare", "--mount", "sh", "-ec", "; ".join([*mounts, f"exec {up}"])],
            cwd=ROOT, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        alpha.wait_running(30.0)
        wait_told(alpha, "resolver.failed", reason="network.dns_failed", peer="beta")
        assert alpha.peer("beta")["state"] in ("down", "connecting")
        # beta is silent too: whatever brings the tunnel up now is the name
        with open(alpha.folder / "hosts", "a") as hosts:
            hosts.write("10.0.2.2 beta.test\n")
        connected(alpha, beta)
        # the name goes away again: the last answer stays in force
        (alpha.folder / "hosts").write_text(files["hosts"])
        old = alpha.peer("beta")["session_id"]
        alpha.ask("reconnect", peer="beta")
        wait_for("a new session", lambda: alpha.peer("beta")["session_id"] not in (old, None))
    finally:
        alpha.down()
        alpha.config.write_text(text)


# The full tunnel


@pytest.fixture
def full_tunnel(pair: tuple[Node, Node]) -> Iterator[tuple[Node, Node]]:
    """alpha is configured, not yet started, to send everything to beta."""
    alpha, beta = pair
    alpha.down()
    if beta.process is None:
        beta.up(30.0)
    text = alpha.config.read_text()
    alpha.set({"peer.beta": {"allowed_ips": ["0.0.0.0/0"]}})
    yield pair
    alpha.config.write_text(text)
    alpha.down()


def _kill(node: Node) -> None:
    """Kill the supervisor, and wait until its children have followed."""
    pids = node.pids()
    node.kill("supervisor")
    wait_for("its children to end", lambda: ended(pids))
    node.process = None


def test_full_tunnel(full_tunnel: tuple[Node, Node]) -> None:
    """Everything goes inside but what carries it, and the neighbours outside stay neighbours."""
    alpha, beta = full_tunnel
    with alpha.namespace.capture("veth1", watch=[_MARKER]) as outside:
        bring_up(alpha)
        connected(alpha, beta)
        assert ping(alpha.namespace, _FAR, 3, payload=_MARKER).lost == 0
        assert ping(alpha.namespace, "10.0.2.2", 3, payload=_MARKER).lost == 0, "also to where the datagrams go"
        with flow(alpha, beta) as there:
            there.more()
    assert outside.hits[_MARKER] == 0
    assert len(list(payloads(outside.frames))) > 20
    assert ping(alpha.namespace, "10.0.1.254", 1).lost == 0
    alpha.down()
    assert _left(alpha) == []
    assert ping(alpha.namespace, "10.0.2.2", 1).lost == 0, "the way outside is open again"


def test_full_tunnel_of_a_killed_node_stays_closed(full_tunnel: tuple[Node, Node]) -> None:
    alpha, _ = full_tunnel
    alpha.up(30.0)
    _kill(alpha)
    with alpha.namespace.capture("veth1", watch=[_MARKER]) as outside:
        for address in (_FAR, "10.0.2.2"):
            with pytest.raises(OSError, match="No route to host"):
                ping(alpha.namespace, address, 1, timeout=0.2, payload=_MARKER)
    assert outside.hits[_MARKER] == 0
    assert "0.0.0.0/0" in alpha.cli("down").stdout
    assert _left(alpha) == []
    assert ping(alpha.namespace, "10.0.2.2", 1).lost == 0, "the way outside is open again"


def test_leftovers_of_another_configuration_are_removed(full_tunnel: tuple[Node, Node]) -> None:
    """A full tunnel is killed, and the next start does not want one any more."""
    alpha, _ = full_tunnel
    alpha.up(30.0)
    _kill(alpha)
    assert any("suppress_prefixlength" in line for line in _left(alpha))
    alpha.set({"peer.beta": {"allowed_ips": ["10.7.0.2/32"]}})
    alpha.up(30.0)
    assert not [line for line in _left(alpha) if "suppress_prefixlength" in line or "default" in line]
    assert ping(alpha.namespace, "10.0.2.2", 1).lost == 0, "the way outside is open again"
    alpha.down()
    assert _left(alpha) == []
