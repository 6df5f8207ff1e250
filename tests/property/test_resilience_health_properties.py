"""Health under any sequence of observations: it is slow enough, it is right in the end, and it never flaps."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pqvpn.reasons import Reason
from pqvpn.resilience.health import Health, Item, State, overall

STATES = st.sampled_from([State.OK, State.WARNING, State.FAILING])
STEPS = st.sampled_from([0.25, 0.5, 1.0, 2.0])
ITEMS = st.sampled_from([Item.INTERFACE, Item.PEER, Item.SOCKETS, Item.CLOCK])
RANK = {State.OK: 0, State.WARNING: 1, State.FAILING: 2}


def one(registry: Health, now: float) -> State:
    (finding,) = registry.report(now)
    return finding.state


@given(ITEMS, st.lists(st.tuples(STATES, STEPS), min_size=1, max_size=150))
def test_changes_are_no_faster_than_the_table_says(item: Item, events: list[tuple[State, float]]) -> None:
    """Worse only after `visible` seconds without a better word, better only after `clear` without a worse one."""
    registry, now = Health(), 0.0
    seen: list[tuple[float, State]] = []
    registry.observe(item, "", State.OK, now=now)
    seen.append((now, State.OK))
    before = one(registry, now)
    for state, step in events:
        now += step
        registry.observe(item, "", state, Reason.INTERNAL, "", now)
        seen.append((now, state))
        after = one(registry, now)
        if RANK[after] > RANK[before]:
            window = [s for t, s in seen if t >= now - item.visible]
            assert all(RANK[s] >= RANK[after] for s in window)
        elif RANK[after] < RANK[before]:
            window = [s for t, s in seen if t >= now - item.clear]
            assert all(RANK[s] <= RANK[after] for s in window)
        before = after


@given(ITEMS, st.lists(st.tuples(STATES, STEPS), max_size=50), STATES)
def test_it_is_right_in_the_end(item: Item, events: list[tuple[State, float]], final: State) -> None:
    registry, now = Health(), 0.0
    for state, step in events:
        now += step
        registry.observe(item, "", state, Reason.INTERNAL, "", now)
    for _ in range(200):
        now += 1.0
        registry.observe(item, "", final, Reason.INTERNAL, "", now)
    assert one(registry, now) is final


@given(ITEMS, st.lists(st.sampled_from([0.3, 0.7, 1.0]), min_size=20, max_size=200))
def test_what_flickers_is_never_told(item: Item, steps: list[float]) -> None:
    if item.visible == 0.0:  # shown at once, so that a jump of the clock is; it clears slowly
        return
    registry, now = Health(), 0.0
    registry.observe(item, "", State.OK, now=0.0)
    for number, step in enumerate(steps):
        now += step
        registry.observe(item, "", State.OK if number % 2 else State.FAILING, Reason.INTERNAL, "", now)
        assert registry.changes(now) == ()


@given(st.lists(st.tuples(st.sampled_from(list(Item)), STATES, STEPS), max_size=150))
def test_changes_tell_the_whole_story(events: list[tuple[Item, State, float]]) -> None:
    """What was told last of an item is what is shown, unless it is suppressed; before and after follow each other."""
    registry, now = Health(), 0.0
    told: dict[Item, State] = {}
    for item, state, step in events:
        now += step
        registry.observe(item, "", state, Reason.INTERNAL, "", now)
        for change in registry.changes(now):
            before = told.get(change.finding.item)
            assert before in (None, change.before)
            assert change.before is not change.finding.state
            told[change.finding.item] = change.finding.state
    for finding in registry.report(now):
        if not finding.suppressed_by and finding.item in told:
            assert told[finding.item] is finding.state
        if finding.state is State.FAILING and not finding.suppressed_by:
            assert told.get(finding.item) is State.FAILING


@given(st.lists(st.tuples(st.sampled_from(list(Item)), STATES, STEPS), max_size=100))
def test_a_suppressed_item_has_a_cause_that_is_told(events: list[tuple[Item, State, float]]) -> None:
    registry, now = Health(), 0.0
    for item, state, step in events:
        now += step
        registry.observe(item, "", state, Reason.INTERNAL, "", now)
    findings = registry.report(now)
    assert [bool(f.suppressed_by) for f in findings] == sorted(bool(f.suppressed_by) for f in findings)
    for finding in findings:
        if finding.suppressed_by:
            assert finding.state is not State.OK
            assert any(f.item.code == finding.suppressed_by for f in findings)
    worst = overall(findings)
    assert (worst is State.FAILING) == any(
        f.item.vital and f.state is State.FAILING and not f.suppressed_by for f in findings
    )
    assert all(itertools.chain([finding.since <= now for finding in findings]))
