"""HTTP over a unix socket, by the standard library's client.

Owns the connection. Imported when a command asks, not before.
"""

import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path

__all__ = ["HTTPException", "UnixConnection"]


class UnixConnection(HTTPConnection):
    """A connection to the socket at `place`; each step of it may take `seconds`."""

    def __init__(self, place: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._place = place
        self._seconds = seconds

    def connect(self) -> None:
        """Connect; the library calls it. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._seconds)
        self.sock.connect(str(self._place))
