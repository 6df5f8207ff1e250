"""Metrics as series over time, with small plots.

Owns how points become series and how counters become rates. Pure.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pqvpn.diag import plots, words
from pqvpn.diag.records import NANO, plain_name
from pqvpn.diag.report import Line
from pqvpn.telemetry.store import MetricRecord

_PLOT = 24


@dataclass(frozen=True, slots=True)
class Series:
    """One instrument with one set of attributes; `points` are (unix seconds, value), oldest first.

    A counter's values are rates per second; `total` is its last value. A histogram's are means.
    """

    name: str
    unit: str
    kind: str
    attributes: Mapping[str, Any]
    points: tuple[tuple[float, float], ...]
    total: float
    description: str = ""

    @property
    def last(self) -> float:
        """The newest value."""
        return self.points[-1][1] if self.points else self.total


def series(records: Iterable[MetricRecord]) -> list[Series]:
    """All series of these points, by name and attributes."""
    groups: dict[tuple[str, str], list[MetricRecord]] = {}
    for record in sorted(records, key=lambda each: each.time_ns):
        groups.setdefault((record.name, repr(sorted(record.attributes.items(), key=str))), []).append(record)
    return [_series(group) for _, group in sorted(groups.items())]


def _series(group: Sequence[MetricRecord]) -> Series:
    first, newest = group[0], group[-1]
    raw = [(each.time_ns / NANO, _value(each)) for each in group]
    points = _rates(raw) if first.kind == "counter" else raw
    attributes = {plain_name(name): value for name, value in first.attributes.items()}
    total = float(newest.histogram.count) if newest.histogram else raw[-1][1]
    return Series(first.name, first.unit, first.kind, attributes, tuple(points), total, first.description)


def _value(record: MetricRecord) -> float:
    value = record.value or 0.0
    if record.histogram is not None:
        value = record.histogram.sum / record.histogram.count if record.histogram.count else 0.0
    return float(value) if math.isfinite(value) else 0.0


def _rates(raw: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Growth per second; a value that fell began anew at zero."""
    found = []
    for (before, low), (time, high) in pairwise(raw):
        if time > before:
            found.append((time, (high - low if high >= low else high) / (time - before)))
    return found


def overview(all_series: Sequence[Series], width: int = words.WIDTH) -> list[Line]:
    """One line for each instrument: the sum or the latest, and what it is."""
    by_name: dict[str, list[Series]] = {}
    for each in all_series:
        by_name.setdefault(each.name, []).append(each)
    rows = []
    for name, group in by_name.items():
        count = f"{len(group)} series" if len(group) > 1 else ""
        rows.append((name, shown(sum(each.total for each in group), group[0]) if group[0].kind == "counter" else
                     shown(group[0].last, group[0]) if len(group) == 1 else count, group[0].description))  # fmt: skip
    return [Line(words.cut(row, width)) for row in words.columns(rows)]


def details(group: Sequence[Series], width: int = words.WIDTH) -> list[Line]:
    """Each series of one instrument with a plot."""
    if not group:
        return []
    first = group[0]
    rate = " (per second)" if first.kind == "counter" else " (mean)" if first.kind == "histogram" else ""
    found = [Line(f"{first.name}: {first.description or first.kind}{rate}", "bold")]
    rows = []
    for each in group:
        label = ", ".join(f"{name}={value}" for name, value in each.attributes.items()) or "all"
        values = [value for _, value in each.points]
        plot = plots.sparkline(values, _PLOT).ljust(_PLOT)
        span = f"{shown(min(values), each)} to {shown(max(values), each)}" if values else "one point"
        last = f"total {shown(each.total, each)}" if each.kind == "counter" else f"last {shown(each.last, each)}"
        rows.append((words.clean(label), plot, last, span))
    return [*found, *(Line(words.cut(f"  {row}", max(width, 40))) for row in words.columns(rows))]


def shown(value: float, each: Series) -> str:
    """A value with its unit."""
    if each.unit == "By":
        return words.size(value)
    if each.unit == "s":
        return words.duration(value)
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.3g}"


def document(group: Iterable[Series]) -> list[dict[str, Any]]:
    """Series as plain data."""
    return [
        {
            "name": each.name,
            "unit": each.unit,
            "kind": each.kind,
            "attributes": dict(each.attributes),
            "total": each.total,
            "points": [[words.rfc3339(time), value] for time, value in each.points],
        }
        for each in group
    ]
