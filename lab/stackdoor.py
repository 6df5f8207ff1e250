"""A way from inside a lab's namespace to a server on this machine's loopback, and nowhere else.

A `Door` listens on loopback inside a namespace and carries each connection to one port outside: the sockets live in
different namespaces, the process that moves bytes between them needs no privilege. So nodes of a lab reach a collector that
people reach, too, without a cable between the two. Knows nothing of what passes.
"""

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self

from lab.namespaces import Namespace

_PART = 65536
_IDLE = 0.2


class Door:
    """`inside` is the address of its listening end in the namespace. A context manager."""

    def __init__(self, namespace: Namespace, port: int, to: int) -> None:
        self._listener = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", port))
            self._listener.listen(32)
        except BaseException:
            self._listener.close()
            raise
        self._listener.settimeout(_IDLE)
        self._to = to
        self._open = True
        self._bytes = 0
        self.inside = f"127.0.0.1:{port}"
        self._serving = threading.Thread(target=self._serve, name=f"door to {to}", daemon=True)
        self._serving.start()

    @property
    def carried(self) -> int:
        """Bytes that went in so far."""
        return self._bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no more connections, and leave the port; connections that are open end with their next byte."""
        self._open = False
        with contextlib.suppress(OSError):  # it was closed before
            self._listener.shutdown(socket.SHUT_RDWR)  # whoever waits in it would hold the port
        self._serving.join(5.0)
        self._listener.close()

    def _serve(self) -> None:
        while self._open:
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._to), timeout=5) as far:
            near.settimeout(10)
            far.settimeout(10)
            with selectors.DefaultSelector() as waiting:
                waiting.register(near, selectors.EVENT_READ, far)
                waiting.register(far, selectors.EVENT_READ, near)
                while self._open and self._carried(waiting, near):
                    pass

    def _carried(self, waiting: selectors.BaseSelector, near: socket.socket) -> bool:
        """Whether both ends are still open."""
        for key, _ in waiting.select(_IDLE):
            source: socket.socket = key.fileobj  # type: ignore[assignment]
            part = source.recv(_PART)
            if not part:
                return False
            self._bytes += len(part) if source is near else 0
            key.data.sendall(part)
        return True
