"""Health items: when they are shown, when they clear, causes before symptoms, and that nothing flaps."""

from pqvpn.reasons import Reason
from pqvpn.resilience import health
from pqvpn.resilience.health import BY_CODE, Health, Item, State, overall

OK, WARNING, FAILING, UNKNOWN = State.OK, State.WARNING, State.FAILING, State.UNKNOWN


def drive(registry: Health, item: Item, state: State, begin: float, end: float, key: str = "") -> None:
    """Observe a state once a second."""
    now = begin
    while now <= end:
        registry.observe(item, key, state, Reason.INTERNAL, f"seen at {now}", now)
        now += 1.0


def shown(registry: Health, item: Item, now: float, key: str = "") -> State:
    return next(f.state for f in registry.report(now) if (f.item, f.key) == (item, key))


def test_what_is_well_from_the_start_is_shown_at_once_and_is_no_news() -> None:
    registry = Health()
    registry.observe(Item.INTERFACE, "", OK, now=1.0)
    assert shown(registry, Item.INTERFACE, 1.0) is OK
    assert registry.changes(1.0) == ()
    assert overall(registry.report(1.0)) is OK


def test_a_failure_is_shown_after_its_time_with_its_evidence_and_since_when() -> None:
    registry = Health()
    registry.observe(Item.INTERFACE, "", OK, now=0.0)
    drive(registry, Item.INTERFACE, FAILING, 1.0, 2.0)
    assert shown(registry, Item.INTERFACE, 2.0) is OK
    registry.observe(Item.INTERFACE, "", FAILING, Reason.TUN_GONE, "pqvpn0 is gone", 3.0)
    (finding,) = registry.report(3.5)
    assert (finding.state, finding.since, finding.reason) == (FAILING, 1.0, Reason.TUN_GONE)
    assert finding.evidence == "pqvpn0 is gone"
    (change,) = registry.changes(3.5)
    assert (change.finding, change.before) == (finding, UNKNOWN)
    assert registry.changes(3.6) == ()


def test_it_clears_after_its_time_and_that_is_told() -> None:
    registry = Health()
    drive(registry, Item.INTERFACE, FAILING, 0.0, 5.0)
    registry.changes(5.0)
    drive(registry, Item.INTERFACE, OK, 6.0, 9.0)
    assert shown(registry, Item.INTERFACE, 9.0) is FAILING
    registry.observe(Item.INTERFACE, "", OK, now=10.0)
    assert shown(registry, Item.INTERFACE, 10.0) is OK
    (change,) = registry.changes(10.0)
    assert (change.finding.state, change.before) == (OK, FAILING)
    assert change.finding.since == 6.0


def test_one_observation_proves_nothing_however_long_ago() -> None:
    registry = Health()
    registry.observe(Item.INTERFACE, "", OK, now=0.0)
    registry.observe(Item.INTERFACE, "", FAILING, Reason.TUN_GONE, now=1.0)
    assert shown(registry, Item.INTERFACE, 25.0) is OK


def test_what_alternates_between_bad_and_worse_is_bad() -> None:
    registry = Health()
    for second in range(10):
        state = WARNING if second % 2 else FAILING
        registry.observe(Item.PEER, "beta", state, Reason.NO_REPLY, now=float(second))
    assert shown(registry, Item.PEER, 9.0, "beta") is WARNING


def test_silence_is_unknown_and_the_next_word_counts_anew() -> None:
    registry = Health()
    registry.observe(Item.INTERFACE, "", OK, now=0.0)
    later = Item.INTERFACE.silent + 1.0
    assert shown(registry, Item.INTERFACE, later) is UNKNOWN
    assert overall(registry.report(later)) is WARNING
    registry.observe(Item.INTERFACE, "", FAILING, Reason.TUN_GONE, now=later + 1.0)
    assert shown(registry, Item.INTERFACE, later + 1.0) is UNKNOWN
    registry.observe(Item.INTERFACE, "", FAILING, Reason.TUN_GONE, now=later + 3.0)
    assert shown(registry, Item.INTERFACE, later + 3.0) is FAILING


def test_a_cause_suppresses_its_symptoms_which_stay_listed() -> None:
    registry = Health()
    for second in range(12):
        registry.observe(Item.INTERFACE, "", FAILING, Reason.TUN_GONE, now=float(second))
        registry.observe(Item.ADDRESSES, "", FAILING, Reason.TUN_DOWN, now=float(second))
        registry.observe(Item.PEER, "beta", FAILING, Reason.NO_REPLY, now=float(second))
    assert [change.finding.item for change in registry.changes(11.0)] == [Item.INTERFACE]
    first, *others = registry.report(11.0)
    assert (first.item, first.suppressed_by) == (Item.INTERFACE, "")
    assert {f.item for f in others} == {Item.ADDRESSES, Item.PEER}
    assert {f.suppressed_by for f in others} == {"tun.interface"}


def test_the_deepest_cause_is_named() -> None:
    registry = Health()
    for second in range(12):
        for item in (Item.INTERFACE, Item.TRAFFIC, Item.PEER):
            registry.observe(item, "", FAILING, Reason.INTERNAL, now=float(second))
    by_item = {f.item: f.suppressed_by for f in registry.report(11.0)}
    assert by_item == {Item.INTERFACE: "", Item.TRAFFIC: "tun.interface", Item.PEER: "tun.interface"}


def test_a_symptom_that_outlives_its_cause_is_told_later() -> None:
    registry = Health()
    for second in range(60):
        registry.observe(Item.INTERFACE, "", FAILING if second < 20 else OK, Reason.TUN_GONE, now=float(second))
        registry.observe(Item.PEER, "beta", FAILING, Reason.NO_REPLY, now=float(second))
        told = [change.finding.item for change in registry.changes(float(second))]
        if told == [Item.PEER]:
            assert second >= 20 + health.AFTERMATH
            return
    raise AssertionError("the peer was never told")


def test_what_is_not_vital_makes_no_node_fail() -> None:
    registry = Health()
    drive(registry, Item.PEER, FAILING, 0.0, 10.0, "beta")
    assert overall(registry.report(10.0)) is WARNING
    drive(registry, Item.SOCKETS, FAILING, 0.0, 10.0)
    assert overall(registry.report(10.0)) is FAILING


def test_peers_that_are_gone_are_forgotten_and_keys_are_bounded() -> None:
    registry = Health(most_keys=3)
    for number in range(10):
        registry.observe(Item.PEER, f"peer{number}", OK, now=0.0)
    assert len(registry.report(0.0)) == 3
    registry.keep(Item.PEER, ["peer1"])
    assert [f.key for f in registry.report(0.0)] == ["peer1"]
    registry.observe(Item.PEER, "another", OK, now=0.0)
    assert len(registry.report(0.0)) == 2


def test_the_table_is_sound() -> None:
    assert len(BY_CODE) == len(Item)
    for item in Item:
        assert item.visible >= 0.0
        assert item.clear > 0.0
        assert item.silent > max(item.visible, item.clear)
        assert item.text
        for code in item.depends_on:
            cause = BY_CODE[code]
            assert list(Item).index(cause) < list(Item).index(item), "an order without cycles"
            assert item.visible >= cause.visible, f"{item.code} would be told before {code}"
