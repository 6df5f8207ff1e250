"""`pqvpn status`: what it says of a node, in plain text, in colour and as JSON."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pqvpn.cli import client, main, output, status, view
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason


def peer(name: str, state: str = "up", **more: Any) -> dict[str, Any]:
    known = {
        "name": name, "id": "pqvpn1" + "q" * 58, "state": state, "reason": None, "last_received_seconds": 2.1, "path": "direct",
        "endpoint": "192.0.2.1:51820", "rtt_ms": 12.34, "loss": 0.015, "rx_bytes": 3 << 20, "tx_bytes": 812, "rx_packets": 1,
        "tx_packets": 1, "rx_rate": 1536, "tx_rate": 0, "handshake_age_seconds": 64.0, "session_id": "00" * 16,
        "role": "initiator", "suite": "X-Wing (ML-KEM-768 + X25519), AES-256-GCM", "post_quantum": True,
        "security": "full", "lanes": 2,
        "path_mtu": 1432, "allowed_ips": ["10.7.0.2/32"],
    }  # fmt: skip
    return known | more


def unknown(name: str, state: str, reason: Reason) -> dict[str, Any]:
    """A peer without a session: everything about one is null."""
    told = {"code": reason.code, "text": reason.text, "remedy": reason.remedy}
    empty = (
        "last_received_seconds",
        "path",
        "endpoint",
        "rtt_ms",
        "loss",
        "handshake_age_seconds",
        "session_id",
        "role",
    )
    return peer(name, state, reason=told, post_quantum=False, suite=None, lanes=None, **dict.fromkeys(empty))


def answer(*peers: dict[str, Any], security: str = "full", drops: dict[str, int] | None = None) -> dict[str, Any]:
    offloads = {"tun_tso": True, "tun_uso": False, "udp_gso": True, "udp_gro": True, "steering": "bpf"}
    node = {
        "name": "alpha", "id": "pqvpn1x", "pid": 4711, "state": "running", "uptime_seconds": 3700.0, "interface": "pqvpn0",
        "addresses": ["10.7.0.1/24"], "listen": 51820, "mtu": 1432, "lanes": 2, "offloads": offloads, "security": security,
    }  # fmt: skip
    processes = [{"component": "control", "pid": 1, "restarts": 0}, {"component": "lane-0", "pid": 2, "restarts": 3}]
    return {"version": "0.1.0", "node": node, "processes": processes, "peers": list(peers), "drops": drops or {}}


def test_plain_text() -> None:
    text = status.plain(answer(unknown("gamma", "down", Reason.NO_REPLY), peer("beta")))
    lines = text.splitlines()
    assert lines[0] == "alpha: running for 1 h 1 m, pid 4711, version 0.1.0"
    assert "tun tso on, tun uso off" in text
    assert "steering bpf" in text
    assert "replaced   lane-0 3x" in text
    beta, gamma = (next(line for line in lines if line.startswith(name)) for name in ("beta ", "gamma "))
    assert lines.index(beta) < lines.index(gamma)  # sorted
    for words in (
        "up",
        "2 s",
        "192.0.2.1:51820",
        "12.3 ms",
        "1.5 %",
        "3.0 MiB (1.5 KiB/s)",
        "812 B (0 B/s)",
        "1 m 4 s",
    ):
        assert words in beta
    assert "X-Wing, AES-256-GCM  yes" in beta
    assert gamma.split()[:4] == ["gamma", "down", "never", "-"]
    assert f"gamma: {Reason.NO_REPLY.text} [network.no_reply]; {Reason.NO_REPLY.remedy}" in text
    assert "\033" not in text


def test_columns_stand_below_each_other() -> None:
    text = status.plain(answer(peer("a"), peer("a-longer-name", "connecting")))
    head, first, second = (line for line in text.splitlines() if line.startswith(("PEER", "a ", "a-")))
    assert head.index("ENDPOINT") == first.index("192.0.2.1") == second.index("192.0.2.1")


def test_degraded_is_loud() -> None:
    shown = answer(peer("beta", security="auth-plaintext"), security="degraded")
    assert "beta: DEGRADED" in status.plain(shown)
    assert any(note.alarm for note in view.notes(shown))
    assert any(note.alarm and "degraded" in note.text for note in view.headline(shown))


def test_fewer_lanes_are_loud() -> None:
    shown = answer(peer("beta"))
    shown["node"]["lanes_running"] = 2
    assert "UDP port 51820, 2 lanes" in status.plain(shown)
    assert not any(note.alarm and "lanes" in note.text for note in view.headline(shown))
    shown["node"]["lanes_running"] = 1
    assert "UDP port 51820, 1 of 2 lanes" in status.plain(shown)
    assert any(note.alarm and "1 of 2 lanes" in note.text for note in view.headline(shown))


def test_an_answer_with_nothing_in_it_is_shown() -> None:
    assert "No peers are configured" in status.plain({})
    assert status.plain({"peers": [{}], "node": {}}).splitlines()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.4, "now"), (59.9, "59 s"), (60, "1 m"), (3661, "1 h 1 m"), (90061, "1 d 1 h")],
)
def test_age(seconds: float | None, words: str) -> None:
    assert view.age(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (150 << 10, "150 KiB"), (1 << 50, "1024 TiB")],
)
def test_amount(value: float | None, words: str) -> None:
    assert view.amount(value) == words


def test_colours_by_state() -> None:
    shown = answer(*(peer(state, state) for state in ("up", "stale", "connecting", "down")))
    for width in (240, 80):
        stream = io.StringIO()
        Console(file=stream, force_terminal=True, width=width, highlight=False).print(status._rich(shown, False, width))
        text = stream.getvalue()
        assert "X-Wing, AES-256-GCM" in text
        for state, colour in (("up", "32"), ("stale", "33"), ("connecting", "33"), ("down", "31")):
            shown_as = f"{state}: {state}" if width == 80 else state  # too narrow for a table
            assert f"\033[{colour}m{shown_as}" in text


def test_a_block_leaves_out_what_is_not_known() -> None:
    assert view.block(view.row(unknown("gamma", "down", Reason.NO_REPLY)))[:2] == [
        "gamma: down",
        "  last never, received 3.0 MiB (1.5 KiB/s), sent 812 B (0 B/s)",
    ]


def test_not_post_quantum_would_be_seen() -> None:
    assert "NO" in view.row(peer("beta", post_quantum=False))


def test_drops() -> None:
    shown = answer(drops={"replay": 3, "no_route": 12})
    assert status.plain(shown, drops=True).splitlines() == ["REASON    PACKETS", "no_route  12", "replay    3"]
    assert status.plain(answer(), drops=True) == "No packet was discarded."


def run(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main.run(["status", *words, "-c", "/nonexistent/pqvpn.toml"])
    return ended.value.code


def test_exit_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = answer(peer("beta"))
    monkeypatch.setattr(client, "request", lambda *_, **__: shown)
    assert (run(), run("--exit-code")) == (0, 0)
    shown = answer(peer("beta"), peer("gamma", "stale"))
    assert (run(), run("--exit-code"), run("--exit-code", "--json")) == (0, 1, 1)
    shown = answer(peer("beta"), security="refused")
    assert run("--exit-code") == 1


def test_json_is_the_nodes_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown = answer(peer("beta"), drops={"replay": 1})
    monkeypatch.setattr(client, "request", lambda *_, **__: shown)
    run("--json")
    assert json.loads(capsys.readouterr().out) == shown
    run("--json", "--drops")
    assert json.loads(capsys.readouterr().out) == {"replay": 1}


def test_watch_goes_on_until_interrupted_or_the_node_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "_INTERVAL", 0.0)
    for end, code in ((KeyboardInterrupt(), 0), (PqvpnError(Reason.NOT_RUNNING), 69)):
        answers: list[Any] = [answer(peer("beta")), answer(peer("beta", "stale")), end]

        def request(runtime: Path, operation: str, answers: list[Any] = answers) -> Any:
            following = answers.pop(0)
            if isinstance(following, BaseException):
                raise following
            return following

        monkeypatch.setattr(client, "request", request)
        assert run("--watch") == code
        out = capsys.readouterr().out
        assert out.count("alpha: running") == 2
        assert "stale" in out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.coloured(Terminal())
    assert not output.coloured(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.coloured(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not output.coloured(Terminal())


def test_errors_are_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    output.print_error(PqvpnError(Reason.NOT_RUNNING, place="here"), output.Modes())
    assert stream.getvalue() == (
        "\033[31merror\033[0m [node.not_running] \033[1mhere\033[0m: no node with this configuration runs\n"
        "  remedy: start it: pqvpn up\n"
    )


def test_watch_on_a_terminal_refreshes_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(status, "_INTERVAL", 0.0)
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    answers: list[Any] = [answer(peer("beta")), answer(peer("beta", "stale"))]

    def request(*_: Any) -> Any:
        if not answers:
            raise KeyboardInterrupt
        return answers.pop(0)

    monkeypatch.setattr(client, "request", request)
    assert run("--watch") == 0
    shown = stream.getvalue()
    assert shown.startswith("\033[?1049h")  # the alternate screen, left again at the end
    assert "\033[?1049l" in shown
    assert "\033[32m" in shown
    assert "stale" in shown
    assert "\033[H" in shown  # back to the top, not below


@pytest.mark.parametrize("modes", [output.Modes(), output.Modes(json=True), output.Modes(debug=True)])
def test_errors_repeat_no_key(modes: output.Modes, capsys: pytest.CaptureFixture[str]) -> None:
    key = "4XuxKJZyTUorR5i+g7e+h6wpiya5HD6ORyIHIO0uDIw="
    try:
        raise PqvpnError(Reason.CONFIG_VALUE, f"{key!r} is not a range of 10.7.0.0/24", place=f"line 7: {key}")
    except PqvpnError as error:
        output.print_error(error, modes)
    told = capsys.readouterr().err
    assert key not in told
    assert "is not a range of 10.7.0.0/24" in told
    assert "line 7" in told
