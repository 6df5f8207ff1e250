"""Commands as a user meets them: words, JSON, exit codes, nothing overwritten, no stack trace."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import pqvpn.node
from pqvpn.cli import client, commands, docs, main, service
from pqvpn.config import paths
from pqvpn.errors import PqvpnError
from pqvpn.identity import text
from pqvpn.reasons import Reason

COMMANDS = [
    (), ("init",), ("card",), ("card", "show"), ("peer",), ("peer", "add"), ("peer", "list"), ("peer", "remove"),
    ("check",), ("up",), ("down",), ("status",), ("reload",), ("version",), ("completion",),
]  # fmt: skip

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command line in this process; gives exit code, stdout and stderr."""
    monkeypatch.delenv("PQVPN_CONFIG", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main.run(arguments)
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


@pytest.fixture
def config(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node made by `pqvpn init`, and a card of another at other.pqcard; both by way of PQVPN_CONFIG."""
    other = tmp_path / "other" / "pqvpn.toml"
    assert call("init", "--config", str(other), "--name", "other")[0] == 0
    (tmp_path / "other.pqcard").write_text(call("card", "--file", "--config", str(other))[1])
    path = tmp_path / "node" / "pqvpn.toml"
    monkeypatch.setenv("PQVPN_CONFIG", str(path))
    assert call("init", "--name", "alpha", "--address", "10.7.0.1/24", "--address", "fd00::1/64")[0] == 0
    source = path.read_text().replace("[node]", f'[node]\nruntime_dir = "{tmp_path}/run"')
    path.write_text(source)
    return path


def sub(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command line as a process of its own."""
    command = [sys.executable, "-m", "pqvpn.cli", *arguments]
    clean = {name: value for name, value in os.environ.items() if name != "PQVPN_CONFIG"}
    return subprocess.run(command, capture_output=True, text=True, env=clean | environment, timeout=60)


# -- help, version, usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "pqvpn")
def test_help_carries_examples(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(commands.app, [*words, "--help"])
    assert result.exit_code == 0
    assert "Examples:\n    pqvpn" in result.stdout


def test_every_command_takes_a_configuration_and_json() -> None:
    for words in COMMANDS:
        shown = CliRunner().invoke(commands.app, [*words, "--help"]).stdout
        if words not in ((), ("peer",), ("completion",)):
            assert "--json" in shown, words
            assert words in (("version",), ("card", "show")) or "--config" in shown, words


def test_version(call: Call) -> None:
    assert call("version") == (0, f"pqvpn {pqvpn.__version__}\n", "")
    assert json.loads(call("version", "--json")[1]) == {"version": pqvpn.__version__}


@pytest.mark.parametrize(
    "words", [["frobnicate"], ["status", "--frob"], ["card", "show"], ["init", "--listen", "x"], ["completion", "csh"]]
)
def test_usage(call: Call, words: list[str]) -> None:
    code, out, err = call(*words)
    assert (code, out) == (64, "")
    assert "error [cli.usage]" in err
    assert "remedy: " in err
    assert json.loads(call(*words, "--json")[2])["exit_code"] == 64


def test_nothing_said_shows_the_help(call: Call) -> None:
    for words in ((), ("peer",)):
        code, _, err = call(*words)
        assert code == 64
        assert "Examples:" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(call: Call, shell: str) -> None:
    assert "_PQVPN_COMPLETE" in call("completion", shell)[1]


def test_completion_completes() -> None:
    ran = sub(_PQVPN_COMPLETE="complete_bash", COMP_WORDS="pqvpn sta", COMP_CWORD="1")
    assert ran.stdout.split() == ["status"]


# -- init, card, peer ---------------------------------------------------------------------------------------------


def test_init_tells_and_never_overwrites(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "node" / "pqvpn.toml"
    code, out, _ = call("init", "-c", str(path), "--name", "alpha")
    assert code == 0
    assert "Peer ID:  pqvpn1" in out
    assert f"pqvpn up --config {path}" in out
    line = next(line for line in out.splitlines() if line.startswith("pqvpncard1:"))
    assert call("card", "--line", "-c", str(path))[1].strip() == line
    before = {p: p.read_bytes() for p in path.parent.iterdir()}
    code, out, err = call("init", "-c", str(path), "--json")
    assert (code, out) == (73, "")
    (error,) = json.loads(err)["errors"]
    assert (error["code"], error["place"]) == ("config.exists", str(path))
    assert {p: p.read_bytes() for p in path.parent.iterdir()} == before


def test_init_takes_the_hosts_name(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "-Büro 1.example.net")
    out = call("init", "-c", str(tmp_path / "n" / "pqvpn.toml"), "--json")[1]
    assert json.loads(out)["name"] == "B-ro-1"


@pytest.mark.usefixtures("config")
def test_card_forms_agree(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "own.pqcard"
    file.write_text(call("card", "--file")[1])
    line = call("card", "--line")[1].strip()
    assert text.card_from_text(file.read_text()) == text.card_from_text(line)
    own = json.loads(call("card", "--json")[1])
    for given in (str(file), line):
        assert json.loads(call("card", "show", given, "--json")[1]) == own
        assert own["id"] in call("card", "show", given)[1]
    assert own["id"] in call("card")[1]
    assert len(call("card", "--qr")[1].splitlines()) > 50


def test_card_show_refuses(call: Call, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("x")
    assert "identity.card_malformed" in call("card", "show", str(tmp_path / "bad"))[2]
    assert "identity.card_malformed" in call("card", "show", "pqvpncard1:xyz")[2]
    assert call("card", "show", str(tmp_path / "none"))[0] == 78


def test_peer_add_list_remove(call: Call, config: Path, tmp_path: Path) -> None:
    before = config.read_text()
    card = str(tmp_path / "other.pqcard")
    code, out, _ = call("peer", "add", "beta", card, "--endpoint", "192.0.2.1:51820", "--allow", "10.7.0.2/32")
    assert (code, out) == (0, f"Added peer beta to {config}.\n")
    (beta,) = json.loads(call("peer", "list", "--json")[1])
    assert (beta["name"], beta["endpoint"], beta["allowed_ips"]) == ("beta", "192.0.2.1:51820", ["10.7.0.2/32"])
    assert beta["id"] in call("peer", "list")[1]
    assert "1 peer." in call("check")[1]
    code, _, err = call("peer", "add", "beta", card, "--allow", "10.7.0.9/32")
    assert (code, "config.peer_exists" in err) == (64, True)
    assert call("peer", "remove", "beta")[0] == 0
    assert config.read_text() == before
    assert "No peers" in call("peer", "list")[1]
    assert call("peer", "remove", "beta")[0] == 64


@pytest.mark.parametrize("name", ["../beta", "a/b", "", "a b", "ä"])
def test_peer_names_are_no_paths(call: Call, config: Path, tmp_path: Path, name: str) -> None:
    code, _, err = call("peer", "add", name, str(tmp_path / "other.pqcard"), "--allow", "10.7.0.2/32")
    assert (code, "config.value" in err) == (78, True)
    assert sorted(p.name for p in config.parent.rglob("*")) == ["identity.key", "pqvpn.toml"]


def test_check_tells_everything(call: Call, config: Path) -> None:
    config.write_text(config.read_text().replace("listen = 51820", "listen = 0\nmtu = 1000\nlanse = 2"))
    code, out, err = call("check")
    assert (code, out) == (78, "")
    assert [line.split("]")[0] for line in err.splitlines()[::2]] == [
        "error [config.value", "error [config.mtu", "error [config.unknown_key",
    ]  # fmt: skip
    told = json.loads(call("check", "--json")[2])
    assert [error["place"].split()[0] for error in told["errors"]] == ["node.listen", "node.mtu", "node.lanse"]
    assert all(error["remedy"] for error in told["errors"])


# -- up, down -----------------------------------------------------------------------------------------------------


def test_up_hands_over_and_gives_the_nodes_code(call: Call, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Any] = []

    def run(path: Path, loaded: Any, *, debug: bool) -> int:
        got.append((path, loaded.node.name, debug))
        return 75

    monkeypatch.setattr(pqvpn.node, "run", run)
    assert call("up")[0] == 75
    assert call("up", "--debug")[0] == 75
    assert got == [(config, "alpha", False), (config, "alpha", True)]


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (PqvpnError(Reason.NO_PERMISSION), 77, "error [host.no_permission]"),
        (RuntimeError("tell-tale"), 70, "error [node.internal] RuntimeError at test_cli_commands.py"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_nobody_sees_a_stack_trace(
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: int,
    words: str,
) -> None:
    def run(*_: Any, **__: Any) -> int:
        raise raised

    monkeypatch.setattr(pqvpn.node, "run", run)
    monkeypatch.setattr(main, "_pipe_closed", lambda: 0)  # it would close the capture's file
    met, _, err = call("up")
    assert met == code
    assert words in err
    assert "Traceback" not in err
    if words:
        debugged = call("up", "--debug")[2]
        assert "Traceback" in debugged
        assert "tell-tale\n" not in err + debugged  # a line of source may show the word, the exception's text does not


STUB = """#!{python}
import json, os, socket, sys
print("to the log", file=sys.stderr)
listener = socket.socket(socket.AF_UNIX)
listener.bind({socket!r})
listener.listen()
while True:
    connection, _ = listener.accept()
    asked = json.loads(connection.makefile().readline())["op"]
    node = {{"state": "running", "pid": os.getpid()}}
    connection.sendall(json.dumps({{"ok": True, "result": {{"node": node}}}}).encode() + b"\\n")
    if asked == "down":
        sys.exit()
"""


def stub(path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(source)
    path.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(path))


@pytest.mark.usefixtures("config")
def test_detach_returns_once_it_runs(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "run"
    source = STUB.format(python=sys.executable, socket=str(runtime / "control.sock"))
    stub(tmp_path / "stub", source, monkeypatch)
    monkeypatch.setattr(subprocess.Popen, "__del__", lambda self: None)  # it goes on without us
    code, out, _ = call("up", "--detach", "--json")
    started = json.loads(out)
    assert code == 0
    assert os.getsid(started["pid"]) == started["pid"]
    log = Path(started["log"])
    assert log.read_text() == "to the log\n"
    assert log.stat().st_mode & 0o777 == 0o600
    client.request(runtime, "down")
    os.waitpid(started["pid"], 0)


@pytest.mark.usefixtures("config")
def test_detach_tells_why_it_did_not_start(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pqvpn.log").write_text("of yesterday\n")
    stub(tmp_path / "stub", "#!/bin/sh\necho 'error [host.no_permission] no' >&2\nexit 77\n", monkeypatch)
    assert call("up", "-d") == (77, "", "error [host.no_permission] no\n")


@pytest.mark.usefixtures("config")
def test_detach_refuses_a_second_one(call: Call, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / "pid", "w") as file:
        file.write("4711\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, err = call("up", "--detach")
    assert code == 78
    assert "error [node.already_running]" in err
    assert "4711" in err


@pytest.mark.usefixtures("config")
def test_down_waits_for_the_end(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    file = open(tmp_path / "run" / "pid", "w")  # noqa: SIM115 - its lock ends in the middle of the test
    file.write("4711\n")
    file.flush()
    fcntl.flock(file, fcntl.LOCK_EX)
    asked: list[str] = []
    monkeypatch.setattr(client, "request", lambda runtime, operation: asked.append(operation))
    monkeypatch.setattr(service, "_STOP_SECONDS", 0.1)
    code, _, err = call("down")
    assert (code, "cli.stop_timeout" in err) == (75, True)
    monkeypatch.setattr(client, "request", lambda runtime, operation: file.close())
    assert call("down") == (0, "The node with pid 4711 has ended.\n", "")
    assert asked == ["down"]


HOLDER = """
import fcntl, os, sys, time
file = open(sys.argv[1], "w")
file.write(str(os.getpid()))
file.flush()
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


@pytest.mark.usefixtures("config")
def test_down_ends_a_node_whose_control_socket_is_dead(call: Call, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run" / "pid")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        assert call("down")[0] == 0
        assert holder.wait(10) == -15


@pytest.mark.usefixtures("config")
def test_down_without_a_node_removes_leftovers(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pqvpn.node, "clean", lambda path, config: ("10.7.0.2/32",))
    code, out, _ = call("down")
    assert code == 0
    assert "10.7.0.2/32" in out
    monkeypatch.setattr(pqvpn.node, "clean", lambda path, config: ())
    assert json.loads(call("down", "--json")[1]) == {"stopped": None, "removed": []}


@pytest.mark.usefixtures("config")
def test_reload_and_status_without_a_node(call: Call) -> None:
    for command in ("reload", "status"):
        code, _, err = call(command)
        assert (code, "error [node.not_running]" in err) == (69, True)


def test_reload_tells_what_changed(call: Call, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"changes": ["peer beta added"], "restart_needed": ["node.listen"]}
    monkeypatch.setattr(client, "request", lambda *_, **__: answer)
    out = call("reload")[1]
    assert "peer beta added" in out
    assert "node.listen" in out
    monkeypatch.setattr(client, "request", lambda *_, **__: {"changes": []})
    assert call("reload")[1] == "Nothing to apply.\n"


# -- as a process -------------------------------------------------------------------------------------------------


def test_exit_codes_of_the_process(config: Path, tmp_path: Path) -> None:
    environment = {"PQVPN_CONFIG": str(config)}
    assert sub("check", **environment).returncode == 0
    assert sub("init", **environment).returncode == 73
    assert sub("frobnicate").returncode == 64
    assert sub("status", **environment).returncode == 69
    (config.parent / "identity.key").chmod(0o644)
    refused = sub("check", **environment)
    assert refused.returncode == 78
    assert f"chmod 600 {config.parent}/identity.key" in refused.stderr
    assert "\033" not in refused.stderr


def test_a_closed_pipe_is_quiet(config: Path) -> None:
    command = f"{sys.executable} -m pqvpn.cli card -c {config} | true; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("words", [["check"], ["status"], ["version"]])
def test_lean_imports(config: Path, words: list[str]) -> None:
    program = (
        "import sys\nfrom pqvpn.cli import main\n"
        "try: main.run(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print([m for m in ('rich', 'segno', 'pyroute2', 'asyncio', 'tomlkit') if m in sys.modules], file=sys.stderr)\n"
        "print('cryptography' in sys.modules, file=sys.stderr)"
    )
    environment = os.environ | {"PQVPN_CONFIG": str(config)}
    command = [sys.executable, "-c", program, *words]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert ran.stderr.splitlines()[-2:] == ["[]", str(words == ["check"])]


def test_default_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "pqvpn.toml"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert str(paths.default_config()) == "/etc/pqvpn/pqvpn.toml"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(paths.default_config()) == "/home/somebody/.config/pqvpn/pqvpn.toml"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "xdg"))
    assert paths.runtime_folder(config).parent == tmp_path / "run"
    (tmp_path / "xdg").mkdir()
    runtime = paths.runtime_folder(config)
    assert (runtime.parent, len(runtime.name)) == (tmp_path / "xdg" / "pqvpn", 12)
    (tmp_path / "link.toml").symlink_to(config)
    assert paths.runtime_folder(tmp_path / "link.toml") == runtime
    config.write_text('[node]\nruntime_dir = "here"\nbroken = true\n')
    assert paths.runtime_folder_of(config) == tmp_path / "here"
    config.write_text("[node")
    assert paths.runtime_folder_of(config) == runtime


def test_reasons_page_is_fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = Path(__file__).parents[2]
    assert docs.main(["--check", str(repository / "docs")]) == 0, "a page of docs/ is stale: make docs"
    assert docs.main(["--check", str(tmp_path)]) == 1
    assert "stale" in capsys.readouterr().err
    assert docs.main([str(tmp_path)]) == 0
    assert docs.main(["--check", str(tmp_path)]) == 0
