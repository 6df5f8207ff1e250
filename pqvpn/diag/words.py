"""Times, spans of time, sizes and lines in words: what all texts of `diag` share.

Owns their format. Times are UTC, as in the log, so that the two can be laid side by side. Pure.
"""

import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

WIDTH = 80
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def age(seconds: float) -> str:
    """A span of time in at most two units: "4 s", "3 m 20 s", "2 d 5 h"."""
    left = int(max(seconds, 0))
    if not left:
        return "0 s"
    words = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            words.append(f"{count} {unit}")
    return " ".join(words[:2])


def ago(seconds: float) -> str:
    """The same, of the past: "just now", "37 m ago"."""
    return "just now" if seconds < 1 else f"{age(seconds)} ago"


def duration(seconds: float) -> str:
    """How long something took, three digits: "840 us", "12.3 ms", "1.25 s", "3 m 20 s"."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else age(seconds)


def size(value: float) -> str:
    """Bytes: "812 B", "1.5 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1000 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def utc(time: float) -> datetime:
    """The moment, in UTC; one that no calendar knows becomes the epoch."""
    try:
        return datetime.fromtimestamp(time, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)


def rfc3339(time: float) -> str:
    """The moment as JSON has it."""
    return utc(time).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(told: Any) -> float | None:
    """Unix seconds of an RFC 3339 text or a number; None when it is neither."""
    if isinstance(told, str):
        try:
            return datetime.fromisoformat(told).timestamp()
        except (ValueError, OverflowError):
            return None
    return float(told) if isinstance(told, int | float) and not isinstance(told, bool) and told > 0 else None


def clock(time: float, now: float) -> str:
    """The moment for people: with its date when it is not within the 20 hours before `now`."""
    form = "%H:%M:%S" if 0 <= now - time < 72000 else "%Y-%m-%d %H:%M:%S"
    return utc(time).strftime(form)


def plural(count: int, word: str) -> str:
    """ "1 peer", "3 peers"."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def times(count: float) -> str:
    """ "once", "12 times"."""
    return "once" if count == 1 else f"{count:.0f} times"


def listed(words: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *most, last = list(words) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def paragraph(text: str, label: str = "", width: int = WIDTH, indent: int = 9) -> list[str]:
    """`text` wrapped beside a label of at most `indent` columns."""
    first, rest = label.ljust(indent), " " * indent
    lines = textwrap.wrap(
        clean(text), width, initial_indent=first, subsequent_indent=rest, break_long_words=True, break_on_hyphens=False
    )
    return lines or [label]


def clean(text: str) -> str:
    """Text that a terminal cannot be steered by: what comes from a store or a bundle may be anybody's."""
    return "".join(c if c.isprintable() else "?" for c in text.replace("\n", " ").replace("\t", " "))


def columns(rows: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Rows as aligned columns; the last one is not padded."""
    if not rows:
        return []
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [gap.join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def cut(text: str, width: int) -> str:
    """Text that fits, with dots where it was cut."""
    return text if len(text) <= width else f"{text[: width - 3].rstrip()}..."
