"""Which line of a TOML file a setting stands on, for error messages.

Owns a scan good enough for messages: table headers and the keys at the start of lines. Knows nothing of values, and
answers None rather than guess when it does not find a key.
"""

import re

_HEADER = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_.\- ]|"[^"]*"|'[^']*')+?)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def positions(text: str) -> dict[tuple[str, ...], int]:
    """First line (from 1) of every table header and every key."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _parts(header[1])
            for end in range(1, len(table) + 1):  # [peer.beta] makes peer, too
                found.setdefault(table[:end], number)
        elif key := _KEY.match(line):
            found.setdefault(table + _parts(key[1]), number)
    return found


def line_of(found: dict[tuple[str, ...], int], loc: tuple[str | int, ...]) -> int | None:
    """The line of the setting at `loc`, else of what holds it; None when nothing of it was found.

    An index into an array falls back to the line of the array's key.
    """
    names: list[str] = []
    for part in loc:
        if isinstance(part, int):
            break
        names.append(part)
    for end in range(len(names), 0, -1):
        if (line := found.get(tuple(names[:end]))) is not None:
            return line
    return None
