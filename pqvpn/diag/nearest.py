"""What was probably meant: the nearest known names, IDs and codes.

Owns how near is near. Pure.
"""

import difflib
from collections.abc import Iterable

MOST = 5


def nearest(given: str, known: Iterable[str], most: int = MOST) -> list[str]:
    """The known words that are most like the given one, best first; with none alike, the last ones known."""
    unique = list(dict.fromkeys(known))
    lower = {word.lower(): word for word in reversed(unique)}
    alike = difflib.get_close_matches(given.lower(), lower, n=most, cutoff=0.5)
    inside = [word for word in lower if given.lower() in word and word not in alike]
    return [lower[word] for word in [*alike, *inside]][:most] or unique[-most:]


def by_prefix(given: str, known: Iterable[str]) -> list[str]:
    """The known IDs that begin so; a whole one is alone."""
    unique = list(dict.fromkeys(each for each in known if each))
    return [given] if given in unique else [each for each in unique if given and each.startswith(given.lower())]
