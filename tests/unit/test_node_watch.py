"""When the supervisor looks at its interface: at its rhythm whatever the machine is busy with, rarely when looking is work."""

import time
from typing import cast

import pytest

from pqvpn.facts import Fact, InterfaceObserved
from pqvpn.host import clock
from pqvpn.host.netlink import Interface
from pqvpn.node.mending import Acts, Mender
from pqvpn.node.watch import InterfaceWatch
from pqvpn.resilience.breaker import Breaker, Policy

INTERVAL = 0.5
NOTHING = Acts(lambda: None, lambda: None)


class Looked:
    """An interface whose look takes as long as it is told: `waits` without the processor, `works` with it."""

    def __init__(self, waits: float = 0.0, works: float = 0.0) -> None:
        self._waits, self._works = waits, works

    def look(self) -> InterfaceObserved:
        time.sleep(self._waits)  # what is measured: time without work
        end = clock.spent() + self._works
        while clock.spent() < end:
            pass
        return InterfaceObserved("pqvpn0", exists=True, up=True)


@pytest.mark.parametrize(
    ("interface", "shortest", "longest"),
    [(Looked(), INTERVAL, INTERVAL), (Looked(waits=0.2), INTERVAL, INTERVAL), (Looked(works=0.02), 1.9, 10.0)],
    ids=["quick", "kept waiting", "much work"],
)
def test_the_next_look(interface: Looked, shortest: float, longest: float) -> None:
    told: list[Fact] = []
    watch = InterfaceWatch(INTERVAL, told.append, Mender(NOTHING, told.append), Breaker("netlink", Policy(), clock.now))
    watch.begin(0.0)
    assert watch.look_if_due(cast(Interface, interface), 100.0)
    assert watch.due is not None
    assert 100.0 + shortest <= watch.due <= 100.0 + longest
    assert [fact.event for fact in told] == ["interface.observed"]


def test_much_work_puts_it_off_for_half_a_minute_at_most() -> None:
    watch = InterfaceWatch(INTERVAL, lambda _: None, Mender(NOTHING, lambda _: None), Breaker("n", Policy(), clock.now))
    watch.begin(0.0)
    watch.look_if_due(cast(Interface, Looked(works=0.4)), 100.0)
    assert watch.due == 130.0
