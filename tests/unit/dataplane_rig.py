"""A lane without a kernel's TUN: Unix datagram sockets stand for the TUN queue, loopback UDP for the network."""

import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pqvpn.dataplane import commands, events
from pqvpn.dataplane.counters import Counters
from pqvpn.dataplane.events import Offloads
from pqvpn.dataplane.start import Start
from pqvpn.dataplane.worker import Worker
from pqvpn.drops import DropReason
from pqvpn.host.udp import UdpGroup, open_group
from pqvpn.wire.address import Address

SESSION = bytes(range(16))
VNET0 = bytes(10)


def install(side: int, lane: int = 0, lanes: int = 1, **changes: Any) -> commands.InstallSession:
    """One side of a session with constant keys."""
    keys = [bytes([65 + s]) * 31 + bytes([lane]) for s in (0, 1)]
    ivs = [bytes([97 + s]) * 12 for s in (0, 1)]
    indices = (0x11110 | lane, 0x22220 | lane)
    values: dict[str, Any] = {
        "slot": 0, "peer": 1, "index_in": indices[side], "index_out": indices[1 - side], "lanes": lanes, "aead": 1,
        "policy": 0, "mtu": 1432, "recv_key": keys[1 - side], "recv_iv": ivs[1 - side], "send_key": keys[side],
        "send_iv": ivs[side], "send_counter": 0, "receive_from": 0, "endpoint": None, "source": None,
        "expires_at": time.clock_gettime(time.CLOCK_BOOTTIME) + 3600, "session_id": SESSION, "peer_id": bytes(32),
        "initiator": side == 0,
    }  # fmt: skip
    return commands.InstallSession(**{**values, **changes})


class Side:
    """One lane in this process; `tun` is the kernel's end of its TUN."""

    def __init__(
        self, side: int, offloads: Offloads, group: UdpGroup, counters: int, lane: int, cross: tuple[int, ...]
    ) -> None:
        self.side, self.offloads = side, offloads
        self.tun, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link, their_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (self.tun, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            sock.setblocking(False)
        self.control.setblocking(False)
        self.port = group.port
        start = Start(
            lane=lane, lanes=len(cross), tun=theirs.detach(), udp=os.dup(group.sockets[lane + 1].fileno()),
            control=their_control.detach(), counters=counters, crossover=cross, offloads=offloads, mtu=1432,
            ipv6=group.ipv6, reads_udp=group.steering or lane == 0,
        )  # fmt: skip
        self.counters = Counters(counters)
        self.worker = Worker(start, their_link)
        self.worker.lane.now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.pauses = False  # whether a second passes before each turn of the event loop
        self.worker.outbound.pump()
        self.worker.inbound.pump()

    def out(self, *frames: bytes) -> None:
        """Frames (virtio header first) leave by this lane."""
        for at in range(0, len(frames), 64):  # no more than one burst: a Unix queue is short
            for frame in frames[at : at + 64]:
                self.tun.send(frame if self.offloads.vnet else frame[10:])
            self.turns(self.worker.lane.tun, self.worker.outbound.pump)

    def come(self) -> list[bytes]:
        """Receive what is there; the frames that were written to the TUN, virtio header first."""
        self.turns(self.worker.lane.udp.fileno(), self.worker.inbound.pump)
        return self.written()

    def turns(self, fd: int, pump: Callable[[], None]) -> None:
        """What the event loop does: call as long as there is something to read."""
        readable = True
        while readable:
            if self.pauses:
                self.worker.lane.now_ns += 1_000_000_000
            pump()
            readable = bool(select.select([fd], [], [], 0)[0])

    def written(self) -> list[bytes]:
        """Frames written to the TUN since the last call."""
        found = []
        while True:
            try:
                frame = self.tun.recv(1 << 17)
            except BlockingIOError:
                return found
            found.append(frame if self.offloads.vnet else VNET0 + frame)

    def events(self) -> list[events.Event]:
        """What control was told since the last call."""
        found = []
        while True:
            try:
                found.append(events.decode(self.control.recv(1 << 17)))
            except BlockingIOError:
                return found

    def drops(self) -> dict[str, int]:
        """Drops by name."""
        return {DropReason(i).name: n for i, n in enumerate(self.counters.drops()) if n}

    def do(self, *given: commands.Command) -> None:
        """Apply commands."""
        for command in given:
            self.worker.apply(command)


def routes(*networks: tuple[bytes, int]) -> commands.SetRoutes:
    """Peer 1 has these networks; default: 10.9.0.0/16 and fd00::/64."""
    given = networks or ((b"\x0a\x09\0\0", 16), (b"\xfd" + bytes(15), 64))
    return commands.SetRoutes((commands.PeerRoutes(1, tuple(commands.Prefix(*n) for n in given)),))


@contextmanager
def pair(offloads: Offloads | None = None, host: bytes = b"\x7f\0\0\1", **changes: Any) -> Iterator[tuple[Side, Side]]:
    """Two lanes, a session between them, each selected for sending."""
    offloads = offloads or Offloads()
    groups, sides, fds = [], [], []
    try:
        for side in (0, 1):
            group = open_group(0, 1, gro=offloads.udp_gro)
            groups.append(group)
            fds.append(Counters.create())
            sides.append(Side(side, offloads, group, fds[-1], 0, (-1,)))
        for side in (0, 1):
            to = Address(host, groups[1 - side].port)
            command = install(side, endpoint=to, **changes)
            sides[side].do(routes(), command, commands.SelectSession(1, 0))
        yield sides[0], sides[1]
    finally:
        for side_ in sides:
            os.close(side_.worker.lane.tun)
            side_.tun.close()
            side_.control.close()
            side_.link.close()
            side_.worker.close()
        for group in groups:
            group.close()
        for fd in fds:
            os.close(fd)


def checksum(data: bytes) -> int:
    """RFC 1071, plainly."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo(source: bytes, target: bytes, protocol: int, length: int) -> int:
    """The folded, not complemented sum of the pseudo-header: what a partial checksum holds."""
    return ~checksum(source + target + struct.pack(">IHBB", length, 0, 0, protocol)) & 0xFFFF


def ip(
    source: bytes, target: bytes, protocol: int, body: bytes, tos: int = 0, ident: int = 0, frag: int = 0x4000
) -> bytes:
    """An IPv4 or IPv6 packet."""
    if len(source) == 16:
        return struct.pack(">IHBB", 6 << 28 | tos << 20, len(body), protocol, 64) + source + target + body
    head = struct.pack(">BBHHHBBH", 0x45, tos, 20 + len(body), ident, frag, 64, protocol, 0) + source + target
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + body


def addresses(v6: bool, source: int = 1, target: int = 2) -> tuple[bytes, bytes]:
    """Inner addresses inside the default routes."""
    if v6:
        return b"\xfd" + bytes(14) + bytes([source]), b"\xfd" + bytes(14) + bytes([target])
    return bytes((10, 9, 0, source)), bytes((10, 9, 0, target))


def udp(payload: bytes, v6: bool = False, sport: int = 1000, partial: bool = True, **changes: Any) -> bytes:
    """A UDP frame with virtio header, checksum left to the device when `partial`."""
    source, target = addresses(v6)
    length = 8 + len(payload)
    head = struct.pack(">HHHH", sport, 2000, length, pseudo(source, target, 17, length))
    start = 40 if v6 else 20
    if not partial:
        head = head[:6] + struct.pack(
            ">H", checksum(struct.pack(">H", pseudo(source, target, 17, length)) + head[:6] + payload) or 0xFFFF
        )
    vnet = struct.pack("<BBHHHH", 1, 0, 0, 0, start, 6) if partial else VNET0
    return vnet + ip(source, target, 17, head + payload, **changes)


def tcp(
    payload: bytes, mss: int, v6: bool = False, seq: int = 7, flags: int = 0x18, options: bytes = b"", **changes: Any
) -> bytes:
    """A TCP frame with virtio header; a super-packet when the payload is longer than `mss`."""
    source, target = addresses(v6)
    header = 20 + len(options)
    length = header + len(payload)
    start = 40 if v6 else 20
    part = pseudo(source, target, 6, length)
    head = struct.pack(">HHIIBBHHH", 3000, 4000, seq, 99, header << 2, flags, 500, part, 0) + options
    gso = (4 if v6 else 1) if len(payload) > mss else 0
    vnet = struct.pack("<BBHHHH", 1, gso, start + header if gso else 0, mss if gso else 0, start, 16)
    return vnet + ip(source, target, 6, head + payload, **changes)


def uso(payload: bytes, mss: int, v6: bool = False, **changes: Any) -> bytes:
    """A UDP super-packet with virtio header."""
    frame = udp(payload, v6, **changes)
    start = 40 if v6 else 20
    return struct.pack("<BBHHHH", 1, 5, start + 8, mss, start, 6) + frame[10:]


def segments(frame: bytes, *, honest: bool = True) -> list[bytes]:
    """What a kernel makes of a frame: single IP packets with every checksum finished. Slow and plain.

    `honest` False: the peer may have lied about its partial checksums, which are its own to choose.
    """
    flags, gso, _, mss, start, offset = struct.unpack("<BBHHHH", frame[:10])
    packet = frame[10:]
    v6 = packet[0] >> 4 == 6
    protocol = packet[6] if v6 else packet[9]
    if not flags & 1:
        return [packet]
    source, target = (packet[8:24], packet[24:40]) if v6 else (packet[12:16], packet[16:20])
    length_was = len(packet) - start
    assert not honest or (
        struct.unpack_from(">H", packet, start + offset)[0] % 0xFFFF
        == pseudo(source, target, protocol, length_was) % 0xFFFF
    )
    header = start + (8 if protocol == 17 else packet[start + 12] >> 4 << 2)
    payload = packet[header:]
    step = mss if gso else max(len(payload), 1)
    found = []
    for number, at in enumerate(range(0, max(len(payload), 1), step)):
        piece = payload[at : at + step]
        head = bytearray(packet[:header])
        last = at + step >= len(payload)
        if v6:
            struct.pack_into(">H", head, 4, header - 40 + len(piece))
        else:
            struct.pack_into(">H", head, 2, header + len(piece))
            struct.pack_into(">H", head, 4, (struct.unpack_from(">H", head, 4)[0] + number) & 0xFFFF)
            head[10:12] = b"\0\0"
            struct.pack_into(">H", head, 10, checksum(bytes(head[:20])))
        if protocol == 6:
            struct.pack_into(">I", head, start + 4, (struct.unpack_from(">I", head, start + 4)[0] + at) & 0xFFFFFFFF)
            if not last:
                head[start + 13] &= ~9
        else:
            struct.pack_into(">H", head, start + 4, header - start + len(piece))
        struct.pack_into(">H", head, start + offset, pseudo(source, target, protocol, header - start + len(piece)))
        struct.pack_into(
            ">H", head, start + offset, checksum(bytes(head[start:]) + piece) or (0xFFFF if protocol == 17 else 0)
        )
        found.append(bytes(head) + piece)
    return found
