"""A trace as a tree of bars: who waited for what, how long, on both ends when both are here.

Owns how spans become a tree and how a tree is drawn. Pure; a damaged trace (orphans, loops, times that make no sense)
is drawn as far as it goes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pqvpn.diag import plots, words
from pqvpn.diag.records import NANO, plain_name
from pqvpn.diag.report import Line
from pqvpn.telemetry import names
from pqvpn.telemetry.store import EventRecord, SpanRecord

SPANS_MOST = 2000
_DEEPEST = 12
_NAME_WIDTH = 34
_TIME_WIDTH = 9
_TOLD = (
    "endpoint",
    "trigger",
    "role",
    "suite",
    "reason",
    "drop",
    "kind",
    "outcome",
    "rtt",
    "number",
    "detail",
    "host",
    "part",
)


@dataclass(frozen=True, slots=True)
class Node:
    """A span in its tree; `side` names the node that made it when it is not ours."""

    span: SpanRecord
    depth: int
    last: tuple[bool, ...]
    side: str


def tree(spans: Sequence[SpanRecord]) -> list[Node]:
    """The spans in the order of drawing: parents first, by start. Each once, whatever their parents claim."""
    by_id = {span.span_id: span for span in spans[:SPANS_MOST]}
    children: dict[str, list[SpanRecord]] = {}
    for span in by_id.values():
        parent = span.parent_id if span.parent_id in by_id and span.parent_id != span.span_id else ""
        children.setdefault(parent, []).append(span)
    home = _side(next((s for s in spans if not s.parent_id), spans[0])) if by_id else ""
    seen: set[str] = set()
    found = list(_walk(children, "", (), seen, home))
    loops = [span for span in by_id.values() if span.span_id not in seen]
    return found + [Node(span, 0, (), "") for span in loops]


def joined(own: Sequence[SpanRecord], others: Sequence[Sequence[SpanRecord]]) -> list[SpanRecord]:
    """The spans of all ends, each once; our own come first and say who `we` are."""
    found = {span.span_id: span for span in own}
    for spans in others:
        for span in spans:
            found.setdefault(span.span_id, span)
    return list(found.values())


def _walk(
    children: Mapping[str, list[SpanRecord]], parent: str, last: tuple[bool, ...], seen: set[str], home: str
) -> Iterator[Node]:
    own = sorted(children.get(parent, ()), key=lambda span: (span.start_ns, span.name))
    for place, span in enumerate(own):
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        ends = (*last, place == len(own) - 1)
        side = _side(span)
        yield Node(span, len(last), ends[1:], side if side != home else "")
        if len(last) < _DEEPEST:
            yield from _walk(children, span.span_id, ends, seen, home)


def _side(span: SpanRecord) -> str:
    return str(span.resource.get(names.SERVICE_INSTANCE_ID) or "")


def lines(spans: Sequence[SpanRecord], now: float, width: int = words.WIDTH) -> list[Line]:
    """The tree with bars, and below each span what it tells."""
    nodes = tree(spans)
    if not nodes:
        return []
    begin = min(node.span.start_ns for node in nodes)
    end = max(max(node.span.end_ns, node.span.start_ns) for node in nodes)
    root = nodes[0].span
    head = f"trace {root.trace_id}  {words.clock(begin / NANO, now)} UTC, {words.ago(now - begin / NANO)}"
    found = [Line(words.clean(head), "bold"), *_about(root, width)]
    sides = sorted({node.side for node in nodes if node.side})
    if sides:
        found.append(
            Line(f"  spans marked @ are of the other end ({', '.join(words.clean(side) for side in sides)})", "dim")
        )
    found.append(Line(""))
    for node in nodes:
        found += _span(node, begin, max(end - begin, 1), width)
    return found


def _about(root: SpanRecord, width: int) -> list[Line]:
    fields = {plain_name(name): value for name, value in root.attributes.items()}
    peer, session = fields.get("peer"), fields.get("session_id")
    parts = [f"{root.name} {'with ' + str(peer) if peer else ''}".strip(), f"session {session}" if session else ""]
    outcome = fields.get("outcome") or root.status
    parts += [f"{outcome}{': ' + root.description if root.description else ''}" if outcome else ""]
    return [Line(f"  {text}") for text in words.paragraph("; ".join(p for p in parts if p), width=width - 2, indent=0)]


def _span(node: Node, begin: int, total: int, width: int) -> list[Line]:
    span = node.span
    stem = "".join("   " if last else "│  " for last in node.last[:-1])
    branch = ("└─ " if node.last[-1] else "├─ ") if node.last else ""
    side = "@" if node.side else ""
    name = words.clean(f"{stem}{branch}{side}{span.name.removeprefix('pqvpn.')}")[:_NAME_WIDTH].ljust(_NAME_WIDTH)
    bad = span.status.lower() == "error"
    taken = words.duration(max(span.end_ns - span.start_ns, 0) / NANO).rjust(_TIME_WIDTH)
    room = max(10, min(width, 140) - _NAME_WIDTH - _TIME_WIDTH - 3)
    drawn = plots.bar((span.start_ns - begin) / total, (span.end_ns - begin) / total, room)
    found = [Line(f"{name} {taken} {drawn}".rstrip(), "bad" if bad else "plain")]
    below = stem + ("   " if not node.last or node.last[-1] else "│  ")
    detail = _told(span.attributes)
    if bad and span.description:
        detail = f"{span.description}; {detail}" if detail else span.description
    if node.last and detail:
        found += [Line(f"{below}{text}", "dim") for text in words.paragraph(detail, width=width - len(below), indent=0)]
    return found + [_event(each, span, below, width) for each in span.events[:20]]


def _told(attributes: Mapping[str, Any]) -> str:
    fields = {plain_name(name): value for name, value in attributes.items()}
    return " ".join(f"{name}={_short(fields[name])}" for name in _TOLD if fields.get(name) not in (None, ""))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _event(each: EventRecord, span: SpanRecord, below: str, width: int) -> Line:
    after = words.duration(max(each.time_ns - span.start_ns, 0) / NANO)
    text = f"{below}· +{after} {each.name.removeprefix('pqvpn.')} {_told(each.attributes)}"
    return Line(words.clean(text).rstrip()[: width if width > 40 else 200], "dim")


def document(spans: Sequence[SpanRecord]) -> dict[str, Any]:
    """The trace as plain data, in the order of drawing."""
    nodes = tree(spans)
    return {"trace_id": nodes[0].span.trace_id if nodes else None, "spans": [_plain(node) for node in nodes]}


def _plain(node: Node) -> dict[str, Any]:
    span = node.span
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id or None,
        "name": span.name,
        "kind": span.kind,
        "depth": node.depth,
        "other_end": node.side or None,
        "start": words.rfc3339(span.start_ns / NANO),
        "start_ns": span.start_ns,
        "seconds": max(span.end_ns - span.start_ns, 0) / NANO,
        "status": span.status,
        "description": span.description or None,
        "attributes": dict(span.attributes),
        "events": [{"time_ns": e.time_ns, "name": e.name, "attributes": dict(e.attributes)} for e in span.events],
    }
