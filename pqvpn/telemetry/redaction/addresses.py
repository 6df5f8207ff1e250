"""Addresses, host names and peer IDs wherever they stand in a text.

Owns finding them: IPv4 and IPv6 in every textual form (mapped, scoped, in brackets, with port or prefix length), hosts of
URLs, `name:port`, names that are known, peer IDs. What they become is `pseudonyms.py`. Times, MAC addresses, versions and
`file:line` are not addresses. Every pattern reads a text once, or looks ahead by a bounded number of characters.
"""

import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache

from pqvpn.telemetry.redaction.pseudonyms import MADE, MASK, Pseudonyms

_PEER_ID = re.compile(r"pqvpn1[02-9ac-hj-np-z]{58}", re.IGNORECASE)
_V6 = re.compile(
    r"(?P<open>\[)?(?:(?<![0-9A-Za-z])(?<!\d\.)|(?<=\\[nrt]))"  # also behind an escaped line end
    r"(?P<body>[0-9A-Fa-f]{0,4}+:(?=[0-9A-Fa-f.]{0,39}:)[0-9A-Fa-f:.]++)"
    r"(?P<zone>%(?:25)?[0-9A-Za-z_.-]{1,15})?(?P<close>\](?=:\d))?"
)
_V4 = re.compile(r"(?<!\d)(?<!\d\.)\d{1,3}(?:\.\d{1,3}){3}(?!\d)(?!\.\d+\.\d)")
_RELEASE = re.compile(r"(?:^|[^A-Za-z])[vV]$")
_URL_HOST = re.compile(r"(?:(?<=://)|(?<=://<redacted>@))[^\s/?#:@\[\]<>\"'\\,;()]{1,255}+")
_NAME_PORT = re.compile(
    r"(?<![\w.-])(?:[A-Za-z0-9_][A-Za-z0-9_-]{0,62}+\.){1,32}[A-Za-z][A-Za-z0-9-]{1,62}+\.?(?=:\d{1,5}(?![\w:]))"
)
_FILES = frozenset(
    ("py", "pyc", "pyi", "pyx", "so", "rs", "go", "js", "toml", "json", "jsonl", "log", "sock", "key", "pem", "conf", "cfg",
     "pqcard", "psk", "service", "md", "txt", "sh", "gz", "yaml", "yml")
)  # fmt: skip
_GROUPS = 8
_LONGEST = 45  # of an IPv6 address with four numbers at its end
_PUNCTUATION = 4
"""Characters behind an address that may be a sentence's."""


def redact(text: str, names: Pseudonyms, hosts: re.Pattern[str] | None = None) -> str:
    """The text with every address, host and peer ID as the policy says. `hosts`: a pattern of names known (`known`)."""
    if names.keep:
        return text
    if "qvpn1" in text or "QVPN1" in text:
        text = _PEER_ID.sub(lambda m: names.peer_id(m[0]), text)
    if "%3" in text:
        text = text.replace("%3A", ":").replace("%3a", ":")
    if text.count(":") >= 2:
        text = _V6.sub(lambda m: _v6(m, names), text)
    if text.count(".") >= 3:
        text = _V4.sub(lambda m: _v4(m, names), text)
    if "://" in text:
        text = _URL_HOST.sub(lambda m: names.host(m[0]), text)
    if ":" in text and "." in text:
        text = _NAME_PORT.sub(lambda m: _name(m[0], names), text)
    return hosts.sub(lambda m: names.host(m[0]), text) if hosts else text


def whole(text: str, names: Pseudonyms) -> str:
    """A text that is a host, or host:port, by the meaning of its field."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()):
        host, colon, port = text, "", ""
    bare = host.strip("[]").partition("%")[0]
    return text if MADE.fullmatch(bare) or _is_address(bare) else f"{names.host(host)}{colon}{port}"


def known(hosts: Collection[str]) -> re.Pattern[str] | None:
    """A pattern of host names; None when there are none."""
    wanted = sorted({h.rstrip(".") for h in hosts if len(h) > 1 and not _is_address(h)}, key=len, reverse=True)
    if not wanted:
        return None
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, wanted))})(?![\w-])", re.IGNORECASE)


@lru_cache(1024)
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _v6(match: re.Match[str], names: Pseudonyms) -> str:
    body, zone = match["body"], match["zone"] or ""
    found = _begins_with_address(body)
    if found is None:
        looks_so = "::" in body or body.count(":") >= _GROUPS - 1
        return f"{match['open'] or ''}{MASK['ip6']}{zone}{match['close'] or ''}" if looks_so else match[0]
    shown, rest = names.address(found), body[len(found) :]
    if match["open"] and match["close"] and shown != found:  # brackets are for the colons of IPv6, a pseudonym has none
        return f"{shown}{zone}"
    return f"{match['open'] or ''}{shown}{rest}{zone}{match['close'] or ''}"


def _begins_with_address(body: str) -> str | None:
    """The address that `body` is but for punctuation or a port behind it."""
    punctuation = len(body) - len(body.rstrip(".:"))
    ends = [body[: len(body) - cut] for cut in range(min(punctuation, _PUNCTUATION) + 1)]
    for each in (*ends, *(end.rpartition(":")[0] for end in ends)):
        if ":" in each and len(each) <= _LONGEST and _is_address(each):
            return each
    return None


def _v4(match: re.Match[str], names: Pseudonyms) -> str:
    octets = [int(part) for part in match[0].split(".")]
    if max(octets) > 255 or _RELEASE.search(match.string, max(0, match.start() - 2), match.start()):
        return match[0]
    return names.address(".".join(map(str, octets)))


def _name(found: str, names: Pseudonyms) -> str:
    """Of `name:port`. Two parts of which the last is a file's suffix are `file:line`."""
    labels = found.rstrip(".").split(".")
    return found if len(labels) == 2 and labels[-1].lower() in _FILES else names.host(found)
