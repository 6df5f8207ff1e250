"""Restart decisions: exit codes, backoff, loops and what ends them."""

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pqvpn.resilience.restarts import Decision, RestartPolicy, Restarts, When

POLICY = RestartPolicy(first=1.0, longest=8.0, burst=3, window=60.0, slow_every=30.0, lived=10.0)


@pytest.mark.parametrize("code", [os.EX_NOPERM, os.EX_CONFIG])
@pytest.mark.parametrize("when", list(When))
def test_some_codes_say_that_a_restart_cannot_help(code: int, when: When) -> None:
    assert Restarts(RestartPolicy(when)).ended(code, 1.0, 0.0) == Decision(None, hopeless=True)


@pytest.mark.parametrize(
    ("when", "code", "again"),
    [
        (When.NEVER, 1, False), (When.NEVER, -signal.SIGKILL, False),
        (When.ON_FAILURE, 0, False), (When.ON_FAILURE, -signal.SIGTERM, False), (When.ON_FAILURE, -signal.SIGINT, False),
        (When.ON_FAILURE, 1, True), (When.ON_FAILURE, 70, True), (When.ON_FAILURE, -signal.SIGSEGV, True),
        (When.ALWAYS, 0, True), (When.ALWAYS, -signal.SIGTERM, True), (When.ALWAYS, 70, True),
    ],
)  # fmt: skip
def test_the_policy_decides_by_the_code(when: When, code: int, again: bool) -> None:
    assert (Restarts(RestartPolicy(when)).ended(code, 100.0, 0.0).wait is not None) is again


def test_what_lived_is_replaced_at_once_every_time() -> None:
    restarts = Restarts(POLICY)
    assert [restarts.ended(70, 100.0, 100.0 * n).wait for n in range(20)] == [0.0] * 20


def test_the_first_early_end_does_not_wait_and_the_next_wait_longer() -> None:
    waits: list[list[float]] = [[], [], []]
    for _ in range(300):
        restarts = Restarts(POLICY)
        for n in range(3):
            waits[n].append(restarts.ended(70, 0.1, float(n)).wait or 0.0)
    assert max(waits[0]) == 0.0
    assert 0 < max(waits[1]) <= 2.0
    assert 2.0 < max(waits[2]) <= 4.0


def test_a_loop_is_told_and_slowed_until_it_lives_again() -> None:
    restarts = Restarts(POLICY)
    decisions = [restarts.ended(-signal.SIGSEGV, 0.1, float(n)) for n in range(5)]
    assert [d.loop for d in decisions] == [False, False, False, True, True]
    assert decisions[-1].wait == 30.0
    assert restarts.ended(70, 0.1, 1000.0) == Decision(30.0, loop=True)  # a half-open try that failed
    assert restarts.ended(70, 50.0, 2000.0) == Decision(0.0)  # one that lived


def test_an_operator_ends_the_loop() -> None:
    restarts = Restarts(POLICY)
    for n in range(5):
        restarts.ended(70, 0.1, float(n))
    restarts.good_news()
    assert restarts.ended(70, 0.1, 6.0) == Decision(0.0)


@given(st.lists(st.tuples(st.sampled_from([0, 1, 70, -9, -11]), st.floats(0, 20), st.floats(0, 100)), max_size=100))
def test_waits_and_memory_are_bounded(ends: list[tuple[int, float, float]]) -> None:
    restarts, now = Restarts(POLICY), 0.0
    for code, lived, pause in ends:
        now += pause
        decision = restarts.ended(code, lived, now)
        assert decision.wait is not None
        assert 0.0 <= decision.wait <= 30.0
        assert len(restarts.ends) <= POLICY.burst + 1
