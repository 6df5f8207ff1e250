"""Names that stand for addresses, hosts and peer IDs in records: the same for the same thing, and telling nothing of it.

Owns the forms `ip4-9f3a1c22`, `ip6-...`, `host-...` and `id-...` (HMAC-SHA256 under the installation's key, 32 bits) and what
the policy makes of them. Knows nothing of where they stand. Loopback and unspecified addresses are everybody's and stay.
"""

import hmac
import ipaddress
import re
from collections.abc import Callable

from pqvpn.telemetry.redaction.policy import Policy

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MADE = re.compile(r"(?:ip[46]|host|id)-[0-9a-f]{8}|<(?:ip4|ip6|host|redacted)>")
MASK = {"ip4": "<ip4>", "ip6": "<ip6>", "host": "<host>"}
_REMEMBERED = 4096
_DIGITS = 8


class Pseudonyms:
    """What a policy makes of addresses, host names and peer IDs."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.keep = policy.addresses == "keep"
        self._known: dict[tuple[str, str], str] = {}

    def address(self, text: str) -> str:
        """Of an IP address in any spelling, without zone. Raises ValueError when it is none."""
        return self._remembered("ip", text, self._of_address)

    def host(self, name: str) -> str:
        """Of a host's name; `localhost` and what is a pseudonym already stay."""
        return self._remembered("host", name, self._of_host)

    def peer_id(self, text: str) -> str:
        """Of a peer ID. It is public, but the same in every network: with `keep` it stays, else it is a pseudonym."""
        return self._remembered("id", text, self._of_peer_id)

    def _remembered(self, kind: str, text: str, make: Callable[[str], str]) -> str:
        known = self._known.get((kind, text))
        if known is None:
            known = make(text)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[kind, text] = known
        return known

    def _of_address(self, text: str) -> str:
        address = folded(ipaddress.ip_address(text))
        if self.keep or address.is_loopback or address.is_unspecified:
            return text
        return self._standing("ip4" if address.version == 4 else "ip6", address.packed)

    def _of_host(self, name: str) -> str:
        plain = name.rstrip(".").lower()
        if self.keep or plain in ("", "localhost") or MADE.fullmatch(plain):
            return name
        return self._standing("host", plain.encode("utf-8", "surrogatepass"))

    def _of_peer_id(self, text: str) -> str:
        return text if self.keep else self._hashed("id", text.lower().encode())

    def _standing(self, kind: str, data: bytes) -> str:
        return MASK[kind] if self._policy.addresses == "mask" else self._hashed(kind, data)

    def _hashed(self, kind: str, data: bytes) -> str:
        digest = hmac.digest(self._policy.key, kind.encode() + b"\0" + data, "sha256")
        return f"{kind}-{digest.hex()[:_DIGITS]}"


def folded(address: IPAddress) -> IPAddress:
    """The IPv4 address of an IPv4-mapped one: both are the same host."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
