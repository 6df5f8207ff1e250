"""Datagrams to an inner address, for ever, from a socket that is bound to nothing: what would leak first.

Each is routed anew, with whatever source address the kernel finds, so that it leaves in the clear as soon as neither the
tunnel's route nor its guard stands there. (A TCP connection would keep an address that is gone, and be refused.) Owns the
thread.
"""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Final, Self

from lab.namespaces import Namespace
from lab.stream import MARKER

_EVERY: Final = 0.02
_DISCARD: Final = 9


class Knocking:
    """Knocks while in the `with` block. `sent`: what the kernel took."""

    def __init__(self, namespace: Namespace, address: str) -> None:
        self._socket = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"knocking at {address}", daemon=True)
        self.sent = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            with contextlib.suppress(OSError):  # unreachable: as it should be while the tunnel is not there
                self._socket.sendto(MARKER, (self._address, _DISCARD))
                self.sent += 1
