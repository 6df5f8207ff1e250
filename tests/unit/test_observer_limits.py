"""[health]: every limit decides, and a reload carries it to who decides."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pqvpn.config.schema import HealthSection, NodeConfig
from pqvpn.facts import ChildEnded, NodeObserved
from pqvpn.node import translate
from pqvpn.node.watch import InterfaceWatch
from pqvpn.observer.checkbook import Checkbook, CheckTooSlowError
from pqvpn.observer.checks import Checks
from pqvpn.observer.machine import Disk, ProcessUse
from pqvpn.reasons import Reason
from pqvpn.resilience.health import Health, Item, State
from pqvpn.resilience.limits import Limits

MIB = 1 << 20


def shown(limits: Limits, item: Item, key: str, observe: Any, seconds: int = 40) -> State:
    """What an item shows after the same was observed every second for so long."""
    health = Health(limits=limits)
    checks = Checks(health, 0.0, limits)
    book = Checkbook(lambda: 0.0, lambda name, error: pytest.fail(f"{name}: {error}"))
    checks.enter(book)
    for second in range(seconds):
        observe(checks, book, float(second))
    return next(f.state for f in health.report(float(seconds - 1)) if (f.item, f.key) == (item, key))


def late(checks: Checks, book: Checkbook, now: float) -> None:
    checks.late("observer", 1.0, now)


def use(checks: Checks, book: Checkbook, now: float) -> None:
    checks.processes((ProcessUse("control", 7, 500 * MIB, 90, 100),), now)
    checks.disk(Disk(50 * MIB), now)


def hung(checks: Checks, book: Checkbook, now: float) -> None:
    checks.records((State.OK, None, ""), 11.0, now)


def silent(checks: Checks, book: Checkbook, now: float) -> None:
    checks.check(now, 0)


def ends(checks: Checks, book: Checkbook, now: float) -> None:
    if now == 0.0:
        book.take(NodeObserved({"processes": [{"component": "lane-0", "pid": 8}]}, 0.0), now)
    if now < 5.0:
        book.take(ChildEnded("lane-0", 8, "SIGSEGV", Reason.CHILD_DIED), now)
    checks.check(now, 0)


@pytest.mark.parametrize(
    ("limits", "item", "key", "observe", "expected"),
    [
        (Limits(), Item.PROCESSOR, "observer", late, State.WARNING),
        (Limits(loop_late=1.01), Item.PROCESSOR, "observer", late, State.OK),
        (Limits(loop_stuck=1.0), Item.PROCESSOR, "observer", late, State.FAILING),
        (Limits(), Item.MEMORY, "control", use, State.WARNING),
        (Limits(memory_warns=500 * MIB), Item.MEMORY, "control", use, State.OK),
        (Limits(memory_fails=499 * MIB), Item.MEMORY, "control", use, State.FAILING),
        (Limits(), Item.DESCRIPTORS, "control", use, State.WARNING),
        (Limits(descriptors_warn=0.91), Item.DESCRIPTORS, "control", use, State.OK),
        (Limits(descriptors_fail=0.9), Item.DESCRIPTORS, "control", use, State.FAILING),
        (Limits(), Item.DISK, "", use, State.WARNING),
        (Limits(disk_free=50 * MIB), Item.DISK, "", use, State.OK),
        (Limits(), Item.RECORDS, "", hung, State.FAILING),
        (Limits(disk_hangs=11.0), Item.RECORDS, "", hung, State.OK),
        (Limits(), Item.CONTROL, "", silent, State.FAILING),
        (Limits(), Item.PROCESSES, "lane-0", ends, State.WARNING),
        (Limits(ends_warn=6), Item.PROCESSES, "lane-0", ends, State.OK),
        (Limits(ends_fail=5), Item.PROCESSES, "lane-0", ends, State.FAILING),
        (Limits(ends_window=5.0), Item.PROCESSES, "lane-0", ends, State.OK),
        (Limits(fail_scale=20.0), Item.PROCESSOR, "observer", late, State.OK),
    ],
)  # fmt: skip
def test_each_limit_decides(limits: Limits, item: Item, key: str, observe: Any, expected: State) -> None:
    if limits.fail_scale > 1:  # well first: what was never observed well is unknown until it is shown

        def observe_both(checks: Checks, book: Checkbook, now: float) -> None:
            checks.late("observer", 0.0, now) if now == 0.0 else observe(checks, book, now)

        assert shown(limits, item, key, observe_both) is expected
    else:
        assert shown(limits, item, key, observe) is expected


def test_control_may_be_silent_for_as_long_as_the_setting_says() -> None:
    health = Health(limits=Limits(control_silent=60.0))
    checks = Checks(health, 0.0, Limits(control_silent=60.0))
    for second in range(60):
        checks.check(float(second), 0)
    assert all(f.item is not Item.CONTROL for f in health.report(59.0))


def test_the_scales_stretch_both_ways() -> None:
    health = Health(limits=Limits(fail_scale=2.0, recover_scale=3.0))  # of the interface: 2 s and 4 s
    for second in range(30):
        health.observe(Item.INTERFACE, "", State.FAILING if 1 <= second <= 10 else State.OK, now=float(second))
        state = health.report(float(second))[0].state
        assert state is (State.FAILING if 5 <= second < 23 else State.OK), second


def test_an_item_looked_at_rarely_is_not_unknown_in_between() -> None:
    for interval, expected in ((2.0, State.UNKNOWN), (60.0, State.OK)):
        health = Health(limits=Limits(interval=interval))
        health.observe(Item.INTERFACE, "", State.OK, now=0.0)
        assert health.report(59.0)[0].state is expected


def test_the_registry_keeps_checks_apart() -> None:
    """One that raises or takes too long is told, and costs the others nothing."""
    now, failed, ran = [0.0], list[tuple[str, type]](), list[str]()
    book = Checkbook(lambda: now[0], lambda name, error: failed.append((name, type(error))), timeout=0.1)

    def slow(_: float) -> None:
        now[0] += 0.2

    def broken(_: float) -> None:
        raise RuntimeError

    book.every_interval("slow", slow)
    book.every_interval("broken", broken)
    book.every_interval("sound", lambda at: ran.append(f"at {at}"))
    book.on(ChildEnded, "broken", lambda fact, at: broken(at))
    book.on(ChildEnded, "sound", lambda fact, at: ran.append(fact.process))
    book.run(7.0)
    book.take(ChildEnded("lane-0", 8, "SIGSEGV", Reason.CHILD_DIED), 8.0)
    book.take(NodeObserved({}, 0.0), 9.0)
    assert failed == [("slow", CheckTooSlowError), ("broken", RuntimeError), ("broken", RuntimeError)]
    assert ran == ["at 7.0", "lane-0"]
    with pytest.raises(ValueError, match="already"):
        book.every_interval("sound", broken)


def test_defaults_of_the_section_are_those_of_the_limits() -> None:
    config = cast(NodeConfig, SimpleNamespace(health=HealthSection()))
    assert translate.limits(config) == Limits()


def test_a_new_interval_moves_the_next_look(tmp_path: Path) -> None:
    watch = InterfaceWatch(30.0, lambda fact: None, cast(Any, None), cast(Any, None))
    watch.begin(100.0)
    watch.set_interval(2.0)
    assert watch.due == 102.0
    watch.set_interval(60.0)
    assert watch.due == 102.0, "the look that was due is not put off"
