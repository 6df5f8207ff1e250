"""What the documentation says of codes, facts, commands, targets and times is what the code says."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from pqvpn import facts
from pqvpn.cli.commands import app
from pqvpn.drops import DropReason
from pqvpn.protocol.settings import Timers
from pqvpn.reasons import Reason
from pqvpn.resilience.health import Item
from pqvpn.telemetry.names import ATTRIBUTES

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
AREAS = "|".join(sorted({reason.code.partition(".")[0] for reason in Reason}))


def _section(page: str, heading: str) -> str:
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading}"
    return found[1]


def test_every_fact_is_in_the_table_of_log_lines() -> None:
    events = {fact.event for fact in facts.FACTS.values() if fact.told}
    told = set(re.findall(r"`([a-z]+(?:\.[a-z_]+)?)`", _section(OPERATIONS, "Logs")))
    assert sorted(events - told) == []


def test_the_list_of_facts_is_complete() -> None:
    assert set(facts.FACTS) == {fact.event for fact in facts.Fact.__subclasses__()}


def test_every_exit_code_is_in_the_table() -> None:
    told = {int(number) for number in re.findall(r"\b(\d+)\b(?=[^|]*\|)", _section(OPERATIONS, "Exit codes"))}
    assert sorted({reason.exit_code for reason in Reason} - told) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_reason_codes_exist(page: Path) -> None:
    known = (
        {reason.code for reason in Reason}
        | {item.code for item in Item}
        | {fact.event for fact in facts.Fact.__subclasses__()}
        | ATTRIBUTES
    )
    named = re.findall(rf"`((?:{AREAS})\.[a-z_]+)`", page.read_text(encoding="utf-8"))
    files = {name for name in named if name.endswith((".py", ".key", ".md", ".psk"))}
    sysctls = {name for name in named if name.startswith("net.")}
    assert sorted(set(named) - known - files - sysctls) == []


def test_codes_of_the_trouble_section_have_the_exit_code_told() -> None:
    told = re.findall(r"\*\*`([a-z_.]+)` \((\d+)\)", _section(OPERATIONS, "Trouble"))
    assert told
    wrong = [(code, number) for code, number in told if Reason(code).exit_code != int(number)]
    assert wrong == []


def test_drops_named_exist() -> None:
    known = {drop.name.lower() for drop in DropReason}
    trouble = _section(OPERATIONS, "Trouble")
    # where drops are spoken of, they stand before a colon or in a list before one: `mac1`: ...
    named = {name for name in re.findall(r"`([a-z0-9_]+)`(?=[:,])", trouble) if name not in ("network_key", "psk")}
    assert {"mac1", "no_route"} <= named
    assert sorted(named - known) == []


def test_commands_exist() -> None:
    commands = [command for command in app.registered_commands if command.callback]
    known = {command.name or command.callback.__name__.replace("_", "-") for command in commands if command.callback}
    known |= {str(group.name) for group in app.registered_groups}
    named = set()
    for page in PAGES:
        named |= set(
            re.findall(r"(?:^|[`#$] *|-u pqvpn |&& )pqvpn ([a-z][a-z-]*[a-z])\b", "".join(_code(page)), re.MULTILINE)
        )
    assert named >= {"init", "up", "status"}
    assert sorted(named - known) == []


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        target for page in PAGES for target in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {"demo", "test"} <= named
    assert sorted(named - known) == []


def test_timers_have_the_defaults_told() -> None:
    defaults = {field.name: field.default for field in fields(Timers)}
    rows = re.findall(
        r"^\| `(\w+)`(?: \+ U\(0, `(\w+)`\))? \| ([\d.]+ s)(?: \+ ([\d.]+ s))? \|", PROTOCOL, re.MULTILINE
    )
    assert len(rows) >= 7
    for name, jitter, told, jitter_told in rows:
        assert float(told.removesuffix(" s")) == defaults[name], name
        if jitter:
            assert float(jitter_told.removesuffix(" s")) == defaults[jitter], jitter


def _code(page: Path) -> list[str]:
    """Spans and blocks of code of a page, each ended by a line end."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [f"{found}\n" for found in (*blocks, *re.findall(r"`([^`\n]+)`", text))]


def test_the_unit_does_not_start_again_what_cannot_be_helped() -> None:
    unit = (ROOT / "packaging" / "systemd" / "pqvpn.service").read_text(encoding="utf-8")
    found = re.search(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE)
    assert found
    assert {Reason.NO_PERMISSION.exit_code, Reason.CONFIG_VALUE.exit_code} <= {int(word) for word in found[1].split()}
    assert "Type=notify\n" in unit
