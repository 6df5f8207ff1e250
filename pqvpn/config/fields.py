"""The kinds of values a setting can have: each a strict parser from what TOML gives to what the program uses.

Owns the parsers, and `BadValue`, with which they say what is wrong. Knows nothing of sections, other settings or files.
"""

import ipaddress
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pqvpn.config import units
from pqvpn.config._pydantic import PlainValidator
from pqvpn.reasons import Reason

MTU_LOWEST = 1280  # IPv6 requires it of every link (RFC 8200 section 5)
MTU_HIGHEST = 2040  # a packet of 2^11 bytes is the most the AEAD limits count with (PROTOCOL section 5)
LANES_HIGHEST = 16  # PROTOCOL section 5
KEEPALIVE_SHORTEST = 1.0
KEEPALIVE_LONGEST = 3600.0

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", re.ASCII)  # IFNAMSIZ is 16 with its final zero
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)", re.ASCII)


class BadValue(ValueError):  # noqa: N818 - it never leaves this package; `load` makes a ConfigError of it
    """A value is refused; the text says why, `reason` which code, `remedy` overrides the reason's own."""

    def __init__(self, text: str, reason: Reason = Reason.CONFIG_VALUE, remedy: str = "") -> None:
        super().__init__(text)
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a peer is reached. `ip` is the address when `host` is one, else None: a name to resolve."""

    host: str
    port: int
    ip: IPAddress | None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise BadValue(f"expected {what} in quotes, got {_kind(value)}")
    if "\0" in value:
        raise BadValue("a zero byte is not allowed here")
    return value


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "an array", dict: "a table", str: "text"}
    return names.get(type(value), "a date or time")


def parse_name(value: Any) -> str:
    """A node's or peer's name: letters, digits, `-` and `_`; peers' names are file names, too."""
    text = _text(value, "a name")
    if not _NAME.fullmatch(text):
        raise BadValue(
            f"{text!r} is not a name", remedy="use 1 to 63 letters, digits, - and _, a letter or digit first"
        )
    return text


def parse_interface_name(value: Any) -> str:
    """A name that the kernel takes for an interface."""
    text = _text(value, "an interface name")
    if not _INTERFACE.fullmatch(text):
        raise BadValue(f"{text!r} is not an interface name", remedy="use 1 to 15 letters, digits, -, _ and .")
    return text


def parse_path(value: Any) -> str:
    """A path; relative ones start at the configuration's folder."""
    text = _text(value, "a path")
    if not text:
        raise BadValue("the path is empty")
    return text


def parse_port(value: Any) -> int:
    """A UDP port, 1..65535."""
    return _integer(value, 1, 65535, "a port")


def _integer(value: Any, lowest: int, highest: int, what: str, reason: Reason = Reason.CONFIG_VALUE) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValue(f"expected {what} ({lowest} to {highest}, without quotes), got {_kind(value)}", reason)
    if not lowest <= value <= highest:
        shown = value if abs(value) < 10**9 else "a number"
        raise BadValue(f"{shown} is outside {lowest} to {highest}", reason, f"give {lowest} to {highest}")
    return value


def parse_mtu(value: Any) -> int | None:
    """The interface's MTU in bytes, or None for "auto"."""
    return None if value == "auto" else _integer(value, MTU_LOWEST, MTU_HIGHEST, "an MTU", Reason.CONFIG_MTU)


def parse_lanes(value: Any) -> int | None:
    """The number of lanes, or None for "auto"."""
    return None if value == "auto" else _integer(value, 1, LANES_HIGHEST, "a number of lanes")


def _no_scope(text: str) -> str:
    if "%" in text:
        raise BadValue(
            f"{text!r} names an interface after %, which is not supported", remedy="leave out % and what follows"
        )
    return text


def parse_interface_address(value: Any) -> IPInterface:
    """An address of our own interface with its prefix length, "10.7.0.1/24"."""
    text = _no_scope(_text(value, "an address with its prefix length"))
    if "/" not in text:
        raise BadValue(f"{text!r} lacks a prefix length", remedy='write it like "10.7.0.1/24"')
    try:
        address = ipaddress.ip_interface(text)
    except ValueError:
        raise BadValue(f"{text!r} is not an IP address", remedy='write it like "10.7.0.1/24"') from None
    if address.ip.is_multicast or address.ip.is_unspecified or address.ip.is_loopback:
        raise BadValue(f"{text!r} cannot be the address of an interface")
    return address


def parse_network(value: Any) -> IPNetwork:
    """A range of inner addresses, "10.7.0.2/32"; without a prefix length a single address."""
    text = _no_scope(_text(value, "a range of addresses"))
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadValue(f"{text!r} is not a range of addresses", remedy='write it like "10.7.0.2/32"') from None
    raise BadValue(f"{text!r} has bits behind its prefix length", remedy=f'write "{meant}" for the range')


def parse_endpoint(value: Any) -> Endpoint:
    """HOST:PORT, where HOST is a DNS name, an IPv4 address, or an IPv6 address in brackets."""
    text = _no_scope(_text(value, "an endpoint"))
    match = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([0-9]{1,5})", text, re.ASCII)
    if match is None:
        raise BadValue(
            f"{text!r} is not an endpoint", remedy='write "host:port", IPv6 addresses as "[2001:db8::1]:51820"'
        )
    port = _integer(int(match[3]), 1, 65535, "a port")
    if match[1] is not None:
        return _literal_endpoint(match[1], port)
    host = match[2]
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdigit():  # no top-level domain is a number: this is meant as IPv4
        return _literal_endpoint(host, port)
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadValue(f"{host!r} is neither a host name nor an IP address")
    return Endpoint(host, port, None)


def _literal_endpoint(host: str, port: int) -> Endpoint:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise BadValue(f"{host!r} is not an IP address") from None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_multicast or ip.is_unspecified or ip == ipaddress.IPv4Address("255.255.255.255"):
        raise BadValue(f"{host!r} is not the address of one machine")
    return Endpoint(str(ip), port, ip)


def parse_list(parse: Callable[[Any], Any], most: int) -> Callable[[Any], tuple[Any, ...]]:
    """A parser of arrays of 1 to `most` elements. All bad elements are told, each with its index."""

    def parse_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise BadValue(f"expected an array, got {_kind(value)}", remedy='write it in brackets, like ["..."]')
        if not 1 <= len(value) <= most:
            raise BadValue(f"expected 1 to {most} elements, got {len(value)}")
        good: list[Any] = []
        bad: dict[int, BadValue] = {}
        for index, element in enumerate(value):
            try:
                good.append(parse(element))
            except BadValue as error:
                bad[index] = error
        if bad:
            raise BadElements(bad)
        return tuple(good)

    return parse_all


class BadElements(BadValue):
    """Elements of an array are refused; `bad` tells why, by index."""

    def __init__(self, bad: dict[int, BadValue]) -> None:
        super().__init__("an element is refused")
        self.bad = bad


def duration(shortest: float, longest: float, reason: Reason = Reason.CONFIG_TIMER) -> Callable[[Any], float]:
    """A parser of durations within a range of seconds."""

    def parse(value: Any) -> float:
        text = _text(value, 'a duration such as "90s"')
        try:
            seconds = units.parse_duration(text)
        except ValueError as error:
            raise BadValue(str(error), reason) from None
        if not shortest <= seconds <= longest:
            limits = f"{units.format_duration(shortest)} to {units.format_duration(longest)}"
            raise BadValue(f"{text!r} is outside {limits}", reason, f"give {limits}")
        return seconds

    return parse


def size(smallest: int, largest: int) -> Callable[[Any], int]:
    """A parser of sizes within a range of bytes."""

    def parse(value: Any) -> int:
        text = _text(value, 'a size such as "64MiB"')
        try:
            found = units.parse_size(text)
        except ValueError as error:
            raise BadValue(str(error)) from None
        if not smallest <= found <= largest:
            limits = f"{units.format_size(smallest)} to {units.format_size(largest)}"
            raise BadValue(f"{text!r} is outside {limits}", remedy=f"give {limits}")
        return found

    return parse


def count(smallest: int, largest: int) -> Callable[[Any], int]:
    """A parser of whole numbers within a range."""

    def parse(value: Any) -> int:
        return _integer(value, smallest, largest, "a number")

    return parse


def parse_share(value: Any) -> float:
    """A share, 0.0 to 1.0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BadValue("expected a share from 0.0 to 1.0, without quotes")
    return float(value)


def parse_rate(value: Any) -> float:
    """A share above zero."""
    share = parse_share(value)
    if share < 0.01:
        raise BadValue("expected a share from 0.01 to 1.0, without quotes")
    return share


def parse_scale(value: Any) -> float:
    """A factor, 0.1 to 100."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.1 <= value <= 100:
        raise BadValue("expected a factor from 0.1 to 100, without quotes")
    return float(value)


def parse_url(value: Any) -> str:
    """http:// or https:// with a host and a port, and nothing secret in it."""
    text = _text(value, "a URL")
    match = re.fullmatch(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})(/[A-Za-z0-9._~/-]*)?", text)
    if match is None:
        raise BadValue(
            f"{text!r} is not a URL with host and port" if "@" not in text else "the URL holds a user or a password",
            remedy='write it like "http://127.0.0.1:4318"; tokens belong into headers_file',
        )
    _integer(int(match[2]), 1, 65535, "a port")
    return text


def schedule(longest: float) -> Callable[[Any], tuple[float, ...]]:
    """A parser of a sequence of moments: it starts at "0s" and rises."""
    parse_moments = parse_list(duration(0.0, longest), 8)

    def parse(value: Any) -> tuple[float, ...]:
        moments = parse_moments(value)
        if moments[0] != 0 or any(later <= earlier for earlier, later in itertools.pairwise(moments)):
            raise BadValue('the moments must start at "0s" and rise', Reason.CONFIG_TIMER)
        return moments

    return parse


def parse_degraded_mode(value: Any) -> str:
    """The one mode below full security that there is (PROTOCOL section 8)."""
    if value != "auth-plaintext":
        raise BadValue("no such mode", remedy='the only mode is "auth-plaintext"')
    return "auth-plaintext"


Name = Annotated[str, PlainValidator(parse_name)]
InterfaceName = Annotated[str, PlainValidator(parse_interface_name)]
PathText = Annotated[str, PlainValidator(parse_path)]
Port = Annotated[int, PlainValidator(parse_port)]
Mtu = Annotated[int | None, PlainValidator(parse_mtu)]
Lanes = Annotated[int | None, PlainValidator(parse_lanes)]
Addresses = Annotated[tuple[IPInterface, ...], PlainValidator(parse_list(parse_interface_address, 16))]
Networks = Annotated[tuple[IPNetwork, ...], PlainValidator(parse_list(parse_network, 1024))]
DegradedModes = Annotated[tuple[str, ...], PlainValidator(parse_list(parse_degraded_mode, 1))]
EndpointField = Annotated[Endpoint, PlainValidator(parse_endpoint)]
Keepalive = Annotated[float, PlainValidator(duration(KEEPALIVE_SHORTEST, KEEPALIVE_LONGEST, Reason.CONFIG_KEEPALIVE))]
Switch = Literal["auto", "off"]
