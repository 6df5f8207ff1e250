"""Another version takes a running node over: sessions and connections go on; one that is not fit is sent back.

alpha --veth0-- beta      beta is upgraded; versions are copies of the package in environments of their own
"""

import json
import os
import pathlib
from collections.abc import Callable, Iterator

import pytest
from flows import assert_never_reused, flow, told
from netparty import bring_up, connected, make_nodes

from lab import Lab, wait_for
from lab.nodes import Node
from lab.versions import make_version

pytestmark = pytest.mark.netns

_TIMERS = {"m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": "1s", "dead": "5s", "keepalive": "1s"}
Make = Callable[[str, dict[str, str]], pathlib.Path]


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Node, Node]]:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
        alpha, beta = make_nodes(lab, a, b, None, "10.0.0.2", {"timers": _TIMERS, "node": {"lanes": 2}})
        bring_up(alpha, beta)
        yield alpha, beta


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """An interpreter in whose environment another version is installed; `changes`: text put at the end of files."""

    def make(name: str, changes: dict[str, str]) -> pathlib.Path:
        return make_version(tmp_path_factory.mktemp("version"), name, changes)

    return make


def _upgrade(node: Node, python: pathlib.Path, code: int = 0) -> dict[str, object]:
    done = node.cli("upgrade", "--python", str(python), "--json", check=False, timeout=160.0)
    assert done.returncode == code, done.stdout + done.stderr + node.log()[-3000:]
    return dict(json.loads(done.stdout or done.stderr))


def _is_whole(node: Node) -> bool:
    return len(node.pids("lane-")) == 2 and bool(node.pids("control"))


def test_connections_and_sessions_live_on(pair: tuple[Node, Node], version: Make) -> None:
    alpha, beta = pair
    connected(alpha, beta)
    session, before = beta.peer("alpha")["session_id"], beta.pids()
    supervisor = beta.pids("supervisor")
    started = len(told(alpha, "handshake.completed")) + len(told(beta, "handshake.completed"))
    beta.ask("log_level", area="tun", level="error", for_seconds=600)
    with alpha.namespace.capture("veth0", limit=1 << 30) as seen, flow(alpha, beta) as there, flow(beta, alpha) as back:
        result = _upgrade(beta, version("9.9.9", {}))
        assert result["version"] == "9.9.9"
        assert beta.status()["version"] == "9.9.9"
        there.more()
        back.more()
    assert seen.dropped == 0
    assert_never_reused(seen.frames)
    assert beta.pids("supervisor") == supervisor, "an exec keeps the pid"
    assert set(beta.pids()) & set(before) == set(supervisor), "everything else was replaced"
    assert beta.peer("alpha")["session_id"] == alpha.peer("beta")["session_id"] == session
    assert len(told(alpha, "handshake.completed")) + len(told(beta, "handshake.completed")) == started
    wait_for("the fact", lambda: told(beta, "node.upgraded", after="9.9.9"))
    (level,) = [each for each in beta.ask("log_level")["levels"] if each["area"] == "tun"]
    assert level["level"] == "error", "what an operator set holds for the rest of its time"
    assert 300 < level["seconds"] < 600


@pytest.mark.slow
def test_it_goes_on_as_a_node(pair: tuple[Node, Node], version: Make) -> None:
    """Signals, restarts and reloads work as before, and a second upgrade, by the version that runs now."""
    alpha, beta = pair
    _upgrade(beta, version("9.9.10", {}))
    beta.cli("reload")
    pid = beta.kill("lane-0")
    wait_for("another lane", lambda: beta.pids("lane-0") not in ([], [pid]))
    connected(alpha, beta)
    beta.down()
    assert not set(beta.namespace.processes())
    bring_up(beta)
    connected(alpha, beta)
    assert beta.status()["version"] != "9.9.10"


_EXITS = "\nimport os as _os, sys as _sys\nif _sys.argv[0].endswith('spare.py'): _os._exit(3)\n"
_SUPERVISOR = "\n_real = main\ndef main(memory, refused):\n    raise RuntimeError('broken')\n"
_SUPERVISOR_LATER = """

def _broken(self, time):
    raise RuntimeError('broken')
Renewal.look = _broken
"""
_BROKEN = {
    "import": ({"control/process.py": "\nimport no_such_module_anywhere\n"}, "node.upgrade_refused", "no_such_module"),
    "self-test": ({"crypto/selftest.py": "\ndef failures(): return ('ml_kem',)\n"}, "node.upgrade_refused", "ml_kem"),
    "format": ({"node/state.py": "\nFORMAT = 77\n"}, "node.upgrade_refused", "restart"),
    "resume": ({"node/resume.py": _SUPERVISOR}, "node.upgrade_rolled_back", "RuntimeError at resume.py"),
    "supervisor": ({"node/renewal.py": _SUPERVISOR_LATER}, "node.upgrade_rolled_back", "RuntimeError"),
    "child": ({"host/privileges.py": _EXITS}, "node.upgrade_rolled_back", "ended"),
    "lane": ({"dataplane/worker.py": "\ndef main(fd): raise SystemExit(3)\n"}, "node.upgrade_rolled_back", "lane-0"),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in ("resume", "child") else []) for n in _BROKEN]
)
def test_what_is_not_fit_is_sent_back(pair: tuple[Node, Node], version: Make, name: str) -> None:
    alpha, beta = pair
    changes, code, words = _BROKEN[name]
    connected(alpha, beta)
    session, supervisor, runs = beta.peer("alpha")["session_id"], beta.pids("supervisor"), beta.status()["version"]
    with flow(alpha, beta, patience=30.0) as there, flow(beta, alpha, patience=30.0) as back:
        error = _upgrade(beta, version("9.9.11", changes), os.EX_SOFTWARE)["errors"]
        assert isinstance(error, list)
        assert error[0]["code"] == code
        assert words in error[0]["detail"]
        wait_for("the node to be whole", lambda: _is_whole(beta))
        there.more()
        back.more()
    assert beta.status()["version"] == runs
    assert beta.pids("supervisor") == supervisor
    assert beta.peer("alpha")["session_id"] == session


def test_no_such_interpreter(pair: tuple[Node, Node], tmp_path: pathlib.Path) -> None:
    _, beta = pair
    assert beta.cli("upgrade", "--python", str(tmp_path / "none"), check=False).returncode == os.EX_USAGE
    program = tmp_path / "python"
    program.write_text("#!/nonexistent\n")
    program.chmod(0o755)
    assert beta.cli("upgrade", "--python", str(program), check=False).returncode == os.EX_SOFTWARE
    assert _is_whole(beta)
