"""The driver between the world and the core: every record carries whose it is, and what fails stays where it failed."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pqvpn.control import supervision
from pqvpn.control.process import ControlProcess
from pqvpn.control.supervision import ControlStart, PeerSpec
from pqvpn.control.whose import NOBODY
from pqvpn.crypto.secret import Secret
from pqvpn.crypto.xwing import PrivateKey
from pqvpn.dataplane import commands, events
from pqvpn.dataplane.counters import Counters
from pqvpn.drops import DropReason
from pqvpn.facts import (
    AnswerVerified,
    Crashed,
    CryptoChecked,
    Fact,
    HandshakeCompleted,
    HandshakeSent,
    HandshakeStarted,
    IcmpReceived,
    InnerRefused,
    NodeObserved,
    PeerObserved,
    PeerStateChanged,
    Problem,
)
from pqvpn.host.clock import now
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Transmit
from pqvpn.protocol.settings import NodeSettings, PeerSettings, Timers
from pqvpn.reasons import Reason
from pqvpn.resilience.registry import Action, Kind
from pqvpn.telemetry import context
from pqvpn.wire.address import Address

OURS, THEIRS = b"o" * 32, b"t" * 32
SEEDS = {OURS: b"1" * 32, THEIRS: b"2" * 32}


def public(peer_id: bytes) -> bytes:
    return PrivateKey(Secret(SEEDS[peer_id])).public


class Rig:
    """A control process with real sockets; the test is its lane, its supervisor and, with a core, its peer."""

    def __init__(self) -> None:
        self.told: list[tuple[Fact, context.Context]] = []
        self.worked: dict[type[Fact], float] = {}
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.setblocking(False)
        self.at = Address.from_socket(self.peer.getsockname())
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.udp.bind(("127.0.0.1", 0))
        self.source = Address.from_socket(self.udp.getsockname())
        self.lane, lane_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.lane.setblocking(False)
        self.icmp, icmp_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.link, control_end = supervision.link()
        self.folder = f"\0pqvpn-test-{os.getpid()}-{id(self)}"
        api = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        api.bind(self.folder)
        api.listen(1)
        spec = PeerSpec(
            THEIRS, "beta", public(THEIRS), None, (str(self.at),), ("10.7.0.2/32",), None, True, False, None
        )
        start = ControlStart(
            "alpha", OURS, SEEDS[OURS], None, b"b" * 8, (spec,), Timers(), 1, 1432, "pqvpn0", ("10.7.0.1/24",),
            self.source.port, "info", False, False, True, self.udp.fileno(), False, api.detach(), Counters.create(),
            (lane_end.detach(),), events.Offloads(), os.getpid(), now(), False,
        )  # fmt: skip
        self.process = ControlProcess(start, control_end, self._told)
        self.process._icmp = [icmp_end]
        self.core = Core(NodeSettings(THEIRS, Secret(SEEDS[THEIRS])), os.urandom, now())
        self.core.set_peers((PeerSettings(OURS, "alpha", public(OURS), endpoints=(self.source,), trace=True),), now())
        self.udp.detach()

    def close(self) -> None:
        """What outlives a control process: its descriptors are the supervisor's, which is the test."""
        process = self.process
        for sock in (self.peer, self.lane, self.icmp, self.link, process.udp, process.link, *process._icmp):
            sock.close()
        process.counters.close()
        os.close(process.start.counters)

    def _told(self, fact: Fact) -> None:
        self.told.append((fact, context.current()))
        self.worked[type(fact)] = context.worked()

    def answer(self) -> int:
        """Let the peer answer what came in; how many datagrams that were."""
        count = 0
        while True:
            try:
                data, source = self.peer.recvfrom(2048)
            except BlockingIOError:
                return count
            count += 1
            for effect in self.core.receive(data, Address.from_socket(source), None, now()):
                if isinstance(effect, Transmit):
                    self.peer.sendto(effect.datagram, (effect.to.host(), effect.to.port))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    def facts(self, kind: type[Fact]) -> list[Any]:
        return [fact for fact, _ in self.told if isinstance(fact, kind)]

    def whose(self, kind: type[Fact]) -> set[tuple[str, str, str]]:
        return {(here.session_id, here.peer, here.trace_id) for fact, here in self.told if isinstance(fact, kind)}


def scenario(check: Callable[[Rig], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    async def run() -> None:
        rig = Rig()
        running = asyncio.create_task(rig.process.run())
        try:
            await check(rig)
        finally:
            rig.process.ended.set()
            await running
            rig.close()

    return lambda: asyncio.run(run())


async def connect(rig: Rig) -> str:
    """The session's ID after an undisturbed handshake."""

    def verified() -> bool:
        rig.answer()
        return bool(rig.facts(AnswerVerified))

    await rig.until(verified)
    (slot,) = rig.process.lanes.book
    rig.lane.send(events.encode(events.FirstAuthenticated(slot)))
    await rig.until(lambda: rig.facts(HandshakeCompleted))
    return rig.process.lanes.book[slot].session.session_id.hex()


@scenario
async def test_records_of_an_attempt_carry_it_and_its_peer(rig: Rig) -> None:
    session_id = await connect(rig)
    (started,) = rig.facts(HandshakeStarted)
    assert started.trigger == "start"
    assert rig.whose(HandshakeStarted) == {("", "beta", started.attempt)}
    assert rig.whose(HandshakeSent) == {("", "beta", started.attempt)}
    assert rig.whose(AnswerVerified) == {(session_id, "beta", started.attempt)}
    assert rig.whose(HandshakeCompleted) == {(session_id, "beta", started.attempt)}
    assert rig.facts(HandshakeCompleted)[0].attempt == started.attempt
    assert context.current() == context.Context()
    assert rig.worked[HandshakeStarted] == 0.0, "no datagram brought that about"
    assert 0.0002 < rig.worked[AnswerVerified] < 10.0, "a decapsulation, which takes longer than that anywhere"
    assert context.worked() == 0.0


@scenario
async def test_a_core_that_fails_on_an_answer_is_told_with_the_attempt(rig: Rig) -> None:
    await rig.until(lambda: rig.facts(HandshakeStarted))

    def fail(*_: Any) -> list[Any]:
        raise ZeroDivisionError

    rig.process.core.receive = fail  # type: ignore[method-assign]

    def failed() -> bool:
        rig.answer()
        return bool(rig.facts(Problem))

    await rig.until(failed)
    assert {problem.reason for problem in rig.facts(Problem)} == {Reason.INTERNAL}
    assert rig.whose(Problem) == {("", "beta", rig.facts(HandshakeStarted)[0].attempt)}


@scenario
async def test_a_core_that_fails_on_a_lanes_event_is_told_with_the_session(rig: Rig) -> None:
    session_id = await connect(rig)
    (slot,) = rig.process.lanes.book

    def fail(*_: Any) -> list[Any]:
        raise ZeroDivisionError

    rig.process.core.worn = fail  # type: ignore[method-assign]
    rig.lane.send(events.encode(events.KeysWorn(slot)))
    await rig.until(lambda: rig.facts(Problem))
    assert rig.whose(Problem) == {(session_id, "beta", "")}


@scenario
async def test_an_effect_that_fails_is_told_with_whom_it_was_for_and_ends_its_list_only(rig: Rig) -> None:
    session_id = await connect(rig)
    (slot,) = rig.process.lanes.book

    def fail(_: Any) -> None:
        raise ZeroDivisionError

    rig.process.lanes.select = fail  # type: ignore[method-assign]
    rig.process.do(lambda: rig.process.core.lost(slot, now()))
    assert rig.whose(Problem) == {("", "beta", "")}
    assert session_id
    await rig.until(lambda: rig.facts(NodeObserved))  # the ticks go on


@scenario
async def test_a_strangers_datagram_is_in_nobodys_service(rig: Rig) -> None:
    whose = rig.process.whose
    for datagram in (
        b"",
        b"\x01",
        bytes(16),
        b"\x01\x01\x02" + bytes(13),
        b"\x03" + bytes(59),
        b"\x01\x01\x01" + bytes(1069),
    ):
        assert whose.datagram(datagram) == NOBODY
    assert whose.slot(7) == NOBODY
    assert whose.peer(b"x" * 32) == NOBODY


@scenario
async def test_a_datagram_that_the_kernel_refuses_names_the_peer(rig: Rig) -> None:
    await rig.until(lambda: rig.facts(HandshakeStarted))
    peer = rig.process.core._context.peers[THEIRS]
    peer.endpoints = (Address.parse("240.0.0.1:9"),)
    rig.process.core._attempts.abandon(THEIRS, "test")
    rig.process.do(lambda: rig.process.core.want_session(THEIRS, now()))
    problems = [problem for problem in rig.facts(Problem) if problem.reason is Reason.NO_ROUTE_OUT]
    assert {(problem.peer, problem.detail.split(": ")[0]) for problem in problems} == {("beta", "240.0.0.1:9")}
    assert len(problems) == 1


@scenario
async def test_readings_states_and_self_tests_are_told(rig: Rig) -> None:
    session_id = await connect(rig)
    await rig.until(lambda: any(fact.state == "up" for fact in rig.facts(PeerStateChanged)))
    rig.told.clear()
    await rig.until(lambda: rig.facts(PeerObserved))
    (node, *_), (peer, *_) = rig.facts(NodeObserved), rig.facts(PeerObserved)
    assert set(node.status) == {"version", "node", "processes", "breakers", "drops"}
    assert (peer.peer, peer.status["state"], peer.status["trigger"]) == ("beta", "up", "start")
    assert peer.status["since_seconds"] >= 0
    assert len(peer.status["attempt"]) == 32
    assert rig.whose(PeerObserved) == {(session_id, "beta", "")}
    status = await rig.process.operations.status({})
    assert set(status) == {"version", "node", "processes", "breakers", "drops", "peers"}
    assert set(status["peers"][0]) == set(peer.status)


@scenario
async def test_readings_name_no_host_that_is_looked_up(rig: Rig) -> None:
    """Not even one that the observer was not told of at its start; who asks over the control socket sees it."""
    await connect(rig)  # names are known by then, and which breakers are kept
    registry = rig.process.gates.registry
    registry.get(Kind.DNS, "vault.example.net")
    registry.act("dns/vault.example.net", Action.OPEN)
    rig.told.clear()
    await rig.until(lambda: rig.facts(NodeObserved))
    (row,) = rig.facts(NodeObserved)[0].status["breakers"]
    assert (row["name"], row["state"], row["held"]) == ("dns/<host>", "open", True)
    assert "vault" not in repr(rig.told)
    assert [row["name"] for row in (await rig.process.operations.status({}))["breakers"]] == ["dns/vault.example.net"]


@scenario
async def test_self_tests_of_the_start_are_told(rig: Rig) -> None:
    await rig.until(lambda: rig.facts(CryptoChecked))
    assert rig.facts(CryptoChecked) == [CryptoChecked()]


@scenario
async def test_what_a_lane_refuses_of_a_peer_is_told_with_its_session(rig: Rig) -> None:
    session_id = await connect(rig)
    (slot,) = rig.process.lanes.book
    for event in (
        events.InnerRefused(slot ^ 1, DropReason.BAD_META, 1),
        events.InnerRefused(slot, 63, 1),
        events.InnerRefused(slot, DropReason.SOURCE_NOT_ALLOWED, 7),
    ):
        rig.lane.send(events.encode(event))
    await rig.until(lambda: rig.facts(InnerRefused))
    assert rig.facts(InnerRefused) == [InnerRefused("beta", session_id, "source_not_allowed", 7)]


def icmp(to: Address, source_port: int, code: int = 3) -> bytes:
    """Destination unreachable about a datagram of ours, as a raw socket gives it."""
    inner = b"\x45" + bytes(8) + b"\x11" + bytes(2) + bytes([127, 0, 0, 1]) + to.ip
    inner += source_port.to_bytes(2, "big") + to.port.to_bytes(2, "big") + bytes(4)
    return b"\x45" + bytes(8) + b"\x01" + bytes(10) + bytes([3, code]) + bytes(6) + inner


@scenario
async def test_icmp_is_told_when_it_is_about_a_peer_and_never_acted_upon(rig: Rig) -> None:
    await connect(rig)
    process = rig.process
    process._icmp[0] = _Inet(process._icmp[0])  # type: ignore[call-overload]
    before = (process.lanes.selected(), process.core.peers(0.0), list(process.core.drops))
    for packet in (
        icmp(rig.at, rig.source.port), icmp(rig.at, rig.source.port ^ 1), icmp(Address.parse("192.0.2.9:9"), 9),
        icmp(rig.at, rig.source.port, 99), b"", b"\x45" * 200, icmp(rig.at, rig.source.port),
    ):  # fmt: skip
        rig.icmp.send(packet)
    await rig.until(lambda: rig.facts(IcmpReceived))
    assert rig.facts(IcmpReceived) == [IcmpReceived("beta", "port_unreachable", str(rig.at))]
    after = (process.lanes.selected(), process.core.peers(0.0), list(process.core.drops))
    assert [view.state for view in after[1]] == [view.state for view in before[1]]
    assert (after[0], after[2][DropReason.NO_ROUTE]) == (before[0], 0)


class _Inet:
    """A unix socket that says it is an IPv4 one."""

    family = socket.AF_INET

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def recv(self, size: int) -> bytes:
        return self._sock.recv(size)

    def close(self) -> None:
        self._sock.close()


@pytest.mark.parametrize("kind", [commands.SelectSession, commands.InstallSession])
def test_lanes_are_told_what_was_agreed(kind: type) -> None:
    @scenario
    async def check(rig: Rig) -> None:
        await connect(rig)
        seen = []
        while True:
            try:
                seen.append(commands.decode(rig.lane.recv(commands.MAX_MESSAGE)))
            except BlockingIOError:
                break
        assert any(isinstance(command, kind) for command in seen)

    check()


def canary(*_: Any, **__: Any) -> Any:
    raise RuntimeError("tell-tale")


@scenario
async def test_a_session_that_fails_unexpectedly_ends_and_is_made_anew(rig: Rig) -> None:
    session_id = await connect(rig)
    (slot,) = rig.process.lanes.book
    rig.process.core.worn = canary  # type: ignore[method-assign]
    rig.told.clear()
    rig.lane.send(events.encode(events.KeysWorn(slot)))
    assert await connect(rig) != session_id
    (problem,) = rig.facts(Problem)
    assert (problem.reason, problem.component) == (Reason.INTERNAL, "core")
    assert "tell-tale" not in repr(rig.told)
    (crash,) = rig.facts(Crashed)
    assert (crash.error, crash.handled, crash.process) == ("RuntimeError", True, "control")


@scenario
async def test_a_strangers_datagram_that_fails_ends_no_session(rig: Rig) -> None:
    session_id = await connect(rig)
    rig.process.core.receive = canary  # type: ignore[method-assign]
    rig.peer.sendto(b"\x01" + bytes(1071), (rig.source.host(), rig.source.port))
    rig.peer.sendto(b"\x03" + bytes(59), (rig.source.host(), rig.source.port))
    rig.lane.send(events.encode(events.StrayDatagram(b"\x01" + bytes(1071), rig.at, None)))
    await rig.until(lambda: rig.facts(Problem))
    await asyncio.sleep(0.1)
    assert [entry.session.session_id.hex() for entry in rig.process.lanes.book.values()] == [session_id]


@pytest.mark.parametrize("part", ["core", "counters", "traffic", "watch", "news", "_read_icmp"])
def test_no_part_of_a_tick_ends_the_ticks(part: str) -> None:
    @scenario
    async def check(rig: Rig) -> None:
        await connect(rig)
        process = rig.process
        ticks = process._ticks
        name = {"core": "deadline", "counters": "activity", "traffic": "sample"}.get(part, "tick")
        if part == "_read_icmp":
            process._read_icmp = canary  # type: ignore[method-assign]
        else:
            setattr(getattr(process, part), name, canary)
        await rig.until(lambda: rig.facts(Problem))
        await rig.until(lambda: process._ticks > ticks + 5)
        assert not process.ended.is_set()
        assert {problem.reason for problem in rig.facts(Problem)} == {Reason.INTERNAL}
        assert "tell-tale" not in repr(rig.told)

    check()


@scenario
async def test_a_failing_callback_of_the_loop_ends_nothing(rig: Rig) -> None:
    await connect(rig)
    loop = asyncio.get_running_loop()
    loop.call_soon(canary)
    await rig.until(lambda: rig.facts(Problem))
    assert not rig.process.ended.is_set()
    assert "tell-tale" not in repr(rig.told)
