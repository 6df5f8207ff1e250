"""What is wrong with a node, told calmly: a closed table of health items, hysteresis, causes before symptoms.

Owns the table and what is shown of each item. Pure: observations and the time are given, nothing is measured and
nothing is told. An item is shown as worse only after it was observed so without a break for `visible` seconds, as better
only after `clear`, as unknown when nobody observed it for `silent`. While an item is failing, those that depend on it
are listed but suppressed: the first thing to read is the cause.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final

from pqvpn.reasons import Reason
from pqvpn.resilience.limits import Limits


class State(StrEnum):
    """States of an item, and of a node. The value is what is written."""

    OK = "ok"
    WARNING = "warning"
    FAILING = "failing"
    UNKNOWN = "unknown"


_RANK: Final = {State.OK: 0, State.WARNING: 1, State.FAILING: 2}
_BY_RANK: Final = tuple(_RANK)
_WORST_FIRST: Final = (State.FAILING, State.UNKNOWN, State.WARNING, State.OK)
_DEFAULT: Final = Limits()
_MISSED: Final = 3
"""Intervals without an observation after which nothing is known of an item, when that is longer than its own time."""
AFTERMATH: Final = 10.0
"""Seconds for which symptoms may outlive their cause before they are told by themselves."""


class Item(Enum):
    """code, component, what it says, items it depends on, seconds visible, clear, silent; whether it can fail the node.

    `visible` of an item is never shorter than that of what it depends on: the cause is told first. An item that is not
    `vital` makes the node no worse than a warning.
    """

    component: str
    text: str
    depends_on: tuple[str, ...]
    visible: float
    clear: float
    silent: float
    vital: bool

    def __new__(
        cls,
        code: str,
        component: str,
        text: str,
        depends_on: tuple[str, ...],
        times: tuple[float, float, float],
        vital: bool,
    ) -> "Item":
        """Keep the code as the value and the rest as attributes."""
        member = object.__new__(cls)
        member._value_ = code
        member.component, member.text, member.depends_on, member.vital = component, text, depends_on, vital
        member.visible, member.clear, member.silent = times
        return member

    @property
    def code(self) -> str:
        """The stable code, for example `tun.interface`."""
        return str(self.value)

    CONTROL = ("node.control", "control", "control reports", (), (2.0, 2.0, 30.0), True)
    PROCESSES = ("node.processes", "supervisor", "processes stay up", (), (0.0, 10.0, 60.0), False)
    SUPERVISOR = (
        "node.supervisor", "supervisor", "the supervisor looks after its processes", (), (2.0, 2.0, 30.0), False,
    )  # fmt: skip
    PROGRESS = (
        "node.progress", "supervisor", "processes make progress", ("node.supervisor",), (2.0, 2.0, 30.0), False,
    )  # fmt: skip
    LANES = ("node.lanes", "data", "every lane has a process of its own", (), (2.0, 4.0, 30.0), False)
    CRYPTO = ("crypto.self_test", "crypto", "primitives give their known answers", (), (0.0, 5.0, 600.0), True)
    SECURITY = (
        "crypto.security", "crypto", "security with every peer is full", ("crypto.self_test",), (0.0, 5.0, 30.0), False,
    )  # fmt: skip
    INTERFACE = ("tun.interface", "tun", "the interface exists and is up", (), (2.0, 4.0, 30.0), True)
    ADDRESSES = (
        "tun.addresses", "tun", "its addresses and routes are there", ("tun.interface",), (3.0, 4.0, 30.0), True,
    )  # fmt: skip
    CONFLICT = (
        "tun.conflict", "tun", "nobody else has its addresses and routes", ("tun.interface",), (3.0, 4.0, 30.0), True,
    )  # fmt: skip
    TRAFFIC = ("tun.traffic", "data", "lanes take packets from it", ("tun.interface",), (4.0, 6.0, 30.0), True)
    SOCKETS = ("network.sockets", "network", "the kernel takes our datagrams", (), (4.0, 6.0, 30.0), True)
    PEER = (
        "peer", "session", "the peer is connected",
        ("node.control", "crypto.self_test", "tun.interface", "tun.traffic", "network.sockets"), (6.0, 2.0, 30.0), False,
    )  # fmt: skip
    BREAKER = ("resilience.breaker", "resilience", "no breaker is held by an operator", (), (0.0, 2.0, 60.0), False)
    CLOCK = ("host.clock", "host", "the wall clock is steady", (), (0.0, 60.0, 120.0), False)
    DISK = ("host.disk", "host", "the state folder has room", (), (4.0, 6.0, 60.0), False)
    RECORDS = ("telemetry.records", "telemetry", "records are written", ("host.disk",), (5.0, 6.0, 60.0), False)
    LINK = ("telemetry.link", "telemetry", "no record is lost on its way", (), (0.0, 60.0, 120.0), False)
    COLLECTOR = ("telemetry.collector", "telemetry", "the collector takes records", (), (10.0, 6.0, 600.0), False)
    CRASH_REPORTS = (
        "telemetry.crash_reports", "telemetry", "the crash server takes reports", (), (10.0, 6.0, 600.0), False,
    )  # fmt: skip
    DESCRIPTORS = ("host.descriptors", "host", "descriptors are left", (), (4.0, 10.0, 60.0), False)
    PROCESSOR = ("host.processor", "host", "event loops get their turn in time", (), (3.0, 10.0, 60.0), False)
    MEMORY = ("host.memory", "host", "memory is as expected", (), (10.0, 30.0, 60.0), False)


BY_CODE: Final = {item.code: item for item in Item}
"""Every item by its code."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An item as it is shown. `since`: when it was first observed so. `key`: which one, where there are several."""

    item: Item
    key: str
    state: State
    since: float
    reason: Reason | None = None
    evidence: str = ""
    suppressed_by: str = ""

    @property
    def name(self) -> str:
        """The item's code, with its key."""
        return f"{self.item.code}:{self.key}" if self.key else self.item.code


@dataclass(frozen=True, slots=True)
class Change:
    """An item whose shown state became another one; not told while it is suppressed."""

    finding: Finding
    before: State


@dataclass(slots=True)
class _Tracked:
    """One item with one key. `at_least[n]`: since when it was observed at least so bad; `at_most[n]`: at most so bad."""

    item: Item
    key: str
    shown: State = State.UNKNOWN
    since: float = 0.0
    observed_at: float | None = None
    at_least: list[float | None] = field(default_factory=lambda: [None] * 3)
    at_most: list[float | None] = field(default_factory=lambda: [None] * 3)
    reasons: dict[State, tuple[Reason | None, str]] = field(default_factory=dict)
    told: State = State.UNKNOWN
    spoke: bool = False
    cause_until: float | None = None

    def observe(self, state: State, reason: Reason | None, evidence: str, now: float, limits: Limits) -> None:
        """Take one observation."""
        self.settle(now, limits)
        first = self.observed_at is None
        self.observed_at = now
        self.reasons[state] = (reason, evidence)
        rank = _RANK[state]
        for level in range(3):
            self.at_least[level] = _streak(self.at_least[level], now) if rank >= level else None
            self.at_most[level] = _streak(self.at_most[level], now) if rank <= level else None
        if first and state is State.OK:
            self.shown, self.since = State.OK, now  # nothing is known to be wrong: no reason to wait
        self.settle(now, limits)

    def settle(self, now: float, limits: Limits) -> None:
        """Bring what is shown up to date."""
        if self.observed_at is None:
            return
        if now - self.observed_at > max(self.item.silent, _MISSED * limits.interval):
            self._forget(now)
            return
        current = _RANK.get(self.shown)
        visible, clear = self.item.visible * limits.fail_scale, self.item.clear * limits.recover_scale
        worse = max((n for n in (1, 2) if self._held(self.at_least[n], visible)), default=0)
        better = min((n for n in (0, 1) if self._held(self.at_most[n], clear)), default=2)
        if worse > (current or 0):
            self._show(worse, self.at_least[worse])
        elif (current is None and better == 0) or (current is not None and better < current):
            self._show(better, self.at_most[better])
        if self.shown is State.FAILING:
            self.cause_until = now + AFTERMATH

    def is_cause(self, now: float) -> bool:
        """Whether what depends on this is a symptom now."""
        return self.cause_until is not None and now < self.cause_until

    def _held(self, since: float | None, seconds: float) -> bool:
        """Whether a streak was seen to last so long: silence after its last observation proves nothing."""
        return since is not None and self.observed_at is not None and self.observed_at - since >= seconds

    def _show(self, rank: int, since: float | None) -> None:
        self.shown = _BY_RANK[rank]
        self.since = since if since is not None else self.since

    def _forget(self, now: float) -> None:
        self.at_least, self.at_most = [None] * 3, [None] * 3
        self.reasons.clear()
        self.observed_at = None
        self.shown, self.since = State.UNKNOWN, now


def _streak(began: float | None, now: float) -> float:
    return now if began is None else began


class Health:
    """Every item of one node. `most_keys` bounds the peers and processes that are tracked of one item."""

    def __init__(self, most_keys: int = 512, limits: Limits = _DEFAULT) -> None:
        self.limits = limits
        self._most_keys = most_keys
        self._tracked: dict[Item, dict[str, _Tracked]] = {item: {} for item in Item}

    def observe(
        self, item: Item, key: str, state: State, reason: Reason | None = None, evidence: str = "", now: float = 0.0
    ) -> None:
        """Take one observation: ok, warning or failing. `reason` and `evidence` say why it is not ok."""
        keys = self._tracked[item]
        if key not in keys:
            if len(keys) >= self._most_keys:
                return
            keys[key] = _Tracked(item, key, since=now)
        keys[key].observe(state, reason, evidence, now, self.limits)

    def keep(self, item: Item, keys: Iterable[str]) -> None:
        """Forget every key of an item that is not among these: peers that are not configured any more."""
        wanted = set(keys)
        self._tracked[item] = {key: each for key, each in self._tracked[item].items() if key in wanted}

    def report(self, now: float) -> tuple[Finding, ...]:
        """Every item that was ever observed, worst first, causes before symptoms."""
        self._settle(now)
        found = [self._finding(each, now) for keys in self._tracked.values() for each in keys.values()]
        order = list(Item)
        return tuple(
            sorted(
                found, key=lambda f: (bool(f.suppressed_by), _WORST_FIRST.index(f.state), order.index(f.item), f.key)
            )
        )

    def changes(self, now: float) -> tuple[Change, ...]:
        """What changed since the last call and is not suppressed; each change is told once."""
        self._settle(now)
        found = []
        for each in [each for keys in self._tracked.values() for each in keys.values()]:
            finding = self._finding(each, now)
            if finding.suppressed_by or each.told is each.shown:
                continue
            if each.spoke or each.shown is not State.OK:  # that a thing is well from the start is no news
                found.append(Change(finding, each.told))
                each.spoke = True
            each.told = each.shown
        return tuple(found)

    def _settle(self, now: float) -> None:
        for keys in self._tracked.values():
            for each in keys.values():
                each.settle(now, self.limits)

    def _finding(self, each: _Tracked, now: float) -> Finding:
        reason, evidence = each.reasons.get(each.shown, (None, ""))
        suppressed = "" if each.shown is State.OK else self._cause(each.item, now)
        return Finding(each.item, each.key, each.shown, each.since, reason, evidence, suppressed)

    def _cause(self, item: Item, now: float) -> str:
        """The first item that is failing among those that this one depends on, the deepest."""
        for code in item.depends_on:
            above = BY_CODE[code]
            if any(each.is_cause(now) for each in self._tracked[above].values()):
                return self._cause(above, now) or code
        return ""


def overall(findings: Iterable[Finding]) -> State:
    """The state of the node: its worst item, where only vital ones can fail it."""
    worst = State.OK
    for each in findings:
        if each.suppressed_by or each.state is State.OK:
            continue
        if each.item.vital and each.state is State.FAILING:
            return State.FAILING
        if each.state is State.UNKNOWN and not each.item.vital:
            continue
        worst = State.WARNING
    return worst
