"""Invariant: whatever comes over the control socket, each complete line gets one JSON answer, and the server goes on."""

import asyncio
import atexit
import socket
from functools import cache
from typing import Any

import msgspec

from pqvpn.control.api import Api
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

SHORT_RUN = 600
TOKENS = (
    b'{"op": "status"}\n', b'{"op": "reconnect", "peer": "beta"}\n', b'{"op":', b"}", b"\n", b"\0", b"[" * 2000, b'{"a":' * 1500,
    b"null", b"1e400", b"-", b'"\\ud800"', b'"op": {}', b"\xef\xbb\xbf", b'{"op": "status", "op": "down"}\n',
)  # fmt: skip
_FAILED: list[Any] = []


def check(data: bytes) -> None:
    loop, path = _serving()
    answered = loop.run_until_complete(_exchange(path, data))
    lines = answered.split(b"\n")
    assert lines.pop() == b""
    for line in lines:
        answer = msgspec.json.decode(line)
        assert answer["ok"] in (True, False)
        assert ("result" in answer) == answer["ok"]
        if not answer["ok"]:
            assert answer["error"] == answer["errors"][0]
            assert answer["error"]["code"]
            assert len(answer["error"]["detail"]) < 200
    asked = data.split(b"\n")
    assert len(lines) == len(asked) - (asked[-1] == b"")
    assert not _FAILED


async def _exchange(path: bytes, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    writer.write_eof()
    answered = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answered


async def _status(_: dict[str, Any]) -> dict[str, Any]:
    return {"node": {}}


async def _reconnect(request: dict[str, Any]) -> dict[str, Any]:
    name = str(request.get("peer", ""))
    if name == "beta":
        return {"peer": name}
    raise PqvpnError(Reason.REQUEST_REFUSED, f"no peer {name[:64]!r} is configured")


@cache
def _serving() -> tuple[asyncio.AbstractEventLoop, bytes]:
    """A loop with a server on it, for the process's life; the socket has a name that the kernel chose, and no file."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: _FAILED.append(context))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")
    listener.listen()
    loop.run_until_complete(Api(listener, {"status": _status, "reconnect": _reconnect}).start())
    atexit.register(loop.close)
    return loop, listener.getsockname()
