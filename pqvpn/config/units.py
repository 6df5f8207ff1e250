"""Human units: durations such as "90s" and sizes such as "64MiB".

Owns the two grammars and their inverses. Knows nothing of settings or ranges. A bare number is refused: a unit that
has to be guessed is a unit that gets guessed wrong.
"""

import re
from decimal import Decimal

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)", re.ASCII)

_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}


def parse_duration(text: str) -> float:
    """Seconds of a duration: a number, directly followed by ms, s, m, h or d ("250ms", "90s", "1.5h").

    Raises ValueError with a sentence for the operator.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'{text!r} is not a duration: write a number and its unit, such as "90s", "250ms" or "5m"')
    return float(Decimal(match[1]) * _SECONDS[match[2]])


def format_duration(seconds: float) -> str:
    """The shortest text without a fraction that `parse_duration` reads back; rounds to milliseconds."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        size = int(_SECONDS[unit] * 1000)
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def parse_size(text: str) -> int:
    """Bytes of a size: a number, directly followed by B, KiB, MiB, GiB, TiB (powers of 1024) or kB, MB, GB, TB.

    Raises ValueError with a sentence for the operator; also when the result is not a whole number of bytes.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f'{text!r} is not a size: write a number and its unit, such as "64MiB" or "1500B"')
    size = Decimal(match[1]) * _BYTES[match[2]]
    if size != size.to_integral_value():
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def format_size(size: int) -> str:
    """The exact size in the largest power of 1024 that divides it; `parse_size` reads it back."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"
