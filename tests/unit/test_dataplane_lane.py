"""A lane from TUN frame to TUN frame: what goes in at one end comes out at the other, on every path."""

import os
import struct
import time

import dataplane_rig as rig
import pytest

from pqvpn.dataplane import commands, events, sending
from pqvpn.dataplane.counters import Counters
from pqvpn.dataplane.events import Offloads
from pqvpn.protocol.unvalidated import divide, earned
from pqvpn.wire.address import Address
from pqvpn.wire.transport import HEADER

FRAMES = {
    "one udp": [rig.udp(b"hello")],
    "one udp6": [rig.udp(b"hello", v6=True)],
    "complete checksum": [rig.udp(b"whole", partial=False)],
    "equal udp": [rig.udp(bytes([i]) * 64) for i in range(40)],
    "equal udp6": [rig.udp(bytes([i]) * 64, v6=True) for i in range(40)],
    "tiny udp": [rig.udp(bytes([i])) for i in range(64)],
    "mixed udp": [rig.udp(bytes([i]) * (40 + i * 37 % 49)) for i in range(64)],
    "two flows": [rig.udp(bytes([i]) * 64, sport=1000 + i % 2) for i in range(20)],
    "without DF": [rig.udp(bytes([i]) * 64, frag=0, ident=100 + i) for i in range(9)],
    "large and small": [rig.udp(os.urandom(n)) for n in (1400, 3, 1404, 1404, 1404, 8)],
    "tcp": [rig.tcp(os.urandom(44 * 1380), 1380, options=b"\1\1\x08\x0a12345678")],
    "tcp6": [rig.tcp(os.urandom(20000), 1360, v6=True)],
    "tcp, padded segments": [rig.tcp(os.urandom(30001), 1001)],
    "tcp, longer than one run": [rig.tcp(os.urandom(65000), 600)],
    "tcp, sequence wraps": [rig.tcp(os.urandom(20000), 1380, seq=0xFFFFF000)],
    "tcp without DF": [rig.tcp(os.urandom(9000), 1300, frag=0, ident=65530)],
    "tcp, one byte over": [rig.tcp(os.urandom(2761), 1380)],
    "tcp then small": [rig.tcp(os.urandom(9000), 1380), rig.udp(b"x"), rig.tcp(os.urandom(9000), 1380), rig.udp(b"y" * 1400)],
    "shapes take turns": [rig.tcp(os.urandom(9000), m) for m in (1380, 1000, 1380, 990)],
    "uso": [rig.uso(os.urandom(40000), 1200)],
    "uso6": [rig.uso(os.urandom(12345), 1200, v6=True)],
    "uso, tiny": [rig.uso(os.urandom(900), 20)],
    "ecn": [rig.tcp(os.urandom(9000), 1380, tos=2), rig.udp(b"x", tos=1), rig.udp(b"x", tos=3)],
}  # fmt: skip
EVERYTHING = Offloads()
PATHS = {
    "all": EVERYTHING,
    "no udp gso": Offloads(udp_gso=False),
    "no udp gro": Offloads(udp_gro=False),
    "no tso": Offloads(tun_tso=False),
    "no uso": Offloads(tun_uso=False),
    "no vnet": Offloads(vnet=False, tun_tso=False, tun_uso=False),
}


def arrive(side: rig.Side) -> list[bytes]:
    """Single packets that came out, whatever they were joined into."""
    found = []
    for _ in range(40):
        frames = side.come()
        found += [packet for frame in frames for packet in rig.segments(frame)]
    return found


@pytest.mark.parametrize("pauses", [False, True], ids=["busy", "pauses"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", FRAMES)
def test_every_frame_comes_out_as_a_kernel_would_have_cut_it(name: str, path: str, pauses: bool) -> None:
    offloads = PATHS[path]
    frames = FRAMES[name]
    if not offloads.vnet:
        frames = [rig.VNET0 + packet for frame in frames for packet in rig.segments(frame)]
    wanted = [packet for frame in frames for packet in rig.segments(frame)]
    with rig.pair(offloads) as (a, b):
        a.pauses = b.pauses = pauses
        a.out(*frames)
        got = arrive(b)
        assert [without_id(p) for p in got] == [without_id(p) for p in wanted]
        assert not a.drops()
        assert not b.drops()
        seen = b.counters.activity(0, rig.SESSION)
        assert (seen.rx_packets, seen.rx_bytes) == (len(wanted), sum(map(len, wanted)))
        sent = a.counters.activity(0, rig.SESSION)
        assert (sent.tx_packets, sent.tx_bytes) == (len(wanted), sum(map(len, wanted)))


def without_id(packet: bytes) -> bytes:
    """With DF the identification means nothing (RFC 6864); nor then does the checksum over it."""
    if packet[0] >> 4 == 4 and packet[6] & 0x40:
        return packet[:4] + b"\0\0" + packet[6:10] + b"\0\0" + packet[12:]
    return packet


@pytest.mark.parametrize(("aead", "policy"), [(1, 0), (2, 0), (1, 1), (2, 1)])
def test_ciphers_and_policies(aead: int, policy: int) -> None:
    frames = [rig.tcp(os.urandom(30000), 1380), rig.udp(b"a" * 30), rig.udp(b"b" * 80)]
    with rig.pair(aead=aead, policy=policy) as (a, b):
        a.out(*frames)
        assert [without_id(p) for p in arrive(b)] == [without_id(p) for f in frames for p in rig.segments(f)]


def test_over_ipv6() -> None:
    with rig.pair(host=bytes(15) + b"\1") as (a, b):
        a.out(rig.udp(b"x", tos=2), rig.tcp(os.urandom(9000), 1380))
        assert len(arrive(b)) == 8
        assert not b.drops()


def test_equal_small_packets_and_a_run_are_one_write() -> None:
    with rig.pair() as (a, b):
        a.out(*FRAMES["equal udp"])
        assert len(b.come()) == 1
        a.out(*FRAMES["tcp"])
        assert len(b.come()) == 1


def test_after_a_pause_one_packet_is_read_and_the_answer_looked_for() -> None:
    with rig.pair() as (a, b):
        for frame in (rig.udp(b"1"), rig.udp(b"2"), rig.udp(b"3")):
            a.tun.send(frame)
        a.worker.lane.now_ns += 1_000_000_000
        a.worker.outbound.pump()
        assert a.counters.totals(0)["udp_sends"] == 1
        a.worker.outbound.pump()  # no pause: the rest
        assert a.counters.totals(0)["udp_sends"] == 2
        assert len(arrive(b)) == 3
        b.tun.send(rig.udp(b"answer"))
        a.out(rig.udp(b"question"))
        b.worker.lane.now_ns += 1_000_000_000
        assert len(b.come()) == 1
        assert len(a.come()) == 1


def test_after_a_pause_what_no_session_takes_waits_or_is_refused() -> None:
    with rig.pair() as (a, b):
        a.pauses = b.pauses = True
        a.do(commands.SelectSession(1, -1))
        a.out(rig.udp(b"waits"))
        assert not b.come()
        a.do(commands.SelectSession(1, 0))
        assert len(b.come()) == 1
        a.out(rig.VNET0 + rig.ip(b"\x0a\x09\0\1", b"\x0a\x08\0\2", 17, bytes(8)))
        a.out(rig.VNET0 + rig.ip(*rig.addresses(False), 17, bytes(30000)))
        a.out(rig.VNET0 + b"\x45")
        assert a.drops() == {"NO_ROUTE": 1, "TOO_BIG": 1, "NOT_IP": 1}
        assert not b.come()


def test_mixed_sizes_leave_in_one_send() -> None:
    with rig.pair() as (a, b):
        a.out(*FRAMES["mixed udp"])
        assert a.counters.totals(0)["udp_sends"] == 1
        assert len(arrive(b)) == 64


def test_first_packet_is_told_once() -> None:
    with rig.pair() as (a, b):
        for _ in range(3):
            a.out(rig.udp(b"x"))
            b.come()
        assert b.events() == [events.FirstAuthenticated(0)]


def test_no_route_and_foreign_bytes_are_refused() -> None:
    with rig.pair() as (a, _):
        a.do(rig.routes((b"\x0a\x63\0\0", 16)))
        a.out(rig.udp(b"x"), rig.VNET0 + b"\x00" * 40, rig.udp(b"x", v6=True))
        assert a.drops() == {"NO_ROUTE": 2, "NOT_IP": 1}
        v4, v6 = a.written()
        assert v4[10 + 20 : 10 + 22] == b"\x03\x0d"
        assert v4[10 + 12 : 10 + 20] == bytes((10, 9, 0, 2, 10, 9, 0, 1))
        assert rig.checksum(v4[10:30]) == 0
        assert rig.checksum(v4[30:]) == 0
        assert v6[10 + 40 : 10 + 42] == b"\x01\x01"
        body = v6[50:]
        assert rig.checksum(v6[18:50] + struct.pack(">II", len(body), 58) + body) == 0


def test_packets_wait_for_the_first_session_and_the_oldest_goes() -> None:
    with rig.pair() as (a, b):
        a.do(commands.SelectSession(1, -1))
        a.out(*[rig.udp(bytes([i]) * 20) for i in range(20)])
        assert a.drops() == {"NO_SESSION": 4}
        assert a.events() == [events.WantSession(1)]
        a.do(commands.SelectSession(1, 0))
        assert [p[28] for p in arrive(b)] == list(range(4, 20))


def test_what_waited_too_long_is_dropped_when_the_session_comes() -> None:
    with rig.pair() as (a, b):
        a.do(commands.SelectSession(1, -1))
        for i in range(3):  # at 0, 4 and 8 seconds
            a.out(rig.udp(bytes([i]) * 20))
            a.worker.lane.now_ns += 4_000_000_000
        a.worker.lane.now_ns -= 4_000_000_000
        a.do(commands.SelectSession(1, 0))
        assert a.drops() == {"NO_SESSION": 1}
        assert [p[28] for p in arrive(b)] == [1, 2]


def test_black_hole_refuses_at_once() -> None:
    with rig.pair() as (a, _):
        a.do(commands.SelectSession(1, -1, black_hole=True))
        a.out(rig.udp(b"x"))
        assert a.drops() == {"KEYS_EXPIRED": 1}
        assert len(a.written()) == 1


def test_expired_keys_neither_send_nor_receive() -> None:
    with rig.pair(expires_at=time.clock_gettime(time.CLOCK_BOOTTIME) + 50) as (a, b):
        a.out(rig.udp(b"x"), rig.udp(b"x"))
        b.worker.lane.now_ns += 60_000_000_000
        assert b.come() == []
        assert b.drops() == {"SESSION_EXPIRED": 2}
        a.worker.lane.now_ns += 60_000_000_000
        a.out(rig.udp(b"x"))
        assert a.drops() == {"KEYS_EXPIRED": 1}
        assert a.events() == [events.WantSession(1)]


def test_too_big_for_the_path_tells_the_mtu() -> None:
    with rig.pair() as (a, b):
        a.do(commands.SetPathMtu(1, 1300))
        a.out(rig.udp(bytes(1300)), rig.tcp(bytes(9000), 1300), rig.udp(bytes(1300), v6=True), rig.udp(bytes(1272)))
        assert a.drops() == {"TOO_BIG": 9}
        found = a.written()
        assert [f[10 + 20 : 10 + 22] for f in found[:2]] == [b"\x03\x04"] * 2
        assert found[0][10 + 26 : 10 + 28] == struct.pack(">H", 1300)
        assert found[2][50:58] == struct.pack(">BBH", 2, 0, struct.unpack(">H", found[2][52:54])[0]) + struct.pack(
            ">I", 1300
        )
        assert len(arrive(b)) == 1


@pytest.mark.parametrize("path", [1192, 1200, 1205, 1272, 1279])
def test_only_ipv6_packets_that_do_not_fit_the_path_may_be_fragmented_outside(
    path: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[bool] = []
    monkeypatch.setattr(sending, "allow_fragments", lambda sock, ipv6, allow: allowed.append(allow))
    with rig.pair() as (a, b):
        a.do(commands.SetPathMtu(1, path))
        for length in (*range(path - 17, path + 3), 1279, 1280, 1281):
            allowed.clear()
            a.out(rig.udp(bytes(length - 48), v6=True))
            fits, may_go = length <= path, length <= 1280
            assert allowed == ([] if fits or not may_go else [True, False]), length
            assert len(sent := datagrams(b)) == may_go
            assert all(len(datagram) <= path + 40 for datagram in sent if fits), length
        # segments of super-packets likewise
        for mss in (path - 60, path - 61, 1280 - 60):
            allowed.clear()
            a.out(rig.tcp(bytes(5 * mss - 1), mss, v6=True))
            assert bool(allowed) == (mss + 60 > path), mss
            assert len(datagrams(b)) == 5


@pytest.mark.parametrize("vnet", [True, False])
def test_what_routers_may_cut_is_cut_to_the_paths_size(vnet: bool) -> None:
    """RFC 791: the sender left DF clear, so it hears of no size; what goes before and after it is as ever."""
    with rig.pair(Offloads(vnet=vnet, tun_tso=vnet, tun_uso=vnet)) as (a, b):
        a.do(commands.SetPathMtu(1, 1208))
        payload = os.urandom(1372)
        a.out(
            rig.udp(b"before", partial=vnet),
            rig.udp(payload, partial=vnet, frag=0, ident=7),
            rig.udp(payload, partial=vnet, frag=0, ident=8),
            rig.udp(b"after", partial=vnet),
        )
        assert a.drops() == {}
        assert a.written() == []
        packets = arrive(b)
        pieces = {i: [bytearray(p) for p in packets if p[4:6] == bytes((0, i))] for i in (7, 8)}
        assert sum(p[28:] in (b"before", b"after") for p in packets) == 2
        for found in pieces.values():
            assert [len(p) for p in found] == [1204, 1400 - 1184]
            body = b"".join(p[20:] for p in found)
            assert body[8:] == payload
            assert rig.checksum(struct.pack(">H", rig.pseudo(*rig.addresses(False), 17, len(body))) + body) == 0


def datagrams(side: rig.Side) -> list[bytes]:
    """What lies in a side's socket, taken away."""
    found = []
    while True:
        try:
            data, options, _, _ = side.worker.lane.udp.recvmsg(65536, 200)
        except BlockingIOError:
            return found
        size = next((struct.unpack("=i", d)[0] for level, kind, d in options if (level, kind) == (17, 104)), len(data))
        found += [data[i : i + size] for i in range(0, len(data), size)]


def deliver(side: rig.Side, *given: bytes, source: tuple[object, ...] | None = None, tos: int = 0) -> list[bytes]:
    """Give datagrams to a lane one by one, as if received."""
    inbound = side.worker.inbound
    for data in given:
        inbound._wire_view[: len(data)] = data
        inbound.take(len(data), len(data), tos, source or side.worker.lane.sessions[0].to, b"")
    return side.written()


def test_replay_reordering_and_forgery() -> None:
    with rig.pair() as (a, b):
        for i in range(5):
            a.out(rig.udp(bytes([i]) * 20))
        packets = datagrams(b)
        forged = bytearray(packets[3])
        forged[-1] ^= 1
        got = deliver(b, packets[4], packets[0], packets[0], bytes(forged), packets[3], packets[4])
        assert [f[38] for f in got] == [4, 0, 3]
        assert b.drops() == {"REPLAY": 2, "AUTHENTICATION": 1}


def test_a_bad_packet_in_a_joined_burst_costs_only_itself() -> None:
    with rig.pair() as (a, b):
        a.out(*[rig.udp(bytes([i]) * 64) for i in range(10)])
        packets = datagrams(b)
        packets[6] = packets[6][:-1] + bytes([packets[6][-1] ^ 1])
        burst = b"".join(packets)
        b.worker.inbound._wire_view[: len(burst)] = burst
        b.worker.inbound.take(len(burst), len(packets[0]), 0, b.worker.lane.sessions[0].to, b"")
        assert [f[38] for f in b.written()] == [0, 1, 2, 3, 4, 5, 7, 8, 9]
        assert b.drops() == {"AUTHENTICATION": 1}


def test_headers_out_of_line() -> None:
    with rig.pair() as (a, b):
        a.out(rig.udp(b"x" * 20))
        (packet,) = datagrams(b)
        for change in (
            {0: 9}, {1: 0x20}, {1: 1}, {2: 1}, {4: packet[4] ^ 1}, {5: packet[5] ^ 1}, {15: 0xFF},
        ):  # fmt: skip
            bad = bytearray(packet)
            for at, value in change.items():
                bad[at] = value
            assert deliver(b, bytes(bad)) == []
        deliver(b, packet[:39], packet + bytes(3000), b"", b"\4")
        assert b.drops() == {
            "MALFORMED": 6, "WRONG_LANE": 2, "UNKNOWN_INDEX": 1, "COUNTER_LIMIT": 1,
        }  # fmt: skip
        assert len(deliver(b, packet)) == 1


def test_counters_past_the_stop() -> None:
    with rig.pair(send_counter=(1 << 28) - 2) as (a, b):
        a.out(rig.udp(b"x"))
        a.out(rig.udp(b"x"))
        a.out(rig.udp(b"x"))
        assert a.drops() == {"SEND_COUNTER_LIMIT": 1}
        assert a.events() == [events.KeysWorn(0)]
        packets = datagrams(b)
        assert len(deliver(b, *packets)) == 2
        assert HEADER.unpack_from(packets[1])[4] == (1 << 28) - 1


def test_roaming_moves_at_once_with_a_budget() -> None:
    with rig.pair() as (a, b):
        for i in range(3):
            a.out(rig.udp(bytes([i]) * 100))
        old, packet, newest = datagrams(b)
        home = b.worker.lane.sessions[0].to
        away = ("::ffff:127.0.0.1", 9, 0, 0)
        deliver(b, packet, source=home)
        deliver(b, old, source=away)
        assert b.worker.lane.sessions[0].to == home, "an old counter must not move the endpoint"
        b.events()
        deliver(b, newest, source=away)
        address = Address(b"\x7f\0\0\1", 9)
        allowed = earned(1, len(newest))
        assert b.events() == [events.Roamed(0, address, None, allowed)]
        session = b.worker.lane.sessions[0]
        assert (session.to, session.budget) == (away, divide(allowed)[0])
        b.out(rig.udp(bytes(150)))
        b.do(commands.SetEndpoint(0, address, None, divide(allowed)[0]))  # control, behind the event
        b.out(rig.udp(bytes(150)))
        assert b.drops() == {"AMPLIFICATION": 1}
        b.do(commands.SetEndpoint(0, Address(b"\x7f\0\0\1", a.port), None))
        b.out(rig.udp(bytes(300)))
        assert len(a.come()) == 1


def test_frames_of_control() -> None:
    with rig.pair() as (a, b):
        a.do(commands.SendFrame(0, 1, b"\1" + bytes(8)), commands.SendFrame(0, 3, b""))
        a.do(
            commands.SendFrame(0, 1, b"\4\0\0", pad_to=1600),
            commands.SendFrame(0, 1, b"\1", to=Address(b"\x7f\0\0\1", b.port)),
        )
        sizes = sorted(map(len, packets := datagrams(b)))
        assert sizes == [48, 48, 64, 1640]
        deliver(b, *packets)
        first, *rest = b.events()
        assert first == events.FirstAuthenticated(0)
        assert [e.body[0] for e in rest] == [1, 4, 1]
        assert b.drops() == {}
        assert b.counters.activity(0).last_received_data == 0.0
        assert b.counters.activity(0).last_received_any > 0.0


def test_stray_datagrams_go_to_control() -> None:
    with rig.pair() as (_, b):
        deliver(b, b"\1" + bytes(100), b"\3" + bytes(59), b"\2" + bytes(50))
        assert [e.datagram[0] for e in b.events()] == [1, 3]
        assert b.drops() == {"MALFORMED": 1}


def test_ecn_is_carried_by_rfc_6040() -> None:
    cases = {
        (0, 0): 0,
        (0, 1): 0,
        (0, 2): 0,
        (0, 3): None,
        (1, 3): 3,
        (2, 3): 3,
        (2, 1): 1,
        (1, 2): 1,
        (3, 1): 3,
        (3, 0): 3,
    }
    for (inner, outer), result in cases.items():
        for v6 in (False, True):
            with rig.pair() as (a, b):
                a.out(rig.udp(b"x", v6=v6, tos=0x54 | inner))
                got = deliver(b, *datagrams(b), tos=outer)
                if result is None:
                    assert b.drops() == {"ECN_INVALID": 1}
                else:
                    packet = rig.segments(got[0])[0]
                    tos = packet[1] if not v6 else (packet[0] & 15) << 4 | packet[1] >> 4
                    assert tos == 0x54 | result
                    assert v6 or rig.checksum(packet[:20]) == 0


def test_ecn_of_a_joined_run() -> None:
    with rig.pair() as (a, b):
        a.out(rig.tcp(bytes(9000), 1380, tos=2))
        packets = datagrams(b)
        burst = b"".join(packets)
        b.worker.inbound._wire_view[: len(burst)] = burst
        b.worker.inbound.take(len(burst), len(packets[0]), 3, b.worker.lane.sessions[0].to, b"")
        (frame,) = b.written()
        assert {p[1] for p in rig.segments(frame)} == {3}


def test_outer_ecn_is_the_inner_one() -> None:
    with rig.pair() as (a, b):
        a.out(rig.udp(b"x", tos=0xB8 | 1))
        _, options, _, _ = b.worker.lane.udp.recvmsg(3000, 200)
        assert [d[0] for level, kind, d in options if (level, kind) == (0, 1)] == [1], "ECN yes, DSCP no"


def test_a_replaced_lane_starts_above_both_counters() -> None:
    with rig.pair() as (a, b):
        a.out(*[rig.udp(bytes([i]) * 9) for i in range(5)])
        packets = datagrams(b)
        deliver(b, *packets)
        send, receive = a.counters.resume_at(0, 0, rig.SESSION)[0], b.counters.resume_at(0, 0, rig.SESSION)[1]
        assert receive == 5
        assert send >= 5
        # control has not read the counters, or sends what it sent long ago: memory decides
        a.do(rig.install(0, endpoint=Address(b"\x7f\0\0\1", b.port)))
        b.do(rig.install(1, endpoint=Address(b"\x7f\0\0\1", a.port)))
        a.out(rig.udp(b"again"))
        (packet,) = datagrams(b)
        assert HEADER.unpack_from(packet)[4] >= send
        assert deliver(b, *packets) == []
        assert b.drops() == {"REPLAY": 5}
        assert len(deliver(b, packet)) == 1
        assert b.counters.activity(0, rig.SESSION).rx_packets == 6


def test_reservation_precedes_use() -> None:
    with rig.pair() as (a, _):
        for _ in range(40):
            a.out(*FRAMES["equal udp"])
            assert a.worker.lane.sessions[0].send_counter <= a.counters.resume_at(0, 0, rig.SESSION)[0]


def test_another_session_in_the_slot_starts_from_nothing() -> None:
    with rig.pair() as (a, _):
        a.out(rig.udp(b"x"))
        a.do(rig.install(0, session_id=bytes(16), endpoint=Address(b"\x7f\0\0\1", 9)))
        assert a.counters.activity(0, rig.SESSION).tx_packets == 0
        assert a.counters.resume_at(0, 0, bytes(16)) == (0, 0)


def test_report_holds_the_keys_for_a_restarted_control_and_shows_none() -> None:
    with rig.pair() as (a, _):
        a.do(commands.Report())
        (event,) = a.events()
        assert event.sessions[0].session_id == rig.SESSION
        assert event.sessions[0].selected
        installed = rig.install(0)
        assert event.sessions[0].send == installed.send_key + installed.send_iv
        assert event.sessions[0].receive == installed.recv_key + installed.recv_iv
        assert "AAAA" not in repr(event)
        assert installed.send_key.hex() not in repr(event)
        assert "AAAA" not in repr(rig.install(0))


def test_erase_forgets() -> None:
    with rig.pair() as (a, b):
        b.do(commands.EraseSession(0))
        a.out(rig.udp(b"x"))
        assert b.come() == []
        assert b.drops() == {"UNKNOWN_INDEX": 1}
        assert b.worker.lane.peers[1].session is None


def test_a_vanished_interface_or_peer_is_a_drop() -> None:
    with rig.pair() as (a, b):
        a.out(rig.udp(b"x"))
        b.tun.close()
        b.worker.inbound.pump()
        assert b.drops() == {"TUN_WRITE": 1}
        a.do(commands.SetEndpoint(0, Address(b"\xff\xff\xff\xff", 9), None))
        a.out(rig.udp(b"x"), rig.udp(b"y"))
        assert a.drops() == {"UDP_SEND": 2}


def test_counters_are_shared() -> None:
    with rig.pair() as (a, _):
        a.worker.lane.drop(3, 7)
        assert Counters(a.worker._start.counters).drops()[3] == 7


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("pauses", [False, True])
def test_a_probe_is_counted_and_goes_nowhere(name: str, pauses: bool) -> None:
    """Also where a peer has all addresses: alone, among other packets, and as a super-packet."""
    probe = rig.VNET0 + rig.ip(b"\x0a\x09\0\1", bytes((192, 0, 0, 8)), 17, bytes(8))
    long = bytearray(rig.tcp(os.urandom(9000), 1380))
    long[10 + 16 : 10 + 20] = bytes((192, 0, 0, 8))
    frames = [probe, probe, rig.udp(b"x"), probe] + ([bytes(long)] if PATHS[name].tun_tso else [])
    with rig.pair(PATHS[name]) as (a, b):
        a.do(rig.routes((bytes(4), 0)))
        a.pauses = pauses
        a.out(*frames)
        assert len(arrive(b)) == 1, "what is a peer's still goes to it"
        assert a.counters.totals(0)["probes"] == len(frames) - 1
        assert a.drops() == {}
        assert a.written() == [], "nobody is told"
        assert not [event for event in a.events() if isinstance(event, events.WantSession)]
