"""Units: examples of what is read, written and refused. The properties are in tests/property/test_config_units.py."""

import pytest

from pqvpn.config import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90.0), ("5m", 300.0), ("250ms", 0.25), ("1.5h", 5400.0), ("2d", 172800.0), ("0s", 0.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "90", "s", "-1s", "1 s", "1S", "1m30s", ".5s", "5.s", "1e3s", "٣s", "inf", "9999999999s", "1s\n"]
)
def test_refused_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"), [("64MiB", 64 << 20), ("1.5KiB", 1536), ("2kB", 2000), ("0B", 0), ("1TB", 10**12)]
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "64", "64M", "64mib", "-1B", "1.5B", "1 KiB", "1KB", "0.0001KiB"])
def test_refused_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        units.parse_size(text)
