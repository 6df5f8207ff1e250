"""What never answers is cut off: a self-test in a library that hangs, a kernel that is silent. No connection is lost by it."""

import json
import sys
from collections.abc import Iterator

import pytest
from flows import flow, told, wait_replaced, wait_told
from netparty import bring_up, make_pair

from lab import Lab, wait_for
from lab.nodes import Node

pytestmark = pytest.mark.netns

_SETTINGS = {
    "health": {
        "interval": "500ms", "crypto_interval": "1s", "crypto_timeout": "500ms", "netlink_timeout": "200ms",
        "fail_scale": 0.1, "recover_scale": 0.1,
    },
    "breakers": {"open_for": "500ms", "open_longest": "1s"},
}  # fmt: skip


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    """alpha is one that can be made to fail: a fault strikes when its file is in alpha's folder `triggers`."""
    with Lab() as lab:
        made = make_pair(lab, settings=_SETTINGS, start_them=False)
        triggers = made.a.folder / "triggers"
        triggers.mkdir()
        made.a.runs_by = (sys.executable, "-m", "tests.crashserver.injecting", str(triggers))
        bring_up(*made.nodes)
        yield made.nodes


def item(node: Node, name: str) -> tuple[str, str]:
    """State and code of an item; nothing while the observer does not answer."""
    answer = node.cli("health", "--json", check=False).stdout
    items = json.loads(answer)["items"] if answer else []
    return next(((each["state"], each["code"]) for each in items if each["item"] == name), ("", ""))


def test_a_self_test_that_hangs_fails_and_its_process_is_replaced(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    (control,) = alpha.pids("control")
    session = alpha.peer("beta")["session_id"]
    with flow(alpha, beta) as there, flow(beta, alpha) as back:
        (alpha.folder / "triggers" / "self-test").write_text("once")
        problem = wait_told(alpha, "problem", reason="crypto.self_test_failed", timeout=20.0)
        assert "hkdf-sha256 has not answered for 0.5 s" in problem["detail"]
        wait_replaced(alpha, "control", control, 20.0)
        there.more()
        back.more()
    ended = wait_told(alpha, "process.ended", process="control")
    assert ended["reason"] == "node.child_hung"
    wait_for("health to have told it", lambda: told(alpha, "health.changed", item="crypto.self_test"), 20.0)
    wait_for("it to be well again", lambda: item(alpha, "crypto.self_test")[0] == "ok", 20.0)
    assert alpha.peer("beta")["session_id"] == beta.peer("alpha")["session_id"] == session
    assert len(told(alpha, "process.ended")) == 1, "once was enough"


def test_a_silent_kernel_holds_nothing_up_and_is_asked_again(pair: tuple[Node, Node]) -> None:
    alpha, beta = pair
    silence = alpha.folder / "triggers" / "kernel"
    with flow(alpha, beta) as there:
        silence.write_text("as long as this is here")
        wait_for("health to tell", lambda: item(alpha, "tun.interface") == ("warning", "host.kernel_silent"), 20.0)
        there.more()
        (lane,) = alpha.pids("lane-0")  # the supervisor still looks after its processes
        alpha.kill("lane-0")
        wait_replaced(alpha, "lane-0", lane)
        refused = alpha.cli("reload", check=False)
        assert refused.returncode != 0
        assert "does not answer" in refused.stderr or "netlink" in refused.stderr, refused.stderr
        silence.unlink()
        wait_for("it to be well again", lambda: item(alpha, "tun.interface")[0] == "ok", 30.0)
        there.more()
    assert alpha.cli("reload").returncode == 0
