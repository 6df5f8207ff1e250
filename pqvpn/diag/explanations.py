"""What a word of ours means: reason codes, drop reasons, names of facts.

Owns how a word is found and what is told of it. The meanings themselves stand where they are defined: `reasons.py`,
the comments of `drops.py`, the docstrings of `facts.py`. Pure.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from pqvpn import drops
from pqvpn.diag import words
from pqvpn.diag.nearest import nearest
from pqvpn.diag.report import Line
from pqvpn.diag.rules import RULES
from pqvpn.drops import DropReason
from pqvpn.facts import FACTS, Fact
from pqvpn.reasons import Action, Reason, Who

_ACTIONS = {
    Action.RETRY: "pqvpn goes on trying by itself",
    Action.FALLBACK: "pqvpn goes on with less",
    Action.SHUTDOWN: "the command or the node ends",
    Action.DROP: "what does not fit is dropped, the rest goes on",
}
_WHO = {
    Who.OPERATOR: "you, who operate this node",
    Who.PEER: "the other node's operator",
    Who.HOST: "whoever runs this machine",
    Who.US: "the developers",
    Who.NOBODY: "nobody, it heals by itself",
}
_DROP_CAUSES = {
    "mac1": Reason.NETWORK_KEY, "unknown_peer": Reason.UNKNOWN_PEER, "bad_handshake": Reason.PSK,
    "version": Reason.VERSION, "policy_mismatch": Reason.POLICY_REFUSED, "source_not_allowed": Reason.ALLOWED_IPS,
    "no_route": Reason.ALLOWED_IPS, "no_endpoint": Reason.NO_ENDPOINT, "no_session": Reason.NO_REPLY,
    "keys_expired": Reason.KEYS_EXPIRED, "session_expired": Reason.KEYS_EXPIRED, "too_big": Reason.PATH_MTU,
    "udp_send": Reason.SEND_REFUSED, "reassembly_timeout": Reason.FRAGMENTS_LOST,
    "crypto_unavailable": Reason.SELF_TEST_FAILED,
}  # fmt: skip
_DROP_TEXTS = {
    "mac1": "a handshake message that was not made for this node's card and network key",
    "rate_limit": "more handshakes than are answered at once; they are repeated",
    "reassembly_full": "no room for the parts of another handshake message",
    "reassembly_timeout": "a handshake message of which a part never came",
    "policy_mismatch": "the degraded mode is armed on one side only",
    "index_in_use": "a session's number that another session has; the handshake is repeated",
    "bad_cookie": "a cookie reply that answers no message of ours",
    "enrolment_off": "somebody asked to be enrolled, which this node does not do",
}
_FACT_CAUSES = {
    "network.icmp": (Reason.PORT_CLOSED, Reason.UNREACHABLE), "handshake.fragments_lost": (Reason.FRAGMENTS_LOST,),
    "handshake.refused": (Reason.NETWORK_KEY, Reason.UNKNOWN_PEER, Reason.PSK, Reason.VERSION),
    "path.mtu": (Reason.PATH_MTU,), "inner.refused": (Reason.ALLOWED_IPS,), "resolver.failed": (Reason.DNS_FAILED,),
    "process.ended": (Reason.CHILD_DIED, Reason.CHILD_RESTARTING), "clock.jumped": (Reason.CLOCK_JUMPED,),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is known of one word. `kind`: reason, drop, fact."""

    kind: str
    word: str
    text: str
    remedy: str = ""
    who: str = ""
    action: str = ""
    exit_code: int | None = None
    causes: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    related: tuple[str, ...] = ()


def every() -> list[Explanation]:
    """All of them: reasons, drops, facts."""
    reasons = [_reason(each) for each in sorted(Reason, key=lambda each: each.code)]
    return [*reasons, *(_drop(each) for each in DropReason), *(_fact(kind) for _, kind in sorted(FACTS.items()))]


def find(word: str) -> list[Explanation]:
    """What the word means; several when it is the name of a drop and of a fact's value, none when it is unknown."""
    plain = word.strip().lower()
    return [each for each in every() if each.word == plain or plain in (each.word.replace(".", "_"),)]


def near(word: str) -> list[str]:
    """The known words most like it; also those whose last part it is."""
    known = [each.word for each in every()]
    tails = [each for each in known if each.rpartition(".")[2] == word.lower()]
    return tails or nearest(word, known)


def _reason(reason: Reason) -> Explanation:
    facts = tuple(event for event, reasons in _FACT_CAUSES.items() if reason in reasons)
    counters = tuple(name for name, cause in _DROP_CAUSES.items() if cause is reason)
    shown = ["a verdict of pqvpn diag"] if any(rule.reason is reason for rule in RULES) else []
    shown += [f"the counter {name} (pqvpn status --drops)" for name in counters]
    shown += [f"the record {name} (pqvpn diag logs)" for name in facts]
    if reason.action is Action.SHUTDOWN:
        shown.append(f"a command's error, exit code {reason.exit_code}")
    causes = tuple(f"{rule.reason.code}: {rule.reason.text}" for rule in RULES if reason in rule.explains)
    return Explanation(
        "reason", reason.code, reason.text, reason.remedy, _WHO[reason.who], _ACTIONS[reason.action], reason.exit_code,
        causes, tuple(shown), (f"docs/reasons.md#{reason.code}",),
    )  # fmt: skip


def _drop(drop: DropReason) -> Explanation:
    name = drop.name.lower()
    cause = _DROP_CAUSES.get(name)
    return Explanation(
        "drop", name, _drop_texts().get(drop.name) or _DROP_TEXTS.get(name, "a discarded packet"), cause.remedy if cause else "",
        shown=("pqvpn status --drops", f"the metric pqvpn.drops with drop={name}"),
        related=(cause.code,) if cause else (),
    )  # fmt: skip


@cache
def _drop_texts() -> dict[str, str]:
    """What stands beside each drop reason in the source, which is its only description."""
    try:
        source = Path(drops.__file__).read_text(encoding="utf-8")
    except OSError:
        return {}
    return dict(re.findall(r"^    ([A-Z_0-9]+) = \d+  # (.+)$", source, re.MULTILINE))


def _fact(kind: type[Fact]) -> Explanation:
    text = " ".join((inspect.getdoc(kind) or "").split())
    names = ", ".join(each.name for each in fields(kind))
    shown = ("pqvpn diag logs", "the node's log") if kind.told else ("metrics, health and verdicts; no log line",)
    causes = _FACT_CAUSES.get(kind.event, ())
    return Explanation(
        "fact", kind.event, text, shown=(*shown, f"its fields: {names}"), related=tuple(each.code for each in causes)
    )


def lines(found: Sequence[Explanation], width: int = words.WIDTH) -> list[Line]:
    """Explanations as text."""
    told: list[Line] = []
    for place, each in enumerate(found):
        told += [Line("")] if place else []
        told += [Line(f"{each.word} ({each.kind})", "bold"), *_labelled(each, width)]
    return told


def _labelled(each: Explanation, width: int) -> Iterator[Line]:
    rows = [("means", (each.text,)), ("causes", each.causes), ("do", (each.remedy,)), ("who", (each.who,))]
    rows += [("then", (each.action,)), ("shown", each.shown), ("see", each.related)]
    for label, texts in rows:
        for place, text in enumerate(text for text in texts if text):
            style = "bold" if label == "do" else "plain"
            yield from (Line(line, style) for line in words.paragraph(text, "" if place else f"  {label}", width, 9))


def listing(found: Sequence[Explanation], width: int = words.WIDTH) -> list[Line]:
    """All words with the beginning of what they mean."""
    told: list[Line] = []
    for kind, title in (("reason", "Reason codes"), ("drop", "Drop reasons"), ("fact", "Facts")):
        group = [each for each in found if each.kind == kind]
        told += [Line(title, "bold")]
        told += [
            Line(words.cut(row, width)) for row in words.columns([(f"  {each.word}", each.text) for each in group])
        ]
        told += [Line("")]
    return told[:-1]


def document(found: Sequence[Explanation]) -> list[dict[str, Any]]:
    """Explanations as plain data."""
    return [{each.name: getattr(one, each.name) for each in fields(Explanation)} for one in found]
