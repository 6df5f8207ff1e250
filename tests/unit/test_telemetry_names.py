"""The registry of names: well formed, complete, used, and the page that is written of it."""

import dataclasses
import re
from pathlib import Path

import pytest

from pqvpn.cli import docs
from pqvpn.facts import FACTS
from pqvpn.telemetry import names
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.logfiles import lines
from pqvpn.telemetry.redaction import Policy, Redactor

ROOT = Path(__file__).resolve().parents[2]
CONVENTIONS = (
    "service.", "deployment.", "telemetry.sdk.", "session.", "error.", "exception.", "network.", "server.", "process.",
    "thread.",
)  # fmt: skip
RECORDS = (*names.ATTRIBUTE_RECORDS, *names.SPANS, *names.EVENTS, *names.INSTRUMENTS, *names.LOG_FIELDS)
CONSTANTS = {
    constant: value if isinstance(value, str) else value.name
    for constant, value in vars(names).items()
    if constant.isupper() and isinstance(value, str | names.Instrument)
}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_names_are_well_formed(record: names.Attribute) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*", record.name)
    assert record.description
    if not isinstance(record, names.LogField):
        assert record.name.startswith(("pqvpn.", *CONVENTIONS))


def test_every_name_is_defined_once_and_has_one_constant() -> None:
    for kind in (names.ATTRIBUTE_RECORDS, names.SPANS, names.EVENTS, names.INSTRUMENTS, names.LOG_FIELDS):
        found = [record.name for record in kind]
        assert len(set(found)) == len(found)
    named = [record.name for record in RECORDS if not isinstance(record, names.LogField)]
    assert sorted(named) == sorted(CONSTANTS.values())
    assert {record.name for record in names.ATTRIBUTE_RECORDS} == names.ATTRIBUTES


@pytest.mark.parametrize("instrument", names.INSTRUMENTS, ids=lambda instrument: instrument.name)
def test_instruments(instrument: names.Instrument) -> None:
    assert set(instrument.attributes) <= names.ATTRIBUTES
    assert names.SESSION_ID not in instrument.attributes
    assert bool(instrument.buckets) is (instrument.kind == "histogram")
    assert list(instrument.buckets) == sorted(set(instrument.buckets))
    assert instrument.unit in ("s", "By", "1") or re.fullmatch(r"\{[a-z_]+\}", instrument.unit)


def test_every_field_of_a_fact_has_an_attribute() -> None:
    fields = {f.name for kind in FACTS.values() if kind.told for f in dataclasses.fields(kind)}
    assert fields - names.FIELDS.keys() == {"text", "severity"}
    assert names.FIELDS.keys() <= fields
    assert set(names.FIELDS.values()) | set(names.FIELDS_OF_EVENT.values()) <= names.ATTRIBUTES


def test_every_constant_is_used_and_no_name_is_written_elsewhere() -> None:
    signals = {path: path.read_text(encoding="utf-8") for path in (ROOT / "pqvpn/telemetry/signals").glob("*.py")}
    registry = (ROOT / "pqvpn/telemetry/names.py").read_text(encoding="utf-8")
    fields = registry[registry.index("FIELDS: Final") :]
    used = set(re.findall(r"\bnames\.([A-Z][A-Z0-9_]*)\b", "".join(signals.values())))
    used |= set(re.findall(r"\b[A-Z][A-Z0-9_]*\b", fields))
    shown = {attribute for instrument in names.INSTRUMENTS for attribute in instrument.attributes}
    of_the_operator = {names.SERVICE_NAMESPACE, names.DEPLOYMENT}  # OTEL_RESOURCE_ATTRIBUTES
    assert {CONSTANTS[name] for name in CONSTANTS.keys() - used} - shown == of_the_operator
    for path, text in signals.items():
        code = re.sub(r'"""(?:.|\n)*?"""', "", text)
        written = {name for name in CONSTANTS.values() if f'"{name}"' in code or f"'{name}'" in code}
        assert written == set(), path.name


def test_fields_of_a_log_line_are_those_of_the_registry() -> None:
    kind = FACTS["handshake.failed"]
    values = {"peer": "beta", "reason": "network.no_reply", "endpoint": "192.0.2.1:1", "attempt": "0a" * 16}
    envelope = Envelope(kind.event, 1, 1.0, "control", 1, values, "5e" * 16, "beta", "0a" * 16, "0b" * 8)
    line = lines.make(envelope, envelope.fact(), Redactor(Policy(addresses="keep")))
    assert list(line) == [field.name for field in names.LOG_FIELDS]


def test_the_page_is_fresh_and_has_every_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    assert page == docs.render_telemetry(), "docs/telemetry.md is stale: make docs"
    for record in RECORDS:
        assert f"| `{record.name}` |" in page
    for event, kind in FACTS.items():
        assert (f"| `{event}` |" in page) is kind.told
    assert docs.main([str(tmp_path)]) == 0
    (tmp_path / "telemetry.md").write_text(page + "more")
    assert docs.main(["--check", str(tmp_path)]) == 1
    assert "telemetry.md is stale" in capsys.readouterr().err
