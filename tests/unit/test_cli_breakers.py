"""`pqvpn breaker` and `pqvpn config show`: what is shown, who is asked, and what a wrong name gets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cli_commands import Call, call, config  # noqa: F401 - fixtures

from pqvpn.cli import breakers, client, health
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason


def row(
    name: str, state: str = "closed", *, process: str = "control", held: bool = False, **more: Any
) -> dict[str, Any]:
    found = {"name": name, "process": process, "state": state, "held": held, "calls": 0, "failures": 0}
    return {**found, "next_try_seconds": None, **more}


ROWS = [row("peer/beta"), row("dns/beta.example", "open", calls=4, failures=3, next_try_seconds=4.2), row("netlink")]
OTLP = row("otlp", "half_open", process="observer")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A node that answers with these rows; what it was asked for."""
    seen: list[tuple[str, ...]] = []

    def request(_: Path, operation: str, **arguments: Any) -> dict[str, Any]:
        seen.append((operation, *map(str, arguments.values())))
        if operation == "breakers":
            return {"breakers": ROWS}
        return row(arguments["name"], "open", held=True)

    def ask(_: Path, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
        seen.append((method, path))
        return 200, {"breakers": [OTLP]} if method == "GET" else row("otlp", process="observer")

    monkeypatch.setattr(client, "request", request)
    monkeypatch.setattr(health, "ask", ask)
    return seen


def test_the_table_has_what_is_not_closed_first() -> None:
    lines = breakers.plain([*ROWS, OTLP, row("peer/gamma", held=True)]).splitlines()
    assert lines[0].split() == ["BREAKER", "STATE", "FAILURES", "NEXT", "TRY", "PROCESS"]
    assert [line.split()[0] for line in lines[1:]] == ["dns/beta.example", "otlp", "peer/gamma", "netlink", "peer/beta"]
    assert "3 of 4" in lines[1]
    assert "held closed" in lines[3]


def test_all_of_a_node_are_listed(call: Call, config: Path, asked: list[tuple[str, ...]]) -> None:  # noqa: F811
    code, out, _ = call("status", "--breakers", "--json")
    assert code == 0
    assert [each["name"] for each in json.loads(out)["breakers"]] == [
        "peer/beta",
        "dns/beta.example",
        "netlink",
        "otlp",
    ]


def test_each_is_acted_on_by_its_own_process(call: Call, config: Path, asked: list[tuple[str, ...]]) -> None:  # noqa: F811
    assert "held open until: pqvpn breaker reset peer/beta" in call("breaker", "open", "peer/beta")[1]
    assert asked[-1] == ("breaker", "peer/beta", "open")
    assert "is closed" in call("breaker", "reset", "otlp")[1]
    assert asked[-1] == ("POST", "/breakers?name=otlp&action=reset")


def test_a_mistake_is_told_the_nearest_name(call: Call, config: Path, asked: list[tuple[str, ...]]) -> None:  # noqa: F811
    code, _, err = call("breaker", "close", "peer/bete")
    assert code
    assert "did you mean peer/beta" in err
    assert all(each[0] in ("breakers", "GET") for each in asked)


def test_without_an_observer_the_others_are_shown(
    call: Call,  # noqa: F811
    config: Path,  # noqa: F811
    asked: list[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask(*_: Any) -> tuple[int, dict[str, Any]]:
        raise PqvpnError(Reason.TELEMETRY_OFF)

    monkeypatch.setattr(health, "ask", ask)
    assert call("breaker", "list")[0] == 0


# -- config show -----------------------------------------------------------------------------------------------------


def shown(run: Callable[..., tuple[int, str, str]], *options: str) -> dict[tuple[str, str], tuple[str, str]]:
    code, out, err = run("config", "show", "--json", *options)
    assert code == 0, err
    return {(s["section"], s["name"]): (s["value"], s["source"]) for s in json.loads(out)["settings"]}


def test_settings_are_shown_with_where_they_come_from(call: Call, config: Path) -> None:  # noqa: F811
    config.write_text(config.read_text().replace("[breakers]", '[breakers]\nopen_for = "7s"'))
    found = shown(call, "--effective")
    assert found["breakers", "open_for"] == ('"7s"', "file")
    assert found["breakers", "open_longest"] == ('"1m"', "default")
    assert found["telemetry", "spool_size"] == ('"64MiB"', "default")
    assert found["timers", "m1_schedule"] == ('["0s", "1s", "2s", "4s"]', "default")
    assert found["node", "mtu"] == ('"auto"', "default")
    assert found["node", "addresses"] == ('["10.7.0.1/24", "fd00::1/64"]', "file")
    assert set(shown(call)) == {key for key, (_, source) in found.items() if source == "file"}


def test_every_setting_of_every_section_is_there(call: Call, config: Path) -> None:  # noqa: F811
    from pqvpn.config.schema import SECTIONS

    found = shown(call, "--effective")
    assert set(found) == {(name, field) for name, model in SECTIONS.items() for field in model.model_fields}


def test_what_is_shown_can_be_put_into_a_file(call: Call, config: Path) -> None:  # noqa: F811
    """Every default as it is shown is read back as the same setting."""
    lines = call("config", "show", "--effective")[1].replace("  # default", "").splitlines()
    config.write_text("\n".join(line for line in lines if not line.endswith("(none)")))
    assert call("check")[0] == 0


def test_no_secret_is_shown(call: Call, config: Path) -> None:  # noqa: F811
    psk = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYzE="
    (config.parent / "beta.psk").write_text(psk + "\n")
    (config.parent / "beta.psk").chmod(0o600)
    card = config.parent.parent / "other.pqcard"
    code, _, err = call("peer", "add", "beta", str(card), "--allow", "10.7.0.2/32", "--psk-file", "beta.psk")
    assert code == 0, err
    _, out, _ = call("config", "show", "--effective")
    assert "[peer.beta]" in out
    assert 'psk_file = "beta.psk"' in out
    assert psk not in out
    assert (config.parent / "identity.key").read_bytes().hex()[:40] not in out
