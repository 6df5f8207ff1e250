"""`pqvpn diag net` probes a real network: healthy, narrow, without UDP, without names, behind a NAT, and of a dead node.

alpha 192.168.1.2 --veth0-- nat --veth1-- 203.0.113.2 beta     inside 10.7.0.0/24
"""

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from diagnosed import QUICK, drop, undrop
from netparty import bring_up, connected, make_nodes

from lab import Lab, Link, Namespace, wait_for
from lab.nodes import PQVPN, Node
from lab.waiting import WaitTimeoutError

pytestmark = [pytest.mark.netns, pytest.mark.needs("nft")]

_SERVER = "192.168.1.1"  # whose name server never answers: the NAT drops what is for it


@dataclass(frozen=True)
class World:
    """Two nodes; alpha is masqueraded, and has names of its own (`hosts`)."""

    alpha: Node
    beta: Node
    nat: Namespace
    far: Link


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Lab() as lab:
        a, nat, b = lab.namespace("a"), lab.router("nat"), lab.namespace("b")
        lab.link(a, nat, ["192.168.1.2/24"], [f"{_SERVER}/24"], names=("veth0", "veth0"))
        far = lab.link(nat, b, ["203.0.113.1/24"], ["203.0.113.2/24"], names=("veth1", "veth0"))
        a.add_route("default", via=_SERVER)
        nat.masquerade("veth1", (40000, 40099))
        nat.nft(f"table ip quiet {{\nchain i {{\ntype filter hook input priority 0\nip daddr {_SERVER} drop\n}}\n}}\n")
        alpha, beta = make_nodes(lab, a, b, "203.0.113.1", "203.0.113.2", QUICK)
        alpha.set({"peer.beta": {"endpoint": "beta.test:51820"}})
        _own_names(alpha)
        bring_up(alpha, beta)
        yield World(alpha, beta, nat, far)


def _own_names(node: Node) -> None:
    """The node sees a hosts file of its own, and a name server that does not answer; who asks it here does not."""
    files = {
        "hosts": "127.0.0.1 localhost\n203.0.113.2 beta.test\n",
        "resolv.conf": f"nameserver {_SERVER}\noptions timeout:20 attempts:1\n",
        "nsswitch.conf": "hosts: files dns\n",
    }
    mounts = []
    for name, content in files.items():
        (node.folder / name).write_text(content)
        mounts.append(f"mount --bind {shlex.quote(str(node.folder / name))} /etc/{name}")
    script = "; ".join([*mounts, f'exec {shlex.join(PQVPN)} "$@"'])
    node.runs_by = ["unshare", "--mount", "sh", "-ec", script, "sh"]


def probed(node: Node, what: str, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Wait until a probe says so: one that is a few seconds old is told again instead of another."""
    told: dict[str, Any] = {}

    def ask() -> bool:
        done = node.cli("diag", "net", "--json")
        assert done.stderr == "", done.stderr
        told.clear()
        told.update(json.loads(done.stdout))
        return bool(condition(told))

    try:
        wait_for(what, ask, 40.0)
    except WaitTimeoutError as error:
        raise AssertionError(f"{error}; it says {told}") from None
    return told


def _fixed(node: Node, name: str) -> dict[str, Any]:
    """What probes must not change."""
    shown = node.peer(name)
    kept = {key: shown[key] for key in ("state", "session_id", "path_mtu", "probes_unanswered", "endpoint")}
    return kept | {"breakers": _breakers(node)}


def _breakers(node: Node) -> list[tuple[str, ...]]:
    """Without `calls`: they are counted within a window, and fall out of it."""
    return [tuple(str(row[key]) for key in ("name", "state", "failures")) for row in node.ask("breakers")["breakers"]]


def test_a_healthy_network_with_a_nat(world: World) -> None:
    before = _fixed(world.alpha, "beta")
    told = probed(world.alpha, "a probe", lambda told: told["probed"])
    (udp,), (path,), (nat,), (name,) = told["udp"], told["path_mtu"], told["nat"]["paths"], told["dns"]
    assert told["schema"] == "pqvpn.diag.net/1"
    assert (udp["sent"], udp["answered"], udp["reach"]) == (3, 3, "datagrams get through both ways")
    assert 0 < udp["rtt_ms"] <= udp["rtt_most_ms"]
    assert (path["path_mtu"], path["confirmed"], path["outside"], path["in_use"]) == (1432, True, 1500, 1432)
    assert (nat["source"], nat["translated"], nat["endpoint"]) == ("192.168.1.2", "yes", "203.0.113.2:51820")
    assert (name["host"], name["addresses"], name["error"], name["by"]) == ("beta.test", ["203.0.113.2"], "", "node")
    families = {each["family"]: each["route"] for each in told["families"]}
    assert families == {"ipv4": True, "ipv6": False}
    assert (told["refused"], told["not_probed"]) == (0, None)
    assert told["clock"]["synchronised"] in (True, False, None)
    assert _fixed(world.alpha, "beta") == before
    # the other end sees the NAT, and no port that was configured
    (nat,) = probed(world.beta, "a probe", lambda told: told["probed"])["nat"]["paths"]
    assert (nat["translated"], nat["seen"]) == ("no", "port")
    text = world.alpha.cli("diag", "net").stdout
    assert "3 of 3 challenges answered" in text
    assert "confirmed now" in text


def test_a_path_that_became_narrow_while_nobody_sent(world: World) -> None:
    before = _fixed(world.alpha, "beta")
    world.far.set_mtu(1300)
    try:
        told = probed(world.alpha, "the size", lambda told: told["path_mtu"][0]["path_mtu"] != 1432)
        (path,) = told["path_mtu"]
        assert 1300 - 68 - 16 < path["path_mtu"] <= 1300 - 68
        assert (path["confirmed"], path["largest"], path["in_use"]) == (True, 1432, 1432)
        assert told["udp"][0]["answered"] == 3
        assert _fixed(world.alpha, "beta") == before
        assert "of 1432, confirmed now" in world.alpha.cli("diag", "net").stdout
    finally:
        world.far.set_mtu(1500)


@pytest.mark.slow
def test_udp_is_blocked_over_there_then_here(world: World) -> None:
    probed(world.alpha, "all to be well", lambda told: told["udp"][0]["answered"] == 3)
    before = _fixed(world.alpha, "beta")
    drop(world.beta, "udp dport 51820")
    try:
        told = probed(world.alpha, "no answer", lambda told: told["udp"][0]["answered"] == 0)
        assert (told["udp"][0]["sent"], told["udp"][0]["reach"]) == (3, "nothing comes back")
        assert (told["path_mtu"][0]["confirmed"], told["refused"]) == (False, 0)
        assert _fixed(world.alpha, "beta") == before, "no breaker, no state, no session went by it"
        assert "0 of 3 challenges answered" in world.alpha.cli("diag", "net").stdout
    finally:
        undrop(world.beta)
    drop(world.alpha, "udp sport 51820", "output")
    try:
        told = probed(world.alpha, "a refusal", lambda told: told["refused"])
        assert told["refused"] >= 3
        assert told["udp"][0]["answered"] == 0
    finally:
        undrop(world.alpha)
    probed(world.alpha, "all to be well", lambda told: told["udp"][0]["answered"] == 3)


@pytest.mark.slow
def test_names_do_not_resolve(world: World) -> None:
    """The server never answers: the probe ends all the same, and all else in it is as before."""
    before = _breakers(world.alpha)
    hosts = world.alpha.folder / "hosts"
    known = hosts.read_text()
    hosts.write_text("127.0.0.1 localhost\n")
    try:
        told = probed(world.alpha, "no name", lambda told: told["dns"][0]["error"])
        assert told["dns"][0]["error"] == "no answer within 5 s"
        assert told["udp"][0]["answered"] == 3
        assert told["path_mtu"][0]["confirmed"]
        assert _breakers(world.alpha) == before
        assert any(row[0] == "dns/beta.test" for row in before)
    finally:
        hosts.write_text(known)


@pytest.mark.slow
def test_what_nobody_probes_and_a_node_that_is_down(world: World) -> None:
    connected(world.alpha, world.beta)
    with world.alpha.namespace.capture("veth0") as seen:
        told = json.loads(world.alpha.cli("diag", "net", "--no-probe", "--json").stdout)
    assert (told["probed"], told["sent"], told["dns"]) == (False, "nothing", [])
    assert told["knowledge"]["source"] == "live"
    assert not [frame for frame in seen.frames if frame[12:14] == b"\x08\x00" and frame[23] == 17]
    # its port is closed: the network says so, and the probe sees it
    world.beta.kill("supervisor")
    told = probed(world.alpha, "a refusal", lambda told: told["udp"][0]["icmp"])
    assert told["udp"][0]["reach"] == "the network answers port unreachable"
    world.alpha.down()
    told = json.loads(world.alpha.cli("diag", "net", "--json").stdout)
    assert (told["probed"], told["not_probed"]) == (False, "the node does not run")
    assert told["knowledge"]["source"] == "recorded"
    assert told["age_seconds"] == told["knowledge"]["age_seconds"] >= 0
    assert told["dns"][0]["by"] == "command"
    text = world.alpha.cli("diag", "net").stdout
    assert text.startswith("Nothing was probed. The node does not run: this was recorded ")
