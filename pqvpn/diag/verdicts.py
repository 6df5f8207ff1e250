"""Verdicts: what is wrong with the node or with a peer, judged by rules over `Knowledge`.

Owns how rules are applied: causes hide the symptoms they explain, the worst comes first, at most three pieces of
evidence each. The rules themselves are one table (`rules.py`). Pure.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from pqvpn.diag.knowledge import Knowledge, Peer
from pqvpn.reasons import Reason

EVIDENCE_MOST = 3


class Severity(IntEnum):
    """How bad; the worst is the smallest."""

    PROBLEM = 0  # something that should work does not
    WARNING = 1  # it works, but less well or less safely than configured
    NOTE = 2  # no fault; good to know


class About(IntEnum):
    """What a rule judges."""

    NODE = 0
    PEER = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found. What is empty here is taken from the rule and its reason."""

    evidence: tuple[str, ...] = ()
    since: float | None = None
    text: str = ""
    remedy: str = ""
    severity: Severity | None = None
    reason: Reason | None = None
    peer: str = ""  # a finding of a rule about the node that concerns one peer


NodeRule = Callable[[Knowledge], Iterable[Finding]]
PeerRule = Callable[[Knowledge, Peer], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table. `explains`: codes about the same subject that it is the cause of.

    `hides_peers`: while this is so, nothing about peers is worth telling.
    """

    reason: Reason
    severity: Severity
    node: NodeRule | None = None
    peer: PeerRule | None = None
    explains: frozenset[Reason] = frozenset()
    hides_peers: bool = False

    @property
    def about(self) -> About:
        """What it judges."""
        return About.NODE if self.node else About.PEER


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that is wrong, or good to know. `since` is unix seconds, None when nothing says.

    `symptoms`: codes that follow from it and are not told on their own, each "code" or "peer: code".
    """

    about: About
    subject: str
    severity: Severity
    reason: Reason
    text: str
    remedy: str
    since: float | None
    evidence: tuple[str, ...]
    symptoms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All verdicts, worst first, and the symptoms that they hide."""

    knowledge: Knowledge
    verdicts: tuple[Verdict, ...]
    hidden: tuple[Verdict, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing but notes was found, in something."""
        return not self.knowledge.empty and all(verdict.severity is Severity.NOTE for verdict in self.verdicts)


@dataclass(slots=True)
class _Found:
    rule: Rule
    rank: int
    verdict: Verdict
    symptoms: list[str] = field(default_factory=list)


def judge(knowledge: Knowledge, rules: Sequence[Rule]) -> Diagnosis:
    """Apply the rules, in whose order causes stand before symptoms."""
    found = _once(_apply(knowledge, rules))
    hidden = _hide(found)
    shown = sorted((f for f in found if id(f) not in hidden), key=_badness)
    verdicts = tuple(replace(f.verdict, symptoms=tuple(f.symptoms)) for f in shown)
    rest = sorted((f for f in found if id(f) in hidden and f.verdict.severity is not Severity.NOTE), key=_badness)
    return Diagnosis(knowledge, verdicts, tuple(f.verdict for f in rest))


def _apply(knowledge: Knowledge, rules: Sequence[Rule]) -> Iterator[_Found]:
    for rank, rule in enumerate(rules):
        if rule.node:
            for finding in rule.node(knowledge):
                yield _Found(rule, rank, _verdict(rule, finding, finding.peer, knowledge.name))
        elif rule.peer:
            for peer in knowledge.peers:
                for finding in rule.peer(knowledge, peer):
                    yield _Found(rule, rank, _verdict(rule, finding, peer.name, knowledge.name))


def _verdict(rule: Rule, finding: Finding, peer: str, node: str) -> Verdict:
    reason = finding.reason or rule.reason
    text = finding.text or reason.text
    remedy = finding.remedy or reason.remedy
    return Verdict(
        About.PEER if peer else About.NODE,
        peer or node,
        rule.severity if finding.severity is None else finding.severity,
        reason,
        _naming(text, peer),
        _naming(remedy, peer),
        finding.since,
        finding.evidence[:EVIDENCE_MOST],
    )


def _naming(text: str, peer: str) -> str:
    """The reason's words with the peer's name in them."""
    return text.replace("the peer's", f"{peer}'s").replace("the peer", peer) if peer else text


def _once(found: Iterable[_Found]) -> list[_Found]:
    """Of what several rules say of the same subject with the same code, the first."""
    kept: dict[tuple[About, str, Reason], _Found] = {}
    for each in found:
        kept.setdefault((each.verdict.about, each.verdict.subject, each.verdict.reason), each)
    return list(kept.values())


def _hide(found: Sequence[_Found]) -> set[int]:
    """Who is explained by somebody before it in the table; the one that explains learns of it."""
    hidden: set[int] = set()
    for effect in found:
        cause = next((each for each in found if _explains(each, effect) and id(each) not in hidden), None)
        if cause is not None:
            hidden.add(id(effect))
            if effect.verdict.severity is Severity.NOTE:
                continue  # no symptom, only no news
            prefix = f"{effect.verdict.subject}: " if effect.verdict.about is not cause.verdict.about else ""
            cause.symptoms.append(f"{prefix}{effect.verdict.reason.code}")
    return hidden


def _explains(cause: _Found, effect: _Found) -> bool:
    if cause is effect:
        return False
    if cause.rule.hides_peers and effect.verdict.about is About.PEER:
        return True
    same = (cause.verdict.about, cause.verdict.subject) == (effect.verdict.about, effect.verdict.subject)
    return same and effect.verdict.reason in cause.rule.explains and cause.rank < effect.rank


def _badness(found: _Found) -> tuple[int, int, int, str]:
    verdict = found.verdict
    return (verdict.severity, verdict.about, found.rank, verdict.subject)
