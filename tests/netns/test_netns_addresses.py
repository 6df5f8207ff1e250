"""Who can be reached with which keys, and what a start that the kernel refuses says."""

import base64
import json
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest
from netparty import Pair, connected, make_pair, start

from lab import Lab, wait_for
from lab.nodes import PQVPN, ROOT, Node, make_node
from lab.traffic import ping

pytestmark = pytest.mark.netns

EX_OSFILE, EX_NOPERM, EX_CONFIG = 72, 77, 78
KEYS = [base64.b64encode(bytes([i]) * 32).decode() for i in (1, 2)]


def refused_start(node: Node) -> tuple[int, str]:
    """Exit code of `pqvpn up` that does not stay up, and everything it said."""
    done = node.cli("up", check=False)
    return done.returncode, done.stdout + done.stderr


# -- keys that both sides must share


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    settings = {"timers": {"m1_schedule": ["0s", "200ms", "400ms"], "m1_fresh_after": "1s"}}
    with Lab() as lab:
        yield make_pair(lab, start_them=False, settings=settings)


def give(node: Node, section: str, name: str, key: str) -> None:
    """Write a key file and its setting."""
    file = node.folder / f"{name}.key"
    file.write_text(key + "\n")
    file.chmod(0o600)
    node.set({section: {f"{name}_file" if name == "psk" else "network_key_file": file.name}})


@pytest.mark.parametrize("name", ["psk", "network"])
def test_shared_keys_must_be_the_same(pair: Pair, name: str) -> None:
    for ours, theirs in ((0, 1), (0, 0)):
        for node, key, peer in ((pair.a, ours, "beta"), (pair.b, theirs, "alpha")):
            node.down()
            give(node, "node" if name == "network" else f"peer.{peer}", name, KEYS[key])
        start(*pair.nodes)
        if ours == theirs:
            connected(*pair.nodes)
            assert ping(pair.a.namespace, pair.b.address, 3).lost == 0
            continue
        pair.a.poke(pair.b.interfaces[0].ip)
        wait_for("beta to refuse", lambda: sum(pair.b.drops().values()) > 0)
        told = wait_for("a reason", lambda: pair.a.peer("beta")["reason"])
        assert told["code"] in ("network.no_reply", "handshake.bad_auth")
        assert pair.a.peer("beta")["state"] != "up"
        assert pair.a.peer("beta")["session_id"] is None


# -- starts that cannot be


@pytest.fixture(scope="module")
def lonely() -> Iterator[Node]:
    with Lab() as lab:
        yield make_node(lab, lab.namespace("lonely"), "lonely", ["10.7.0.1/24"])


def test_a_taken_port_is_named(lonely: Node) -> None:
    with lonely.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", lonely.listen))
        code, said = refused_start(lonely)
    assert code == EX_CONFIG
    assert "network.address_in_use" in said
    assert str(lonely.listen) in said
    assert "Traceback" not in said


def test_an_interface_of_that_name_is_left_alone(lonely: Node) -> None:
    lonely.namespace.run(["ip", "link", "add", "pqvpn0", "type", "veth", "peer", "name", "other"])
    try:
        code, said = refused_start(lonely)
        assert code == EX_CONFIG
        assert "tun.interface_exists" in said
        (link,) = json.loads(lonely.namespace.run(["ip", "-j", "-d", "link", "show", "pqvpn0"]).stdout)
        assert link["linkinfo"]["info_kind"] == "veth"
    finally:
        lonely.namespace.delete_link("pqvpn0")


def test_no_device_is_named(lonely: Node) -> None:
    """With an empty /dev/net in a mount namespace of its own."""
    hide = 'mount --make-rprivate / && mount -t tmpfs none /dev/net && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", hide, "sh", *PQVPN, "up", "--config", str(lonely.config)]
    done = subprocess.run(
        lonely.namespace.command(command),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    said = done.stdout + done.stderr
    assert (done.returncode, "tun.unavailable" in said, "modprobe tun" in said) == (EX_OSFILE, True, True), said


def test_no_permission_is_named(lonely: Node) -> None:
    """The owner of the files without any capability."""
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *PQVPN, "up", "--config", str(lonely.config)]
    done = subprocess.run(
        lonely.namespace.command(command),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    said = done.stdout + done.stderr
    assert (done.returncode, "host.no_permission" in said) == (EX_NOPERM, True), said


def test_a_refused_start_leaves_nothing_and_the_next_one_works(lonely: Node) -> None:
    with lonely.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", lonely.listen))
        refused_start(lonely)
    assert "pqvpn0" not in lonely.namespace.run(["ip", "-o", "link"]).stdout
    lonely.up()
    code, said = refused_start(lonely)
    assert code == EX_CONFIG
    assert "node.already_running" in said
    assert str(lonely.status()["node"]["pid"]) in said
    lonely.down()
