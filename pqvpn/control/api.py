"""The control socket: one JSON object a line in, one out.

Owns the protocol, its limits and the check of who asks (SO_PEERCRED: root or the node's own user). Knows nothing of what the
operations do.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

_LINE = 64 * 1024
_CONNECTIONS = 32
_IDLE = 60.0
_UCRED = struct.Struct("3i")

Operation = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class RequestRefusedError(PqvpnError):
    """A request that cannot be done, with one or more errors as they go over the socket."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__(Reason.REQUEST_REFUSED, errors[0]["detail"])
        self.errors = errors


def describe(error: PqvpnError) -> dict[str, str]:
    """The socket's error object."""
    return {
        "code": error.reason.code,
        "text": error.reason.text,
        "detail": error.detail,
        "place": error.place,
        "remedy": error.remedy,
    }


class Api:
    """Serves `operations` by name on a listening unix socket."""

    def __init__(
        self,
        listener: socket.socket,
        operations: Mapping[str, Operation],
        failed: Callable[[str, Exception], None] = lambda *_: None,
    ) -> None:
        self._listener = listener
        self._operations = operations
        self._failed = failed
        self._open = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to answer; requests that came before wait in the socket's backlog."""
        self._server = await asyncio.start_unix_server(self._serve, sock=self._listener, limit=_LINE)

    def close(self) -> None:
        """Answer no more."""
        if self._server:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._open < _CONNECTIONS and _allowed(writer.get_extra_info("socket")):
                self._open += 1
                try:
                    await self._answer_all(reader, writer)
                finally:
                    self._open -= 1
        except (OSError, TimeoutError, ValueError):  # the asker went away, was idle or sent a line without end
            pass
        finally:
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await asyncio.wait_for(reader.readline(), _IDLE):
            writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
            await writer.drain()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
            operation = self._operations.get(str(request.get("op")))
            if operation is None:
                raise PqvpnError(Reason.REQUEST_REFUSED, f"no operation {str(request.get('op'))[:40]!r}")
            return {"ok": True, "result": await operation(request)}
        except (ValueError, RecursionError):  # not JSON, not UTF-8, nested without end
            errors = [describe(PqvpnError(Reason.REQUEST_REFUSED, "the request is not a JSON object"))]
        except RequestRefusedError as refusal:
            errors = refusal.errors
        except PqvpnError as error:
            errors = [describe(error)]
        except Exception as error:  # noqa: BLE001 - the request's boundary: who asked is answered, without the text
            self._failed("api", error)
            errors = [describe(PqvpnError(Reason.INTERNAL, type(error).__name__))]
        return {"ok": False, "error": errors[0], "errors": errors}


def _allowed(connection: Any) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, _ = _UCRED.unpack(credentials)
    return uid in (0, os.getuid())
