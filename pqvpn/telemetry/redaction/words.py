"""Whether a long run of letters and digits is words, a path or an identifier, or else random.

Owns that judgement alone. In random base64 the kind of character changes at every second place; in words it stays. Hexadecimal
up to 32 digits is ordinary: session and trace ids have so many.
"""

import re

_SEPARATOR = re.compile(r"[/_+\-=\r\n.]|%[0-9A-Fa-f]{2}|\\")
_SIMPLE = re.compile(
    r"(?:[a-z]{0,24}|[A-Z]{0,24})[0-9]{0,8}|[0-9a-f]{1,32}|[0-9A-F]{1,32}|[0-9]{1,32}"
    r"|(?i:pqvpn1[02-9ac-hj-np-z]{58})"  # a peer ID, which is public
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_LONGEST = 40
_LETTERS_A_WORD = 4
_NUMBERS = 2


def is_ordinary(run: str) -> bool:
    """Every part of it, between separators, must be ordinary: a long random run has some part that is not."""
    return all(_is_ordinary_part(part) for part in _SEPARATOR.split(run))


def _is_ordinary_part(part: str) -> bool:
    if _SIMPLE.fullmatch(part):
        return True
    words: list[str] = _WORD.findall(part)
    if len(part) > _LONGEST or len(part) < _LETTERS_A_WORD * len(words):
        return False
    return len([word for word in words if word[0].isdigit()]) <= _NUMBERS
