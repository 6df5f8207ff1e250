"""`pqvpn config show`: every setting with its value, and whether it is a default or stands in the file.

Owns how settings are written out: as they would stand in the file. A secret is never shown, nor is a card's line; files are
named. Knows no section by name.
"""

import contextlib
import datetime
import json as jsonlib
import tomllib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pqvpn.cli import options, output
from pqvpn.config import units

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

_DEFAULT, _FILE = "default", "file"
_CARD_LINE: Final = "pqvpncard1:"
_CARD: Final = "(a card's line)"
_UNSET: Final = "(none)"

app = typer.Typer(
    no_args_is_help=True,
    help="Show the configuration.",
    epilog=options.examples(
        "pqvpn config show", "pqvpn config show --effective", "pqvpn config show --effective --json"
    ),
)


@app.command(epilog=options.examples("pqvpn config show", "pqvpn config show --effective --json"))
def show(
    effective: Annotated[
        bool, typer.Option("--effective", help="Every setting, also those that are not in the file.")
    ] = False,
    config: options.Config = None,
    json: options.Json = False,
) -> None:
    """Show the settings of a configuration that is valid; --effective adds what is left at its default. Secrets never."""
    rows = [row for row in _settings(options.config_path(config)) if effective or row["source"] == _FILE]
    if json:
        output.print_json({"settings": rows})
        return
    section = None
    for row in rows:
        if row["section"] != section:
            print(f"{'' if section is None else chr(10)}[{row['section']}]")
            section = row["section"]
        note = "  # default" if row["source"] == _DEFAULT else ""
        print(f"{row['name']} = {row['value']}{note}")


def _settings(path: "Path") -> list[dict[str, str]]:
    """Every setting: section, name, value as the file would have it, and where it comes from."""
    from pqvpn.config import load
    from pqvpn.config.schema import SECTIONS, PeerSection

    config = load.load(path)  # raises what is wrong with it
    document = tomllib.loads(config.path.read_text(encoding="utf-8"))
    rows = []
    for name in SECTIONS:
        rows += _rows(name, getattr(config, name), document.get(name, {}))
    for name, given in document.get("peer", {}).items():
        rows += _rows(f"peer.{name}", PeerSection.model_validate(given), given)
    return rows


def _rows(section: str, values: "BaseModel", given: Mapping[str, Any]) -> list[dict[str, str]]:
    """What stands in the file is shown as it stands there."""
    from pqvpn.telemetry.redaction import without_secrets

    rows = []
    for name in type(values).model_fields:
        found = given[name] if name in given else _default(type(values), name, getattr(values, name))
        source = _FILE if name in given else _DEFAULT
        rows.append({"section": section, "name": name, "value": without_secrets(_text(found)), "source": source})
    return rows


def _default(model: "type[BaseModel]", name: str, value: Any) -> Any:
    """A default as the file would have it: the first way to write it that is read back as the same value."""
    for written in _ways(value):
        with contextlib.suppress(ValueError):
            if getattr(model.model_validate({name: written}), name) == value:
                return written
    return value


def _ways(value: Any) -> Iterator[Any]:
    if value is None:
        yield "auto"
    elif isinstance(value, tuple):
        yield list(value)
        if all(isinstance(each, float) for each in value):
            yield [units.format_duration(each) for each in value]
    else:
        yield value
        if isinstance(value, float):
            yield units.format_duration(value)
        if isinstance(value, int):
            yield units.format_size(value)


def _text(value: Any) -> str:
    """A value of TOML; what is not set is not there."""
    if value is None or value == ():
        return _UNSET
    if isinstance(value, str):
        return _CARD if value.startswith(_CARD_LINE) else jsonlib.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_text(each) for each in value)}]"
    return value.isoformat() if isinstance(value, datetime.date) else str(value)
