"""Capture of what passes an interface, into memory, by a packet socket that lives in the namespace.

Works without root and without tcpdump. The kernel writes into a ring that we map (packet_mmap, TPACKET_V3), since an ordinary
user's receive buffer is too small for a fast link. Knows frames as bytes only. A frame may be up to 64 KiB: the kernel passes
joined segments over a veth link without cutting them.
"""

import mmap
import select
import socket
import struct
import threading
from types import TracebackType
from typing import Self

_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_RX_RING = 5
_PACKET_STATISTICS = 6
_PACKET_VERSION = 10
_TPACKET_V3 = 2

_BLOCK = 1 << 20
_FRAME = 2048  # only checked by the kernel: a frame may be as long as a block
_RETIRE_MS = 10
_QUIET_SECONDS = 0.05  # several times the above: nothing is left in an open block

_STATUS = struct.Struct("=I")
_STATUS_AT = 8
_COUNT_AND_FIRST = struct.Struct("=II")
_HEADER = struct.Struct("=IIIIIIH")  # next, seconds, nanoseconds, snaplen, len, status, mac
_KERNELS, _OURS = 0, 1


class Capture:
    """Frames of one interface, both directions, from `__enter__` to `__exit__`.

    `frames`: the frames kept, at most `limit` bytes of them (later ones are only counted and searched); a frame shows up
    within some 10 ms. `hits`: for each of `watch`, in how many frames it was found. `dropped`: frames the kernel could not
    hand over, known when stopped; a claim that something was *not* seen needs this to be 0.
    """

    blocks = 64
    """MiB of the ring: what passes while we do not get the processor."""

    def __init__(self, packet_socket: socket.socket, interface: str, watch: tuple[bytes, ...], limit: int) -> None:
        self.frames: list[bytes] = []
        self.count = 0
        self.bytes = 0
        self.dropped = 0
        self.hits: dict[bytes, int] = dict.fromkeys(watch, 0)
        self._left = limit
        self._socket = packet_socket
        packet_socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        frames = _BLOCK // _FRAME * self.blocks
        request = struct.pack("=7I", _BLOCK, self.blocks, _FRAME, frames, _RETIRE_MS, 0, 0)
        packet_socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
        self._ring = mmap.mmap(packet_socket.fileno(), _BLOCK * self.blocks)
        self._block = 0
        packet_socket.bind((interface, _ETH_P_ALL))
        self._stop_read, self._stop_write = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=f"capture {interface}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take in what has arrived, and stop. Harmless when stopped already."""
        if self._socket.fileno() < 0:
            return
        self._stop_write.send(b"x")
        self._thread.join()
        _, self.dropped, _ = struct.unpack("=III", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 12))
        self._ring.close()
        for each in (self._socket, self._stop_read, self._stop_write):
            each.close()

    def contains(self, needle: bytes) -> bool:
        """Whether `needle` stands in any of the frames kept."""
        return any(needle in frame for frame in self.frames)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        while not any(descriptor == self._stop_read.fileno() for descriptor, _ in poll.poll()):
            self._drain()
        poll.unregister(self._stop_read)
        self._drain()
        while poll.poll(_QUIET_SECONDS * 1000) and self._drain():
            pass

    def _drain(self) -> bool:
        """Take in the blocks that are ours; whether there was one."""
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # an interface gone down would wake us forever
        found = False
        while _STATUS.unpack_from(self._ring, self._block * _BLOCK + _STATUS_AT)[0] & _OURS:
            self._take_block(self._block * _BLOCK)
            _STATUS.pack_into(self._ring, self._block * _BLOCK + _STATUS_AT, _KERNELS)
            self._block = (self._block + 1) % self.blocks
            found = True
        return found

    def _take_block(self, start: int) -> None:
        count, offset = _COUNT_AND_FIRST.unpack_from(self._ring, start + _STATUS_AT + _STATUS.size)
        at = start + offset
        for _ in range(count):
            following, _, _, length, _, _, mac = _HEADER.unpack_from(self._ring, at)
            self._take(self._ring[at + mac : at + mac + length])
            at += following

    def _take(self, frame: bytes) -> None:
        self.count += 1
        self.bytes += len(frame)
        for needle in self.hits:
            if needle in frame:
                self.hits[needle] += 1
        if len(frame) <= self._left:
            self._left -= len(frame)
            self.frames.append(frame)
