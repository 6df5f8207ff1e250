"""One round of probes of a control process: what it asks, what it never does, and who may have it repeated."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from test_control_process import Rig, connect, scenario

from pqvpn.control import lookups, probing
from pqvpn.dataplane import commands, events
from pqvpn.facts import PathMtuChanged, PeerStateChanged, RetryWaiting
from pqvpn.host import ways
from pqvpn.protocol import survey
from pqvpn.wire.address import Address
from pqvpn.wire.control import MtuAck, MtuProbe, PathChallenge, PathResponse, parse_frame

LOOPBACK = socket.inet_aton("127.0.0.1")


class Lane:
    """Answers as a peer would whose path carries `limit` bytes."""

    def __init__(self, rig: Rig, limit: int) -> None:
        self.rig, self.limit = rig, limit
        self.challenges = 0

    def answer(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                command = commands.decode(self.rig.lane.recv(commands.MAX_MESSAGE))
                if isinstance(command, commands.SendFrame):
                    self._frame(command)

    def _frame(self, command: commands.SendFrame) -> None:
        frame = parse_frame(command.body.ljust(max(command.pad_to, 24), b"\0"))
        self.challenges += isinstance(frame, PathChallenge)
        if max(command.pad_to, 24) > self.limit:
            return
        if isinstance(frame, PathChallenge):
            self._back(command.slot, PathResponse(frame.nonce).encode())
        elif isinstance(frame, MtuProbe):
            self._back(command.slot, MtuAck(frame.id, frame.size).encode())

    def _back(self, slot: int, body: bytes) -> None:
        self.rig.lane.send(events.encode(events.ControlFrame(slot, body, self.rig.at, None)))


@contextlib.asynccontextmanager
async def peer(rig: Rig, limit: int = 2000) -> AsyncIterator[Lane]:
    """A session whose frames are answered, past its own first search for the path's size."""
    await connect(rig)
    lane = Lane(rig, limit)

    async def serve() -> None:
        while True:
            lane.answer()
            await asyncio.sleep(0.005)

    serving = asyncio.create_task(serve())
    try:
        searches = rig.process.core._context.peers.values()
        await rig.until(lambda: all(p.path_mtu and p.path_mtu.deadline() is None for p in searches))
        await rig.until(lambda: any(told.state == "up" for told in rig.facts(PeerStateChanged)))
        lane.challenges = 0
        yield lane
    finally:
        serving.cancel()


def test_a_peer_that_answers() -> None:
    @scenario
    async def check(rig: Rig) -> None:
        async with peer(rig) as lane:
            told = await rig.process.operations.probe({})
            (found,) = told["peers"]
            assert (found["name"], found["probed"], found["finished"], found["answered"]) == ("beta", True, True, 3)
            assert lane.challenges == survey.CHALLENGES
            assert (found["path_mtu"], found["outside"], found["in_use"]) == (1432, 1500, 1432)
            assert 0 <= found["rtt_ms"] <= found["rtt_most_ms"] < 1000
            assert (found["endpoint"], found["source"], found["interface"]) == (str(rig.at), "127.0.0.1", "lo")
            assert (found["translated"], found["seen"], found["route"]) == ("no", "configured", True)
            assert (told["dns"], told["refused"]) == ([], 0)
            assert [each["family"] for each in told["families"]] == ["ipv4", "ipv6"]
            assert [each["able"] for each in told["families"]] == [True, False], "the rig's socket is AF_INET"

    check()


def test_who_asks_again_gets_what_was_found_and_causes_nothing() -> None:
    @scenario
    async def check(rig: Rig) -> None:
        async with peer(rig) as lane:
            probe = rig.process.operations.probe
            one, other = await asyncio.gather(probe({}), probe({}))
            again = await probe({})
            assert one["peers"] == other["peers"] == again["peers"]
            assert again["age_seconds"] >= one["age_seconds"]
            assert lane.challenges == survey.CHALLENGES
            rig.process.operations.probing._ended -= probing.APART
            await probe({})
            assert lane.challenges == 2 * survey.CHALLENGES

    check()


def test_silence_and_a_narrow_path_change_nothing_that_the_node_goes_by() -> None:
    @scenario
    async def check(rig: Rig) -> None:
        async with peer(rig) as lane:
            process = rig.process
            before, (shown,) = process.breakers(), (await process.operations.status({}))["peers"]
            rig.told.clear()
            lane.limit = 1300
            (narrow,) = (await process.operations.probe({}))["peers"]
            assert 1284 < narrow["path_mtu"] <= 1300
            assert narrow["in_use"] == 1432
            lane.limit = 0
            process.operations.probing._ended -= probing.APART
            (silent,) = (await process.operations.probe({}))["peers"]
            assert (silent["probed"], silent["answered"], silent["path_mtu"]) == (True, 0, None)
            (after,) = (await process.operations.status({}))["peers"]
            for name in ("state", "session_id", "path_mtu", "rtt_ms", "probes_unanswered", "endpoint"):
                assert after[name] == shown[name], name
            assert process.breakers() == before
            assert not [rig.facts(kind) for kind in (RetryWaiting, PathMtuChanged, PeerStateChanged) if rig.facts(kind)]

    check()


def test_a_peer_without_session_gets_nothing() -> None:
    @scenario
    async def check(rig: Rig) -> None:
        await rig.until(lambda: hasattr(rig.process, "operations"))
        (found,) = (await rig.process.operations.probe({}))["peers"]
        assert (found["probed"], found["sent"], found["path_mtu"], found["seen"]) == (False, 0, None, None)

    check()


def test_icmp_is_counted_while_a_round_is_under_way_and_only_about_peers() -> None:
    @scenario
    async def check(rig: Rig) -> None:
        async with peer(rig) as lane:
            lane.limit = 0
            probing_ = rig.process.operations.probing
            probing_.icmp("port_unreachable", rig.at)
            asked = asyncio.create_task(rig.process.operations.probe({}))
            await rig.until(lambda: lane.challenges)
            for to in (rig.at, rig.at, Address.parse("198.51.100.9:9")):
                probing_.icmp("port_unreachable", to)
            (found,) = (await asked)["peers"]
            assert found["icmp"] == [{"kind": "port_unreachable", "count": 2}]

    check()


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_that_hang_keep_nobody_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    release, running, most = threading.Event(), [0], [0]
    lock = threading.Lock()

    def hang(*_: Any, **__: Any) -> list[Any]:
        with lock:
            running[0] += 1
            most[0] = max(running[0], most[0])
        release.wait(10)
        with lock:
            running[0] -= 1
        return [(2, 2, 17, "", ("192.0.2.1", 1)), (2, 2, 17, "", ("192.0.2.1", 1))]

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(lookups, "LASTS", 0.2)
    wanted = [(f"p{n}", f"h{n}.invalid", 1) for n in range(lookups.THREADS + 2)]

    async def check() -> None:
        asking = lookups.Lookups()
        found = await asking.ask(wanted)
        errors = [each["error"] for each in found]
        assert errors == ["no answer within 0 s"] * lookups.THREADS + ["not asked: others gave no answer yet"] * 2
        assert {each["error"] for each in await asking.ask(wanted)} == {"not asked: others gave no answer yet"}
        assert most[0] == lookups.THREADS
        release.set()
        async with asyncio.timeout(10):
            while asking._room.locked():
                await asyncio.sleep(0.01)
        monkeypatch.setattr(lookups, "LASTS", 10.0)
        assert [each["addresses"] for each in await asking.ask(wanted)] == [["192.0.2.1"]] * len(wanted)

    asyncio.run(check())


def test_a_name_that_is_none() -> None:
    (found,) = asyncio.run(lookups.Lookups().ask([("beta", "a" * 70 + ".invalid", 1)]))
    assert (found["peer"], found["addresses"], bool(found["error"])) == ("beta", [], True)


# -- ways --------------------------------------------------------------------------------------------------------------


def test_the_kernel_is_asked_for_the_way() -> None:
    assert ways.to(LOOPBACK) == ways.Way("", "lo", LOOPBACK, False)
    assert ways.to(LOOPBACK, mark=7) == ways.Way("", "lo", LOOPBACK, False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert ways.mark_of(sock) == 0


@pytest.mark.parametrize("answer", [b"", bytes(16), bytes(64), struct.pack("=IHHII", 20, 24, 0, 0, 0) + bytes(4)])
def test_an_answer_that_is_none(answer: bytes) -> None:
    assert ways.read(answer) is None


def test_answers_of_the_kernel() -> None:
    error = struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -101) + bytes(16)
    assert ways.read(error) == ways.Way("Network is unreachable")
    route = struct.pack("=IHHII", 0, 24, 0, 1, 0) + struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 0, 0, 7, 0)
    assert ways.read(route) == ways.Way("unreachable")
    via = (
        struct.pack("=HH4s", 8, 5, b"\xc0\xa8\x01\x01")
        + struct.pack("=HH4s", 8, 7, b"\xc0\xa8\x01\x02")
        + b"\x03\0\0\0"
    )
    assert ways.read(route[:23] + b"\1" + route[24:] + via) == ways.Way("", "", b"\xc0\xa8\x01\x02", True)


@pytest.mark.parametrize(
    ("ours", "theirs", "gateway", "said"),
    [
        ("192.168.1.2", "203.0.113.2", True, "yes"),
        ("100.64.3.4", "203.0.113.2", False, "yes"),
        ("192.168.1.2", "192.168.1.3", False, "no"),
        ("192.168.1.2", "10.0.0.2", True, "unknown"),
        ("203.0.113.1", "203.0.113.2", True, "no"),
        ("fd00::1", "2001:db8::1", True, "yes"),
        ("fd00::1", "203.0.113.2", True, None),
    ],
)
def test_whether_a_nat_is_between(ours: str, theirs: str, gateway: bool, said: str | None) -> None:
    source = Address.parse(f"[{ours}]:1" if ":" in ours else f"{ours}:1").ip
    to = Address.parse(f"[{theirs}]:1" if ":" in theirs else f"{theirs}:1")
    assert probing._translated(source, to, ways.Way("", "eth0", source, gateway)) == said
