"""The limits of [health] on a real node: changed by a reload, told by health, and left again.

One node by itself: its peer never answers, and nobody minds.
"""

import collections
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from netparty import make_nodes

from lab import Lab, wait_for
from lab.nodes import Node

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def alpha() -> Iterator[Node]:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
        node, _ = make_nodes(lab, a, b, None, "10.0.0.2", {"health": {"interval": "5s"}})
        node.start()
        node.wait_running()
        yield node


def items(node: Node) -> dict[str, dict[str, Any]]:
    answer = json.loads(node.cli("health", "--json", check=False).stdout)
    found: dict[str, dict[str, Any]] = collections.defaultdict(lambda: collections.defaultdict(str))
    found.update((f"{i['item']}:{i['key']}".rstrip(":"), i) for i in answer["items"])
    return found


@pytest.mark.slow
def test_a_reload_brings_new_limits_to_the_observer_at_work(alpha: Node) -> None:
    pid = wait_for("an observer", lambda: alpha.pids("observer"))[0]
    alpha.set({"health": {"interval": "200ms", "fail_scale": 0.1, "recover_scale": 0.1, "memory_warns": "16MiB"}})
    assert "health changed" in alpha.cli("reload").stdout
    wait_for("memory to be told", lambda: items(alpha)["host.memory:observer"]["state"] == "warning", timeout=45.0)
    alpha.set({"health": {"memory_warns": "384MiB"}})
    alpha.cli("reload")
    wait_for("memory to be well", lambda: items(alpha)["host.memory:observer"]["state"] == "ok", timeout=20.0)
    assert alpha.pids("observer") == [pid]
    assert "384MiB" in alpha.cli("config", "show", "--effective").stdout


def test_an_event_loop_that_comes_late_is_told(alpha: Node) -> None:
    """The observer is stopped again and again, for less time than a hang is; control is not what is told."""
    alpha.set({"health": {"interval": "200ms", "fail_scale": 0.1, "recover_scale": 0.1}})
    alpha.cli("reload")
    pid = wait_for("an observer", lambda: alpha.pids("observer"))[0]

    def stopped_and_told() -> bool:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.2)  # this is the fault
        os.kill(pid, signal.SIGCONT)
        return _is_late(alpha)

    wait_for("the lag to be told", stopped_and_told, timeout=30.0)
    wait_for("the loop to be well", lambda: items(alpha)["host.processor:observer"]["state"] == "ok", timeout=20.0)


def _is_late(node: Node) -> bool:
    found = items(node)["host.processor:observer"]
    return found["state"] == "warning" and "observer came" in found["evidence"]
