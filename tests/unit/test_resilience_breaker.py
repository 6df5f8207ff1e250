"""The breaker: every repair of the library proven by a scenario that the bare library fails, and the table of states."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from circuitbreaker import CircuitBreaker, CircuitBreakerError, CircuitBreakerMonitor

from pqvpn.errors import NetworkError
from pqvpn.reasons import Reason
from pqvpn.resilience.breaker import TRANSITIONS, Breaker, BreakerOpenError, Cause, Policy, State, Transition
from pqvpn.resilience.breakers import Breakers

POLICY = Policy(window=10.0, minimum_calls=4, failure_rate=0.5, consecutive=3, open_for=5.0, open_longest=20.0)
SECRET = "c2VjcmV0LWtleS1tYXRlcmlhbC1vZi0zMi1ieXRlcyE="


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A breaker of either kind, and time as that kind sees it."""

    def __init__(self, make: Callable[[Clock, Policy], Any], policy: Policy = POLICY) -> None:
        self.clock = Clock()
        self.breaker = make(self.clock, policy)

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            with suppress(OSError, BreakerOpenError):
                self.breaker.decorate(broken)()

    def work(self, times: int = 1) -> None:
        for _ in range(times):
            with suppress(BreakerOpenError):
                self.breaker.decorate(fine)()

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        if not isinstance(self.breaker, Breaker):
            self.breaker._opened -= seconds  # the library reads the machine's clock


def broken() -> None:
    raise OSError(SECRET)


def fine() -> str:
    return "fine"


def ours(clock: Clock, policy: Policy) -> Breaker:
    return Breaker("test", policy, clock)


def bare(clock: Clock, policy: Policy) -> CircuitBreaker:
    return CircuitBreaker(policy.consecutive, int(policy.open_for), name="test")


# -- one scenario a repair -------------------------------------------------------------------------------------------


def opens_by_rate(world: World) -> None:
    for _ in range(4):  # never three in a row
        world.fail()
        world.work()
    assert world.breaker.opened


def forgets_what_is_old(world: World) -> None:
    world.fail(2)
    world.wait(60)
    world.work()
    world.fail(2)
    world.work(20)
    world.fail(1)
    assert not world.breaker.opened
    assert world.breaker.counts()[0] == 24


def refuses_a_with_block_while_open(world: World) -> None:
    world.fail(3)
    ran = []
    with suppress(BreakerOpenError), world.breaker:
        ran.append(1)
    assert not ran


def cancellation_is_neither(world: World) -> None:
    world.fail(2)

    async def cancelled() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(world.breaker.decorate(asyncio.sleep)(30), 0.001)

    asyncio.run(cancelled())
    world.fail(1)
    assert world.breaker.opened


def lets_a_bounded_set_of_probes_through(world: World) -> None:
    world.fail(3)
    world.wait(6)
    inside = most = 0

    async def probe() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1

    async def storm() -> None:
        await asyncio.gather(*(world.breaker.decorate(probe)() for _ in range(50)), return_exceptions=True)

    asyncio.run(storm())
    assert most == 1


def a_slow_call_is_a_failure(world: World) -> None:
    def slow() -> None:
        world.wait(9.0)

    for _ in range(3):
        world.breaker.decorate(slow)()
    assert world.breaker.opened


def tells_listeners(world: World) -> None:
    told: list[Transition] = []
    world.breaker.listeners.append(told.append)
    world.fail(3)
    assert [t.cause for t in told] == [Cause.CONSECUTIVE]


def is_held_open_by_an_operator(world: World) -> None:
    world.breaker.hold_open()
    world.wait(1000)
    world.work()
    assert world.breaker.opened
    world.breaker.reset()
    assert world.breaker.closed


def keeps_no_text_of_failures(world: World) -> None:
    world.fail(3)
    refusal = ""
    try:
        world.breaker.decorate(fine)()
    except (BreakerOpenError, CircuitBreakerError) as error:
        refusal = str(error)
    assert refusal
    assert SECRET not in refusal
    assert world.breaker.last_failure is None


def enters_no_global_registry(world: World) -> None:
    CircuitBreakerMonitor.circuit_breakers.clear()
    world.work()
    assert not list(CircuitBreakerMonitor.get_circuits())


def a_failed_probe_waits_longer(world: World) -> None:
    world.fail(3)
    world.wait(6)
    world.fail()
    world.wait(6)
    assert world.breaker.opened


REPAIRS = (
    opens_by_rate, forgets_what_is_old, refuses_a_with_block_while_open, cancellation_is_neither,
    lets_a_bounded_set_of_probes_through, a_slow_call_is_a_failure, tells_listeners, is_held_open_by_an_operator,
    keeps_no_text_of_failures, enters_no_global_registry, a_failed_probe_waits_longer,
)  # fmt: skip
SLOW = Policy(window=100.0, minimum_calls=3, consecutive=3, open_for=5.0, slow_after=1.0)


def _world(scenario: Callable[[World], None], make: Callable[[Clock, Policy], Any]) -> World:
    return World(make, SLOW if scenario is a_slow_call_is_a_failure else POLICY)


@pytest.mark.parametrize("scenario", REPAIRS, ids=lambda scenario: scenario.__name__)
def test_repair(scenario: Callable[[World], None]) -> None:
    scenario(_world(scenario, ours))


@pytest.mark.parametrize("scenario", REPAIRS, ids=lambda scenario: scenario.__name__)
def test_the_bare_library_fails_it(scenario: Callable[[World], None]) -> None:
    with pytest.raises((AssertionError, AttributeError)):
        scenario(_world(scenario, bare))


# -- states ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    return World(ours)


def test_it_closes_again_after_probes(world: World) -> None:
    world.fail(3)
    assert world.breaker.state is State.OPEN
    assert world.breaker.open_remaining == 5.0
    world.wait(5)
    assert world.breaker.state is State.HALF_OPEN
    world.work()
    assert world.breaker.state is State.CLOSED
    assert world.breaker.counts() == (0, 0)


def test_as_many_successes_close_it_as_there_are_probes() -> None:
    world = World(ours, Policy(consecutive=1, open_for=1.0, probes=3))
    world.fail()
    world.wait(1)
    first, second, third = (world.breaker.acquire() for _ in range(3))
    with pytest.raises(BreakerOpenError):
        world.breaker.acquire()
    first.succeeded()
    with pytest.raises(BreakerOpenError):
        world.breaker.acquire()  # two are out, one has passed
    second.succeeded()
    assert world.breaker.state is State.HALF_OPEN
    third.succeeded()
    assert world.breaker.state is State.CLOSED


def test_a_late_failure_of_a_call_from_before_changes_nothing(world: World) -> None:
    early = world.breaker.acquire()
    world.fail(3)
    world.wait(5)
    probe = world.breaker.acquire()
    early.failed()
    assert world.breaker.state is State.HALF_OPEN
    probe.succeeded()
    assert world.breaker.state is State.CLOSED


def test_an_outcome_counts_once(world: World) -> None:
    permit = world.breaker.acquire()
    for _ in range(5):
        permit.failed()
    assert world.breaker.counts() == (1, 1)


def test_a_probe_that_vanished_gives_its_place_back(world: World) -> None:
    world.fail(3)
    world.wait(5)
    world.breaker.acquire()
    with pytest.raises(BreakerOpenError):
        world.breaker.acquire()
    world.wait(POLICY.open_longest)
    assert world.breaker.acquire().probe


def test_held_closed_lets_everything_through(world: World) -> None:
    world.breaker.hold_closed()
    world.fail(50)
    assert world.breaker.state is State.CLOSED
    world.breaker.reset()
    world.fail(3)
    assert world.breaker.state is State.OPEN


def test_the_reason_of_the_failure_is_told(world: World) -> None:
    told: list[Transition] = []
    world.breaker.listeners.append(told.append)
    for _ in range(3):
        with suppress(NetworkError), world.breaker.guard():
            raise NetworkError(Reason.DNS_FAILED)
    assert told == [Transition("test", State.CLOSED, State.OPEN, Cause.CONSECUTIVE, Reason.DNS_FAILED)]


def test_exceptions_that_are_not_its_business_count_as_neither() -> None:
    breaker = Breaker("test", POLICY, Clock(), is_failure=OSError)
    for _ in range(10):
        with suppress(ValueError), breaker.guard():
            raise ValueError
    assert breaker.counts() == (0, 0)


def test_the_table_has_no_other_way() -> None:
    ways = {(before, after) for (before, cause), after in TRANSITIONS.items() if not cause.startswith("held")}
    ways -= {(state, State.CLOSED) for state in State}  # reset
    assert ways == {(State.CLOSED, State.OPEN), (State.OPEN, State.HALF_OPEN), (State.HALF_OPEN, State.OPEN)}


# -- many ------------------------------------------------------------------------------------------------------------


def test_breakers_are_bounded_and_keep_what_is_open() -> None:
    told: list[tuple[str, Transition]] = []
    breakers = Breakers("peer", Policy(consecutive=1), Clock(), lambda k, t: told.append((k, t)), most=3)
    breakers.get("bad").acquire().failed()
    for number in range(100):
        breakers.get(f"peer-{number}").acquire().succeeded()
    assert len(breakers.all()) == 3
    assert breakers.get("bad").state is State.OPEN
    assert [key for key, _ in told] == ["bad"]


def test_with_all_places_open_the_rest_shares_one() -> None:
    breakers = Breakers("peer", Policy(consecutive=1), Clock(), lambda *_: None, most=2)
    for key in ("a", "b"):
        breakers.get(key).acquire().failed()
    assert breakers.get("c") is breakers.get("d")
    assert len(breakers.all()) == 3


def test_the_same_key_has_the_same_breaker_and_no_other_key_has_it() -> None:
    breakers = Breakers("peer", Policy(), Clock(), lambda *_: None)
    for a, b in itertools.product("xyz", repeat=2):
        assert (breakers.get(a) is breakers.get(b)) is (a == b)


# -- a new policy ----------------------------------------------------------------------------------------------------


def test_a_new_policy_holds_for_the_next_opening() -> None:
    clock = Clock()
    breaker = Breaker("x", POLICY, clock)
    breaker.apply(Policy(window=10.0, consecutive=1, open_for=1.0, open_longest=2.0))
    breaker.acquire().failed()
    assert breaker.open_remaining == 1.0


def test_a_new_policy_shortens_a_wait_under_way() -> None:
    clock = Clock()
    breaker = Breaker("x", Policy(consecutive=1, open_for=60.0), clock)
    breaker.acquire().failed()
    breaker.apply(Policy(consecutive=1, open_for=1.0, open_longest=2.0))
    assert breaker.open_remaining == 2.0
    assert breaker.state is State.OPEN


def test_a_window_of_another_length_begins_empty() -> None:
    clock = Clock()
    breaker = Breaker("x", Policy(window=10.0, consecutive=100, minimum_calls=100), clock)
    for _ in range(9):
        breaker.acquire().failed()
    breaker.apply(Policy(window=60.0, consecutive=100, minimum_calls=10))
    assert breaker.counts() == (0, 0)
    breaker.acquire().failed()
    assert breaker.state is State.CLOSED
