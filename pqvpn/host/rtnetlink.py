"""A socket to the kernel's tables of links, addresses, routes and rules that waits for no answer for ever.

Owns the wait. pyroute2 drives every request by an event loop of its own and waits for an answer as long as it takes; the loop
here ends each wait after `patience` seconds with a TimeoutError. What comes later is an answer to nobody: whoever is refused
so should open another socket. The kernel does the work of a request while it takes it (under a lock of its own): where that
itself does not end, no limit of ours helps, and the supervisor's sign of life stops.
"""

import asyncio
import errno
import os
from collections.abc import Awaitable, Generator
from typing import Any, Final, TypeVar

from pqvpn.host._pyroute2 import IPRoute

T = TypeVar("T")
PATIENCE: Final = 1.0
"""Seconds; an answer takes some microseconds."""


class _Loop(asyncio.SelectorEventLoop):
    patience = PATIENCE

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """As ever, but for `patience` seconds at most. Raises TimeoutError."""
        task: asyncio.Future[T] = asyncio.ensure_future(future, loop=self)  # type: ignore[arg-type] # it takes both
        end = self.call_later(self.patience, task.cancel)
        try:
            return super().run_until_complete(task)
        except asyncio.CancelledError as error:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error
        finally:
            end.cancel()


class Netlink(IPRoute):  # type: ignore[misc] # without types of its own
    """An IPRoute each of whose waits ends with a TimeoutError after `patience` seconds."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._loop = _Loop()
        self._loop.patience = patience
        try:
            super().__init__(use_event_loop=self._loop)
        except BaseException:
            self._loop.close()
            raise

    @property
    def patience(self) -> float:
        """Seconds."""
        return self._loop.patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._loop.patience = seconds

    def close(self, code: int = errno.ECONNRESET) -> None:
        """Close the socket and all that belongs to it."""
        if not self._loop.is_closed():
            super().close(code)
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())  # lets the loop let go of the socket, too
            self._loop.close()
