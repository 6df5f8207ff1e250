"""Several lanes: what reaches the wrong one is handed over, once."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dataplane_rig as rig

from pqvpn.dataplane import commands, events
from pqvpn.dataplane.counters import Counters
from pqvpn.dataplane.events import Offloads
from pqvpn.dataplane.links import parse_datagrams
from pqvpn.host.udp import open_group
from pqvpn.protocol.effects import MoveEndpoint, SendFrame
from pqvpn.protocol.paths import Path
from pqvpn.protocol.settings import Timers
from pqvpn.wire.address import Address


@contextmanager
def node(side: int, lanes: int, steering: bool = True) -> Iterator[list[rig.Side]]:
    """The lanes of one node, joined crosswise, in this process."""
    group = open_group(0, lanes, steering=steering)
    memory = Counters.create()
    ends: dict[tuple[int, int], int] = {}
    for a in range(lanes):
        for b in range(a + 1, lanes):
            one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            ends[a, b], ends[b, a] = one.detach(), two.detach()
    found = [
        rig.Side(
            side, Offloads(steering=steering), group, memory, lane, tuple(ends.get((lane, b), -1) for b in range(lanes))
        )
        for lane in range(lanes)
    ]
    try:
        yield found
    finally:
        for lane in found:
            os.close(lane.worker.lane.tun)
            for sock in (lane.tun, lane.control, lane.link):
                sock.close()
            lane.worker.close()
        group.close()
        os.close(memory)


def agree(left: list[rig.Side], right: list[rig.Side], lanes: int) -> None:
    """A session of `lanes` lanes between two nodes."""
    for side, own, other in ((0, left, right), (1, right, left)):
        to = Address(b"\x7f\0\0\1", other[0].port)
        for number, lane in enumerate(own):
            changes = {} if number < lanes else dict.fromkeys(("recv_key", "recv_iv", "send_key", "send_iv"), b"")
            command = rig.install(side, number, lanes, endpoint=to, **changes)
            lane.do(rig.routes(), command, commands.SelectSession(1, 0))


def cross(lanes: list[rig.Side]) -> None:
    """Let every lane take what the others gave it."""
    for lane in lanes:
        for fd in lane.worker._lanes_by_fd:
            lane.worker._other(fd)


def test_each_lane_speaks_to_its_counterpart() -> None:
    with node(0, 3) as left, node(1, 3) as right:
        agree(left, right, 3)
        for number in range(3):
            left[number].out(rig.udp(bytes([number]) * 30), rig.tcp(bytes(9000), 1380))
            assert len(right[number].come()) == 2
        assert not right[0].drops()


def test_frames_of_a_session_with_fewer_lanes_are_handed_over() -> None:
    with node(0, 3) as left, node(1, 2) as right:
        agree(left, right, 2)
        left[2].out(rig.udp(b"small"), rig.tcp(os.urandom(9000), 1380), rig.udp(b"small"))
        cross(left)
        frames = right[0].come()
        assert sum(len(rig.segments(f)) for f in frames) == 9
        assert left[2].counters.totals(2)["handed_over"] == 3
        assert not left[0].drops()


def test_a_frame_is_handed_over_only_once() -> None:
    with node(0, 2) as left, node(1, 1) as right:
        agree(left, right, 1)
        left[1].worker.outbound.inject(rig.udp(b"x"), handed=True)
        assert left[1].drops() == {"HANDOVER": 1}
        assert right[0].come() == []


def test_datagrams_of_another_lane_are_handed_over() -> None:
    with node(0, 2) as left, node(1, 2, steering=False) as right:
        agree(left, right, 2)
        left[1].out(*[rig.udp(bytes([i]) * 64) for i in range(8)])
        assert right[0].come() == []
        cross(right)
        assert sum(len(rig.segments(f)) for f in right[1].written()) == 8
        assert not right[0].drops()
        assert right[1].worker.lane.sessions[0].to == ("::ffff:127.0.0.1", left[0].port, 0, 0)


def test_lanes_merged_into_one_burst_come_apart() -> None:
    with node(0, 2) as left, node(1, 2) as right:
        agree(left, right, 2)
        packets = []
        for lane in (0, 1):
            left[lane].out(*[rig.udp(bytes([i]) * 64) for i in range(3)])
            data = right[lane].worker.lane.udp.recv(65536)
            packets.append([data[i : i + len(data) // 3] for i in range(0, len(data), len(data) // 3)])
        mixed = b"".join(p for both in zip(*packets, strict=True) for p in both)
        right[0].worker.inbound._wire_view[: len(mixed)] = mixed
        source = right[0].worker.lane.sessions[0].to
        right[0].worker.inbound.take(len(mixed), len(packets[0][0]), 0, source, b"")
        cross(right)
        for lane in right:
            assert sum(len(rig.segments(f)) for f in lane.written()) == 3
        assert not right[0].drops()


def test_all_lanes_together_send_three_times_what_came_from_an_address_not_validated() -> None:
    """Also when the lane that noticed spent its part before control said anything."""
    with (
        node(0, 2) as left,
        node(1, 2) as right,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as away,
    ):
        agree(left, right, 2)
        away.bind(("127.0.0.1", 0))
        away.settimeout(1)
        left[1].out(rig.udp(bytes(1300)))
        packet = right[1].worker.lane.udp.recv(65536)
        away.sendto(packet, ("127.0.0.1", right[0].port))

        def blast(*lanes: rig.Side) -> None:
            for i in range(60 * len(lanes)):
                lanes[i % len(lanes)].out(rig.udp(bytes([i]) * 120))  # one by one: a burst is refused whole

        path, now = Path(0, Address(b"\x7f\0\0\1", left[0].port), None, bytes), 10.0
        assert sum(len(lane.come()) for lane in right) == 1
        (moved,) = [e for lane in right for e in lane.events() if isinstance(e, events.Roamed)]
        blast(right[1])
        effects = path.roamed(moved.source, moved.local, moved.allowed, now)
        while True:
            for effect in effects:
                if isinstance(effect, MoveEndpoint):
                    part = None if effect.budget is None else effect.budget // 2  # as `control.lanes` divides it
                    for lane in right:
                        lane.do(commands.SetEndpoint(0, effect.to, effect.source, part))
                else:
                    assert isinstance(effect, SendFrame)
                    right[0].do(commands.SendFrame(0, effect.kind, effect.body, 0, effect.to, effect.source))
            now = path.deadline(Timers())
            if now > 12.9:
                break
            blast(*right)
            effects = path.tick(Timers(), now)
        away.setblocking(False)
        sizes = []
        with suppress(BlockingIOError):
            while True:
                sizes.append(len(away.recv(65536)))
        assert sizes.count(64) == 3  # challenges
        assert 2 * len(packet) < sum(sizes) <= 3 * len(packet)


def test_a_lane_that_nobody_has_is_a_drop() -> None:
    with node(0, 1) as left, node(1, 1) as right:
        agree(left, right, 1)
        left[0].out(rig.udp(b"x"))
        packet = bytearray(right[0].worker.lane.udp.recv(3000))
        packet[1], packet[4] = packet[1] | 5, packet[4] | 5
        inbound = right[0].worker.inbound
        inbound._wire_view[: len(packet)] = packet
        inbound.take(len(packet), len(packet), 0, right[0].worker.lane.sessions[0].to, b"")
        assert right[0].drops() == {"WRONG_LANE": 1}


def test_where_a_datagram_came_from_survives_the_crossover() -> None:
    with node(0, 2) as left:
        source = ("2001:db8::1", 51820, 0, 0)
        for local in (None, b"\x0a\0\0\1", bytes(range(16))):
            given = memoryview(b"datagrams")
            assert left[0].worker.lane.crossover.hand_datagrams(1, given, 3, 2, source, local)
            message = left[1].worker.lane.crossover.receive(0)
            assert message is not None
            assert parse_datagrams(message, True) == (b"datagrams", 3, 2, source, local)


def test_stray_handshakes_without_steering_reach_control() -> None:
    with node(0, 2, steering=False) as left, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"\1" + bytes(99), ("127.0.0.1", left[0].port))
        left[0].worker.inbound.pump()
        (event,) = left[0].events()
        assert isinstance(event, events.StrayDatagram)
        assert event.source == Address(b"\x7f\0\0\1", stranger.getsockname()[1])
        assert event.local == b"\x7f\0\0\1"
