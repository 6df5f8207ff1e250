"""What this network allows, as far as one's own evidence goes: reach, path MTU, NAT, names, clock.

Owns which evidence says what, and says what cannot be told. Sends nothing to anybody: the only packets that it causes
are look-ups of the configured names, made by whoever calls `look_up`.
"""

import ipaddress
import socket
import threading
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pqvpn.diag import words
from pqvpn.diag.knowledge import Knowledge, Peer, mapping
from pqvpn.diag.records import latest, named
from pqvpn.diag.report import Line

LOOK_UP_SECONDS = 5.0
_DAY = 86400.0
_NAT_UNKNOWN = (
    "from which address and port peers see this node is not in the protocol, so what a NAT in front of it does cannot be"
    " told from here; compare the endpoint that pqvpn status shows on a peer"
)


@dataclass(frozen=True, slots=True)
class Name:
    """A configured name and what the look-up gave. `seconds` None: it was not looked up."""

    peer: str
    host: str
    addresses: tuple[str, ...] = ()
    seconds: float | None = None
    error: str = ""


def configured_hosts(configuration: Path | None) -> list[tuple[str, str]]:
    """(peer, host) for every endpoint that is a name; a file that is broken otherwise is read as far as it goes."""
    if configuration is None:
        return []
    try:
        peers = mapping(tomllib.loads(configuration.read_text(encoding="utf-8")).get("peer"))
    except (OSError, ValueError, RecursionError):
        return []
    hosts = ((name, str(mapping(peer).get("endpoint") or "")) for name, peer in peers.items())
    split = [(name, endpoint.rpartition(":")[0].strip("[]")) for name, endpoint in hosts if endpoint]
    return [(name, host) for name, host in split if host and not _is_address(host)]


def look_up(hosts: Sequence[tuple[str, str]]) -> list[Name]:
    """Ask the resolver for every name, side by side, each for a few seconds at most."""
    found: dict[int, Name] = {}
    threads = [
        threading.Thread(target=_look_up, args=(place, *each, found), daemon=True) for place, each in enumerate(hosts)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + LOOK_UP_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {LOOK_UP_SECONDS:.0f} s"
    return [found.get(place, Name(peer, host, (), LOOK_UP_SECONDS, late)) for place, (peer, host) in enumerate(hosts)]


def _look_up(place: int, peer: str, host: str, found: dict[int, Name]) -> None:
    began = time.monotonic()
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        addresses = tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))
        found[place] = Name(peer, host, addresses, time.monotonic() - began)
    except (OSError, UnicodeError) as error:
        text = getattr(error, "strerror", None) or type(error).__name__
        found[place] = Name(peer, host, (), time.monotonic() - began, str(text))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def document(known: Knowledge, found: Sequence[Name]) -> dict[str, Any]:
    """Everything as plain data."""
    return {
        "sent": f"look-ups of {len(found)} configured names; nothing else" if found else "nothing",
        "udp": [_reach(known, peer) for peer in known.peers],
        "path_mtu": [
            _mtu(known, peer) for peer in known.peers if peer.status.get("path_mtu") or latest(peer.events, "path.mtu")
        ],
        "nat": {
            "told": _NAT_UNKNOWN,
            "peers": [_moves(known, peer) for peer in known.peers if _moves(known, peer)["moves"]],
        },
        "dns": [
            {name: getattr(each, name) for name in ("peer", "host", "addresses", "seconds", "error")} for each in found
        ],
        "clock": {"synchronised": known.clock_synchronised, "matters": False},
    }


def _reach(known: Knowledge, peer: Peer) -> dict[str, Any]:
    """In words, what is known of UDP to and from a peer."""
    called = latest(
        [e for e in named(peer.events, "handshake.completed") if e.text("role") == "responder"], "handshake.completed"
    )
    icmp = peer.evidence("network.icmp")
    if peer.up:
        told = "datagrams get through both ways"
    elif icmp:
        told = f"the network answers {icmp[-1].text('kind').replace('_', ' ')}"
    elif peer.evidence("handshake.fragments_lost"):
        told = "only a part of the datagrams arrives"
    elif peer.evidence("handshake.refused"):
        told = "its datagrams arrive here, but do not fit"
    elif any(peer.recent):
        told = "nothing comes back"
    else:
        told = "not tried lately"
    inbound = f"it reached this node by itself {words.ago(known.now - called.time)}" if called else ""
    return {"peer": peer.name, "endpoint": peer.status.get("endpoint"), "reach": told, "inbound": inbound or None}


def _mtu(known: Knowledge, peer: Peer) -> dict[str, Any]:
    changed = latest(peer.events, "path.mtu")
    size = peer.status.get("path_mtu") or (changed.number("after") if changed else None)
    largest = changed.number("largest") if changed else known.node.get("mtu")
    return {"peer": peer.name, "path_mtu": size, "largest": largest}


def _moves(known: Knowledge, peer: Peer) -> dict[str, Any]:
    moved = [event for event in named(peer.events, "path.roamed") if event.time >= known.at - _DAY]
    return {"peer": peer.name, "moves": len(moved), "last": words.rfc3339(moved[-1].time) if moved else None}


def lines(told: Mapping[str, Any], width: int = words.WIDTH) -> list[Line]:
    """The same as text."""
    found = [Line("UDP", "bold")]
    for each in told["udp"]:
        inbound = f"; {each['inbound']}" if each["inbound"] else ""
        found += _row(each["peer"], f"{each['reach']} ({each['endpoint'] or 'no address known'}){inbound}", width)
    found += [] if told["udp"] else [Line("  no peers are known")]
    found.append(Line("Path MTU", "bold"))
    for each in told["path_mtu"]:
        narrow = each["largest"] and each["path_mtu"] and each["path_mtu"] < each["largest"]
        found += _row(
            each["peer"], f"{each['path_mtu']:.0f} bytes" + (f" of {each['largest']:.0f}" if narrow else ""), width
        )
    found += [] if told["path_mtu"] else [Line("  not measured: no peer is connected")]
    found.append(Line("NAT", "bold"))
    for each in told["nat"]["peers"]:
        found += _row(
            each["peer"],
            f"its address moved {words.times(each['moves'])} within a day: it roams, or its NAT rebinds",
            width,
        )
    found += [Line(f"  {text}", "dim") for text in words.paragraph(told["nat"]["told"], width=width - 2, indent=0)]
    found.append(Line("DNS", "bold"))
    for each in told["dns"]:
        answer = ", ".join(each["addresses"][:4]) or each["error"]
        found += _row(each["peer"], f"{each['host']}: {answer} in {words.duration(each['seconds'] or 0.0)}", width)
    found += [] if told["dns"] else [Line("  no endpoint is a name that could be looked up here")]
    found.append(Line("Clock", "bold"))
    kept = {True: "synchronised", False: "not synchronised", None: "the kernel does not say"}[
        told["clock"]["synchronised"]
    ]
    found.append(Line(f"  {kept}; keys and sessions do not depend on it"))
    return [*found, Line(""), Line(f"Sent for this: {told['sent']}.", "dim")]


def _row(label: str, text: str, width: int) -> list[Line]:
    return [Line(line) for line in words.paragraph(text, f"  {words.clean(label)}", width, max(12, len(label) + 4))]
