"""Token buckets, the table of buckets and the memory of keys against naive models."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pqvpn.protocol.limits import BucketTable, CookieMode, SeenKeys, TokenBucket

gaps = st.floats(0, 3, allow_nan=False)


@given(st.lists(gaps, max_size=80), st.sampled_from([(20.0, 8.0), (1.0, 1.0), (200.0, 200.0)]))
def test_bucket_never_gives_more_than_burst_plus_rate(steps: list[float], kind: tuple[float, float]) -> None:
    rate, burst = kind
    bucket, now = TokenBucket(rate, burst, 0.0), 0.0
    taken: list[float] = []
    for gap in steps:
        now += gap
        if bucket.take(now):
            taken.append(now)
        # in every window that ends now, no more went out than the burst and what the rate gave meanwhile
        for i, since in enumerate(taken):
            assert len(taken) - i <= burst + rate * (now - since) + 1e-6


@given(st.lists(gaps, min_size=1, max_size=40))
def test_bucket_gives_whenever_the_model_has_a_token(steps: list[float]) -> None:
    bucket, now, tokens = TokenBucket(2.0, 4.0, 0.0), 0.0, 4.0
    for gap in steps:
        now, tokens = now + gap, min(4.0, tokens + gap * 2.0)
        if abs(tokens - 1.0) < 1e-9:
            return  # too close to call in floating point
        assert bucket.take(now) == (tokens >= 1.0)
        tokens -= tokens >= 1.0


def test_a_clock_that_runs_backwards_gives_nothing() -> None:
    bucket = TokenBucket(10.0, 1.0, 100.0)
    assert bucket.take(100.0)
    assert not bucket.take(1.0)
    assert not bucket.take(100.0)
    assert bucket.take(100.2)


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), max_size=200))
def test_table_is_bounded_and_forgets_the_least_recently_used(keys: list[int]) -> None:
    table = BucketTable(0.0, 1.0, capacity=8)
    recent: list[int] = []
    for key in keys:
        known = key in recent
        assert table.take(bytes([key]), 0.0) == (not known)  # with no refill only a forgotten key has a token
        if known:
            recent.remove(key)
        recent = [*recent, key][-8:]
        assert len(table) == len(recent)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), gaps), max_size=100))
def test_seen_keys_agree_with_a_model(steps: list[tuple[int, float]]) -> None:
    seen, model, now = SeenKeys(lifetime=5.0, capacity=6), dict[int, float](), 0.0
    for key, gap in steps:
        now += gap
        model = {k: end for k, end in model.items() if end > now}
        fresh = key not in model
        assert seen.add(bytes([key]), now) == fresh
        if fresh:
            if len(model) >= 6:
                del model[min(model, key=lambda k: model[k])]
            model[key] = now + 5.0
        assert len(seen) <= 6


def test_cookie_mode_holds_after_the_last_trigger() -> None:
    mode = CookieMode(1.0)
    assert not mode.active(0.0)
    mode.trigger(5.0)
    mode.trigger(4.0)
    assert mode.active(5.9)
    assert not mode.active(6.0)
