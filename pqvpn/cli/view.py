"""What `pqvpn status` says, as rows of words.

Owns which facts are shown, and in which words and units. Pure: takes the node's answer, knows no terminal.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

COLUMNS = (
    "PEER", "STATE", "LAST", "ENDPOINT", "RTT", "LOSS", "RECEIVED", "SENT", "HANDSHAKE", "SUITE", "PQ", "LANES", "MTU",
)  # fmt: skip
COLOURS = {"up": "green", "connecting": "yellow", "stale": "yellow", "down": "red"}
_NONE = "-"


class Note(NamedTuple):
    """A line below the table; `alarm` ones are shown in red."""

    text: str
    alarm: bool = False


def age(seconds: float | None) -> str:
    """A span of time in at most two units: "4 s", "3 m 20 s", "2 d 5 h"."""
    if seconds is None:
        return _NONE
    if seconds < 1:
        return "now"
    left = int(seconds)
    words = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            words.append(f"{count} {unit}")
    return " ".join(words[:2])


def amount(value: float | None) -> str:
    """Bytes in a unit that leaves at most four digits: "812 B", "1.5 MiB"."""
    if value is None:
        return _NONE
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1000:
            break
        value /= 1024
        unit = larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def headline(status: Mapping[str, Any]) -> list[Note]:
    """The node itself, and what of it should worry somebody."""
    node = status.get("node", {})
    addresses = ", ".join(node.get("addresses", ()))
    lanes, running = node.get("lanes", _NONE), node.get("lanes_running")
    fewer = f"{running} of " if running not in (None, lanes) else ""
    notes = [
        Note(
            f"{node.get('name', _NONE)}: {node.get('state', _NONE)} for {age(node.get('uptime_seconds'))}, "
            f"pid {node.get('pid', _NONE)}, version {status.get('version', _NONE)}"
        ),
        Note(f"  id         {node.get('id', _NONE)}"),
        Note(
            f"  interface  {node.get('interface', _NONE)} {addresses}, MTU {node.get('mtu', _NONE)}, "
            f"UDP port {node.get('listen', _NONE)}, {fewer}{lanes} lane{'' if lanes == 1 else 's'}",
            bool(fewer),
        ),
        Note(f"  offloads   {_offloads(node.get('offloads', {}))}"),
    ]
    security = node.get("security", "full")
    notes.append(Note(f"  security   {security}", security != "full"))
    restarts = [(p.get("component"), p.get("restarts", 0)) for p in status.get("processes", ())]
    replaced = [f"{component} {count}x" for component, count in restarts if count]
    if replaced:
        notes.append(Note(f"  replaced   {', '.join(replaced)}", alarm=True))
    return notes


def _offloads(offloads: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_word(value)}" for name, value in offloads.items()) or _NONE


def _word(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def peers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The peers by name."""
    return sorted(status.get("peers", ()), key=lambda peer: str(peer.get("name")))


def row(peer: Mapping[str, Any]) -> tuple[str, ...]:
    """One peer as the words of COLUMNS."""
    rtt, loss = peer.get("rtt_ms"), peer.get("loss")
    last = peer.get("last_received_seconds")
    return (
        str(peer.get("name")),
        str(peer.get("state")),
        "never" if last is None else age(last),
        peer.get("endpoint") or _NONE,
        _NONE if rtt is None else f"{rtt:.1f} ms",
        _NONE if loss is None else f"{loss * 100:.1f} %",
        f"{amount(peer.get('rx_bytes'))} ({amount(peer.get('rx_rate'))}/s)",
        f"{amount(peer.get('tx_bytes'))} ({amount(peer.get('tx_rate'))}/s)",
        age(peer.get("handshake_age_seconds")),
        re.sub(r" \([^)]*\)", "", peer.get("suite") or _NONE),  # --json spells out what X-Wing is made of
        _post_quantum(peer),
        str(peer.get("lanes") or _NONE),
        str(peer.get("path_mtu") or _NONE),
    )


def _post_quantum(peer: Mapping[str, Any]) -> str:
    if not peer.get("suite"):
        return _NONE
    return "yes" if peer.get("post_quantum") else "NO"


def block(words: Sequence[str]) -> list[str]:
    """One peer's row as lines for a terminal that the table does not fit on; what is not known is left out."""
    known = [(name.lower(), word) for name, word in zip(COLUMNS, words, strict=True) if word != _NONE]
    lines = [f"{words[0]}: {words[1]}"]
    for start in range(2, len(known), 3):
        lines.append("  " + ", ".join(f"{name} {word}" for name, word in known[start : start + 3]))
    return lines


def notes(status: Mapping[str, Any]) -> list[Note]:
    """Below the table: why peers are not up, and which are not protected in full."""
    told = []
    for peer in peers(status):
        reason = peer.get("reason")
        if reason and peer.get("state") != "up":
            text = f"{peer.get('name')}: {reason.get('text')} [{reason.get('code')}]; {reason.get('remedy')}"
            told.append(Note(text, peer.get("state") == "down"))
        if peer.get("security") == "auth-plaintext":
            told.append(Note(f"{peer.get('name')}: DEGRADED, the payload is readable on the way", alarm=True))
    for row_ in status.get("breakers", ()):
        if row_.get("held"):
            name = row_.get("name")
            told.append(
                Note(f"breaker {name} is held {row_.get('state')}; to end it: pqvpn breaker reset {name}", True)
            )
    if not status.get("peers"):
        told.append(Note("No peers are configured. Add one: pqvpn peer add"))
    return told


def drops(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Discarded packets by reason, most first."""
    counted: Sequence[tuple[str, int]] = sorted(status.get("drops", {}).items(), key=lambda item: (-item[1], item[0]))
    return [(name, str(count)) for name, count in counted]


def all_up(status: Mapping[str, Any]) -> bool:
    """Whether every peer is up and the node's security is full."""
    security = status.get("node", {}).get("security", "full")
    return security == "full" and all(peer.get("state") == "up" for peer in status.get("peers", ()))
