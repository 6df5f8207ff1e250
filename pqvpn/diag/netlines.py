"""The document of `net.py` as text.

Owns the words. Pure; nothing that is missing in the document makes it fail.
"""

from collections.abc import Mapping
from typing import Any

from pqvpn.diag import words
from pqvpn.diag.report import Line

_KEPT = {True: "synchronised", False: "not synchronised", None: "the kernel does not say"}
_FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}
Told = Mapping[str, Any]


def lines(told: Told, width: int = words.WIDTH) -> list[Line]:
    """All of it."""
    found = [] if told["probed"] else _head(told, width)
    found += [Line("UDP", "bold"), *_udp(told, width)]
    found += [Line("Path MTU", "bold"), *_path_mtu(told, width)]
    found += [Line("NAT", "bold"), *_nat(told, width)]
    found += [Line("DNS", "bold"), *_dns(told, width)]
    found += [Line("Clock", "bold"), *[Line(f"  {text}") for text in words.paragraph(_clock(told), "", width - 2, 0)]]
    age = f" {words.ago(told['age_seconds'])}" if told["probed"] and told["age_seconds"] >= 1 else ""
    closing = words.paragraph(f"Sent for this{age}: {told['sent']}.", width=width, indent=0)
    return [*found, Line(""), *[Line(text, "dim") for text in closing]]


def _head(told: Told, width: int) -> list[Line]:
    if told["source"] == "none":
        text = "nothing is known of it"
    elif told["source"] == "live":
        text = "this is what it knows"
    else:
        text = f"this was recorded {words.ago(told['age_seconds'])}, and is no older than that"
    why = f"{told['not_probed']}: " if told["not_probed"] else ""
    said = f"Nothing was probed. {(why + text)[:1].upper()}{(why + text)[1:]}."
    return [*[Line(each, "warn") for each in words.paragraph(said, width=width, indent=0)], Line("")]


def _udp(told: Told, width: int) -> list[Line]:
    found: list[Line] = []
    for each in told["udp"]:
        where = str(each["endpoint"] or "no address known")
        if each["probed"]:
            text = f"{each['reach']}: {_challenges(each)} ({where})"
        elif told["probed"]:
            text = f"{each['reach']} ({where}); no session, so nothing was sent to it"
        else:
            text = f"{each['reach']} ({where})"
        text += f"; this machine has no way there: {each['error']}" if each["error"] else ""
        text += f"; {each['inbound']}" if each["inbound"] else ""
        found += _row(each["peer"], text, width, "warn" if _ails(each) else "plain")
    found += [] if told["udp"] else [Line("  no peers are known")]
    for each in told["families"]:
        found += _row(_FAMILIES.get(str(each.get("family")), "?"), _family(each), width)
    if told["refused"]:
        count = words.plural(int(told["refused"]), "datagram")
        refused = (
            f"the kernel of this machine refused {count}: a firewall here, no route, or larger than its own link takes"
        )
        found += _row("here", refused, width, "warn")
    return found


def _ails(each: Told) -> bool:
    return bool(each["error"]) or (each["probed"] and each["answered"] != each["sent"])


def _challenges(each: Told) -> str:
    count = f"{each['answered']} of {each['sent']} challenges answered"
    if each["rtt_ms"] is None:
        return count
    least, most = words.duration(each["rtt_ms"] / 1000), words.duration((each["rtt_most_ms"] or 0.0) / 1000)
    return f"{count} in {least}" + (f" to {most}" if most != least else "")


def _family(each: Told) -> str:
    if not each.get("able"):
        return "this node's sockets do not speak it"
    if each.get("route") is None:
        return "the kernel does not say whether there is a way out"
    return "there is a way out" if each["route"] else f"no way out of here: {each.get('error')}"


def _path_mtu(told: Told, width: int) -> list[Line]:
    found: list[Line] = []
    for each in told["path_mtu"]:
        narrow = bool(each["largest"] and each["path_mtu"] and each["path_mtu"] < each["largest"])
        found += _row(each["peer"], _size(each, narrow), width, "warn" if narrow or each["black_hole"] else "plain")
    return found or [Line("  not measured: no peer is connected")]


def _size(each: Told, narrow: bool) -> str:
    if each["black_hole"]:
        return "small packets pass, and not one of 1192 bytes: the path carries less than IPv6 demands"
    if each["path_mtu"] is None:
        return "the search came to no end"
    size = f"{each['path_mtu']:.0f} bytes" + (f" of {each['largest']:.0f}" if narrow else "")
    if not each["confirmed"]:
        return f"{size}; not confirmed now"
    size += f", confirmed now ({each['outside']:.0f} on the way)" if each["outside"] else ", confirmed now"
    other = each["in_use"] and each["in_use"] != each["path_mtu"]
    return size + (f"; in use are {each['in_use']:.0f} until data moves and the session finds out" if other else "")


def _nat(told: Told, width: int) -> list[Line]:
    found: list[Line] = []
    for each in told["nat"]["paths"]:
        found += _row(each["peer"], "; ".join(filter(None, (_translated(each), each["peer_told"]))), width)
    for each in told["nat"]["peers"]:
        moved = words.times(each["moves"])
        found += _row(each["peer"], f"its address moved {moved} within a day: it roams, or its NAT rebinds", width)
    said = words.paragraph(told["nat"]["told"], width=width - 2, indent=0)
    return [*found, *[Line(f"  {text}", "dim") for text in said]]


def _translated(each: Told) -> str:
    ours = each["source"] or "this node's address"
    match each["translated"]:
        case "yes":
            return f"a NAT translates {ours}, which is private, on the way to {each['endpoint']}"
        case "no":
            return f"no NAT is needed between {ours} and {each['endpoint']}"
        case "unknown":
            return f"{ours} and {each['endpoint']} are both private with a router between: a NAT may be there"
        case _:
            return ""


def _dns(told: Told, width: int) -> list[Line]:
    found: list[Line] = []
    for each in told["dns"]:
        answers = each["addresses"] or ()
        count = f" ({len(answers)} addresses)" if len(answers) > 1 else ""
        answer = ", ".join(map(str, answers[:4])) + count if answers else str(each["error"])
        text = f"{each['host']}: {answer} in {words.duration(each['seconds'] or 0.0)}"
        found += _row(each["peer"], text, width, "plain" if answers else "warn")
    return found or [Line("  no endpoint is a name that could be looked up here")]


def _clock(told: Told) -> str:
    clock = told["clock"]
    text = _KEPT[clock["synchronised"]]
    if clock["error_seconds"] is not None:
        text += f", wrong by {words.duration(clock['error_seconds'])} at most"
    if clock["offset_seconds"]:
        text += f", {words.duration(abs(clock['offset_seconds']))} still to correct"
    if clock["jumps"]:
        jump = clock["last_jump_seconds"] or 0.0
        text += f"; it jumped {words.times(clock['jumps'])} within a day, the last time by {jump:+.3g} s"
    if clock["behind_records_seconds"]:
        text += f"; it is {words.age(clock['behind_records_seconds'])} behind what was recorded"
    return f"{text}; keys and sessions do not depend on it"


def _row(label: str, text: str, width: int, style: str = "plain") -> list[Line]:
    said = words.paragraph(text, f"  {words.clean(label)}", width, max(12, len(label) + 4))
    return [Line(line, style) for line in said]
