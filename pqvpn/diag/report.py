"""A diagnosis as lines for a terminal and as JSON (docs/diag.md has the schema).

Owns the words and their order: the first line says what is wrong. Colour is added by whoever prints: a line is a list
of (text, style). Pure.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pqvpn.diag import words
from pqvpn.diag.knowledge import Knowledge
from pqvpn.diag.records import Event
from pqvpn.diag.verdicts import About, Diagnosis, Severity, Verdict
from pqvpn.reasons import Reason

SCHEMA = "pqvpn.diag/1"
_HEADS = {Severity.PROBLEM: "PROBLEM", Severity.WARNING: "WARNING", Severity.NOTE: "note"}
_STYLES = {Severity.PROBLEM: "bad", Severity.WARNING: "warn", Severity.NOTE: "dim"}
_SOURCES = {
    "live": "asked the running node",
    "recorded": "from what the node recorded",
    "none": "nothing is known",
}
_NOTES_MOST = 4
_PEER_STATES = ("up", "idle", "not yet called", "connecting", "stale", "down", "unknown")


class Line(NamedTuple):
    """One line; `style`: plain, bad, warn, good, dim, bold."""

    text: str
    style: str = "plain"


def blank() -> list[Line]:
    """An empty line."""
    return [Line("")]


def lines(diagnosis: Diagnosis, *, width: int = words.WIDTH, everything: bool = False) -> list[Line]:
    """The whole answer: verdicts, then what was checked and how old the knowledge is."""
    known = diagnosis.knowledge
    faults = [v for v in diagnosis.verdicts if v.severity is not Severity.NOTE]
    notes = [
        v for v in diagnosis.verdicts if v.severity is Severity.NOTE and (everything or v.reason is not Reason.IDLE)
    ]
    told: list[Line] = []
    for verdict in faults:
        told += [*verdict_lines(verdict, known, width), Line("")]
    if not faults and known.empty:
        told += [Line("Nothing is known of this node, so nothing can be said.", "warn")]
    elif not faults:
        told += [Line(text, "good") for text in words.paragraph(_healthy(diagnosis), width=width, indent=0)]
    for verdict in notes:
        told += _note(verdict, known, width)
    if faults and notes:
        told.append(Line(""))
    if everything and diagnosis.hidden:
        told.append(Line("These follow from the above:", "dim"))
        for verdict in diagnosis.hidden:
            told += _note(verdict, known, width)
        told.append(Line(""))
    if faults:
        told += [Line(text, "dim") for text in words.paragraph(_footer(diagnosis, everything), width=width, indent=0)]
    return told + _doubts(known, width)


def verdict_lines(verdict: Verdict, known: Knowledge, width: int) -> list[Line]:
    """One verdict: what, since when, evidence, what to do, code."""
    head = _HEADS[verdict.severity]
    found = [Line(text, _STYLES[verdict.severity]) for text in words.paragraph(_headline(verdict), head, width, 9)]
    found += [Line(text) for text in words.paragraph(_since(verdict, known), "  since", width)]
    for place, seen in enumerate(verdict.evidence):
        found += [Line(text) for text in words.paragraph(seen, "" if place else "  seen", width)]
    found += [Line(text, "bold") for text in words.paragraph(verdict.remedy, "  do", width)]
    return [*found, *(Line(text, "dim") for text in words.paragraph(_code(verdict), "  code", width))]


def _headline(verdict: Verdict) -> str:
    """The subject and the verdict, without naming the subject twice."""
    name, text = verdict.subject, verdict.text
    if text.startswith(f"{name}'s "):
        text = f"its {text.removeprefix(name)[3:]}"
    return f"{name}: {text.removeprefix(f'{name} ').removeprefix('the node ')}"


def _code(verdict: Verdict) -> str:
    symptoms = f"; explains {words.listed(verdict.symptoms[:3])}" if verdict.symptoms else ""
    return f"{verdict.reason.code} (pqvpn explain {verdict.reason.code}){symptoms}"


def _since(verdict: Verdict, known: Knowledge) -> str:
    if verdict.since is None:
        return "not recorded"
    return f"{words.clock(verdict.since, known.now)} UTC, {words.ago(known.now - verdict.since)}"


def _note(verdict: Verdict, known: Knowledge, width: int) -> list[Line]:
    text = f"{_headline(verdict)} [{verdict.reason.code}]"
    if verdict.evidence:
        text += f": {verdict.evidence[0]}"
    return [Line(line, "dim") for line in words.paragraph(text, "note", width, 9)]


def _healthy(diagnosis: Diagnosis) -> str:
    known = diagnosis.knowledge
    return f"{known.name} is healthy: {peers_in_words(diagnosis)}; checked {words.listed(checked(known))} ({origin(known)})."


def peers_in_words(diagnosis: Diagnosis) -> str:
    """ "3 peers, 1 up, 1 idle, 1 down"."""
    counts = dict.fromkeys(_PEER_STATES, 0)
    for peer in diagnosis.knowledge.peers:
        calls = peer.state == "down" and peer.reason == Reason.NO_ENDPOINT.code
        word = "idle" if peer.idle else "not yet called" if calls else peer.state
        counts[word if word in counts else "unknown"] += 1
    total = sum(counts.values())
    if not total:
        return "no peers are known"
    told = [(count, word) for word, count in counts.items() if count]
    if total == 1:
        return f"1 peer, {told[0][1]}"
    return f"{total} peers, {', '.join(f'{count} {word}' for count, word in told)}"


def checked(known: Knowledge) -> list[str]:
    """What the rules had something to judge by."""
    found = ["control" if known.answers else ""]
    found += [
        "processes" if known.status.get("processes") else "",
        "self-tests" if known.node.get("self_tests") else "",
    ]
    found += [
        "interface" if known.interface else "",
        words.plural(len(known.health), "health item") if known.health else "",
    ]
    found += [words.plural(len(known.events), "recorded fact") if known.events else ""]
    return [each for each in found if each] or ["nothing: no source answered"]


def origin(known: Knowledge) -> str:
    """Where the knowledge is from and how old it is."""
    told = _SOURCES.get(known.source, known.source)
    if known.source == "recorded":
        told += f", {words.ago(known.age)}"
    made = f"; the bundle was made {words.clock(known.now, known.now)} UTC on {words.utc(known.now):%Y-%m-%d}"
    return f"{told}{made if known.bundle else ''}"


def _footer(diagnosis: Diagnosis, everything: bool) -> str:
    known = diagnosis.knowledge
    hidden = len(diagnosis.hidden)
    more = f" {words.plural(hidden, 'symptom')} not shown (--all)." if hidden and not everything else ""
    source = origin(known)
    return (
        f"{source[0].upper()}{source[1:]}: {peers_in_words(diagnosis)}; checked {words.listed(checked(known))}.{more}"
    )


def _doubts(known: Knowledge, width: int) -> list[Line]:
    """What could not be read."""
    shown = known.notes[:_NOTES_MOST]
    found = [line for note in shown for line in words.paragraph(note, "unread:", width)]
    more = len(known.notes) - len(shown)
    return [Line(text, "dim") for text in found] + ([Line(f"         and {more} more", "dim")] if more > 0 else [])


# -- JSON --------------------------------------------------------------------------------------------------------------


def document(diagnosis: Diagnosis) -> dict[str, Any]:
    """The diagnosis as `pqvpn diag --json` prints it."""
    known = diagnosis.knowledge
    return {
        "schema": SCHEMA,
        "node": known.name,
        "healthy": diagnosis.healthy,
        "knowledge": knowledge(known),
        "verdicts": [verdict(each) for each in diagnosis.verdicts],
        "symptoms": [verdict(each) for each in diagnosis.hidden],
        "peers": [
            {"name": peer.name, "state": peer.state or None, "reason": peer.reason or None} for peer in known.peers
        ],
        "checked": checked(known),
    }


def knowledge(known: Knowledge) -> dict[str, Any]:
    """Where what is said comes from."""
    return {
        "source": known.source,
        "running": known.running,
        "answers": known.answers,
        "at": words.rfc3339(known.at),
        "age_seconds": round(known.age, 3),
        "events": len(known.events),
        "bundle": known.bundle or None,
        "notes": list(known.notes),
    }


def verdict(each: Verdict) -> dict[str, Any]:
    """One verdict."""
    return {
        "subject": {"kind": "peer" if each.about is About.PEER else "node", "name": each.subject},
        "severity": each.severity.name.lower(),
        "code": each.reason.code,
        "text": each.text,
        "since": None if each.since is None else words.rfc3339(each.since),
        "evidence": list(each.evidence),
        "remedy": each.remedy,
        "who": each.reason.who.value,
        "symptoms": list(each.symptoms),
    }


def event(each: Event) -> dict[str, Any]:
    """One recorded fact."""
    return {
        "time": words.rfc3339(each.time),
        "event": each.name,
        "level": each.severity,
        "component": each.component,
        "peer": each.peer or None,
        "session_id": each.session_id or None,
        "trace_id": each.trace_id or None,
        "fields": dict(each.fields),
    }


def headed(head: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A document of another subcommand: its schema first."""
    return {"schema": f"pqvpn.diag.{head}/1", **value}


def plain(told: Iterable[Line]) -> str:
    """Lines without style."""
    return "\n".join(line.text for line in told)
