"""Deliveries by breaker and backoff: the same promises as the senders' own pacing, and an operator's hold."""

import threading

import pytest

from pqvpn.facts import BreakerChanged, Fact, RetryEnded, RetryWaiting
from pqvpn.observer import start as starting
from pqvpn.observer.pacing import BreakerPacing
from pqvpn.reasons import Reason
from pqvpn.resilience.backoff import Backoff
from pqvpn.resilience.breaker import State
from pqvpn.resilience.limits import Limits
from pqvpn.resilience.registry import Action, Kind, Registry, Settings


class Rig:
    def __init__(self) -> None:
        self.now = 50.0
        self.facts: list[Fact] = []
        self.registry = Registry(Settings(), lambda: self.now, self.facts.append, "observer")
        waits = Backoff(0.5, 60.0, jitter=lambda longest: longest)
        self.pacing = BreakerPacing(
            Kind.OTLP, self.registry.get(Kind.OTLP), lambda: self.now, self.facts.append, threading.RLock(), waits
        )

    def fail(self, asked: float | None = None) -> float:
        assert self.pacing.due(0.0) == 0.0
        return self.pacing.failed(0.0, Reason.NOT_RUNNING, asked)

    def wait(self) -> None:
        self.now += self.pacing.due(0.0)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_waits_grow_and_the_breaker_opens(rig: Rig) -> None:
    waits = []
    for _ in range(3):
        waits.append(rig.fail())
        rig.wait()
    assert waits == [0.5, 1.0, 5.0]  # the breaker's wait, where it is the longer one
    assert rig.pacing.state is State.HALF_OPEN
    assert [f.number for f in rig.facts if isinstance(f, RetryWaiting)] == [1, 2, 3]
    assert rig.pacing.due(0.0) == 0.0
    assert rig.pacing.due(0.0) == 0.0  # asked twice, it is one try
    rig.pacing.worked()
    assert rig.pacing.state is State.CLOSED
    assert [(f.outcome, f.number) for f in rig.facts if isinstance(f, RetryEnded)] == [("recovered", 3)]
    assert [f.state for f in rig.facts if isinstance(f, BreakerChanged)] == ["open", "half_open", "closed"]


def test_the_server_may_ask_for_more(rig: Rig) -> None:
    assert rig.fail(asked=30.0) == 30.0
    assert rig.pacing.due(0.0) == 30.0


def test_good_news_ends_the_wait(rig: Rig) -> None:
    for _ in range(4):
        rig.fail()
        rig.wait()
    rig.pacing.good_news()
    assert rig.pacing.due(0.0) == 0.0
    rig.pacing.worked()
    assert [f.outcome for f in rig.facts if isinstance(f, RetryEnded)] == ["good_news"]


def test_an_operators_hold_keeps_everything_back(rig: Rig) -> None:
    rig.registry.act("otlp", Action.OPEN)
    for _ in range(10):
        assert rig.pacing.due(0.0) > 0
        rig.wait()
    rig.pacing.good_news()
    assert rig.pacing.due(0.0) > 0
    rig.registry.act("otlp", Action.RESET)
    assert rig.pacing.due(0.0) == 0.0


def test_new_settings_reach_an_observer_at_work() -> None:
    news = starting.News(
        Settings(consecutive=7), Limits(interval=0.5, memory_warns=1 << 30), ("gateway", "beta.example")
    )
    assert starting.news_of(starting.pack_news(news)) == news
    assert starting.news_of(b"\1") is None
    many = starting.News(Settings(), Limits(), tuple(f"host-{number}.example" for number in range(2000)))
    assert len(starting.pack_news(many)) < starting.LARGEST_NEWS
