"""What docs/threat-model.md says of each process's privileges is what the kernel says of a running node.

alpha      one node alone, with two lanes
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from lab.nodes import Node, make_node

pytestmark = pytest.mark.netns

NET_ADMIN = 1 << 12  # capabilities(7)
NONE = 0


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Lab() as lab:
        made = make_node(lab, lab.namespace("alpha"), "alpha", ["10.7.0.1/24"])
        made.set({"node": {"lanes": 2}})
        made.up()
        yield made


def _kernel_says(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize(
    ("component", "capabilities"),
    [("supervisor", NET_ADMIN), ("control", NONE), ("lane-0", NONE), ("lane-1", NONE)],
)
def test_each_process_keeps_only_what_it_needs(node: Node, component: str, capabilities: int) -> None:
    (pid,) = node.pids(component)
    found = _kernel_says(pid)
    sets = {name: int(found[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")}
    assert sets == {"CapPrm": capabilities, "CapEff": capabilities, "CapInh": NONE, "CapAmb": NONE}
    assert found["NoNewPrivs"] == "1"


@pytest.mark.parametrize("component", ["supervisor", "control", "lane-0", "lane-1"])
def test_no_process_leaves_a_core_dump(node: Node, component: str) -> None:
    (pid,) = node.pids(component)
    limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
    (core,) = (line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core == ["0", "0"]


@pytest.mark.parametrize("component", ["supervisor", "control", "lane-0"])
def test_nothing_is_told_by_arguments_but_where_to_look(node: Node, component: str) -> None:
    (pid,) = node.pids(component)
    words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    if component == "supervisor":
        assert words[-2:] == [b"--config", str(node.config).encode()]
    else:
        assert words[1:3] == [b"-I", b"-m"]
        assert words[-1].isdigit()
