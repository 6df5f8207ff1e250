"""Waits between tries: they grow to a cap, the jitter is full, good news begins anew."""

from pqvpn.resilience.backoff import Backoff


def test_it_doubles_to_the_cap() -> None:
    waits = Backoff(1.0, 10.0, jitter=lambda longest: longest)
    assert [waits.next() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert waits.tries == 6


def test_good_news_begins_anew_and_tells_how_often_it_failed() -> None:
    waits = Backoff(1.0, 10.0, jitter=lambda longest: longest)
    assert waits.reset() == 0
    for _ in range(4):
        waits.next()
    assert waits.reset() == 4
    assert waits.next() == 1


def test_the_jitter_is_full_and_never_a_busy_loop() -> None:
    waits = Backoff(8.0, 8.0, shortest=0.25)
    seen = [waits.next() for _ in range(2000)]
    assert min(seen) == 0.25
    assert max(seen) > 7.5
    assert 3.5 < sum(seen) / len(seen) < 4.5
