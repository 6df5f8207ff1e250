"""Roaming: budget, one challenge, response from the right address, fall back."""

import itertools

import pytest

from pqvpn.protocol.effects import KIND_CONTROL, MoveEndpoint, SendFrame
from pqvpn.protocol.paths import Path
from pqvpn.protocol.settings import Timers
from pqvpn.protocol.unvalidated import CONTROL_PACKET, earned
from pqvpn.wire.address import Address

OLD, NEW, OTHER = (Address(bytes([192, 0, 2, n]), 1) for n in (1, 2, 3))
T = Timers()


def path() -> Path:
    numbers = itertools.count(1)
    return Path(7, OLD, b"src!", lambda n: next(numbers).to_bytes(n, "little"))


def nonce_of(effects: list[object]) -> bytes:
    (frame,) = [e for e in effects if isinstance(e, SendFrame)]
    assert frame.kind == KIND_CONTROL
    return frame.body[1:]


def test_moves_within_what_is_allowed_and_stays_after_the_answer() -> None:
    p = path()
    effects = p.roamed(NEW, None, 300, 10.0)
    assert effects[0] == MoveEndpoint(7, NEW, None, 300 - 64)
    assert effects[1].to == NEW
    assert p.endpoint == OLD
    moved, after = p.responded(nonce_of(effects), NEW, 10.1)
    assert moved
    assert after == [MoveEndpoint(7, NEW, None, None)]
    assert p.endpoint == NEW
    assert abs((p.rtt or 0) - 0.1) < 1e-9
    assert p.tick(T, 20.0) == []


def test_an_answer_from_elsewhere_or_with_another_nonce_counts_for_nothing() -> None:
    p = path()
    nonce = nonce_of(p.roamed(NEW, None, 100, 10.0))
    assert p.responded(nonce, OLD, 10.1) == (False, [])
    assert p.responded(b"x" * 8, NEW, 10.1) == (False, [])
    assert p.endpoint == OLD
    assert p.responded(nonce, NEW, 10.2)[0]
    assert p.responded(nonce, NEW, 10.3) == (False, [])


def test_falls_back_after_three_seconds_having_repeated_the_challenge_twice() -> None:
    p = path()
    nonce = nonce_of(p.roamed(NEW, None, 1000, 10.0))
    seen = []
    while (at := p.deadline(T)) < float("inf"):
        seen.append((round(at - 10.0, 3), p.tick(T, at)))
    assert [t for t, _ in seen] == [1.0, 2.0, 3.0]
    assert nonce_of(seen[0][1]) == nonce_of(seen[1][1]) == nonce
    assert seen[2][1] == [MoveEndpoint(7, OLD, b"src!", None)]


@pytest.mark.parametrize("size", [48, 64, 100, 150, 200, 1472])
def test_data_challenge_repeats_and_an_answer_are_at_most_three_times_what_came(size: int) -> None:
    p = path()
    move, challenge = p.roamed(NEW, None, earned(1, size), 10.0)
    assert isinstance(move, MoveEndpoint)
    frames = [challenge]
    while (at := p.deadline(T)) < 13.0:
        frames += p.tick(T, at)
    assert at == 13.0
    assert move.budget is not None
    assert move.budget + CONTROL_PACKET * (len(frames) + 1) <= max(3 * size, 2 * CONTROL_PACKET)


def test_one_challenge_outstanding_the_newest_address_wins() -> None:
    p = path()
    first = nonce_of(p.roamed(NEW, None, 100, 10.0))
    assert p.roamed(NEW, None, 100, 10.1) == []
    second = nonce_of(p.roamed(OTHER, None, 100, 10.2))
    assert p.responded(first, NEW, 10.3) == (False, [])
    assert p.responded(second, OTHER, 10.3)[0]


def test_coming_back_cancels_the_challenge() -> None:
    p = path()
    nonce = nonce_of(p.roamed(NEW, None, 100, 10.0))
    assert p.roamed(OLD, None, 100, 10.1) == [MoveEndpoint(7, OLD, b"src!", None)]
    assert p.responded(nonce, NEW, 10.2) == (False, [])


def test_addresses_that_change_too_fast_are_not_followed() -> None:
    p = path()
    moves = [p.roamed(Address(bytes([10, 0, 0, n]), 1), None, 50, 10.0) for n in range(30)]
    assert sum(isinstance(e, SendFrame) for m in moves for e in m) == 10
    assert moves[-1] == [MoveEndpoint(7, OLD, b"src!", None)]


def test_responses_are_rationed() -> None:
    p = path()
    answers = [p.challenged(b"n" * 8, NEW, b"here", 10.0 + i / 100) for i in range(100)]
    given = [a for a in answers if a is not None]
    assert 10 <= len(given) <= 20
    assert given[0] == [SendFrame(7, KIND_CONTROL, b"\x02" + b"n" * 8, 0, NEW, b"here")]


def test_the_round_trip_is_measured_now_and_then_and_smoothed() -> None:
    p = path()
    first = p.measure(T, 10.0)
    assert p.measure(T, 10.1) == []
    assert p.responded(nonce_of(first), OLD, 10.2) == (False, [])
    assert p.measure(T, 14.9) == []
    second = p.measure(T, 15.0)
    p.responded(nonce_of(second), OLD, 15.6)
    assert p.rtt is not None
    assert 0.2 < p.rtt < 0.3


def test_a_lost_measurement_moves_nothing() -> None:
    p = path()
    p.measure(T, 10.0)
    assert p.tick(T, 13.0) == []
    assert p.measure(T, 15.0)
