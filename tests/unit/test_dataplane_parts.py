"""The small parts of a lane: messages, counters, inner checks, ICMP, the loop and its boundary."""

import os
import socket
import struct
import subprocess
import sys

import dataplane_rig as rig
import msgspec
import pytest

from lab.waiting import wait_for
from pqvpn.crypto.aead import Aead, transport_nonce
from pqvpn.crypto.secret import Secret
from pqvpn.dataplane import commands, events, start
from pqvpn.dataplane.counters import LANE_WORDS, SIZE, Counters, Field, Total, slot_base, tag_of
from pqvpn.dataplane.engine import Nonces, sealer
from pqvpn.dataplane.events import Held, Offloads
from pqvpn.dataplane.icmp import IcmpLimit, prohibited, too_big
from pqvpn.dataplane.inner import complete_checksum, length_of, merge_ecn, sum_words, transport_of
from pqvpn.dataplane.links import ControlLink
from pqvpn.drops import DropReason
from pqvpn.host import stacks
from pqvpn.host.tun import open_tun
from pqvpn.host.udp import open_group
from pqvpn.wire.address import Address

HERE = Address(b"\x7f\0\0\1", 9)
NOT_UTF8 = commands.encode(commands.Report()).replace(b"Report", b"\xff\xfeport")
COMMANDS = [
    rig.routes(),
    rig.install(0, endpoint=HERE, source=b"\x7f\0\0\1", budget=5),
    commands.SelectSession(1, 0),
    commands.SelectSession(1, commands.NO_SLOT, True),
    commands.SetEndpoint(0, HERE, None, 3),
    commands.EraseSession(3),
    commands.SendFrame(0, 1, b"x", 100, HERE, bytes(16)),
    commands.SetPathMtu(1, 1300),
    commands.Report(),
    commands.Begin(),
    commands.Stop(),
]
EVENTS = [
    events.LaneReady(1, Offloads(udp_gro=False)),
    events.FirstAuthenticated(1),
    events.Roamed(1, HERE, None, 99),
    events.ControlFrame(1, b"\1", HERE, b"\x7f\0\0\1"),
    events.WantSession(7),
    events.KeysWorn(1),
    events.StrayDatagram(b"\1", HERE, None),
    events.Holding(0, (Held(0, 1, 2, 3, 1, 1, 0, 1432, HERE, None, 1.5, bytes(16), bytes(32), True, True),)),
    events.LaneFault(0, "ValueError x.py:1", 1),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: type(c).__name__)
def test_commands_survive_the_wire(command: commands.Command) -> None:
    assert commands.decode(commands.encode(command)) == command


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
def test_events_survive_the_wire(event: events.Event) -> None:
    assert events.decode(events.encode(event)) == event


def test_messages_that_are_none() -> None:
    with pytest.raises(msgspec.DecodeError):
        commands.decode(b"\xc1")
    with pytest.raises(ValueError, match="utf-8"):
        commands.decode(NOT_UTF8)
    with pytest.raises(ValueError, match="bytes"):
        commands.encode(commands.SendFrame(0, 1, bytes(commands.MAX_MESSAGE)))


@pytest.mark.parametrize("bad", [b"\xc1", b"\x91", b"\x92\xaaSetPathMtu\xa1x", NOT_UTF8])
def test_what_is_no_command_is_left_out(bad: bytes) -> None:
    """Nothing is raised past the link, and the command behind it is not lost."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = ControlLink(theirs.detach())
    with ours:
        for message in (bad, commands.encode(commands.Report())):
            ours.send(message)
        assert link.commands() == [commands.Report()]
        link.close()


def test_activity_is_summed_over_lanes_of_the_same_session() -> None:
    fd = Counters.create()
    counters = Counters(fd)
    other = Counters(fd)
    os.close(fd)
    assert SIZE > 16 * LANE_WORDS * 8
    for lane, session in ((0, b"a" * 16), (1, b"a" * 16), (2, b"b" * 16)):
        base = slot_base(lane, 1023)
        counters.words[base + Field.TAG] = tag_of(session)
        counters.words[base + Field.RX_BYTES] = 10
        counters.words[base + Field.LAST_SENT_DATA] = (lane + 1) * 10**9
    found = other.activity(1023, b"a" * 16)
    assert (found.rx_bytes, found.last_sent_data) == (20, 2.0)
    assert other.activity(1023).rx_bytes == 30
    assert other.resume_at(2, 1023, b"a" * 16) == (0, 0)
    counters.words[3] = 2
    counters.words[LANE_WORDS + 3] = 5
    assert other.drops()[3] == 7
    assert other.lane_drops(1)[3] == 5
    counters.close()
    other.close()


def test_nonces_are_the_protocols() -> None:
    iv = bytes(range(7, 19))
    table = Nonces()
    pattern = table.pattern(iv)
    for first, count in ((0, 64), (60, 10), (1, 1), (126, 64), ((1 << 32) - 3, 64), ((1 << 60) - 64, 64)):
        got = [bytes(n) for n in table.take(pattern, first, count)]
        assert got == [transport_nonce(iv, first + i) for i in range(count)]
    changed = table.pattern(bytes(12))
    assert bytes(table.take(changed, 5, 1)[0]) == transport_nonce(bytes(12), 5)


def test_engines_refuse_what_is_no_key() -> None:
    for iv, policy, key in ((bytes(8), 0, 32), (bytes(12), 2, 32), (bytes(12), 0, 31)):
        with pytest.raises(ValueError, match=r"iv|key"):
            sealer(Aead.AES_256_GCM, policy, Secret(bytes(key)), iv)


def test_inner_lengths() -> None:
    packet = rig.udp(b"x")[10:]
    assert length_of(packet, 0, len(packet)) == len(packet)
    assert length_of(packet, 0, len(packet) + 9) == len(packet)
    assert length_of(packet, 0, len(packet) - 1) == 0
    assert length_of(bytes([0x44]) + packet[1:], 0, len(packet)) == 0
    assert length_of(bytes([0x55]) + packet[1:], 0, len(packet)) == 0
    six = rig.udp(b"x", v6=True)[10:]
    assert length_of(six, 0, len(six)) == len(six)
    assert length_of(six[:4] + b"\0\0" + six[6:], 0, len(six)) == 0


def test_extension_headers_are_followed_and_bounded() -> None:
    source, target = rig.addresses(True)
    udp = rig.udp(b"x", v6=True)[50:]
    one = rig.ip(source, target, 0, bytes([17, 0]) + bytes(6) + udp)
    assert transport_of(one, 0, len(one)) == (17, 48)
    endless = rig.ip(source, target, 0, (bytes([0, 0]) + bytes(6)) * 20)
    assert transport_of(endless, 0, len(endless))[0] == -1
    fragment = rig.ip(source, target, 44, bytes([17, 0]) + bytes(6) + udp)
    assert transport_of(fragment, 0, len(fragment))[0] == -1
    cut = rig.ip(source, target, 0, bytes([0]))
    assert transport_of(cut, 0, len(cut))[0] == -1


def test_sums() -> None:
    for data in (b"", b"\1", b"\xff\xff", bytes(6), os.urandom(1431), b"\xff" * 40):
        assert ~sum_words(data) & 0xFFFF == rig.checksum(data)
    frame = rig.udp(b"odd")
    packet = bytearray(frame[10:])
    complete_checksum(packet, 0, len(packet), 20, 6)
    assert bytes(packet) == rig.segments(frame)[0]
    assert merge_ecn(packet, 0, 0)


def test_icmp_never_answers_icmp_errors_multicast_or_fragments() -> None:
    source, target = rig.addresses(False)
    assert prohibited(rig.ip(source, target, 1, b"\3" + bytes(7))) is None
    assert prohibited(rig.ip(source, target, 1, b"\x08" + bytes(7))) is not None
    assert prohibited(rig.ip(source, b"\xe0\0\0\1", 17, bytes(8))) is None
    assert prohibited(rig.ip(source, target, 17, bytes(8), frag=5)) is None
    assert prohibited(b"\x45") is None
    six, seven = rig.addresses(True)
    assert too_big(rig.ip(six, seven, 58, b"\1" + bytes(7)), 1280) is None
    assert too_big(rig.ip(six, b"\xff" + bytes(15), 17, bytes(8)), 1280) is None
    answer = too_big(rig.ip(six, seven, 17, bytes(3000)), 1280)
    assert answer is not None
    assert len(answer) == 1280
    assert len(prohibited(rig.ip(source, target, 17, bytes(3000))) or b"") == 576


def test_icmp_is_limited() -> None:
    limit = IcmpLimit()
    assert sum(limit.allow(10**12) for _ in range(100)) == 20
    assert sum(limit.allow(10**12 + 10**8) for _ in range(100)) == 5


def test_an_inner_checksum_in_a_tunnel_is_finished_here() -> None:
    source, target = rig.addresses(False)
    inner = rig.udp(b"deep")[10:]
    packet = rig.ip(source, target, 4, inner)
    with rig.pair() as (a, b):
        a.out(struct.pack("<BBHHHH", 1, 0, 0, 0, 40, 6) + packet)
        (frame,) = b.come()
        assert frame[:10] == bytes(10)
        assert frame[30:] == rig.segments(rig.udp(b"deep"))[0]


def test_a_fault_costs_one_burst_and_is_told() -> None:
    with rig.pair() as (a, _):
        worker = a.worker
        for _ in range(3):
            try:
                raise KeyError("packet contents must not be told")
            except KeyError as e:
                worker._fault(e)
        (event,) = a.events()
        assert isinstance(event, events.LaneFault)
        assert event.where.startswith("KeyError test_dataplane_parts.py:")
        assert a.drops() == {"INTERNAL": 3}
        assert a.counters.totals(0)["faults"] == 3
        a.out(rig.udp(b"goes on"))
        assert a.counters.totals(0)["udp_sends"] == 1


def test_bad_installs_are_faults_and_foreign_slots_ignored() -> None:
    with rig.pair() as (a, _):
        with pytest.raises(ValueError, match="key"):
            a.do(rig.install(0, send_key=b"short"))
        a.do(rig.install(0, slot=5000), commands.SetEndpoint(9, HERE, None), commands.SendFrame(9, 3, b""))
        assert list(a.worker.lane.sessions) == [0]
        assert a.drops() == {"NO_SESSION": 1}


@pytest.mark.netns
def test_a_lane_process_runs_obeys_and_ends_with_its_link() -> None:
    tun = open_tun("pqlanetest", 1)
    udp = open_group(0, 1)
    memory = Counters.create()
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link, their_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fds = (tun.queues[0], udp.sockets[1].fileno(), theirs.fileno(), memory, their_link.fileno())
    start.send(
        link,
        start.Start(
            lane=0, lanes=1, tun=fds[0], udp=fds[1], control=fds[2], counters=memory, crossover=(-1,),
            offloads=Offloads(), mtu=1432, ipv6=udp.ipv6,
        ),
    )  # fmt: skip
    given = (their_link.fileno(), words := stacks.make())
    child = subprocess.Popen([sys.executable, "-m", "pqvpn.dataplane", *map(str, given)], pass_fds=given)
    try:
        control.settimeout(20)
        assert events.decode(control.recv(1 << 16)) == events.LaneReady(0, Offloads())
        control.send(commands.encode(commands.Report()))
        assert events.decode(control.recv(1 << 16)) == events.Holding(0, ())
        counters = Counters(memory)
        assert counters.totals(0)["pid"] == child.pid
        with open(f"/proc/{child.pid}/maps") as maps:
            assert "pydantic" not in maps.read()
        link.send(b"?")
        wait_for("a sign of progress", lambda: counters.progress("lane-0"))
        child.send_signal(stacks.ASK)
        wait_for("its stacks", lambda: "in run" in stacks.read(words))
        their_link.close()
        link.close()
        assert child.wait(10) == 0
        assert counters.words[Total.PID] == 0
        assert counters.drops()[DropReason.INTERNAL] == 0
        counters.close()
    finally:
        child.kill()
        child.wait()
        tun.close()
        udp.close()
        os.close(memory)
        os.close(words)
        for sock in (control, theirs, link, their_link):
            sock.close()
