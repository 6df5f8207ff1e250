"""Writes the generated pages: reasons from `pqvpn.reasons`, telemetry from `pqvpn.telemetry.names` and `pqvpn.facts`,
degradation from `pqvpn.resilience.degradation`.

`python -m pqvpn.cli.docs docs`, or `--check` to only compare. Owns the pages' layout. A test fails when a page in the
repository is not what this writes.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from itertools import groupby
from pathlib import Path

from pqvpn.errors import classes_of
from pqvpn.facts import FACTS, Fact
from pqvpn.reasons import Reason
from pqvpn.resilience.boundary import ACTIONS
from pqvpn.resilience.degradation import NEVER, Mode
from pqvpn.telemetry import names

_HEAD = """\
# Reason codes

Every failure has one code from this list: the same in the log, in `pqvpn status`, in messages and in exit codes.
This page is generated from `pqvpn/reasons.py`; write it anew with `make docs`.

- **Class**: of the error that carries the code (below), or that it belongs to where it is only told.
- **Action**: what PQVPN does by itself: `retry`, `fallback` (go on with less), `shutdown`, `drop`.
- **Who**: who must act for the failure to end: the `operator` of this node, the other `peer`'s operator, the `host` (machine or
  kernel), the `developers`, or `nobody` because it heals by itself.
- **Exit code**: with which `pqvpn` ends when it cannot go on (sysexits.h). 77 and 78 say that a restart cannot help.
"""


_CLASSES = """\
## Classes

What the boundary of a plane does about an error of each class while the node runs; the second action when the first cannot
help any more. An error without one of these classes acts as its code says. An unexpected exception is told as
`node.internal`, and what the kernel refuses as `host.kernel_refused`: the part is abandoned and tried again when it comes
round; in the service of one peer, that peer's sessions end and are made anew.
"""


def _classes(reason: Reason) -> str:
    return ", ".join(f"`{kind.__name__}`" for kind in classes_of(reason))


def _summary(kind: type) -> str:
    return (kind.__doc__ or "").splitlines()[0].rstrip(".")


def _area(reason: Reason) -> str:
    return reason.code.partition(".")[0]


def _entry(reason: Reason) -> str:
    return (
        f'<a id="{reason.code}"></a>\n\n'
        f"### `{reason.code}`\n\n"
        f"{_sentence(reason.text)}\n\n"
        f"Remedy: {reason.remedy}.\n\n"
        f"Class: {_classes(reason)}. Action: {reason.action.value}. Who: {reason.who.value}. Exit code: {reason.exit_code}.\n"
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def render(reasons: Iterable[Reason] = Reason) -> str:
    """The page's text: a table of all codes, then a section for each, by area and code."""
    ordered = sorted(reasons, key=lambda reason: reason.code)
    head = ("code", "meaning", "class", "action", "who", "exit code")
    rows = [
        (f"[`{r.code}`](#{r.code})", r.text, _classes(r), r.action.value, r.who.value, str(r.exit_code))
        for r in ordered
    ]
    classes = [
        (f"`{kind.__name__}`", _summary(kind), " then ".join(a.value for a in acts)) for kind, acts in ACTIONS.items()
    ]
    parts = [_HEAD, _CLASSES, _table(("class", "of", "action"), classes), "## All codes\n", _table(head, rows)]
    for area, members in groupby(ordered, key=_area):
        parts.append(f"## {area}\n")
        parts.extend(_entry(reason) for reason in members)
    return "\n".join(parts)


_TELEMETRY_HEAD = """\
# Telemetry: every name

Traces, metrics and log records of a node, as they stand in its spool and leave it by OTLP, Prometheus or OpenMetrics.
This page is generated from `pqvpn/telemetry/names.py` and `pqvpn/facts.py`; write it anew with `make docs`.

Names follow OpenTelemetry's semantic conventions where there are any, and begin with `pqvpn.` elsewhere. Every record has
passed the redactor: keys that are not in the table of attributes are taken out, addresses stand as `[redact] addresses` says.

An attempt to connect is one tree: `pqvpn.connect` of the node that calls, and below it `pqvpn.accept` of the one that is called,
when it is told the trace. What anybody can send makes no span. An answer that fails has one (`pqvpn.handshake.verify`, with the
reason) when it is the called peer's own, since it could read the M1, and only the first of an attempt; others are events. The
node that is called tells nothing of an M1 before the M3 that verifies, and only then knows when they came
([decision 0018](decisions/0018-times-of-answers.md)).
"""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _fact_row(event: str, kind: type[Fact]) -> tuple[str, str, str, str]:
    attributes = (names.FIELDS_OF_EVENT.get((event, f.name)) or names.FIELDS.get(f.name) for f in fields(kind))
    return f"`{event}`", kind.area, kind.level, _codes(dict.fromkeys(a for a in attributes if a))


def _instrument_rows() -> Iterable[tuple[str, ...]]:
    for each in names.INSTRUMENTS:
        text = each.description + (
            f"; buckets up to {', '.join(f'{b:g}' for b in each.buckets)}" if each.buckets else ""
        )
        yield f"`{each.name}`", each.kind, f"`{each.unit}`", _codes(each.attributes), text


def render_telemetry() -> str:
    """The page of telemetry: spans, their events, metrics, log records, lines of the log files, attributes."""
    spans = [(f"`{s.name}`", "root" if s.root else "", s.description) for s in names.SPANS]
    events = [(f"`{e.name}`", e.description) for e in names.EVENTS]
    facts = [_fact_row(event, kind) for event, kind in FACTS.items() if kind.told]
    lines = [(f"`{f.name}`", f.description) for f in names.LOG_FIELDS]
    attributes = [
        (f"`{a.name}`", a.holds, a.description) for a in sorted(names.ATTRIBUTE_RECORDS, key=lambda a: a.name)
    ]
    parts = (
        _TELEMETRY_HEAD,
        "## Spans\n",
        _table(("span", "", "what it covers"), spans),
        "## Events of spans\n",
        _table(("event", "meaning"), events),
        "## Metrics\n",
        _table(("instrument", "kind", "unit", "attributes", "meaning"), _instrument_rows()),
        "## Log records\n\nThe event name is the fact's; the body says the same in words.\n",
        _table(("event name", "component", "level", "attributes"), facts),
        "## Lines of the log files\n",
        _table(("field", "meaning"), lines),
        "## Attributes\n",
        _table(("attribute", "holds", "meaning"), attributes),
    )
    return "\n".join(parts)


_DEGRADATION_HEAD = f"""\
# Degraded modes

Service degrades before security does. What is never given up: {NEVER}. How each mode is told: by its code, in log, health,
span and metric. This page is generated from `pqvpn/resilience/degradation.py`; write it anew with `make docs`.
"""


def render_degradation() -> str:
    """The page of degraded modes."""
    head = ("mode", "what fails", "what is given up", "what is kept", "code", "how it ends", "where", "proved by")
    rows = [
        (
            f"`{m.value}`", m.fails, m.given_up, m.kept, f"[`{m.reason.code}`](reasons.md#{m.reason.code})", m.ends,
            f"`pqvpn/{m.where}`", f"`{m.proof}`",
        )
        for m in Mode
    ]  # fmt: skip
    return "\n".join((_DEGRADATION_HEAD, _table(head, rows)))


PAGES: dict[str, Callable[[], str]] = {
    "reasons.md": render,
    "telemetry.md": render_telemetry,
    "degradation.md": render_degradation,
}


def main(arguments: Sequence[str]) -> int:
    """Write the pages into the folder given (`docs` by default); with `--check` answer 1 when one is stale."""
    folders = [Path(word) for word in arguments if word != "--check"]
    folder = folders[0] if folders else Path("docs")
    stale = False
    for name, make in PAGES.items():
        page, text = folder / name, make()
        if "--check" not in arguments:
            page.write_text(text, encoding="utf-8")
        elif not page.is_file() or page.read_text(encoding="utf-8") != text:
            print(f"{page} is stale: make docs", file=sys.stderr)
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
