"""Everything known about a node at one moment, as one frozen value: what the rules judge.

Owns the value and the questions that rules ask of it. Knows neither files nor sockets (`gather.py`) and no verdict.
Nothing in it can be trusted to be there or to be of the right kind: it may come from a damaged store.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pqvpn.diag.records import Event, as_number, latest, named
from pqvpn.reasons import Reason

NEWS = 30.0
"""Seconds: evidence about a peer counts when it is at most so much older than the newest of it, or than now while the
peer is tried. What still goes on is told at least every 10 s (`pqvpn.protocol.evidence`); what is older was mended."""
_TRIES = ("handshake.started", "handshake.sent", "handshake.failed", "handshake.abandoned")
_EVIDENCE = (
    "handshake.refused", "handshake.answer_refused", "handshake.fragments_lost", "network.icmp", "handshake.failed",
    "resolver.failed",
)  # fmt: skip


@dataclass(frozen=True)
class Peer:
    """One peer: its object of `status` and what was recorded of it, oldest first. `at` is the moment of knowledge."""

    name: str
    at: float
    status: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Event, ...] = ()

    @property
    def state(self) -> str:
        """up, connecting, stale, down; empty when nothing says."""
        told = self.status.get("state")
        return str(told) if told else self._state_told()

    def _state_told(self) -> str:
        event = latest(self.events, "peer.state")
        return event.text("state") if event else ""

    @property
    def up(self) -> bool:
        """Whether there is a session whose packets are answered."""
        return self.state == "up"

    @property
    def reason(self) -> str:
        """The code that `status` gives, or the last that was recorded."""
        told = self.status.get("reason")
        if isinstance(told, Mapping):
            return str(told.get("code") or "")
        event = latest(self.events, "peer.state")
        return event.text("reason") if event and not self.status else ""

    @property
    def endpoint(self) -> str:
        """Where packets go, in words that always fit a sentence."""
        return str(self.status.get("endpoint") or "its address")

    @property
    def silent(self) -> float | None:
        """Seconds since the last authenticated packet, None when there was none or nothing says."""
        told = self.status.get("last_received_seconds")
        return None if told is None else as_number(told)

    @cached_property
    def down_since(self) -> float | None:
        """When it was last seen up; without that, when the first try began after it."""
        last_up: float | None = None
        for event in named(self.events, "peer.state"):
            if event.text("before") == "up":
                last_up = event.time
        completed = latest(self.events, "handshake.completed")
        if last_up is not None and (completed is None or completed.time <= last_up):
            return last_up
        after = completed.time if completed else 0.0
        if completed is not None and self.silent is not None:
            return self.at - self.silent
        tried = next((e.time for e in self.events if e.time > after and e.name in (*_TRIES, *_EVIDENCE)), None)
        return tried if tried is not None else (None if self.silent is None else self.at - self.silent)

    @cached_property
    def recent(self) -> tuple[Event, ...]:
        """Tries and evidence since it was last connected, as far as they are of now."""
        completed = latest(self.events, "handshake.completed")
        after = completed.time if completed else 0.0
        fresh = [event for event in self.events if event.time > after and event.name in (*_TRIES, *_EVIDENCE)]
        tried = self.state in ("connecting", "stale")
        end = self.at if tried else max((event.time for event in fresh), default=0.0)
        return tuple(event for event in fresh if event.time >= end - NEWS)

    @property
    def wanted(self) -> bool:
        """Whether somebody wants a session: one is tried, or was tried since the last one was agreed."""
        last = latest(self.events, "handshake.completed", "handshake.started", "handshake.failed")
        return self.state in ("connecting", "stale") or (last is not None and last.name != "handshake.completed")

    @property
    def idle(self) -> bool:
        """Whether it is not connected because nobody needs it to be; keys that expire unused are no trouble."""
        expired = self.reason == Reason.KEYS_EXPIRED.code and not self.wanted
        return self.state == "down" and (expired or self.reason == Reason.IDLE.code)

    def evidence(self, name: str, **fields: str) -> list[Event]:
        """The recent events of this name whose fields are these."""
        return [e for e in self.recent if e.name == name and all(e.text(k) == v for k, v in fields.items())]


@dataclass(frozen=True)
class Knowledge:
    """What is known. `at` and `now` are unix seconds: of what is known, and of the question.

    `source`: "live", "recorded" (by a node that runs no more, or hangs), "none"; `bundle`: the file it all stands in,
    when it is of another machine or time. `running`: a process holds the node's lock; None where that cannot be told.
    `answers`: the control process answered, `observed`: the observer did. `written`: when the observer last wrote its
    state, 0.0 unknown. `stopped`: why the node ended, when it did so on purpose. `rising`: packets discarded by reason
    in the last minutes. `clock_synchronised` None: the kernel was not asked. `configured_name` is the node's in its file,
    `configuration_errors`: why a node that does not run could not start, if that was tried.
    """

    now: float
    at: float
    source: str = "none"
    running: bool | None = None
    answers: bool = False
    status: Mapping[str, Any] = field(default_factory=dict)
    health: tuple[Mapping[str, Any], ...] = ()
    interface: Mapping[str, Any] = field(default_factory=dict)
    export: Mapping[str, Any] = field(default_factory=dict)
    observed: bool = False
    written: float = 0.0
    stopped: str = ""
    begun: float = 0.0  # when the node began to start, where no record of that start exists yet
    events: tuple[Event, ...] = ()
    rising: Mapping[str, float] = field(default_factory=dict)
    clock_synchronised: bool | None = None
    configured_name: str = ""
    configuration_errors: tuple[str, ...] = ()
    bundle: str = ""
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to judge by."""
        return not (self.status or self.events or self.health)

    @property
    def age(self) -> float:
        """Seconds between what is known and the question."""
        return max(0.0, self.now - self.at)

    @property
    def node(self) -> Mapping[str, Any]:
        """The `node` object of the status, empty when it is not known."""
        return mapping(self.status.get("node"))

    @property
    def name(self) -> str:
        """What the node calls itself."""
        return str(self.node.get("name") or self.configured_name or "this node")

    @property
    def interface_name(self) -> str:
        """The tunnel's interface."""
        return str(self.interface.get("interface") or self.node.get("interface") or "the interface")

    @cached_property
    def peers(self) -> tuple[Peer, ...]:
        """The configured peers by name; without a status, those that something was recorded of."""
        known = {str(peer.get("name")): peer for peer in mappings(self.status.get("peers"))}
        of_peer: dict[str, list[Event]] = {name: [] for name in known}
        for event in self.events:
            if event.peer and (event.peer in of_peer or not known):
                of_peer.setdefault(event.peer, []).append(event)
        return tuple(Peer(name, self.at, known.get(name, {}), tuple(of_peer[name])) for name in sorted(of_peer))

    def within(self, seconds: float, *names: str) -> list[Event]:
        """Events of these names in the last seconds of what is known."""
        return [event for event in named(self.events, *names) if event.time >= self.at - seconds]

    def last(self, *names: str) -> Event | None:
        """The newest event of one of these names."""
        return latest(self.events, *names)


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` when it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """The mappings among the elements of a list."""
    return (each for each in value if isinstance(each, Mapping)) if isinstance(value, Sequence) else iter(())


def texts(value: Any) -> tuple[str, ...]:
    """The texts of a list; nothing when it is none."""
    return tuple(str(each) for each in value) if isinstance(value, list | tuple) else ()
