"""`pqvpn diag` and `pqvpn explain` as commands: exit codes, JSON, suggestions, and no way to make them fail."""

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from diag_cases import NOW, SESSION, event, knowledge, lost, peer
from test_diag_bundle import EVENTS, Recorded, asked, log, made

from pqvpn.cli import diag as command
from pqvpn.cli import main
from pqvpn.diag.inquiry import Inquiry
from pqvpn.reasons import Reason
from pqvpn.telemetry import last
from pqvpn.telemetry.store import LogRecord


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main.run(words)
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with a peer whose port is closed."""
    monkeypatch.setattr(command, "inquiry", lambda *_: asked())


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "inquiry", lambda *_: Inquiry(Recorded([]), lambda: knowledge(peers=(peer(),))))


def test_exit_codes(capsys: pytest.CaptureFixture[str], node: None) -> None:
    code, out, _ = run(capsys, "diag")
    assert code == 1
    assert out.startswith("PROBLEM  beta: its machine answers")
    assert "\x1b" not in out


def test_exit_code_of_a_healthy_node(capsys: pytest.CaptureFixture[str], healthy: None) -> None:
    code, out, _ = run(capsys, "diag")
    assert (code, out.startswith("alpha is healthy: 1 peer, up;")) == (0, True)
    assert run(capsys, "diag", "--json")[0] == 0


SUBCOMMANDS = {
    "pqvpn.diag/1": (),
    "pqvpn.diag.peer/1": ("peer", "beta"),
    "pqvpn.diag.trace/1": ("trace", "4f2a"),
    "pqvpn.diag.session/1": ("session", SESSION[:5]),
    "pqvpn.diag.logs/1": ("logs", "--limit", "3"),
    "pqvpn.diag.metrics/1": ("metrics", "--since", "1h"),
    "pqvpn.diag.net/1": ("net",),
}


@pytest.mark.parametrize("schema", SUBCOMMANDS)
def test_every_subcommand_has_a_document_and_a_text(
    capsys: pytest.CaptureFixture[str], node: None, schema: str
) -> None:
    words = SUBCOMMANDS[schema]
    _, out, err = run(capsys, "diag", *words, "--json")
    assert err == ""
    assert json.loads(out)["schema"] == schema
    _, out, err = run(capsys, "diag", *words)
    assert err == ""
    assert out.strip()
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize("schema", SUBCOMMANDS)
def test_a_bundle_answers_as_the_node_did(capsys: pytest.CaptureFixture[str], tmp_path: Path, schema: str) -> None:
    place = made(tmp_path)
    code, out, err = run(capsys, "diag", "open", str(place), *SUBCOMMANDS[schema], "--json")
    assert err == ""
    assert json.loads(out)["schema"] == schema
    assert code == (1 if schema == "pqvpn.diag/1" else 0)
    assert command.opened == []


def test_the_first_line_out_of_a_bundle(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, out, _ = run(capsys, "diag", "open", str(made(tmp_path)))
    assert out.startswith("PROBLEM  beta: its machine answers, but nothing listens on its UDP port\n")
    assert "the bundle was made 08:00:00 UTC on 2027-01-15" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("peer", "bta"), "known are, nearest first: beta"),
        (("session", "ffff"), f"nearest first: {SESSION}"),
        (("trace", "9999"), "4f2a4f2a"),
        (("metrics", "pqvpn.rtt"), "pqvpn.peer.rtt"),
        (("logs", "--level", "loud"), "give debug, info, warning or error"),
        (("logs", "--since", "yesterday"), "10m"),
        (("logs", "--peer", "gama"), "gamma"),
    ],
)
def test_what_is_unknown_is_answered_with_what_is_known(
    capsys: pytest.CaptureFixture[str], node: None, words: tuple[str, ...], said: str
) -> None:
    code, out, err = run(capsys, "diag", *words)
    assert (code, out) == (os.EX_USAGE, "")
    assert said in err


def test_logs(capsys: pytest.CaptureFixture[str], node: None) -> None:
    _, out, _ = run(capsys, "diag", "logs")
    assert out.splitlines()[0].startswith("  05:30:00  beta: handshake.completed")


def test_what_comes_is_followed_until_somebody_ends_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(**wanted: str) -> Iterator[LogRecord]:
        assert wanted["peer"] == "beta"
        yield log(EVENTS[0])
        raise KeyboardInterrupt

    store = Recorded([])
    monkeypatch.setattr(command, "inquiry", lambda *_: Inquiry(store, lambda: knowledge(peers=(peer(),)), follow))
    code, out, _ = run(capsys, "diag", "logs", "--peer", "beta", "--follow", "--json")
    assert code == 0
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["handshake.completed"]


def test_colour_on_a_terminal_only_and_never_against_the_wish(
    capsys: pytest.CaptureFixture[str], node: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "\x1b[1;31mPROBLEM" in run(capsys, "diag")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run(capsys, "diag")[1]


def test_nothing_of_a_bundle_can_be_followed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, "diag", "open", str(made(tmp_path)), "logs", "--follow")
    assert (code, "does not grow" in err) == (os.EX_USAGE, True)
    code, _, err = run(capsys, "diag", "open", str(tmp_path / "b.tar.gz"), "bundle")
    assert (code, "does not work on a bundle" in err) == (os.EX_USAGE, True)


def test_a_file_that_is_no_bundle(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    code, _, err = run(capsys, "diag", "open", str(tmp_path / "x"))
    assert code == os.EX_DATAERR
    assert "cli.bundle_unreadable" in err


# -- a node that is not there ------------------------------------------------------------------------------------------


def first(out: str) -> str:
    return str(json.loads(out)["verdicts"][0]["code"])


@pytest.mark.parametrize(
    "content", [None, b"", b"[node\n", b"\xff\xfe", b'[node]\nstate_dir = "\\u0000"\n', b"[" * 50_000]
)
def test_without_anything(capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes | None) -> None:
    """No configuration or one that cannot be read, no state, no process."""
    config = tmp_path / "pqvpn.toml"
    if content is not None:
        config.write_bytes(content)
    code, out, err = run(capsys, "diag", "--config", str(config), "--json")
    assert (code, err, first(out)) == (1, "", "node.not_running")
    for words in (("logs",), ("metrics",), ("net",)):
        assert run(capsys, "diag", *words, "--config", str(config))[0] == 0


def test_with_a_last_state_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "pqvpn.toml"
    config.write_text('[node]\nstate_dir = "state"\nruntime_dir = "run"\n')
    (tmp_path / "state").mkdir()
    status = dict(knowledge(peers=(peer(),)).status)
    last.write(
        tmp_path / "state",
        {"written": "2026-11-25T03:00:00Z", "status": status, "health": {"items": []}, "stopped": ""},
    )
    code, out, _ = run(capsys, "diag", "--config", str(config), "--json")
    assert (code, first(out)) == (1, "node.killed")
    assert json.loads(out)["knowledge"]["source"] == "recorded"
    assert json.loads(out)["verdicts"][0]["since"] == "2026-11-25T03:00:00.000Z"
    (tmp_path / "state" / "last.json").write_bytes(b'{"schema": 1, "status": [')
    code, out, _ = run(capsys, "diag", "--config", str(config), "--json")
    assert (code, first(out)) == (1, "node.not_running")
    assert "damaged" in json.loads(out)["knowledge"]["notes"][0]


def test_the_state_folder_is_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "pqvpn.toml"
    config.write_text('[node]\nstate_dir = "state"\nruntime_dir = "run"\n')
    (tmp_path / "state").write_text("no folder")
    assert run(capsys, "diag", "--config", str(config))[0] == 1
    code, out, _ = run(capsys, "diag", "bundle", "--config", str(config), "-o", str(tmp_path / "b.tar.gz"), "--json")
    assert code == 0
    assert json.loads(out)["files"][0]["name"] == "SUMMARY.txt"


# -- bundle ------------------------------------------------------------------------------------------------------------


def test_the_preview_comes_before_writing(capsys: pytest.CaptureFixture[str], tmp_path: Path, node: None) -> None:
    place = tmp_path / "out.tar.gz"
    config = tmp_path / "pqvpn.toml"
    code, out, _ = run(capsys, "diag", "bundle", "-o", str(place), "--yes", "--config", str(config))
    assert code == 0
    assert out.index("SUMMARY.txt") < out.index("Written:")
    assert "Nothing was sent" in out
    with tarfile.open(place) as archive:
        assert archive.getnames()[0] == "SUMMARY.txt"
    code, _, err = run(capsys, "diag", "bundle", "-o", str(place), "--yes", "--config", str(config))
    assert (code, "config.not_written" in err) == (os.EX_CANTCREAT, True)


def test_it_asks_on_a_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, node: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    code, _, _ = run(capsys, "diag", "bundle", "-o", str(tmp_path / "x.tar.gz"), "--config", str(tmp_path / "none"))
    assert code == 1
    assert not (tmp_path / "x.tar.gz").exists()


# -- explain -----------------------------------------------------------------------------------------------------------


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", "network.port_closed")
    assert code == 0
    assert out.startswith("network.port_closed (reason)\n  means  the peer's machine answers")
    _, out, _ = run(capsys, "explain", "MAC1", "--json")
    assert json.loads(out)["explanations"][0]["related"] == ["handshake.network_key"]
    code, _, err = run(capsys, "explain", "network.portclosed")
    assert (code, "nearest first: network.port_closed" in err) == (os.EX_USAGE, True)
    _, out, _ = run(capsys, "explain")
    assert all(len(line) <= 80 for line in out.splitlines())
    assert Reason.PSK.code in out


def test_the_newest_events_are_those_of_the_records() -> None:
    """What the knowledge is made of is what `logs` shows."""
    inquiry = Inquiry(Recorded([log(each) for each in EVENTS]), lambda: knowledge(*EVENTS))
    assert [each.name for each in inquiry.logs()] == [each.name for each in inquiry.known.events]
    assert lost(event(1, "x"))[-1].time == NOW - 1
