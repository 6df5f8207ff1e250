"""Levels and repeats under any sequence of events."""

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pqvpn.telemetry.logfiles.levels import EVERYTHING, RANKS, Levels
from pqvpn.telemetry.logfiles.repeats import Repeats

LEVELS = st.sampled_from(sorted(RANKS))
AREAS = st.sampled_from(["data", "path", EVERYTHING])
STEPS = st.floats(0.0, 50.0)


@given(LEVELS, st.lists(st.tuples(AREAS, LEVELS, st.none() | st.floats(0.1, 100.0), STEPS), max_size=20), STEPS)
def test_a_level_is_what_was_set_last_and_falls_back(
    default: str, changes: list[tuple[str, str, float | None, float]], later: float
) -> None:
    levels, now = Levels(default), 0.0
    staying = {EVERYTHING: default}
    passing: dict[str, tuple[str, float]] = {}
    for area, level, lasts, step in changes:
        now += step
        levels.change(area, level, None if lasts is None else now + lasts)
        if lasts is None:
            staying[area] = level
            passing.pop(area, None)
        else:
            passing[area] = (level, now + lasts)
    now += later

    def expected(area: str) -> str:
        for each in (area, EVERYTHING):
            if each in passing and now < passing[each][1]:
                return passing[each][0]
            if each in staying and (each == area or area not in staying):
                return staying[each]
        return staying[EVERYTHING]

    for area in ("data", "path", "tun"):
        assert levels.of(area, now) == expected(area)
        for level, rank in RANKS.items():
            assert levels.wanted(area, level, now) == (rank >= RANKS[expected(area)])
    assert levels.of("tun", now + 1000.0) == staying[EVERYTHING]


@given(st.lists(st.tuples(st.integers(0, 8), st.floats(0.0, 20.0)), max_size=200), st.integers(1, 6))
def test_nothing_is_lost_and_nothing_floods(events: list[tuple[int, float]], most: int) -> None:
    """Told ones and counted ones are all there were; a key has at most a burst and a summary a window."""
    window, burst = 60.0, 3
    repeats: Repeats[int] = Repeats(window, burst, most)
    now, told, counted = 0.0, Counter[int](), Counter[int]()
    summaries: dict[int, list[float]] = {}
    for key, step in events:
        now += step
        for summary in repeats.due(now):
            counted[summary.record] += summary.count
            summaries.setdefault(summary.record, []).append(now)
            assert summary.count > 0
        told[key] += repeats.take(key, key, now)
        assert len(repeats._seen) <= most
    for summary in repeats.flush(now):
        counted[summary.record] += summary.count
    assert told + counted == Counter(key for key, _ in events)
    if most == 6 and len({key for key, _ in events}) <= most:  # nothing had to make room
        for times in summaries.values():
            assert all(later - earlier >= window for earlier, later in itertools.pairwise(times))


@given(st.integers(1, 500))
def test_one_cause_is_told_a_few_times_and_then_once_a_window(count: int) -> None:
    repeats: Repeats[str] = Repeats(60.0, 5)
    lines = 0
    for number in range(count):
        lines += len(repeats.due(float(number)))
        lines += repeats.take("key", "record", float(number))
    assert lines <= 5 + count // 60
