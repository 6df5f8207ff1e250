"""Facts and readings become observations of health items.

Owns the thresholds and what each fact says about which item. Reads nothing itself: facts are handed over as they come,
the machine's use by whoever looked. What an item then shows is `resilience/health.py`.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pqvpn.facts import (
    ChildEnded,
    ClockJumped,
    CryptoChecked,
    InterfaceObserved,
    NodeObserved,
    PeerObserved,
    RetryWaiting,
    SocketsObserved,
)
from pqvpn.observer.checkbook import Checkbook
from pqvpn.observer.machine import Disk, ProcessUse
from pqvpn.reasons import Reason
from pqvpn.resilience.health import Health, Item, State
from pqvpn.resilience.limits import Limits

PEER_GONE: Final = 15.0
PROBES_MISSED: Final = 3
"""Probes of a path in a row without an answer that are no accident: a path may well lose one packet in ten."""
REFUSED_STANDS: Final = 30.0
"""Seconds for which a refusal of the kernel stands while nothing is tried: senders inside wait longer after each."""
_MOST_PROCESSES: Final = 64
_MOST_ENDS: Final = 100
"""As many as `ends_fail` may be."""

Verdict = tuple[State, Reason | None, str]
_REASONS: Final = {reason.code: reason for reason in Reason}
_PEER_STATES: Final = {"up": State.OK, "connecting": State.WARNING, "stale": State.WARNING, "down": State.FAILING}
_NO_MATTER: Final = (Reason.IDLE, Reason.NO_ENDPOINT)
"""Why a peer may be down without anything being wrong: nobody needs it, or it has not called."""


class Checks:
    """What the observer knows of a node's health. `interval`: seconds between two calls of `check`."""

    def __init__(self, health: Health, now: float, limits: Limits) -> None:
        self._health = health
        self.limits = limits
        self._reported_at = now
        self._peers_at: dict[str, float] = {}
        self._ends: dict[str, deque[float]] = {}
        self._sends: tuple[int, int] | None = None
        self._gone: tuple[str, ...] = ()
        self._refused: tuple[float, State, str] | None = None
        self._drops: Mapping[str, Any] = {}
        self._held: list[Mapping[str, Any]] = []
        self._lost = 0
        self._full = ""  # what records say of a disk without room for them
        self.pids: dict[str, int] = {}

    # -- facts -------------------------------------------------------------------------------------------------------

    def enter(self, book: Checkbook) -> None:
        """Enter into the registry what draws from facts."""
        book.on(NodeObserved, "node", self._observed)
        book.on(PeerObserved, "peer", lambda fact, now: self._peer(fact.peer, fact.status, now))
        book.on(InterfaceObserved, "interface", self._interface)
        book.on(RetryWaiting, "kernel", self._kernel)
        book.on(SocketsObserved, "sockets", lambda fact, _: self._lose(fact.lost))
        book.on(ChildEnded, "processes", self._ended)
        book.on(CryptoChecked, "crypto", lambda fact, now: self._crypto(fact.failed, now))
        book.on(ClockJumped, "clock", self._jumped)

    def _observed(self, fact: NodeObserved, now: float) -> None:
        self._node(fact.status, now)
        self.late("control", fact.lag, now)

    def _ended(self, fact: ChildEnded, now: float) -> None:
        process = fact.process
        if process in self._ends or len(self._ends) < _MOST_PROCESSES:
            self._ends.setdefault(process, deque(maxlen=_MOST_ENDS)).append(now)
            self._process(process, now)

    def _jumped(self, fact: ClockJumped, now: float) -> None:
        self._see(Item.CLOCK, "", State.WARNING, Reason.CLOCK_JUMPED, f"by {fact.seconds:+.1f} s", now)

    def _node(self, status: Mapping[str, Any], now: float) -> None:
        self._reported_at = now
        self._see(Item.CONTROL, "", State.OK, None, "", now)
        node = _table(status.get("node"))
        self._crypto(tuple(str(name) for name in _list(_table(node.get("self_tests")).get("failed"))), now)
        self._lanes(node.get("lanes"), node.get("lanes_running"), now)
        match node.get("security"):
            case "degraded":
                self._see(Item.SECURITY, "", State.WARNING, Reason.SECURITY_DEGRADED, "auth-plaintext is in use", now)
            case "refused":
                self._see(Item.SECURITY, "", State.FAILING, Reason.SELF_TEST_FAILED, "handshakes are refused", now)
            case _:
                self._see(Item.SECURITY, "", State.OK, None, "", now)
        processes = [_table(each) for each in _list(status.get("processes"))][:_MOST_PROCESSES]
        self.pids = {str(p.get("component")): p["pid"] for p in processes if isinstance(p.get("pid"), int)}
        self._drops = _table(status.get("drops"))
        self._held = [_table(row) for row in _list(status.get("breakers"))]

    def _lanes(self, wanted: Any, running: Any, now: float) -> None:
        if not (isinstance(wanted, int) and isinstance(running, int)) or running >= wanted:
            self._see(Item.LANES, "", State.OK, None, "", now)
            return
        state, reason = (State.WARNING, Reason.FEWER_LANES) if running else (State.FAILING, Reason.NO_LANES)
        self._see(Item.LANES, "", state, reason, f"{running} of {wanted} lanes run", now)

    def late(self, process: str, lag: float, now: float) -> None:
        """The longest time, since this was last told, that a process's event loop came to a timer too late."""
        limits = self.limits
        state = _state(lag >= limits.loop_late, lag >= limits.loop_stuck)
        reason = None if state is State.OK else Reason.STARVED
        self._see(Item.PROCESSOR, process, state, reason, f"{process} came {lag:.3f} s late", now)

    def _crypto(self, failed: tuple[str, ...], now: float) -> None:
        state, reason = (State.FAILING, Reason.SELF_TEST_FAILED) if failed else (State.OK, None)
        self._see(Item.CRYPTO, "", state, reason, ", ".join(failed), now)

    def _peer(self, peer: str, status: Mapping[str, Any], now: float) -> None:
        self._peers_at[peer] = now
        state = _PEER_STATES.get(str(status.get("state")), State.WARNING)
        reason = _REASONS.get(str(_table(status.get("reason")).get("code")), Reason.NO_REPLY)
        heard = _heard(status)
        if state is State.OK and _count(status.get("probes_unanswered")) >= PROBES_MISSED:
            self._see(Item.PEER, peer, State.WARNING, Reason.ONE_WAY, heard, now)
        elif state is State.OK or reason in _NO_MATTER:
            self._see(Item.PEER, peer, State.OK, None, heard, now)
        else:
            endpoint = status.get("endpoint")
            tried = f"tried at {endpoint}" if endpoint else "no address"
            self._see(Item.PEER, peer, state, reason, f"{heard}; {tried}", now)

    def _interface(self, seen: InterfaceObserved, now: float) -> None:
        name = seen.interface
        if not seen.exists or not seen.up:
            reason, word = (Reason.TUN_DOWN, "down") if seen.exists else (Reason.TUN_GONE, "gone")
            self._see(Item.INTERFACE, "", State.FAILING, reason, f"{name} is {word}", now)
            return
        self._see(Item.INTERFACE, "", State.OK, None, "", now)
        if seen.missing:
            self._see(Item.ADDRESSES, "", State.FAILING, Reason.TUN_DOWN, f"missing: {', '.join(seen.missing)}", now)
        else:
            self._see(Item.ADDRESSES, "", State.OK, None, "", now)
        if seen.conflict:
            self._see(Item.CONFLICT, "", State.FAILING, Reason.ADDRESS_CONFLICT, seen.conflict, now)
        else:
            self._see(Item.CONFLICT, "", State.OK, None, "", now)

    def _kernel(self, fact: RetryWaiting, now: float) -> None:
        if fact.reason is Reason.KERNEL_SILENT:
            evidence = f"no answer about it, {fact.number} times in a row"
            self._see(Item.INTERFACE, "", State.WARNING, Reason.KERNEL_SILENT, evidence, now)

    # -- readings ----------------------------------------------------------------------------------------------------

    def check(self, now: float, udp_sends: int) -> None:
        """Everything that needs no disk, once an interval. `udp_sends`: datagrams that lanes got rid of, so far."""
        silent = now - self._reported_at
        if silent > self.limits.control_silent:
            self._see(Item.CONTROL, "", State.FAILING, Reason.NOT_REPORTING, f"silent for {silent:.0f} s", now)
        else:
            self._forget_peers(now)
        for process in self.pids:
            self._process(process, now)
        self._sockets(udp_sends, now)
        self._see(
            Item.CLOCK, "", State.OK, None, "", now
        )  # a jump is a fact, and shows for as long as it takes to clear

    def _process(self, process: str, now: float) -> None:
        ends = [at for at in self._ends.get(process, ()) if now - at < self.limits.ends_window]
        if len(ends) < self.limits.ends_warn:
            self._see(Item.PROCESSES, process, State.OK, None, "", now)
            return
        state = State.FAILING if len(ends) >= self.limits.ends_fail else State.WARNING
        evidence = f"{process} ended {len(ends)} times in {self.limits.ends_window:.0f} s"
        self._see(Item.PROCESSES, process, state, Reason.CHILD_RESTARTING, evidence, now)

    def _lose(self, lost: tuple[str, ...]) -> None:
        self._gone = lost

    def _forget_peers(self, now: float) -> None:
        """Peers that control does not speak of any more are not configured any more."""
        self._peers_at = {peer: at for peer, at in self._peers_at.items() if now - at < PEER_GONE}
        self._health.keep(Item.PEER, self._peers_at)

    def _sockets(self, sends: int, now: float) -> None:
        refused = self._drops.get("udp_send", 0)
        before, self._sends = self._sends, (sends, refused)
        if before is None:
            return
        more, lost = sends - before[0], refused - before[1]
        if lost > 0:
            state = State.WARNING if more > 0 else State.FAILING
            self._refused = now, state, f"{lost} datagrams were refused, {more} went out"
        elif more > 0 or (self._refused is not None and now - self._refused[0] > REFUSED_STANDS):
            self._refused = None
        if self._gone:
            evidence = f"shut down: the socket of {', '.join(self._gone)}"
            self._see(Item.SOCKETS, "", State.FAILING, Reason.SOCKET_LOST, evidence, now)
        elif self._refused is not None:
            _, state, evidence = self._refused
            self._see(Item.SOCKETS, "", state, Reason.SEND_REFUSED, evidence, now)
        else:
            self._see(Item.SOCKETS, "", State.OK, None, "", now)

    def processes(self, found: Sequence[ProcessUse], now: float) -> None:
        """What the node's processes take."""
        for process in found:
            self._memory(process.component, process.resident, now)
            if process.descriptors is not None and process.most_descriptors:
                self._descriptors(process.component, process.descriptors, process.most_descriptors, now)
        self._health.keep(Item.MEMORY, (p.component for p in found))
        self._health.keep(Item.DESCRIPTORS, (p.component for p in found))

    def disk(self, use: Disk, now: float) -> None:
        """What a look at the state folder found."""
        if use.refusal:
            self._see(Item.DISK, "", State.FAILING, use.refused, use.refusal, now)
        elif self._full:  # to what is small there may be room
            self._see(Item.DISK, "", State.FAILING, Reason.DISK_FULL, self._full, now)
        elif use.free is not None and use.free < self.limits.disk_free:
            evidence = f"{use.free >> 20} MiB free, {self.limits.disk_free >> 20} MiB wanted"
            self._see(Item.DISK, "", State.WARNING, Reason.DISK_LOW, evidence, now)
        else:
            self._see(Item.DISK, "", State.OK, None, "", now)

    def _memory(self, process: str, resident: int, now: float) -> None:
        limits = self.limits
        state = _state(resident > limits.memory_warns, resident > limits.memory_fails)
        reason, evidence = (None, "") if state is State.OK else (Reason.MEMORY, f"{process} takes {resident >> 20} MiB")
        self._see(Item.MEMORY, process, state, reason, evidence, now)

    def _descriptors(self, process: str, count: int, most: int, now: float) -> None:
        share, limits = count / most, self.limits
        state = _state(share >= limits.descriptors_warn, share >= limits.descriptors_fail)
        reason, evidence = (None, "") if state is State.OK else (Reason.DESCRIPTORS, f"{process} has {count} of {most}")
        self._see(Item.DESCRIPTORS, process, state, reason, evidence, now)

    # -- telemetry itself --------------------------------------------------------------------------------------------

    def link(self, lost: int, now: float) -> None:
        """Facts that processes could not hand over, in total."""
        more, self._lost = lost - self._lost, lost
        if more > 0:
            self._see(Item.LINK, "", State.WARNING, Reason.FACTS_LOST, f"{more} more, {lost} in total", now)
        else:
            self._see(Item.LINK, "", State.OK, None, "", now)

    def records(self, kept: Verdict, hung: float, now: float) -> None:
        """How writing goes. `kept`: what the stores say; `hung`: seconds that the disk has not answered for."""
        if hung > self.limits.disk_hangs:
            evidence = f"the disk has not answered for {hung:.0f} s"
            kept = State.FAILING, Reason.STATE_UNWRITABLE, evidence
        self._full = (kept[2] or Reason.DISK_FULL.text) if kept[1] is Reason.DISK_FULL else ""
        self._see(Item.RECORDS, "", *kept, now)

    def collector(self, sent: Verdict | None, now: float) -> None:
        """How sending to the configured endpoint goes; None: there is none."""
        if sent is not None:
            self._see(Item.COLLECTOR, "", *sent, now)

    def breakers(self, own: Sequence[Mapping[str, Any]], now: float) -> None:
        """What operators hold is told until they let go of it. `own`: those of this process."""
        held = {str(row.get("name")): row for row in (*self._held, *own) if row.get("held")}
        for name, row in held.items():
            evidence = f"held {row.get('state')} in {row.get('process')}"
            self._see(Item.BREAKER, name, State.WARNING, Reason.BREAKER_HELD, evidence, now)
        self._health.keep(Item.BREAKER, held)

    def crash_reports(self, sent: Verdict | None, now: float) -> None:
        """How sending to the configured crash server goes; None: there is none."""
        if sent is not None:
            self._see(Item.CRASH_REPORTS, "", *sent, now)

    def _see(self, item: Item, key: str, state: State, reason: Reason | None, evidence: str, now: float) -> None:
        self._health.observe(item, key, state, reason, evidence, now)


def _state(warns: bool, fails: bool) -> State:
    return State.FAILING if fails else State.WARNING if warns else State.OK


def _heard(status: Mapping[str, Any]) -> str:
    """When the peer was last heard, and whether it answers probes on the path in use."""
    last, rtt, answered = (status.get(k) for k in ("last_received_seconds", "rtt_ms", "probe_answered_seconds"))
    heard = "nothing authenticated came yet" if last is None else f"last authenticated packet {last:.0f} s ago"
    if missed := _count(status.get("probes_unanswered")):
        ever = "none was" if answered is None else f"the last that was {answered:.0f} s ago"
        probes = "1 probe" if missed == 1 else f"{missed} probes"
        return f"{heard}; {probes} of the path unanswered, {ever}"
    if answered is None:
        return heard
    took = "" if rtt is None else f", round trip {rtt:.1f} ms"
    return f"{heard}; probe of the path answered {answered:.0f} s ago{took}"


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
