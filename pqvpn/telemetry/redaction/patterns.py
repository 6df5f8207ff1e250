"""What a secret looks like in a text, whatever it is the secret of.

Owns the patterns: PEM and key blocks, long base64 and hexadecimal in every alphabet, bytes as Python, JSON, URLs or dumps
show them, authorization headers, assignments to names such as `token`, JWTs, user names and passwords in URLs. Knows nothing
of records, keys or addresses.

A text may come from a hostile peer. It is cut to `LIMIT` characters first, and each pattern is linear in what is left: a
repetition is possessive or bounded, and what may follow it begins with a character that it does not take.
"""

import re

from pqvpn.telemetry.redaction.words import is_ordinary

REDACTED = "<redacted>"
LIMIT = 8192
"""Characters that are looked at; the rest of a text is left out."""
CUT = " <cut>"

_BLOCK = re.compile(r"-----BEGIN [^\r\n]{1,64}?-----(?:[^-]|-(?!----END ))*+(?:-----END [^\r\n]{1,64}?-----|-?\Z|-*)")
_ODD = re.compile("[^\t\n\r\x20-\x7e\xa1-\ud7ff\ue000-\ufffc\U00010000-\U0010ffff]")
_HIGH = re.compile("[\x80-\xff]")
_SYMBOL = re.compile("[\xa1-\xbf\xd7\xf7]")
_ESCAPE = re.compile(r"\\{1,8}(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[0-3][0-7]{2})")
_PERCENT = re.compile(r"%(?!3[Aa])[0-9A-Fa-f]{2}")  # but for colons, of which an address has many
_QUOTED = r"(?:'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|\"(?:[^\"\\]|\\.)*+(?:\"|\\?\Z))"
_BYTES = re.compile(rf"(?<![A-Za-z0-9_])[bB][rR]?{_QUOTED}", re.DOTALL)
_NAMES = (
    r"(?:password|passwd|passphrase|pwd|secret|token|psk|api[_-]?key|credentials?|seed|dsn"
    r"|(?:private|network|secret|access|session|signing|encryption|static|shared|master|preshared)[_ -]?key)"
)
_VALUE = rf"(?:\\{{1,4}}\"[^\"]*+(?:\"|\Z)|[bBrRuU]{{0,2}}{_QUOTED}|[^\s\"',;&)\]}}]++)"
_ASSIGNED = re.compile(
    rf"({_NAMES}\\{{0,4}}[\"']?\]?\s{{0,4}}(?:=>|:=|[:=])\s{{0,4}}){_VALUE}", re.IGNORECASE | re.DOTALL
)
_KEY = re.compile(r"((?<![A-Za-z_])key\\{0,4}[\"']?\s{0,4}[:=]\s{0,4}[\"']?)([^\s\"',;&)\]}]{16,}+)", re.IGNORECASE)
_HEADER = re.compile(
    r"((?:(?:proxy-)?authorization\\{0,4}[\"']?\s{0,4}[:=]|(?:set-)?cookie:)\s{0,4}+)[^\r\n]++", re.IGNORECASE
)
_BEARER = re.compile(r"(bearer\s{1,4})(?!tokens?\b|auth)[^\s\"',;]++", re.IGNORECASE)
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}+(?:\.[A-Za-z0-9_-]*+){1,4}")
_HINTS = (
    "passw", "passphrase", "pwd", "secret", "token", "psk", "key", "credential", "seed", "dsn", "authorization", "cookie",
    "bearer",
)  # fmt: skip
_LINES = r"={0,2}(?:\r?\n[A-Za-z0-9+/=_-]{1,128}+(?=\s|\Z))*+={0,2}"
_LONG = re.compile(rf"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{{33,}}+{_LINES}")
_ESCAPED = r"%(?:2[BFbf]|3[Dd])|\\{1,4}/|\\{1,4}n"
_LONG_ESCAPED = re.compile(rf"(?<![A-Za-z0-9+/_-])(?:[A-Za-z0-9+/_=-]|{_ESCAPED}){{33,}}+")
_DUMPS = (
    # (what such a dump has at least, how often; its pattern): most texts have no such thing and are not searched
    (":", 11, re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){11,}+")),
    ("-", 11, re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2}){11,}+")),
    (" ", 11, re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{2}(?: [0-9A-Fa-f]{2}){11,}+")),
    (" ", 7, re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{4}(?: [0-9A-Fa-f]{4}){7,}+")),
    ("0x", 12, re.compile(r"0x[0-9A-Fa-f]{1,2}(?:(?:, ?| )0x[0-9A-Fa-f]{1,2}){11,}+")),
    (".", 20, re.compile(r"(?<![0-9A-Fa-f.])(?:[0-9A-Fa-f]\.){20,}+[0-9A-Fa-f]?")),  # nibbles, as in ip6.arpa
)
_NUMBERS = re.compile(r"(?<![\d.])\d{1,3}(?:, ?\d{1,3}){15,}+")
_USER = re.compile(r"(?<=://)[^\s\"']{1,2048}")
_LEAST, _GAP = 4, 32
_BYTE_LIST = 16
_DISTINCT = 13  # of 16 random bytes fewer than 13 are distinct once in a million times; counts repeat


def redact(text: str) -> str:
    """The text without what looks like a secret. At most `LIMIT` characters are kept."""
    text = cut(text)
    if not (text.isascii() and text.isprintable()):
        text = _binary(text)
    if "-----BEGIN" in text:
        text = _BLOCK.sub(REDACTED, text)
    text = _named(text)
    if "'" in text or '"' in text:
        text = _BYTES.sub(REDACTED, text)
    if "\\" in text:
        text = _clusters(_ESCAPE, text)
    if "%" in text:
        text = _clusters(_PERCENT, text)
    return _dumps(_long(text))


def cut(text: str) -> str:
    """The text's beginning. What the cut would tear goes with it: half a secret looks like nothing."""
    if len(text) <= LIMIT:
        return text
    head = text[: LIMIT - len(CUT)]
    end = max(head.rfind(separator) for separator in ' \n\t",')
    return head[: end + 1] + CUT


def is_byte_list(values: list[object] | tuple[object, ...]) -> bool:
    """Whether a sequence is the numbers of random bytes."""
    if len(values) < _BYTE_LIST or not all(type(v) is int and 0 <= v <= 255 for v in values):
        return False
    return len(set(values)) >= _DISTINCT


def _binary(text: str) -> str:
    """Without the stretch that holds bytes read as characters: controls, surrogates, or much of Latin-1 close together."""
    odd = _ODD.search(text)
    high = [m.start() for m in _HIGH.finditer(text)]
    if odd is None:
        dense = len(high) >= 6 and len(high) * 6 >= high[-1] - high[0] and len(_SYMBOL.findall(text)) >= 2
        return _without(text, [(high[0], high[-1] + 1)]) if dense else text
    places = [m.start() for m in _ODD.finditer(text)] + high
    return _without(text, [(min(places), max(places) + 1)])


def _clusters(pattern: re.Pattern[str], text: str) -> str:
    """Without the stretches where matches stand close together, as random bytes have them and prose has not."""
    groups: list[list[int]] = []  # [start, end, matches]
    for match in pattern.finditer(text):
        if groups and match.start() - groups[-1][1] <= _GAP:
            groups[-1][1] = match.end()
            groups[-1][2] += 1
        else:
            groups.append([match.start(), match.end(), 1])
    return _without(text, [(start, end) for start, end, count in groups if count >= _LEAST])


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    """Without these spans, in ascending order, and the rest of the words at their edges."""
    parts: list[str] = []
    done = 0
    for start, end in spans:
        while start > done and not text[start - 1].isspace():
            start -= 1
        while end < len(text) and not text[end].isspace():
            end += 1
        if start >= done:
            parts += text[done:start], REDACTED
        done = max(done, end)
    return "".join((*parts, text[done:]))


def _named(text: str) -> str:
    """Without values whose name says that they are secret."""
    if "eyJ" in text:
        text = _JWT.sub(REDACTED, text)
    if "://" in text:
        text = _USER.sub(_url, text)
    low = text.lower()
    if not any(hint in low for hint in _HINTS):
        return text
    text = _HEADER.sub(rf"\1{REDACTED}", text)
    text = _BEARER.sub(rf"\1{REDACTED}", text)
    text = _ASSIGNED.sub(rf"\1{REDACTED}", text)
    return _KEY.sub(lambda m: m[0] if is_ordinary(m[2]) else m[1] + REDACTED, text)


def _url(match: re.Match[str]) -> str:
    """What follows `://`, without user, password and query."""
    rest = match[0]
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if not at and "@" in rest:
        user, at, _ = rest.rpartition("@")  # a password with a slash in it
    rest = f"{REDACTED}@{rest[len(user) + 1 :]}" if at else rest
    place, mark, _ = rest.partition("?")
    return f"{place}?{REDACTED}" if mark else rest


def _long(text: str) -> str:
    if len(text) < 33:
        return text
    if "%" in text or "\\" in text:
        text = _LONG_ESCAPED.sub(_unless_ordinary, text)
    return _LONG.sub(_unless_ordinary, text)


def _unless_ordinary(match: re.Match[str]) -> str:
    return match[0] if is_ordinary(match[0]) else REDACTED


def _dumps(text: str) -> str:
    if len(text) < 33:
        return text
    for mark, least, pattern in _DUMPS:
        if text.count(mark) >= least:
            text = pattern.sub(REDACTED, text)
    if text.count(",") >= _BYTE_LIST - 1:
        text = _NUMBERS.sub(_unless_counts, text)
    return text


def _unless_counts(match: re.Match[str]) -> str:
    numbers: list[object] = [int(part) for part in match[0].split(",")]
    return REDACTED if is_byte_list(numbers) else match[0]
