"""What telemetry may cost, and how sure a median of paired ratios is. Knows nothing of how a figure is measured."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.measures import Flow

_CONFIDENCE = 0.95
Rounds = Sequence[Mapping[str, Flow]]


@dataclass(frozen=True)
class Bar:
    """A ratio on/off of one field of `Flow` and the limit it is held to."""

    field: str
    title: str
    limit: float
    at_least: bool


BARS = (
    Bar("gbit", "throughput", 0.99, at_least=True),
    Bar("cpu", "CPU per byte", 1.02, at_least=False),
)


@dataclass(frozen=True)
class Verdict:
    """A bar and what was measured: the median of the ratios with its interval."""

    bar: Bar
    median: float
    low: float
    high: float
    rounds: int

    @property
    def met(self) -> bool:
        """Whether the median meets the bar."""
        return self.median >= self.bar.limit if self.bar.at_least else self.median <= self.bar.limit

    @property
    def decided(self) -> bool:
        """Whether all of the interval lies on one side of the bar."""
        return self.low >= self.bar.limit or self.high <= self.bar.limit

    def __str__(self) -> str:
        sign = ">=" if self.bar.at_least else "<="
        word = ("met" if self.met else "MISSED") + ("" if self.decided else " (not sure)")
        return (
            f"{self.bar.title} {self.median:.4f} [{self.low:.4f}, {self.high:.4f}], bar {sign} {self.bar.limit}: {word}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For the file of results."""
        return {
            "figure": self.bar.title, "limit": self.bar.limit, "median": self.median, "interval": [self.low, self.high],
            "rounds": self.rounds, "met": self.met, "decided": self.decided,
        }  # fmt: skip


def judge(rounds: Rounds, extra_cpu: float = 0.0) -> list[Verdict]:
    """A verdict for every bar; none before there is a round. `extra_cpu`: what is added to each ratio of CPU."""
    if not rounds:
        return []
    found = []
    for bar in BARS:
        extra = extra_cpu if bar.field == "cpu" else 0.0
        ratios = [getattr(each["on"], bar.field) / getattr(each["off"], bar.field) + extra for each in rounds]
        low, high = interval(ratios)
        found.append(Verdict(bar, statistics.median(ratios), low, high, len(ratios)))
    return found


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The interval of order statistics that holds the true median with the confidence; all there is when too few.

    Assumes nothing of how the values are distributed, only that rounds do not depend on each other.
    """
    ordered, count = sorted(values), len(values)
    outside = (1 - _CONFIDENCE) / 2
    below, cut = 0.0, 0
    for number in range(count // 2):
        below += math.comb(count, number) / 2**count
        if below > outside:
            break
        cut = number + 1
    return ordered[max(cut - 1, 0)], ordered[min(count - cut, count - 1)]


def summary(rounds: Rounds) -> dict[str, dict[str, float]]:
    """Medians by title and pair."""
    titles = {"gbit": "throughput, Gbit/s", "cpu": "CPU, s/GB"}
    return {
        title: {name: statistics.median(getattr(each[name], word) for each in rounds) for name in ("on", "off")}
        for word, title in titles.items()
        if rounds
    }
