"""The outer link as an eavesdropper and an auditor see it: no plaintext, and no counter twice.

A `Wire` reads every frame at full rate and keeps none: transport packets only leave a mark at their (receiver, index,
counter). Knows the header of transport packets (PROTOCOL section 5) and nothing else of the protocol. Joined packets of
one lane, which a veth link carries as one frame, have consecutive counters.
"""

import socket
import struct
from collections import defaultdict
from typing import Final

from lab.capture import Capture
from lab.namespaces import LabError, Namespace

PORT: Final = 51820
_TRANSPORT: Final = 4
_HEADER: Final = struct.Struct("<IQ")
_LONGEST: Final = 2100
"""Bytes of one transport packet at most, on links of 1500 bytes."""
_ARP, _IPV4, _IPV6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"
_SO_ATTACH_FILTER: Final = 26


class Wire(Capture):
    """One end of the outer link. With `only_foreign` the kernel hands over nothing but what is no packet of ours.

    `foreign`: frames that are neither ours nor the link's own (ARP, ICMPv6, ICMP that quotes our datagrams);
    `reused`: counters seen twice; `marks`: transport packets. `hits` and `dropped` as of `Capture`.
    """

    blocks = 8

    def __init__(self, namespace: Namespace, interface: str, watch: tuple[bytes, ...], *, only_foreign: bool) -> None:
        packets = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)
        if only_foreign:
            _attach(packets)
        self.foreign = 0
        self.reused = 0
        self.marks = 0
        self.first_foreign = b""
        self._seen: dict[bytes, bytearray] = defaultdict(bytearray)
        if not only_foreign:
            self.blocks = 256
        super().__init__(packets, interface, watch, 0)

    def _take(self, frame: bytes) -> None:
        kind = frame[12:14]
        if kind == _IPV4 and frame[23] == socket.IPPROTO_UDP:
            at = 14 + (frame[14] & 15) * 4
            if PORT in struct.unpack_from("!HH", frame, at):
                self._mark(frame[30:34], frame[at + 8 :])
                super()._take(frame)
                return
        if kind != _ARP and not (kind == _IPV6 and frame[20] == socket.IPPROTO_ICMPV6) and not _quotes_ours(frame):
            self.foreign += 1
            self.first_foreign = self.first_foreign or frame[:64]
        super()._take(frame)

    def _mark(self, to: bytes, payload: bytes) -> None:
        while len(payload) >= 48 and payload[0] == _TRANSPORT:
            index, counter = _HEADER.unpack_from(payload, 4)
            second = payload.find(_HEADER.pack(index, counter + 1), 16, 16 + _LONGEST)
            stride = second - 4 if second > 0 else len(payload)
            count = 1
            while count * stride + 48 <= len(payload) and _HEADER.unpack_from(payload, count * stride + 4) == (
                index,
                counter + count,
            ):
                count += 1
            if second < 0 and len(payload) > _LONGEST:
                raise LabError("a joined frame that does not go on with the next counter: nothing is proven")
            self._note(to + payload[4:8], counter, count)
            payload = payload[count * stride :]

    def _note(self, key: bytes, counter: int, count: int) -> None:
        seen = self._seen[key]
        if counter + count > len(seen):
            seen.extend(bytes(counter + count - len(seen)))
        self.reused += count - seen.count(0, counter, counter + count)
        seen[counter : counter + count] = b"\1" * count
        self.marks += count


def _quotes_ours(frame: bytes) -> bool:
    """Whether it is an ICMP error about a datagram of ours: the kernel of a node that is down sends such."""
    if frame[12:14] != _IPV4 or frame[23] != socket.IPPROTO_ICMP:
        return False
    quoted = 14 + (frame[14] & 15) * 4 + 8
    if len(frame) < quoted + 28 or frame[quoted + 9] != socket.IPPROTO_UDP:
        return False
    return PORT in struct.unpack_from("!HH", frame, quoted + (frame[quoted] & 15) * 4)


def _attach(packets: socket.socket) -> None:
    """Have the kernel keep everything but IPv4 UDP to or from `PORT`: a filter of classic BPF."""
    import ctypes  # only here: sock_fprog holds an address

    program = b"".join(
        struct.pack("=HBBI", *line)
        for line in (
            (0x28, 0, 0, 12),  # A = ethertype
            (0x15, 0, 7, 0x0800),  # IPv4? else keep
            (0x30, 0, 0, 23),  # A = protocol
            (0x15, 0, 5, 17),  # UDP? else keep
            (0xB1, 0, 0, 14),  # X = length of the IPv4 header
            (0x48, 0, 0, 14),  # A = source port
            (0x15, 3, 0, PORT),  # ours: drop
            (0x48, 0, 0, 16),  # A = destination port
            (0x15, 1, 0, PORT),  # ours: drop
            (0x06, 0, 0, 0xFFFFFFFF),  # keep
            (0x06, 0, 0, 0),
        )
    )
    buffer = bytearray(program)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, address))
