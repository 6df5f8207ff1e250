"""Real nodes as the lab makes them, and the demonstration as people see it."""

import os
import subprocess
import sys
import tomllib

import pytest

from lab import Lab, LabError, agent
from lab.nodes import ROOT, Node, _with_setting, introduce, make_node
from lab.traffic import ping, transfer

SAMPLE = '[node]\nname = "a"\n# mtu = "auto"\nlisten = 1\n\n[log]\n# level = "info"\n'


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("node", "mtu", 1300),
        ("node", "listen", 7),
        ("log", "level", "debug"),
        ("timers", "rekey_after", "3s"),
        ("peer.b", "allowed_ips", ["10.0.0.0/8"]),
    ],
)
def test_settings_are_written_into_their_section(section: str, key: str, value: object) -> None:
    table = tomllib.loads(_with_setting(SAMPLE, section, key, value))
    for part in section.split("."):
        table = table[part]
    assert table[key] == value
    before = tomllib.loads(SAMPLE)
    assert tomllib.loads(_with_setting(SAMPLE, section, key, value))["node"].keys() >= before["node"].keys()


def two_nodes(lab: Lab) -> tuple[Node, Node]:
    a, b = lab.namespace("a"), lab.namespace("b")
    lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
    alpha = make_node(lab, a, "alpha", ["10.7.0.1/24"])
    beta = make_node(lab, b, "beta", ["10.7.0.2/24"])
    introduce(alpha, beta, "10.0.0.1", "10.0.0.2")
    return alpha, beta


@pytest.mark.netns
def test_nodes_carry_pings_and_a_file_and_end_within_a_second() -> None:
    with Lab() as lab:
        alpha, beta = two_nodes(lab)
        alpha.up()
        beta.up()
        assert alpha.wait_for_peer("beta")["post_quantum"]
        assert ping(alpha.namespace, beta.address, 5).lost == 0
        content = os.urandom(1 << 20)
        sent = transfer(alpha.namespace, beta.namespace, beta.address, lambda at: content[at:], len(content))
        assert sent.size == len(content)
        assert {process["component"] for process in alpha.status()["processes"]} >= {"supervisor", "control", "lane-0"}
        assert alpha.pids("lane-0") != beta.pids("lane-0")
        alpha.down()
        assert alpha.namespace.processes() == []


@pytest.mark.netns
def test_a_node_that_cannot_start_tells_why() -> None:
    with Lab() as lab:
        alpha = make_node(lab, lab.namespace("a"), "alpha", ["10.7.0.1/24"])
        alpha.set({"node": {"mtu": 5}})
        with pytest.raises(LabError, match="exit code 78"):
            alpha.up()


@pytest.mark.netns
def test_nodes_that_run_are_gone_with_the_lab() -> None:
    with Lab() as lab:
        alpha, _ = two_nodes(lab)
        alpha.up()
        net = alpha.namespace.net
    assert agent.inhabitants(net) == []


@pytest.mark.netns
def test_the_demonstration_succeeds() -> None:
    command = [sys.executable, "-m", "lab.demo", "--mib", "4", "--pings", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Not one inner byte was readable outside." in done.stdout
    assert "its keys are post-quantum" in done.stdout
