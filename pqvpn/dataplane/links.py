"""A lane's links to other processes: events to control, packets to and from other lanes.

Owns the sockets and the form of what crosses between lanes (the crossover): a TUN frame whose session another lane
carries, or datagrams that the kernel or a join gave to the wrong lane. Nothing here waits: what does not fit is
counted.
"""

import socket
from collections.abc import Sequence
from struct import Struct
from typing import Final

from pqvpn.dataplane import commands, events
from pqvpn.dataplane.sessions import SocketAddress

FRAME: Final = 0
DATAGRAM: Final = 1
_DATAGRAM_HEAD: Final = Struct("<BBHHB")  # form, tos, size of each datagram, port, length of our IP (0: unknown)
_MAX: Final = 1 << 17

Pieces = Sequence[bytes | bytearray | memoryview]


class ControlLink:
    """Commands in, events out, over one SOCK_SEQPACKET socket."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self.lost = 0

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def tell(self, event: events.Event) -> bool:
        """Send an event; False when control does not take it now (it is then lost and counted)."""
        try:
            self._socket.send(events.encode(event))
        except OSError:
            self.lost += 1
            return False
        return True

    def commands(self, most: int = 64) -> list[commands.Command]:
        """The commands that have come, at most `most`; what is not a command is left out."""
        found: list[commands.Command] = []
        for _ in range(most):
            try:
                message = self._socket.recv(commands.MAX_MESSAGE)
            except OSError:
                break
            if not message:
                break
            try:
                found.append(commands.decode(message))
            except ValueError:  # msgspec's errors, and text that is not UTF-8
                continue
        return found


class Crossover:
    """Sockets to the other lanes."""

    def __init__(self, fds: Sequence[int]) -> None:
        self._sockets = [None if fd < 0 else socket.socket(fileno=fd) for fd in fds]
        for sock in self._sockets:
            if sock is not None:
                sock.setblocking(False)

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._sockets:
            if sock is not None:
                sock.close()

    def filenos(self) -> list[tuple[int, int]]:
        """`(lane, descriptor)` of each, for the event loop."""
        return [(lane, sock.fileno()) for lane, sock in enumerate(self._sockets) if sock is not None]

    def knows(self, lane: int) -> bool:
        """Whether there is such a lane besides this one."""
        return lane < len(self._sockets) and self._sockets[lane] is not None

    def hand_frame(self, lane: int, pieces: Pieces) -> bool:
        """Give a TUN frame, virtio header included, to another lane; False when it cannot take it."""
        return self._send(lane, [bytes([FRAME]), *pieces])

    def hand_datagrams(
        self, lane: int, data: memoryview, size: int, tos: int, source: SocketAddress, local: bytes | None
    ) -> bool:
        """Give datagrams of `size` bytes (the last may be shorter) that came from `source` to another lane."""
        ours = local or b""
        host = source[0].encode()
        head = _DATAGRAM_HEAD.pack(DATAGRAM, tos, size, source[1], len(ours))
        return self._send(lane, [head, ours, bytes([len(host)]), host, data])

    def _send(self, lane: int, pieces: Pieces) -> bool:
        sock = self._sockets[lane] if lane < len(self._sockets) else None
        if sock is None:
            return False
        try:
            sock.sendmsg(pieces)
        except OSError:
            return False
        return True

    def receive(self, lane: int) -> bytes | None:
        """One message from a lane, None when there is none."""
        sock = self._sockets[lane]
        if sock is None:
            return None
        try:
            return sock.recv(_MAX) or None
        except OSError:
            return None


def parse_datagrams(message: bytes, ipv6: bool) -> tuple[bytes, int, int, SocketAddress, bytes | None]:
    """Data, size, tos, source and our IP of a `DATAGRAM` message (from our own lanes: trusted)."""
    _, tos, size, port, ours = _DATAGRAM_HEAD.unpack_from(message)
    at = _DATAGRAM_HEAD.size
    local = message[at : at + ours] or None
    at += ours
    host = message[at + 1 : at + 1 + message[at]].decode()
    at += 1 + message[at]
    source: SocketAddress = (host, port, 0, 0) if ipv6 else (host, port)
    return message[at:], size, tos, source, local
