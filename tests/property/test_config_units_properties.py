"""Units: what is written is read back, and no text makes them raise anything but ValueError."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from pqvpn.config import units

NUMBERS = st.from_regex(r"[0-9]{0,14}(\.[0-9]{0,8})?(ms|[smhdB]|[kKMGT]i?B)?", fullmatch=True)


@given(st.integers(0, 10**12))
def test_duration_round_trip(milliseconds: int) -> None:
    text = units.format_duration(milliseconds / 1000)
    if len(text.rstrip("dhms")) <= 9:
        assert units.parse_duration(text) == milliseconds / 1000


@given(st.integers(0, 10**12 - 1))
def test_size_round_trip(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == size


@given(st.text() | NUMBERS)
def test_only_value_errors(text: str) -> None:
    with suppress(ValueError):
        assert units.parse_duration(text) >= 0
    with suppress(ValueError):
        assert units.parse_size(text) >= 0


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d"]), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_longer_units_are_longer(count: int, one: str, other: str) -> None:
    order = ["ms", "s", "m", "h", "d"]
    shorter, longer = sorted((one, other), key=order.index)
    assert units.parse_duration(f"{count}{shorter}") <= units.parse_duration(f"{count}{longer}")
