"""What counts for a breaker of control, and what does not: cryptography by local faults alone, names, bounds, good news."""

from collections.abc import Callable

import pytest

from pqvpn.control.gates import OPERATIONS, Gates
from pqvpn.control.news import APART, SETTLES, News
from pqvpn.crypto import selftest
from pqvpn.drops import DropReason
from pqvpn.facts import BreakerChanged, Fact, Problem
from pqvpn.reasons import Reason
from pqvpn.resilience.breaker import State
from pqvpn.resilience.registry import Kind, Settings

BETA = b"B" * 32


class Rig:
    """Gates with a clock and self-tests of the test's own."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.now = 100.0
        self.facts: list[Fact] = []
        self.broken: tuple[str, ...] = ()
        self.tests = 0
        self.gates = Gates(settings or Settings(), lambda: self.now, self.facts.append, self._test)
        self.gates.configure({BETA: "beta"})

    def _test(self) -> tuple[str, ...]:
        self.tests += 1
        return self.broken

    def state(self, operation: str) -> State:
        return self.gates.registry.get(Kind.CRYPTO, operation).state

    def fails(self, operation: str, *, ours: bool) -> object:
        def call() -> int:
            raise ValueError("broken")

        return self.gates.guard(operation, call, ours=ours)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_fault_of_our_own_is_told_and_opens_by_rate(rig: Rig) -> None:
    for turn in range(5):
        assert rig.state("encapsulate") is State.CLOSED, turn
        assert rig.fails("encapsulate", ours=True) is DropReason.CRYPTO_UNAVAILABLE
    assert rig.state("encapsulate") is State.OPEN
    assert [f for f in rig.facts if isinstance(f, Problem)] == [
        Problem(Reason.SELF_TEST_FAILED, "crypto", "encapsulate: ValueError")
    ] * 5
    assert rig.gates.guard("encapsulate", lambda: 1, ours=True) is DropReason.CRYPTO_UNAVAILABLE
    rig.now += 5.0
    assert rig.gates.guard("encapsulate", lambda: 1, ours=True) == 1
    assert rig.state("encapsulate") is State.CLOSED


def test_what_a_stranger_makes_raise_counts_for_nothing(rig: Rig) -> None:
    """A mistake of ours that somebody found: it is abandoned as before, and refuses nobody else's handshake."""
    for _ in range(1000):
        rig.now += 0.001
        with pytest.raises(ValueError, match="broken"):
            rig.fails("decapsulate", ours=False)
    assert rig.state("decapsulate") is State.CLOSED
    assert rig.gates.registry.get(Kind.CRYPTO, "decapsulate").counts() == (0, 0)
    assert rig.tests <= 2, "self-tests cannot be asked for by strangers more than once a second"


def test_refused_keys_and_tags_are_no_failures(rig: Rig) -> None:
    for _ in range(100):
        assert rig.gates.guard("decapsulate", lambda: DropReason.BAD_HANDSHAKE, ours=False) is DropReason.BAD_HANDSHAKE
    assert rig.gates.registry.get(Kind.CRYPTO, "decapsulate").counts() == (100, 0)


def test_what_raises_while_the_self_tests_fail_counts(rig: Rig) -> None:
    rig.broken = (selftest.ML_KEM,)
    for _ in range(5):
        assert rig.fails("decapsulate", ours=False) is DropReason.CRYPTO_UNAVAILABLE
    assert rig.state("decapsulate") is State.OPEN


def test_failing_self_tests_open_what_is_made_of_them_and_passing_ones_close_it(rig: Rig) -> None:
    for _ in range(5):
        rig.now += 1.0
        rig.gates.tested((selftest.X25519,))
    assert {o: rig.state(o) for o in OPERATIONS} == {
        "encapsulate": State.OPEN, "decapsulate": State.OPEN, "seal": State.CLOSED, "open": State.CLOSED,
    }  # fmt: skip
    rig.now += 10.0
    rig.gates.tested(())
    assert rig.state("encapsulate") is State.CLOSED


def test_broken_aes_alone_opens_nothing(rig: Rig) -> None:
    for _ in range(20):
        rig.gates.tested((selftest.AES_GCM,))
    assert all(rig.state(o) is State.CLOSED for o in OPERATIONS)


def test_faults_of_lanes_count_where_the_self_tests_fail_and_refuse_handshakes(rig: Rig) -> None:
    for _ in range(20):
        rig.gates.lane_fault("ValueError engine.py:7")
        rig.now += 1.1
    assert rig.state("seal") is State.CLOSED
    rig.broken = (selftest.CHACHA,)
    for _ in range(5):
        rig.gates.lane_fault("KeyError outbound.py:7")
    assert rig.state("seal") is State.CLOSED
    for _ in range(5):
        rig.now += 1.1
        rig.gates.lane_fault("ValueError engine.py:7")
    assert (rig.state("seal"), rig.state("open")) == (State.OPEN, State.OPEN)
    assert rig.gates.guard("encapsulate", lambda: 1, ours=True) is DropReason.CRYPTO_UNAVAILABLE


def test_a_peer_that_is_not_configured_has_no_breaker(rig: Rig) -> None:
    stranger = b"S" * 32
    assert rig.gates.ended(stranger, "", False, None) == ()
    assert rig.gates.proven(stranger) == ()
    rig.gates.configure({})
    assert rig.gates.registry.names() == [f"crypto/{o}" for o in OPERATIONS]


def test_a_hold_is_told_once_though_the_state_stays() -> None:
    rig = Rig()
    from pqvpn.resilience.registry import Action

    row = rig.gates.registry.act("peer/beta", Action.CLOSE)
    assert (row["state"], row["held"]) == ("closed", True)
    (fact,) = rig.facts
    assert isinstance(fact, BreakerChanged)
    assert (fact.breaker, fact.key, fact.state, fact.cause, fact.peer) == (
        "peer", "beta", "closed", "held_closed", "beta",
    )  # fmt: skip


# -- good news -------------------------------------------------------------------------------------------------------


class Clocks:
    """CLOCK_BOOTTIME and CLOCK_MONOTONIC of a machine that can sleep."""

    def __init__(self) -> None:
        self.boot, self.awake = 1000.0, 900.0
        self.told: list[tuple[str, float]] = []
        self.news = News(lambda cause, s: self.told.append((cause, s)), "pqvpn0", lambda: self.boot, lambda: self.awake)
        self.news.close()

    def run(self, seconds: float, asleep: float = 0.0) -> None:
        self.boot += seconds + asleep
        self.awake += seconds
        self.news.tick()


def test_a_suspend_is_noticed_by_the_gap_between_the_clocks() -> None:
    clocks = Clocks()
    clocks.run(0.25)
    clocks.run(30.0)  # busy, not asleep
    assert clocks.told == []
    clocks.run(0.25, asleep=60.0)
    assert clocks.told == [("resumed", 60.0)]
    clocks.run(0.25)
    assert len(clocks.told) == 1


def test_a_network_that_flaps_is_told_of_once_in_a_while() -> None:
    clocks = Clocks()
    for _ in range(400):  # 100 s
        clocks.news.changed()
        clocks.run(0.25)
    assert len(clocks.told) <= 100 / APART + 1
    assert SETTLES < APART


@pytest.mark.parametrize("given", [1, 300])
def test_the_most_of_a_kind_is_kept(given: int) -> None:
    rig = Rig(Settings(most=256))
    made: Callable[[int], str] = "host-{}".format
    for number in range(given):
        rig.gates.registry.get(Kind.DNS, made(number))
    assert len(rig.gates.registry.kind(Kind.DNS).all()) <= 256
