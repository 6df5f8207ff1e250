"""The figures that are measured, in which unit, and the bars they are held to.

Owns names and bars (from the project's goals) and how a bar is judged. Knows nothing of how a figure is measured.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Round = dict[str, dict[str, float]]
"""What one round measured: contender -> figure -> value."""

SUBJECT = "pqvpn"
REFERENCE = "wireguard-go"


@dataclass(frozen=True)
class Bar:
    """`against`: the contender whose value in the same round divides ours; "" holds the value itself to the bar."""

    limit: float
    at_least: bool
    against: str = ""

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.limit:g}" + (f"x {self.against}" if self.against else "")


@dataclass(frozen=True)
class Figure:
    """One measured quantity."""

    key: str
    title: str
    unit: str
    bars: tuple[Bar, ...] = field(default=())


FIGURES = (
    Figure("tcp1", "one TCP flow", "Gbit/s", (Bar(1.0, True, REFERENCE), Bar(3.5, True, "openvpn"))),
    Figure("tcp8", "8 TCP flows", "Gbit/s", (Bar(1.0, True, REFERENCE),)),
    Figure("cpu", "CPU, both ends", "s/GB", (Bar(1.0, False, REFERENCE),)),
    Figure("udp64", "64-byte UDP, equal", "kpps", (Bar(2.5, True, REFERENCE),)),
    Figure("mixed", "mixed 40-88 bytes", "kpps", (Bar(1.0, True, REFERENCE),)),
    Figure("rtt", "round trip, median", "ms", (Bar(1.0, False, REFERENCE),)),
    Figure("pss", "memory of a node", "MiB", (Bar(128.0, False),)),
    Figure("start", "start to first reply", "s", (Bar(1.0, False),)),
    Figure("attacked", "TCP under flood / quiet", "", (Bar(0.8, True),)),
)


@dataclass(frozen=True)
class Verdict:
    """A bar and how it was met: `value` is the median (of the paired ratios); None if it could not be measured."""

    figure: Figure
    bar: Bar
    value: float | None

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bar.limit if self.bar.at_least else self.value <= self.bar.limit

    @property
    def text(self) -> str:
        if self.value is None:
            return f"{self.figure.title}: {self.bar} could not be measured"
        return f"{self.figure.title}: {self.value:.2f}, bar {self.bar}"


def median(rounds: Sequence[Round], contender: str, figure: str) -> float | None:
    """The median over the rounds, or None if it was measured in none."""
    values = [each[contender][figure] for each in rounds if figure in each.get(contender, {})]
    return statistics.median(values) if values else None


def ratios(rounds: Sequence[Round], figure: str, contender: str, against: str) -> list[float]:
    """`contender` divided by `against`, round by round, where both were measured."""
    pairs = [(each.get(contender, {}).get(figure), each.get(against, {}).get(figure)) for each in rounds]
    return [ours / theirs for ours, theirs in pairs if ours is not None and theirs]


def judge(rounds: Sequence[Round]) -> list[Verdict]:
    """A verdict for every bar."""
    verdicts = []
    for figure in FIGURES:
        for bar in figure.bars:
            if bar.against:
                paired = ratios(rounds, figure.key, SUBJECT, bar.against)
                value = statistics.median(paired) if paired else None
            else:
                value = median(rounds, SUBJECT, figure.key)
            verdicts.append(Verdict(figure, bar, value))
    return verdicts


def summary(rounds: Sequence[Round], contenders: Sequence[str]) -> list[dict[str, Any]]:
    """For each figure: medians, ratios to the reference, bars and whether they are met, for results files."""
    verdicts = judge(rounds)
    return [
        {
            "figure": figure.key,
            "title": figure.title,
            "unit": figure.unit,
            "medians": {name: median(rounds, name, figure.key) for name in contenders},
            "ratios": {
                f"{SUBJECT}/{other}": ratios(rounds, figure.key, SUBJECT, other)
                for other in contenders
                if other != SUBJECT
            },
            "bars": [{"bar": str(v.bar), "value": v.value, "met": v.met} for v in verdicts if v.figure is figure],
        }
        for figure in FIGURES
    ]
