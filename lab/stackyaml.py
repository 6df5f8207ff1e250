"""Writes plain values as YAML that people read: what the generated configuration is written with.

Owns the layout. Strings are quoted as JSON quotes them wherever YAML might take them for something else. Reads nothing.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_PLAIN: Final = re.compile(r"[A-Za-z_/][A-Za-z0-9_./%-]*(?: [A-Za-z0-9_./(<>-][A-Za-z0-9_./%()<>,;=+-]*)*")
_WORDS: Final = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))


def dump(value: Any, head: str = "") -> str:
    """The document. `head`: comment lines, without their marks."""
    comment = "".join(f"# {line}\n" for line in head.splitlines())
    return comment + "\n".join(_lines(value, 0)) + "\n"


def _lines(value: Any, depth: int) -> Iterator[str]:
    pad = "  " * depth
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _entry(f"{pad}{_scalar(key)}:", inner, depth)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from _item(pad, inner, depth)
    else:
        yield f"{pad}{_scalar(value)}"


def _entry(start: str, inner: Any, depth: int) -> Iterator[str]:
    if isinstance(inner, str) or not isinstance(inner, Mapping | Sequence):
        yield f"{start} {_scalar(inner)}"
    elif not inner:
        yield f"{start} {'{}' if isinstance(inner, Mapping) else '[]'}"
    else:
        yield start
        yield from _lines(inner, depth + 1)


def _item(pad: str, inner: Any, depth: int) -> Iterator[str]:
    if isinstance(inner, Mapping) and inner:
        first, *rest = _lines(inner, depth + 1)
        yield f"{pad}- {first.strip()}"
        yield from rest
    elif isinstance(inner, Sequence) and not isinstance(inner, str):
        yield f"{pad}- {json.dumps(list(inner), ensure_ascii=False)}"
    else:
        yield f"{pad}- {_scalar(inner)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS and ": " not in value and " #" not in value
        if plain:
            return value
        return (
            f"'{value}'"
            if '"' in value and "'" not in value and value.isprintable()
            else json.dumps(value, ensure_ascii=False)
        )
    return json.dumps(value)
