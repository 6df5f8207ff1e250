"""Writes docs/reasons.md from `pqvpn.reasons`: `python -m pqvpn.cli.docs docs`, or `--check` to only compare.

Owns the page's layout. A test fails when the page in the repository is not what this writes.
"""

import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from pqvpn.reasons import Reason

PAGE = "reasons.md"

_HEAD = """\
# Reason codes

Every failure has one code from this list: the same in the log, in `pqvpn status`, in messages and in exit codes.
This page is generated from `pqvpn/reasons.py`; write it anew with `make docs`.

- **Action**: what PQVPN does by itself: `retry`, `fallback` (go on with less), `shutdown`, `drop`.
- **Who**: who must act for the failure to end: the `operator` of this node, the other `peer`'s operator, the `host` (machine or
  kernel), the `developers`, or `nobody` because it heals by itself.
- **Exit code**: with which `pqvpn` ends when it cannot go on (sysexits.h). 77 and 78 say that a restart cannot help.
"""


def _area(reason: Reason) -> str:
    return reason.code.partition(".")[0]


def _entry(reason: Reason) -> str:
    return (
        f'<a id="{reason.code}"></a>\n\n'
        f"### `{reason.code}`\n\n"
        f"{_sentence(reason.text)}\n\n"
        f"Remedy: {reason.remedy}.\n\n"
        f"Action: {reason.action.value}. Who: {reason.who.value}. Exit code: {reason.exit_code}.\n"
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def render(reasons: Iterable[Reason] = Reason) -> str:
    """The page's text: a table of all codes, then a section for each, by area and code."""
    ordered = sorted(reasons, key=lambda reason: reason.code)
    rows = [f"| [`{r.code}`](#{r.code}) | {r.text} | {r.exit_code} |" for r in ordered]
    parts = [_HEAD, "\n".join(("| code | meaning | exit code |", "| --- | --- | --- |", *rows)) + "\n"]
    for area, members in groupby(ordered, key=_area):
        parts.append(f"## {area}\n")
        parts.extend(_entry(reason) for reason in members)
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Write the page into the folder given (`docs` by default); with `--check` answer 1 when it is stale."""
    folders = [Path(word) for word in arguments if word != "--check"]
    page = (folders[0] if folders else Path("docs")) / PAGE
    text = render()
    if "--check" not in arguments:
        page.write_text(text, encoding="utf-8")
        return 0
    if page.is_file() and page.read_text(encoding="utf-8") == text:
        return 0
    print(f"{page} is stale: make docs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
