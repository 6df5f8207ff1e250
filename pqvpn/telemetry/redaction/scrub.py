"""The redactor: everything that is recorded, shown or sent passes through one.

Owns the walk through a value: fields by allow-list, texts by patterns and addresses, anything of a type that is not known
as `<redacted>`. It never raises: what cannot be handled is left out. Knows nothing of OpenTelemetry (`otel.py`) or sinks.
What it gave out passes through again unchanged.
"""

import dataclasses
import datetime
import ipaddress
import re
from collections.abc import Callable, Collection, Mapping, Set
from enum import Enum
from functools import cache, lru_cache, partial
from pathlib import PurePath
from typing import Any, NamedTuple

from pqvpn.telemetry.redaction import addresses, exceptions, patterns
from pqvpn.telemetry.redaction.allowed import ALLOWED, HOSTS, VERSIONS
from pqvpn.telemetry.redaction.patterns import REDACTED
from pqvpn.telemetry.redaction.policy import Policy
from pqvpn.telemetry.redaction.pseudonyms import Pseudonyms

DEEPEST = 16
MOST = 4096
"""Elements of one container; the rest is left out."""
_PASSES = 5
_SHORT = 96
_REMEMBERED = 4096
_WIDEST = 1 << 64  # counters and nanoseconds are below, keys as numbers are not
_ID = re.compile(r"[0-9a-f]{16}|[0-9a-f]{32}")  # of spans, traces and sessions: new ones all the time, and public
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)
_VERSION = re.compile(r"(?!\d+(?:\.\d+){3}\Z)[A-Za-z0-9.+~_-]{1,32}", re.ASCII)  # and no bare address
_TOLD_AS_TEXT = (
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network, ipaddress.IPv4Interface,
    ipaddress.IPv6Interface, PurePath, datetime.date, datetime.time, datetime.timedelta,
)  # fmt: skip


def without_secrets(text: str) -> str:
    """For the operator who asks: keys and tokens are left out, addresses and names stay. Never raises."""
    return _for_operators().text(text)


@cache
def _for_operators() -> "Redactor":
    return Redactor(Policy("keep"))


class _Known(NamedTuple):
    """What follows from the hosts of a policy: all of it is replaced at once, since other threads redact meanwhile."""

    hosts: Collection[str]
    pattern: re.Pattern[str] | None
    short: Callable[[str], str]


class Redactor:
    """Makes records safe to leave the process. `allowed`: the fields whose values are told."""

    def __init__(self, policy: Policy, allowed: frozenset[str] = ALLOWED) -> None:
        self.policy = policy
        self.allowed = allowed
        self._names = Pseudonyms(policy)
        self._known = self._know(policy.hosts)

    def learn(self, hosts: Collection[str]) -> None:
        """The configuration has these hosts now: for every redactor with this one's policy."""
        self.policy.learn(hosts)

    def text(self, text: str) -> str:
        """A text for people: a message, a name, a line."""
        try:
            exact = text if type(text) is str else str.__str__(text)
            if _ID.fullmatch(exact):
                return exact
            known = self._known
            if known.hosts is not self.policy.hosts:
                known = self._known = self._know(self.policy.hosts)
            return known.short(exact) if len(exact) <= _SHORT else self._of_text(known.pattern, exact)
        except Exception:  # noqa: BLE001 - fails closed
            return REDACTED

    def value(self, name: str, value: Any) -> Any:
        """The value of the field `name`, of any type."""
        try:
            return self._of_field(name, value, 0)
        except Exception:  # noqa: BLE001 - fails closed
            return REDACTED

    def body(self, value: Any) -> Any:
        """A value without a name: the body of a log record, a line's arguments. Mappings in it go by the allow-list."""
        try:
            return self._of(value, 0)
        except Exception:  # noqa: BLE001 - fails closed
            return REDACTED

    def fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A record's fields by name."""
        try:
            return self._of_mapping(fields, 0)
        except Exception:  # noqa: BLE001 - fails closed
            return {}

    def name(self, name: Any) -> str:
        """A field's name: as it is when it is one of ours or looks like one."""
        if name in self.allowed:
            return str(name)
        known = type(name) is str and _KEY.fullmatch(name) and self.text(name) == name
        return name if known else REDACTED

    def exception(self, error: BaseException) -> str:
        """An exception by types and places."""
        try:
            return self.text(exceptions.describe(error))
        except Exception:  # noqa: BLE001 - fails closed
            return REDACTED

    def stack_trace(self, text: str) -> str:
        """A stack trace that was written out: frames and types, without texts and lines of source."""
        try:
            return self.text(exceptions.stack_trace(text[: patterns.LIMIT * 4])) or REDACTED
        except Exception:  # noqa: BLE001 - fails closed
            return REDACTED

    def _know(self, hosts: Collection[str]) -> _Known:
        pattern = addresses.known(hosts)
        return _Known(hosts, pattern, lru_cache(_REMEMBERED)(partial(self._of_text, pattern)))

    def _of_text(self, hosts: re.Pattern[str] | None, text: str) -> str:
        """What one pass leaves may stand together as something else: passes go on until nothing changes."""
        for _ in range(_PASSES):
            found = patterns.cut(addresses.redact(patterns.redact(text), self._names, hosts))
            if found == text:
                return found
            text = found
        return REDACTED

    def _of_field(self, name: str, value: Any, depth: int) -> Any:
        if name not in self.allowed:
            return REDACTED
        if type(value) is str:
            if name == "exception.message":
                return REDACTED
            if name == "exception.stacktrace":
                return self.stack_trace(value)
            if name in VERSIONS and _VERSION.fullmatch(value):
                return patterns.redact(value)
            found = self.text(value)
            return addresses.whole(found, self._names) if name in HOSTS else found
        return self._of(value, depth)

    def _of(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return self.text(value)
        if kind is int:
            return value if -_WIDEST < value < _WIDEST else REDACTED
        if value is None or kind is bool or kind is float:
            return value
        if depth >= DEEPEST:
            return REDACTED
        if kind is dict or isinstance(value, Mapping):
            return self._of_mapping(value, depth + 1)
        if isinstance(value, list | tuple | Set):
            return self._of_sequence(value, depth + 1)
        return self._of_object(value, depth)

    def _of_mapping(self, fields: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in fields.items():
            if len(found) >= MOST:
                break
            found[self.name(name)] = self._of_field(name, value, depth) if type(name) is str else REDACTED
        return found

    def _of_sequence(self, values: Any, depth: int) -> Any:
        if isinstance(values, Set):
            return sorted((self._of(each, depth) for each in list(values)[:MOST]), key=str)
        if patterns.is_byte_list(values):
            return REDACTED
        found = [self._of(each, depth) for each in values[:MOST]]
        return tuple(found) if isinstance(values, tuple) else found

    def _of_object(self, value: Any, depth: int) -> Any:
        """Types of which it is known what their text says; no other object's `__str__` is asked."""
        if isinstance(value, BaseException):
            return self.exception(value)
        if isinstance(value, Enum):
            return self._of(value.value, depth + 1)
        if isinstance(value, _TOLD_AS_TEXT):
            return self.text(str(value))
        if isinstance(value, str):
            return self.text(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            own = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
            return self._of_mapping(own, depth + 1)
        return REDACTED
