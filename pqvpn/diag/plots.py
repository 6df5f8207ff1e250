"""Small plots of text: sparklines, shares of a line as bars, states over time.

Owns the glyphs; `ascii_only` is their translation for terminals that have no others. Pure.
"""

from collections.abc import Sequence

_LEVELS = "▁▂▃▄▅▆▇█"
_BAR, _TICK = "━", "·"
ASCII = str.maketrans(
    {**dict(zip(_LEVELS, ".:-=+*#@", strict=True)), _BAR: "=", _TICK: ".", "└": "`", "├": "|", "│": "|", "─": "-"}
)
STATES = {"up": "█", "stale": "▅", "connecting": "▃", "down": "▁"}


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Values over time in at most `width` columns, each column the largest of its share; nothing known is a blank."""
    columns = thinned(values, width)
    known = [value for value in columns if value is not None]
    if not known:
        return " " * len(columns)
    low, high = min(0.0, *known), max(known)
    span = high - low or 1.0
    top = len(_LEVELS) - 1
    return "".join(" " if v is None else _LEVELS[round((v - low) / span * top)] for v in columns)


def thinned(values: Sequence[float | None], width: int) -> list[float | None]:
    """At most `width` values: the largest of each run of neighbours."""
    if len(values) <= width:
        return list(values)
    found: list[float | None] = []
    for place in range(width):
        run = [v for v in values[place * len(values) // width : (place + 1) * len(values) // width] if v is not None]
        found.append(max(run, default=None))
    return found


def bar(start: float, end: float, width: int) -> str:
    """A stretch of the whole (0 to 1) as a bar; at least one column, so that what was short is seen."""
    first = min(int(max(start, 0.0) * width), width - 1)
    length = max(1, round(min(end, 1.0) * width) - first)
    return (" " * first + _BAR * length).ljust(width)[:width]


def states(segments: Sequence[tuple[float, str]], begin: float, end: float, width: int) -> str:
    """A state's changes (time, state), oldest first, as `width` columns from `begin` to `end`; the worst in a column."""
    order = list(STATES)
    columns = []
    step = (end - begin) / width
    for place in range(width):
        low, high = begin + place * step, begin + (place + 1) * step
        within = [state for time, state in segments if low <= time < high]
        before = next((state for time, state in reversed(segments) if time < low), "")
        seen = [state for state in (before, *within) if state in STATES]
        columns.append(STATES[max(seen, key=order.index)] if seen else " ")
    return "".join(columns)


def marks(times: Sequence[float], begin: float, end: float, width: int, glyph: str) -> str:
    """A glyph where something happened; a number where it happened several times, `+` above nine."""
    counts = [0] * width
    for time in times:
        if begin <= time <= end:
            counts[min(int((time - begin) / ((end - begin) or 1.0) * width), width - 1)] += 1
    return "".join(" " if not n else glyph if n == 1 else str(n) if n < 10 else "+" for n in counts)
