"""The judgements of `make bench-resilience`: bars, noise, and what a capture proves."""

import random

from bench.resilience_figures import Evidence, Sample, judge, rank_sum

CLEAN = Evidence(
    lost=(), reused=0, foreign=0, readable=0, example="", marks=1000, uncaptured=0, kept=True
)  # fmt: skip


def _samples(target: str, fault: str, pauses: list[float], quiet: list[float]) -> list[Sample]:
    return [Sample(target, fault, p, q, 0.01) for p, q in zip(pauses, quiet, strict=True)]


def test_bars_of_lanes_and_hangs() -> None:
    fast = _samples("lane", "kill", [0.02, 0.1], [0.01, 0.02])
    assert all(v.met for v in judge(fast, CLEAN))
    slow = _samples("lane", "kill", [0.02, 0.11], [0.01, 0.02])
    missed = [v for v in judge(slow, CLEAN) if not v.met]
    assert [v.text for v in missed] == ["lane, kill: longest pause 110 ms, at most 100 ms"]
    assert not missed[0].noise
    busy = [v for v in judge(_samples("lane", "kill", [0.02, 0.11], [0.01, 0.2]), CLEAN) if not v.met]
    assert busy[0].noise, "undisturbed windows are no better"
    assert next(v.met for v in judge(_samples("lane", "stop", [2.0, 1.2], [0.0, 0.0]), CLEAN))
    assert not next(v.met for v in judge(_samples("lane", "stop", [2.1, 1.2], [0.0, 0.0]), CLEAN))


def test_control_may_not_pause_above_noise() -> None:
    random.seed(1)
    quiet = [random.uniform(0.01, 0.06) for _ in range(20)]
    same = [random.uniform(0.01, 0.06) for _ in range(20)]
    assert judge(_samples("control", "kill", same, quiet), CLEAN)[0].met
    assert not judge(_samples("control", "kill", [p + 0.03 for p in same], quiet), CLEAN)[0].met


def test_observer_and_spare_have_the_bar_of_lanes() -> None:
    for target in ("observer", "spare"):
        assert judge(_samples(target, "kill", [0.05, 0.1], [0.01, 0.01]), CLEAN)[0].met
        assert not judge(_samples(target, "kill", [0.05, 0.11], [0.01, 0.01]), CLEAN)[0].met


def test_supervisor_has_no_bar_of_its_own() -> None:
    assert len(judge(_samples("supervisor", "kill", [5.0], [0.0]), CLEAN)) == 3


def test_what_holds_for_the_run() -> None:
    def missed(**changes: object) -> int:
        evidence = Evidence(**{**{f: getattr(CLEAN, f) for f in CLEAN.__slots__}, **changes})  # type: ignore[arg-type]
        return sum(not v.met for v in judge([], evidence))

    assert missed() == 0
    assert (
        missed(lost=("reset",))
        == missed(reused=1)
        == missed(foreign=1)
        == missed(readable=1)
        == missed(kept=False)
        == 1
    )
    assert missed(marks=0) == 1, "a capture that saw nothing proves nothing"


def test_rank_sum() -> None:
    assert rank_sum([], [1.0]) == 1.0
    assert rank_sum([1.0] * 5, [1.0] * 5) == 1.0
    assert rank_sum([9.0] * 10, [1.0] * 10) < 0.001
    assert rank_sum([1.0] * 10, [9.0] * 10) > 0.99
