"""What this network allows: reach, path MTU, NAT, names, clock; as a document (docs/diag.md).

Owns which evidence says what, and says what cannot be told. A node that answers is asked to probe (`pqvpn/control/probing.py`);
of one that does not, its records are read, and the configured names are looked up from here. The text is `netlines.py`.
"""

import ipaddress
import socket
import threading
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pqvpn.diag import words
from pqvpn.diag.kernel import Clock
from pqvpn.diag.knowledge import Knowledge, Peer, mapping, mappings
from pqvpn.diag.records import as_number, latest, named
from pqvpn.errors import PqvpnError

LOOK_UP_SECONDS = 5.0
PROBE_SECONDS = 12.0
"""Seconds that the node's answer is waited for; it probes for eight at most."""
_DAY = 86400.0
_LONGEST = 1e10
"""Seconds: what a damaged record says of its age may be no number at all."""
_NAT_UNKNOWN = (
    "from which address and port peers see this node is not in the protocol; what is said here follows from the addresses at"
    " both ends. Run this on the peer, too: it says where it sees this node"
)
_SAID = {
    "configured": "its packets come from the address that is configured",
    "port": "its packets come from another port than configured: a NAT is in front of it, or it listens there",
    "address": "its packets come from another address than configured: it moved, or a NAT is in front of it",
}
Probe = Mapping[str, Any]


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
    except Exception as error:  # noqa: BLE001 - the thread's boundary: Python would write the text to standard error
        found[place] = Name(peer, host, (), time.monotonic() - began, type(error).__name__)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def masked(configuration: Path | None) -> bool:
    """Whether the configuration wants no address shown; one that cannot be read might."""
    try:
        text = configuration.read_text(encoding="utf-8") if configuration is not None else ""
        return mapping(tomllib.loads(text).get("redact")).get("addresses") == "mask"
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError):
        return True


def probe(known: Knowledge, runtime: Path | None, ask: Callable[..., Mapping[str, Any]]) -> tuple[Probe | None, str]:
    """Have the node probe now; without an answer, why there is none."""
    if not known.answers or runtime is None:
        return None, "the node does not run" if known.running is False else "the node does not answer"
    try:
        return ask(runtime, "probe", seconds=PROBE_SECONDS), ""
    except PqvpnError as error:
        return None, f"the node did not probe: {error.detail or error.reason.text}"


def document(
    known: Knowledge,
    found: Sequence[Name] = (),
    probed: Probe | None = None,
    why: str = "",
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Everything as plain data. `found`: names looked up from here; `why`: the reason that there is no probe; `clock`: of
    the machine that the node is on, when that is this one.
    """
    seen = mapping(probed)
    by_name = {str(each.get("name")): each for each in mappings(seen.get("peers"))}
    peers = [(peer, by_name.get(peer.name, {})) for peer in known.peers]
    return {
        "source": known.source,
        "probed": probed is not None,
        "not_probed": why or None,
        "age_seconds": as_number(seen.get("age_seconds")) if probed is not None else round(min(known.age, _LONGEST), 3),
        "sent": _sent(seen, found),
        "udp": [_reach(known, peer, look) for peer, look in peers],
        "families": [dict(each) for each in mappings(seen.get("families"))],
        "refused": seen.get("refused"),
        "path_mtu": [row for peer, look in peers if (row := _mtu(known, peer, look))],
        "nat": {
            "told": _NAT_UNKNOWN,
            "paths": [row for peer, look in peers if (row := _nat(peer, look))],
            "peers": [row for peer in known.peers if (row := _moves(known, peer))["moves"]],
        },
        "dns": [_name(each, "node") for each in mappings(seen.get("dns"))]
        + [_name({key: getattr(each, key) for key in Name.__slots__}, "command") for each in found],
        "clock": _clock(known, clock or Clock(known.clock_synchronised)),
    }


def _sent(seen: Probe, found: Sequence[Name]) -> str:
    if not seen:
        return f"look-ups of {words.plural(len(found), 'configured name')}; nothing else" if found else "nothing"
    looked = [each for each in mappings(seen.get("peers")) if each.get("probed")]
    names = len(list(mappings(seen.get("dns"))))
    return (
        f"challenges and size probes to {words.plural(len(looked), 'peer')} on their sessions, look-ups of"
        f" {words.plural(names, 'configured name')}; nothing else"
    )


def _name(each: Mapping[str, Any], by: str) -> dict[str, Any]:
    return {key: each.get(key) for key in ("peer", "host", "addresses", "seconds", "error")} | {"by": by}


def _reach(known: Knowledge, peer: Peer, look: Probe) -> dict[str, Any]:
    """In words, what is known of UDP to and from a peer; with numbers, when it was probed."""
    called = latest(
        [e for e in named(peer.events, "handshake.completed") if e.text("role") == "responder"], "handshake.completed"
    )
    inbound = f"it reached this node by itself {words.ago(known.now - called.time)}" if called else ""
    told = {"peer": peer.name, "endpoint": look.get("endpoint") or peer.status.get("endpoint")}
    told |= {
        "reach": _answers(look) if look.get("probed") else _recorded(peer, live=known.source == "live"),
        "inbound": inbound or None,
    }
    names = ("sent", "answered", "rtt_ms", "rtt_most_ms", "route", "error", "interface", "icmp")
    return told | {"probed": bool(look.get("probed"))} | {name: look.get(name) for name in names}


def _answers(look: Probe) -> str:
    sent, answered = as_number(look.get("sent")), as_number(look.get("answered"))
    if sent and answered == sent:
        return "datagrams get through both ways"
    if answered:
        return f"{sent - answered:.0f} of {sent:.0f} challenges were lost"
    said = [str(each.get("kind")).replace("_", " ") for each in mappings(look.get("icmp"))]
    return f"the network answers {words.listed(said)}" if said else "nothing comes back"


def _recorded(peer: Peer, *, live: bool) -> str:
    icmp = peer.evidence("network.icmp")
    if peer.up:
        return "datagrams get through both ways" if live else "datagrams got through both ways"
    if icmp:
        return f"the network answers {icmp[-1].text('kind').replace('_', ' ')}"
    if peer.evidence("handshake.fragments_lost"):
        return "only a part of the datagrams arrives"
    if peer.evidence("handshake.refused"):
        return "its datagrams arrive here, but do not fit"
    return "nothing comes back" if any(peer.recent) else "not tried lately"


def _mtu(known: Knowledge, peer: Peer, look: Probe) -> dict[str, Any]:
    """`confirmed`: measured now, and not what was known before."""
    changed = latest(peer.events, "path.mtu")
    recorded = peer.status.get("path_mtu") or (changed.number("after") if changed else None)
    largest = changed.number("largest") if changed else known.node.get("mtu")
    found = look.get("path_mtu")
    if not (found or recorded or look.get("answered")):
        return {}
    silent = bool(look.get("answered") and look.get("finished") and not look.get("arrived"))
    return {
        "peer": peer.name, "path_mtu": found or (None if silent else recorded), "largest": look.get("largest") or largest,
        "confirmed": found is not None, "in_use": look.get("in_use") or recorded, "outside": look.get("outside"),
        "arrived": look.get("arrived"), "black_hole": silent,
    }  # fmt: skip


def _nat(peer: Peer, look: Probe) -> dict[str, Any]:
    if look.get("translated") is None and look.get("seen") is None:
        return {}
    told = {name: look.get(name) for name in ("source", "endpoint", "translated", "seen")}
    return {"peer": peer.name} | told | {"peer_told": _SAID.get(str(look.get("seen")))}


def _moves(known: Knowledge, peer: Peer) -> dict[str, Any]:
    moved = [event for event in named(peer.events, "path.roamed") if event.time >= known.at - _DAY]
    return {"peer": peer.name, "moves": len(moved), "last": words.rfc3339(moved[-1].time) if moved else None}


def _clock(known: Knowledge, clock: Clock) -> dict[str, Any]:
    """`behind_records_seconds`: how much later than now something was recorded, which no clock that is right does."""
    jumped = [event for event in named(known.events, "clock.jumped") if event.time >= known.now - _DAY]
    newest = max((event.time for event in known.events), default=0.0)
    behind = newest - known.now if known.source == "live" else 0.0
    return {
        "synchronised": clock.synchronised, "matters": False, "offset_seconds": clock.offset, "error_seconds": clock.error,
        "jumps": len(jumped), "last_jump_seconds": jumped[-1].number("seconds") if jumped else None,
        "behind_records_seconds": round(behind, 3) if behind > 1.0 else None,
    }  # fmt: skip
