"""The book of the lanes over real socket pairs: what each lane is told, and told again when it or control was replaced."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from pqvpn.control.lanes import Lanes
from pqvpn.crypto.secret import Secret
from pqvpn.dataplane import commands, events
from pqvpn.dataplane.counters import Counters, Field, slot_base, tag_of
from pqvpn.protocol import effects
from pqvpn.protocol.effects import Role, Session
from pqvpn.wire.address import Address

BETA, GAMMA, DELTA = b"B" * 32, b"G" * 32, b"D" * 32
HERE, THERE = Address.parse("192.0.2.1:51820"), Address.parse("[2001:db8::9]:7")
OFFLOADS = events.Offloads(tun_uso=False)


class World:
    """Control's `Lanes` and the other ends of its links."""

    def __init__(self, lanes: int, memory: int) -> None:
        self.counters = Counters(memory)
        pairs = [self.pair() for _ in range(lanes)]
        self.far = [far for _, far in pairs]
        self.seen: list[tuple[int, events.Event]] = []
        self.arrived = asyncio.Event()
        self.lanes = Lanes([near for near, _ in pairs], self.counters, self._event)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        far.setblocking(False)
        return near, far

    def _event(self, lane: int, event: events.Event) -> None:
        self.seen.append((lane, event))
        self.arrived.set()

    def told(self, lane: int) -> list[commands.Command]:
        """Everything that waits in a lane's link."""
        found = []
        while True:
            try:
                message = self.far[lane].recv(commands.MAX_MESSAGE)
            except BlockingIOError:
                return found
            if not message:
                return found
            found.append(commands.decode(message))

    async def say(self, lane: int, event: events.Event) -> None:
        """A lane's event, until it was handed on."""
        self.arrived.clear()
        self.far[lane].send(events.encode(event))
        async with asyncio.timeout(5):
            await self.arrived.wait()

    def close(self) -> None:
        self.lanes.close()
        for far in self.far:
            far.close()
        self.counters.close()


@pytest.fixture
def memory() -> Iterator[int]:
    fd = Counters.create()
    yield fd
    os.close(fd)


@asynccontextmanager
async def world_of(memory: int, lanes: int = 2) -> AsyncIterator[World]:
    world = World(lanes, memory)
    try:
        yield world
    finally:
        world.close()


def scenario(check: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[int], None]:
    """A test of one world with two lanes."""

    async def run(memory: int) -> None:
        async with world_of(memory) as world:
            await check(world)

    def test(memory: int) -> None:
        asyncio.run(run(memory))

    test.__doc__ = check.__doc__
    return test


def session(slot: int = 5, peer: bytes = BETA, lanes: int = 2, **changes: Any) -> Session:
    values: dict[str, Any] = {
        "slot": slot, "peer_id": peer, "session_id": bytes([slot]) * 16, "role": Role.INITIATOR, "aead": 1, "policy": 0,
        "lanes": lanes, "mtu": 1432, "index_in": 0x100, "index_out": 0x200, "endpoint": HERE, "source": HERE.ip,
        "derived_at": 1.0, "expires_at": 181.0,
    }  # fmt: skip
    return Session(**(values | changes))


def install(one: Session) -> effects.Install:
    def keys(name: bytes) -> tuple[Secret, ...]:
        return tuple(Secret(name * 32 + bytes([lane]) * 12) for lane in range(one.lanes))

    return effects.Install(one, keys(b"r"), keys(b"s"))


def held(one: Session, number: int, *, selected: bool = True) -> events.Held:
    return events.Held(
        one.slot, number, one.index_in | 1, one.index_out | 1, one.lanes, one.aead, one.policy, one.mtu, one.endpoint,
        one.source, one.expires_at, one.session_id, one.peer_id, one.role is Role.INITIATOR, selected,
    )  # fmt: skip


def number_of(world: World, peer: bytes) -> int:
    return next(n for n in range(20) if world.lanes.peer_id(n) == peer)


@scenario
async def test_routes_go_to_every_lane(world: World) -> None:
    world.lanes.configure({BETA: ("10.7.0.2/32", "fd00::/64"), GAMMA: ()})
    for lane in range(2):
        (routes,) = world.told(lane)
        assert isinstance(routes, commands.SetRoutes)
        beta, gamma = routes.peers
        assert beta.prefixes == (
            commands.Prefix(bytes((10, 7, 0, 2)), 32),
            commands.Prefix(b"\xfd" + bytes(15), 64),
        )
        assert gamma.prefixes == ()
        assert world.lanes.peer_id(beta.peer) == BETA


@scenario
async def test_each_lane_gets_its_own_keys_and_indices(world: World) -> None:
    world.lanes.configure({BETA: ()})
    world.lanes.install(install(session()))
    for lane in range(2):
        _, command = world.told(lane)
        assert isinstance(command, commands.InstallSession)
        assert (command.index_in, command.index_out) == (0x100 | lane, 0x200 | lane)
        assert (command.recv_key, command.send_key) == (b"r" * 32, b"s" * 32)
        assert command.recv_iv == command.send_iv == bytes([lane]) * 12
        assert (command.send_counter, command.receive_from) == (0, 0)
        assert (command.endpoint, command.source, command.initiator) == (HERE, HERE.ip, True)


@scenario
async def test_a_lane_outside_the_session_gets_no_keys(world: World) -> None:
    world.lanes.configure({BETA: ()})
    world.lanes.install(install(session(lanes=1)))
    _, inside = world.told(0)
    _, outside = world.told(1)
    assert isinstance(inside, commands.InstallSession)
    assert isinstance(outside, commands.InstallSession)
    assert inside.send_key
    assert (outside.send_key, outside.send_iv, outside.recv_key, outside.recv_iv) == (b"", b"", b"", b"")
    assert (outside.index_in, outside.lanes) == (0x100, 1)


@scenario
async def test_a_replaced_lane_resumes_past_the_reservation(world: World) -> None:
    """LaneReady of a successor: routes, MTU, sessions with counters from shared memory, selections, the end, in this order."""
    one = session()
    world.lanes.configure({BETA: ("10.7.0.2/32",)})
    world.lanes.install(install(one))
    world.lanes.select(effects.SelectForSending(BETA, 5))
    world.lanes.set_path_mtu(effects.SetPathMtu(BETA, 1400))
    world.lanes.move(effects.MoveEndpoint(5, THERE, None, 3000))
    base = slot_base(1, 5)
    world.counters.words[base + Field.TAG] = tag_of(one.session_id)
    world.counters.words[base + Field.SEND_RESERVED] = 4096
    world.counters.words[base + Field.RECEIVE_FROM] = 77
    near, far = World.pair()
    assert world.lanes.replace(1, near) == []
    assert world.far[1].recv(commands.MAX_MESSAGE)  # what the dead one never read stays in its own link
    world.far[1].close()
    world.far[1] = far
    assert world.told(1) == []
    await world.say(1, events.LaneReady(1, OFFLOADS))
    routes, mtu, again, selection, begin = world.told(1)
    assert begin == commands.Begin()
    assert isinstance(routes, commands.SetRoutes)
    assert mtu == commands.SetPathMtu(number_of(world, BETA), 1400)
    assert isinstance(again, commands.InstallSession)
    assert (again.send_counter, again.receive_from) == (4096, 77)
    assert again.send_key == b"s" * 32
    assert (again.endpoint, again.source, again.budget) == (THERE, None, 1500)
    assert selection == commands.SelectSession(number_of(world, BETA), 5)
    assert world.lanes.offloads == {1: OFFLOADS}
    assert world.seen == [(1, events.LaneReady(1, OFFLOADS))]


@scenario
async def test_counters_of_another_session_in_the_slot_are_not_resumed(world: World) -> None:
    world.lanes.configure({BETA: ()})
    world.lanes.install(install(session()))
    base = slot_base(0, 5)
    world.counters.words[base + Field.TAG] = tag_of(b"another session!")
    world.counters.words[base + Field.SEND_RESERVED] = 4096
    world.told(0)
    await world.say(0, events.LaneReady(0, OFFLOADS))
    (again,) = (c for c in world.told(0) if isinstance(c, commands.InstallSession))
    assert (again.send_counter, again.receive_from) == (0, 0)


@scenario
async def test_erased_sessions_are_forgotten(world: World) -> None:
    world.lanes.configure({BETA: ()})
    world.lanes.install(install(session()))
    world.lanes.select(effects.SelectForSending(BETA, 5))
    world.lanes.erase(5)
    assert world.lanes.book == {}
    assert world.lanes.selected() == ()
    assert world.told(0)[-1] == commands.EraseSession(5)
    world.told(1)
    await world.say(1, events.LaneReady(1, OFFLOADS))
    assert [type(c) for c in world.told(1)] == [commands.SetRoutes, commands.Begin]


@scenario
async def test_frames_leave_by_lane_0_from_the_address_named(world: World) -> None:
    world.lanes.send_frame(effects.SendFrame(5, 1, b"\x01" + b"n" * 8, 0, THERE, b"\x7f\0\0\1"))
    assert world.told(0) == [commands.SendFrame(5, 1, b"\x01" + b"n" * 8, 0, THERE, b"\x7f\0\0\1")]
    assert world.told(1) == []


@scenario
async def test_lanes_share_the_budget_of_an_address_not_validated(world: World) -> None:
    world.lanes.configure({BETA: ()})
    world.lanes.install(install(session()))
    world.lanes.move(effects.MoveEndpoint(5, THERE, None, 301))
    told = [world.told(lane)[-1] for lane in range(2)]
    assert told == [commands.SetEndpoint(5, THERE, None, 150)] * 2
    world.lanes.move(effects.MoveEndpoint(5, THERE, None, None))
    assert world.told(0) == [commands.SetEndpoint(5, THERE, None, None)]


@scenario
async def test_a_number_is_never_given_to_a_second_peer(world: World) -> None:
    """A lane keeps session and queue by number: a new peer must not get the packets of a removed one."""
    world.lanes.configure({BETA: (), GAMMA: ()})
    first = number_of(world, BETA)
    world.lanes.configure({GAMMA: (), DELTA: ()})
    assert world.lanes.peer_id(first) is None
    assert number_of(world, DELTA) not in (first, number_of(world, GAMMA))


@scenario
async def test_effects_for_a_peer_just_removed_change_nothing(world: World) -> None:
    world.lanes.configure({BETA: (), GAMMA: ()})
    world.lanes.configure({GAMMA: ()})
    world.told(0)
    world.lanes.select(effects.SelectForSending(BETA, None))
    world.lanes.set_path_mtu(effects.SetPathMtu(BETA, 1280))
    assert world.told(0) == []
    assert [world.lanes.peer_id(n) for n in range(5)] == [None, GAMMA, None, None, None]


@scenario
async def test_adopt_takes_what_lanes_hold_over_without_keys(world: World) -> None:
    one, gone = session(), session(6, DELTA)
    lanes = world.lanes
    reports = [held(one, 3), held(gone, 4)]
    lanes.learn_numbers(reports)
    lanes.configure({GAMMA: (), BETA: ("10.7.0.2/32",)})
    assert number_of(world, BETA) == 3  # as the lanes know it
    assert number_of(world, GAMMA) == 5  # none that a lane may still use
    world.told(0)
    (found,) = lanes.adopt(0, reports)
    assert (found.slot, found.session_id, found.index_in, found.index_out) == (5, one.session_id, 0x100, 0x200)
    assert found.role is Role.INITIATOR
    assert world.told(0) == [commands.EraseSession(6)]  # its peer is not configured any more
    assert lanes.adopt(1, [held(one, 3)]) == []  # known from lane 0
    assert lanes.selected() == (5,)
    assert not lanes.book[5].serves(1)
    world.told(1)
    lanes.bring_up_to_date(1)
    told = world.told(1)
    assert not [c for c in told if isinstance(c, commands.InstallSession)]  # nothing that it does not hold already
    assert told[-2:] == [commands.SelectSession(3, 5), commands.Begin()]
    near, far = World.pair()
    assert [e.session.slot for e in lanes.replace(1, near)] == [5]  # cannot be given to a successor
    world.far[1].close()
    world.far[1] = far


@scenario
async def test_keys_that_lanes_told_serve_their_successors(world: World) -> None:
    one = session()
    lanes = world.lanes
    told_keys = [
        msgspec.structs.replace(held(one, 3), receive=bytes([lane]) * 44, send=bytes([9 - lane]) * 44)
        for lane in (0, 1)
    ]
    lanes.learn_numbers(told_keys)
    lanes.configure({BETA: ("10.7.0.2/32",)})
    lanes.adopt(0, [told_keys[0]])
    near, far = World.pair()
    assert [e.session.slot for e in lanes.replace(1, near)] == [5]  # lane 1 has not told yet
    world.far[1].close()
    world.far[1] = far
    stranger = msgspec.structs.replace(told_keys[1], session_id=b"x" * 16)
    lanes.adopt(1, [stranger])
    assert not lanes.book[5].serves(1)  # keys of another session are not taken for this one's
    lanes.adopt(1, [told_keys[1]])
    near, far = World.pair()
    assert lanes.replace(1, near) == []
    world.far[1].close()
    world.far[1] = far
    lanes.bring_up_to_date(1)
    (command,) = [c for c in world.told(1) if isinstance(c, commands.InstallSession)]
    assert (command.recv_key, command.send_iv) == (bytes([1]) * 32, bytes([8]) * 12)
    assert "\x01" not in repr(told_keys[1])


@scenario
async def test_a_session_without_keys_does_not_bind_lanes_outside_it(world: World) -> None:
    one = session(lanes=1)
    world.lanes.learn_numbers([held(one, 0)])
    world.lanes.configure({BETA: ()})
    world.lanes.adopt(0, [held(one, 0)])
    near, far = World.pair()
    assert world.lanes.replace(1, near) == []
    world.far[1].close()
    world.far[1] = far


@scenario
async def test_a_lane_that_does_not_read_is_brought_up_to_date_later(world: World) -> None:
    world.lanes.configure({BETA: ("10.7.0.2/32",)})
    world.lanes.install(install(session()))
    world.told(1)
    for mtu in range(20_000):
        world.lanes.set_path_mtu(effects.SetPathMtu(BETA, mtu))
        world.told(1)  # the other lane reads
    waiting = len(world.lanes._links[0]._queue)
    assert 0 < waiting <= 8192  # bounded
    while world.lanes._links[0]._queue:
        world.told(0)
        await asyncio.sleep(0)  # let the writer go on
    world.told(0)
    await world.say(0, events.FirstAuthenticated(5))
    told = world.told(0)
    assert told[0] == world.lanes._routes
    assert commands.SetPathMtu(number_of(world, BETA), 19_999) in told
    assert any(isinstance(c, commands.InstallSession) for c in told)
    await world.say(0, events.FirstAuthenticated(5))
    assert world.told(0) == []  # once


@scenario
async def test_a_dead_lane_costs_nothing(world: World) -> None:
    world.far[0].close()
    for _ in range(10):
        world.lanes.configure({BETA: ()})
    assert len(world.lanes._links[0]._queue) == 0
    assert len(world.told(1)) == 10


@scenario
async def test_nonsense_from_a_lane_is_passed_over(world: World) -> None:
    for message in (b"", b"\xc1", b"\x92\xa9LaneReady\xff", b"\x94\xa9LaneFault\x00\xa2\xff\xfe\x01", os.urandom(100)):
        if message:
            world.far[0].send(message)
    await world.say(0, events.WantSession(0))
    assert world.seen == [(0, events.WantSession(0))]
