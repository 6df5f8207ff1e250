"""Capture of what passes an interface, into memory, by a packet socket that lives in the namespace.

Works without root and without tcpdump. Knows frames as bytes only. A frame may be up to 64 KiB: the kernel passes
joined segments over a veth link without cutting them.
"""

import contextlib
import select
import socket
import struct
import threading
from types import TracebackType
from typing import Self

ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 128 << 20


class Capture:
    """Frames of one interface, both directions, from `__enter__` to `__exit__`.

    `frames`: the frames kept, at most `limit` bytes of them (later ones are only counted and searched).
    `hits`: for each of `watch`, in how many frames it was found. `dropped`: frames the kernel could not hand over;
    a claim that something was *not* seen needs this to be 0.
    """

    def __init__(self, packet_socket: socket.socket, interface: str, watch: tuple[bytes, ...], limit: int) -> None:
        self.frames: list[bytes] = []
        self.count = 0
        self.bytes = 0
        self.dropped = 0
        self.hits: dict[bytes, int] = dict.fromkeys(watch, 0)
        self._left = limit
        self._socket = packet_socket
        with contextlib.suppress(PermissionError):
            packet_socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        packet_socket.bind((interface, ETH_P_ALL))
        packet_socket.setblocking(False)
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
        self._drain()
        _, self.dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        for each in (self._socket, self._stop_read, self._stop_write):
            each.close()

    def contains(self, needle: bytes) -> bool:
        """Whether `needle` stands in any of the frames kept."""
        return any(needle in frame for frame in self.frames)

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            self._drain()

    def _drain(self) -> None:
        while True:
            try:
                frame = self._socket.recv(1 << 17)
            except BlockingIOError:
                return
            except OSError:  # the interface went down or away: there may be more when it is up again
                return
            self._take(frame)

    def _take(self, frame: bytes) -> None:
        self.count += 1
        self.bytes += len(frame)
        for needle in self.hits:
            if needle in frame:
                self.hits[needle] += 1
        if len(frame) <= self._left:
            self._left -= len(frame)
            self.frames.append(frame)
