"""The fast lane against a slow one that is obviously right: random bursts, and random lies of an authenticated peer."""

import random
import struct
import sys
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

import dataplane_rig as rig

from pqvpn.crypto.aead import Aead
from pqvpn.crypto.secret import Secret
from pqvpn.dataplane import commands
from pqvpn.dataplane.engine import Places, opener, sealer
from pqvpn.dataplane.events import Offloads
from pqvpn.dataplane.routes import NO_PEER, Routes
from pqvpn.protocol.replay import ReplayWindow

NO_DEADLINE = settings(
    deadline=None,
    max_examples=60,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)


class SlowKey:
    """One lane's key in one direction, packet by packet, as PROTOCOL section 5 says it."""

    def __init__(self, key: bytes, iv: bytes, aead: int = 1, policy: int = 0) -> None:
        self.cipher = AESGCM(key) if aead == 1 else ChaCha20Poly1305(key)
        self.iv, self.policy = iv, policy

    def nonce(self, counter: int) -> bytes:
        return bytes(a ^ b for a, b in zip(self.iv, bytes(4) + counter.to_bytes(8, "little"), strict=True))

    def seal(self, header: bytes, plain: bytes, counter: int) -> bytes:
        if self.policy:
            return header + plain + self.cipher.encrypt(self.nonce(counter), b"", header + plain)
        return header + self.cipher.encrypt(self.nonce(counter), plain, header)

    def open(self, packet: bytes) -> bytes | None:
        counter = int.from_bytes(packet[8:16], "little")
        try:
            if self.policy:
                self.cipher.decrypt(self.nonce(counter), packet[-16:], packet[:-16])
                return packet[16:-16]
            return self.cipher.decrypt(self.nonce(counter), packet[16:], packet[:16])
        except InvalidTag:
            return None


def slow_accepts(plain: bytes, mtu: int) -> bytes | None:
    """The IP packet that may be written for a plaintext, or None. IPv4 and IPv6 without extension headers."""
    meta, data = plain[:8], plain[8:]
    first, gso, hdr_len, start, offset = struct.unpack("<BBHHH", meta)
    if first not in (0, 1) or len(data) > mtu or len(data) < 20:
        return None
    version = data[0] >> 4
    if version == 4:
        header, length = (data[0] & 15) * 4, struct.unpack_from(">H", data, 2)[0]
        protocol, source = data[9], data[12:16]
        whole = struct.unpack_from(">H", data, 6)[0] & 0x3FFF == 0
        if header < 20 or length < header or source[:2] != b"\x0a\x09":
            return None
    elif version == 6 and len(data) > 40:
        header, payload = 40, struct.unpack_from(">H", data, 4)[0]
        length, protocol, source, whole = 40 + payload, data[6], data[8:24], True
        if not payload or source[:8] != b"\xfd" + bytes(7):
            return None
    else:
        return None
    if length > len(data):
        return None
    if meta == bytes(8):
        return data[:length]
    if not whole or protocol not in (6, 17) or gso not in (0, 1, 4, 5):
        return None
    if protocol == 6:
        if header + 20 > length or data[header + 12] >> 4 < 5:
            return None
        total = header + (data[header + 12] >> 4) * 4
    else:
        total = header + 8
    if total > length or hdr_len not in (0, total):
        return None
    if gso and (protocol, version) not in {1: [(6, 4)], 4: [(6, 6)], 5: [(17, 4), (17, 6)]}[gso]:
        return None
    wanted = (header, 16 if protocol == 6 else 6) if first else (0, 0)
    return data[:length] if (start, offset) == wanted else None


@given(st.data())
@NO_DEADLINE
def test_seal_burst_is_the_slow_seal(data: st.DataObject) -> None:
    aead, policy = data.draw(st.sampled_from([1, 2])), data.draw(st.sampled_from([0, 1]))
    key, iv = data.draw(st.binary(min_size=32, max_size=32)), data.draw(st.binary(min_size=12, max_size=12))
    length = data.draw(st.integers(8, 300))
    first = data.draw(
        st.one_of(st.integers(0, 300), st.integers((1 << 32) - 70, (1 << 32) + 5), st.integers(0, 1 << 40))
    )
    count, at = data.draw(st.integers(1, 40)), data.draw(st.integers(0, 20))
    last, run = data.draw(st.integers(8, length)), data.draw(st.booleans())
    index = data.draw(st.integers(0, (1 << 32) - 1))
    plain, wire = bytearray(random.Random(length).randbytes(64 * 512)), bytearray(64 * 400)
    places = Places(memoryview(plain), 8, 512, length, memoryview(wire))
    wanted = []
    slow = SlowKey(key, iv, aead, policy)
    for i in range(count):
        own = last if i == count - 1 else length
        header = struct.pack("<BBHIQ", 4, index & 15 | (16 if run else 0), at + i if run else 0, index, first + i)
        wanted.append(slow.seal(header, bytes(plain[8 + (at + i) * 512 :][:own]), first + i))
    fast = sealer(Aead(aead), policy, Secret(key), iv)
    alone = memoryview(plain)[8 + (at + count - 1) * 512 :][:last]
    assert header + fast.seal_one(header, first + count - 1, alone) == wanted[-1]
    into = bytearray(last)
    key_in, datagram = opener(Aead(aead), policy, Secret(key), iv), memoryview(wanted[-1])
    assert key_in.open_one(first + count - 1, datagram[:16], datagram[16:], memoryview(into))
    assert into == alone
    assert not key_in.open_one(first + count, datagram[:16], datagram[16:], memoryview(into))
    for _ in range(2):  # the second time headers are there already
        fast.seal_burst(places, at, index, run, first, count, last)
        sealed = bytes(wire[at * places.size :])
        assert sealed[: (count - 1) * places.size + last + 32] == b"".join(wanted)
    back = bytes(plain)
    for i in range(count):
        plain[8 + (at + i) * 512 :][:length] = bytes(length)
    reader = opener(Aead(aead), policy, Secret(key), iv)
    assert reader.open_burst(places, at, first, count, last)
    assert (
        bytes(plain[8 + at * 512 : 8 + (at + count - 1) * 512 + last])
        == back[8 + at * 512 : 8 + (at + count - 1) * 512 + last]
    )
    wire[at * places.size + data.draw(st.integers(0, (count - 1) * places.size + last + 31))] ^= 1
    assert not reader.open_burst(places, at, first, count, last)


SHAPES = st.tuples(
    st.sampled_from(["udp", "udp6", "tcp", "super", "super6", "stamped", "uso", "uso6", "whole"]),
    st.integers(0, 1 << 16),  # seed of the payload
    st.integers(0, 1400),  # a size
    st.sampled_from([0, 0, 0, 2]),  # ECN
    st.sampled_from([0, 0x2000, 0x4000]),  # fragment field
    st.sampled_from([1, 1, 3]),  # how many of them
)


def build(kind: str, seed: int, size: int, tos: int, frag: int, times: int) -> list[bytes]:
    """What a kernel may put into the TUN queue."""
    source = random.Random(seed)
    v6 = kind.endswith("6")
    if kind.startswith("udp"):
        return [rig.udp(source.randbytes(min(size, 1372)), v6, sport=1000 + seed % 2, tos=tos)] * times
    if kind == "tcp":
        return [rig.tcp(source.randbytes(min(size, 1300)), 1400, tos=tos, flags=seed % 64)] * times
    if kind.startswith("uso"):
        mss = min(size, 1300) + 1
        payload = source.randbytes(source.randint(mss + 1, min(60 * mss + 1, 50000)))
        return [rig.uso(payload, mss, v6, tos=tos)]
    if kind == "whole":
        return [rig.udp(source.randbytes(30), partial=False, frag=frag, tos=tos)]
    mss = 200 + min(size, 1170)
    options = b"\1\1\x08\x0a12345678" if kind == "stamped" else b""
    payload = source.randbytes(source.randint(mss + 1, 40000))
    return [rig.tcp(payload, mss, v6, seq=(1 << 32) - 900 if seed % 2 else 5, tos=tos, options=options)]


def plain_packets(side: rig.Side, key: SlowKey) -> list[bytes]:
    """Plaintexts of all datagrams in a side's socket, opened slowly."""
    found = []
    while True:
        try:
            data, options, _, _ = side.worker.lane.udp.recvmsg(65536, 200)
        except BlockingIOError:
            return found
        size = next((struct.unpack("=i", d)[0] for level, kind, d in options if (level, kind) == (17, 104)), len(data))
        for at in range(0, len(data), size):
            plain = key.open(data[at : at + size])
            assert plain is not None
            found.append(plain)


def blind(packet: bytes) -> bytes:
    """With DF the identification means nothing (RFC 6864)."""
    if packet[0] >> 4 == 4 and packet[6] & 0x40:
        return packet[:4] + b"\0\0" + packet[6:10] + b"\0\0" + packet[12:]
    return packet


@given(
    shapes=st.lists(SHAPES, max_size=12), gso=st.booleans(), gro=st.booleans(), mtu=st.sampled_from([1432, 1413, 2000])
)
@NO_DEADLINE
def test_outbound_gives_what_the_slow_reader_accepts_and_inbound_writes_the_same(
    shapes: list[tuple[str, int, int, int, int, int]], gso: bool, gro: bool, mtu: int
) -> None:
    burst = [frame for shape in shapes for frame in build(*shape)]
    cut = [rig.segments(frame) for frame in burst]
    # a super-packet whose segments do not fit is refused as a whole
    wanted = [blind(p) for packets in cut if max(map(len, packets)) <= mtu for p in packets]
    session = rig.install(1)
    with rig.pair(Offloads(udp_gso=gso, udp_gro=gro), mtu=mtu) as (a, b):
        a.out(*burst)
        plains = plain_packets(b, SlowKey(session.recv_key, session.recv_iv))
        accepted = [slow_accepts(plain, mtu) for plain in plains]
        assert None not in accepted
        assert all(len(p) % 16 == 0 or len(p) == 8 + mtu for p in plains)
        assert [blind(finished(plain, packet)) for plain, packet in zip(plains, accepted, strict=True)] == wanted
        a.out(*burst)
        got = [p for _ in range(200) for frame in b.come() for p in rig.segments(frame)]
        assert [blind(p) for p in got] == wanted


def finished(plain: bytes, packet: bytes | None) -> bytes:
    """The packet with its checksum, as a device would send it."""
    assert packet is not None
    _, _, _, start, offset = struct.unpack("<BBHHH", plain[:8])
    return rig.segments(struct.pack("<BBHHHH", plain[0] & 1, 0, 0, 0, start, offset) + packet)[0]


@given(
    run=st.booleans(),
    base=st.sampled_from(["udp", "udp6", "tcp", "tcp6"]),
    size=st.integers(0, 120),
    count=st.integers(1, 12),
    lies=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 71), st.integers(0, 255)), max_size=3),
)
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_a_hostile_peer_gets_nothing_past_the_checks(
    run: bool, base: str, size: int, count: int, lies: list[tuple[int, int, int]]
) -> None:
    """Bursts with changed bytes: written is exactly what the slow rules allow, or a join that cuts into it."""
    session = rig.install(1)
    key = SlowKey(session.recv_key, session.recv_iv)
    v6 = base.endswith("6")
    packets, allowed, sealed = [], [], []
    for i in range(count):
        payload = bytes([i]) * size
        as_tcp = rig.tcp(payload, 1400, v6, seq=7 + i * size, flags=0x10)
        frame = rig.udp(payload, v6) if base.startswith("udp") else as_tcp
        start = 40 if v6 else 20
        meta = struct.pack("<BBHHH", 1, 0, 0, start, 16 if base.startswith("tcp") else 6)
        packets.append(bytearray(meta + frame[10:]))
    for which, at, value in lies:
        if which < count and at < len(packets[which]):
            packets[which][at] = value
    for i, plain in enumerate(packets):
        padded = bytes(plain).ljust(-(-len(plain) // 16) * 16, b"\0")
        header = struct.pack("<BBHIQ", 4, 16 if run else 0, i if run else 0, session.index_in, i)
        sealed.append(key.seal(header, padded, i))
        found = slow_accepts(padded, 1432)
        if found is not None:
            allowed.append(blind(loose(padded, found)))
    with rig.pair() as (_, b):
        burst = b"".join(sealed)
        b.worker.inbound._wire_view[: len(burst)] = burst
        b.worker.inbound.take(len(burst), len(sealed[0]), 0, b.worker.lane.sessions[0].to, b"")
        got = []
        for frame in b.written():
            flags, gso, _, _, start, offset = struct.unpack("<BBHHHH", frame[:10])
            assert gso in (0, 1, 4, 5)
            pieces = rig.segments(frame, honest=False) if gso else [frame[10:]]
            got += [blind(loose(struct.pack("<BBHHH", flags, 0, 0, start, offset), p)) for p in pieces]
        assert got == allowed
        assert sum(b.drops().values()) == count - len(allowed) - told(packets)
        assert b.counters.totals(0)["faults"] == 0


def told(packets: list[bytearray]) -> int:
    """Packets that were neither written nor dropped: frames for control and keepalives."""
    empty = [p for p in packets if p[0] in (0x10, 0x30) and not any(p[1:8])]
    return len(empty)


def loose(plain: bytes, packet: bytes) -> bytes:
    """Without what a device computes: the transport checksum when it is left to it."""
    _, _, _, start, offset = struct.unpack("<BBHHH", plain[:8])
    if not plain[0] & 1:
        return packet
    return packet[: start + offset] + b"\0\0" + packet[start + offset + 2 :]


@given(
    st.lists(
        st.tuples(st.sampled_from([4, 16]), st.integers(0, (1 << 128) - 1), st.integers(0, 128), st.integers(0, 5)),
        max_size=30,
    ),
    st.data(),
)
@settings(deadline=None, max_examples=100)
def test_routes_are_the_longest_prefix(entries: list[tuple[int, int, int, int]], data: st.DataObject) -> None:
    given_, table = [], {}
    for size, number, length, peer in entries:
        bits = 8 * size
        length = min(length, bits)
        masked = (number % (1 << bits)) >> (bits - length) << (bits - length)
        table[size, masked, length] = peer
    for (size, masked, length), peer in table.items():
        given_.append(commands.PeerRoutes(peer, (commands.Prefix(masked.to_bytes(size, "big"), length),)))
    routes = Routes(given_)
    for _ in range(2):
        size = data.draw(st.sampled_from([4, 16]))
        near = [m for s, m, _ in table if s == size] or [0]
        number = data.draw(st.sampled_from(near)) ^ data.draw(st.integers(0, 255))
        best = max(
            ((ln, p) for (s, m, ln), p in table.items() if s == size and number >> (8 * s - ln) == m >> (8 * s - ln)),
            default=(0, NO_PEER),
        )
        assert routes.find(number.to_bytes(size, "big")) == best[1]
        if size == 4:
            assert routes.find4(number) == routes.find4(number) == best[1]
        else:
            assert routes.find6(number >> 64, number & (1 << 64) - 1) == best[1]


@given(st.lists(st.binary(max_size=80), max_size=8), st.integers(1, 80))
@settings(deadline=None, max_examples=200)
def test_bytes_of_strangers_are_only_drops(pieces: list[bytes], each: int) -> None:
    with rig.pair() as (_, b):
        burst = b"".join(pieces)
        b.worker.inbound._wire_view[: len(burst)] = burst
        b.worker.inbound.take(len(burst), each, 0, ("::ffff:127.0.0.1", 9, 0, 0), b"")
        assert b.written() == []
        assert sum(b.drops().values()) + len(b.events()) == -(-len(burst) // each)


def test_the_replay_window_is_the_protocols() -> None:
    window = ReplayWindow()
    window.start_above(99)
    assert not window.check(99)
    assert window.check(100)
