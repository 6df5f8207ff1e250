"""What the rounds of `resilience.py` say: which bars hold.

Owns the bars and their statistics. A pause is the longest time for which any of the connections received nothing in a
window; a busy machine makes such pauses without any fault, so every fault's window has an undisturbed one of the same
length right before it. Knows nothing of how they were measured.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

LANE_PAUSE: Final = 0.100
HANG_PAUSE: Final = 2.0
_SIGNIFICANT: Final = 0.01


@dataclass(frozen=True, slots=True)
class Sample:
    """One fault: the pause (seconds) in its window, and in the undisturbed one before it. `replaced`: seconds until another
    process had its place, 0.0: it survived."""

    target: str
    fault: str
    pause: float
    quiet: float
    replaced: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What holds for the whole run."""

    lost: Sequence[str]
    reused: int
    foreign: int
    readable: int
    example: str  # of a foreign packet, hexadecimal
    marks: int
    uncaptured: int
    kept: bool  # nothing was missed by the captures of plaintext


@dataclass(slots=True)
class Verdict:
    """One bar. `noise`: it is missed by no more than the undisturbed windows are."""

    text: str
    met: bool
    noise: bool = False


@dataclass(slots=True)
class Row:
    """All samples of one fault on one kind of process."""

    target: str
    fault: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def pauses(self) -> list[float]:
        """Longest first."""
        return sorted((s.pause for s in self.samples), reverse=True)

    @property
    def quiet(self) -> list[float]:
        """The same of the undisturbed windows."""
        return sorted((s.quiet for s in self.samples), reverse=True)


def rows(samples: Sequence[Sample]) -> list[Row]:
    """By target and fault, in the order of appearance."""
    found: dict[tuple[str, str], Row] = {}
    for sample in samples:
        found.setdefault((sample.target, sample.fault), Row(sample.target, sample.fault)).samples.append(sample)
    return list(found.values())


def judge(samples: Sequence[Sample], evidence: Evidence) -> list[Verdict]:
    """Every bar."""
    # windows before a fault of the supervisor are not undisturbed: the connections recover from seconds of standstill
    floor = max((s.quiet for s in samples if s.target != "supervisor"), default=0.0)
    verdicts = [_bar(row, floor) for row in rows(samples) if row.target != "supervisor"]
    return [*verdicts, *_of_the_run(evidence)]


def _of_the_run(evidence: Evidence) -> list[Verdict]:
    return [
        Verdict(f"connections lost: {len(evidence.lost)}, at most 0 {'; '.join(evidence.lost)}".rstrip(), not evidence.lost),
        Verdict(
            f"counters reused: {evidence.reused} of {evidence.marks} transport packets seen "
            f"({evidence.uncaptured} frames passed unseen), at most 0",
            evidence.reused == 0 and evidence.marks > 0,
        ),
        Verdict(
            f"plaintext on the outer link: {evidence.foreign} foreign and {evidence.readable} readable packets, at most 0"
            + (f" (the first: {evidence.example})" if evidence.foreign else "")
            + ("" if evidence.kept else "; but the capture of plaintext itself has missed some"),
            evidence.foreign == 0 and evidence.readable == 0 and evidence.kept,
        ),
    ]  # fmt: skip


def _bar(row: Row, floor: float) -> Verdict:
    name = f"{row.target}, {row.fault}"
    longest, quiet = row.pauses[0], row.quiet[0]
    if row.fault == "stop":
        return _at_most(name, longest, HANG_PAUSE, floor)
    if row.target != "control":  # a lane, or one that no packet waits for, whose successor takes the processor a little
        return _at_most(name, longest, LANE_PAUSE, floor)
    chance = rank_sum(row.pauses, row.quiet)
    text = (
        f"{name}: longest pause {longest * 1e3:.0f} ms, undisturbed {quiet * 1e3:.0f} ms, of the run {floor * 1e3:.0f} ms; "
        f"not above noise (p = {chance:.2f}, at least {_SIGNIFICANT})"
    )
    return Verdict(text, chance >= _SIGNIFICANT)


def _at_most(name: str, longest: float, bar: float, floor: float) -> Verdict:
    text = f"{name}: longest pause {longest * 1e3:.0f} ms, at most {bar * 1e3:.0f} ms"
    if longest <= bar:
        return Verdict(text, met=True)
    noise = longest <= floor
    return Verdict(text + (f"; undisturbed windows have {floor * 1e3:.0f} ms as well" if noise else ""), False, noise)


def rank_sum(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The chance that `ours` lie so much above `theirs` when nothing differs: Mann-Whitney, one-sided, by the normal
    approximation with ties at their mean rank."""
    n, m = len(ours), len(theirs)
    if not n or not m:
        return 1.0
    everything = sorted([(v, 0) for v in ours] + [(v, 1) for v in theirs])
    ranks, at, ties = 0.0, 0, 0.0
    while at < len(everything):
        end = at
        while end < len(everything) and everything[end][0] == everything[at][0]:
            end += 1
        ranks += sum((at + end + 1) / 2 for _, who in everything[at:end] if who == 0)
        ties += (end - at) ** 3 - (end - at)
        at = end
    u = ranks - n * (n + 1) / 2
    total = n + m
    spread = math.sqrt(n * m / 12 * ((total + 1) - ties / (total * (total - 1))))
    if spread == 0:
        return 1.0
    return 0.5 * math.erfc((u - n * m / 2 - 0.5) / spread / math.sqrt(2))
