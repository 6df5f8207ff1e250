"""The control socket: every line gets an answer, nobody can hold it up, strangers get none."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from pqvpn.control.api import Api, RequestRefusedError
from pqvpn.errors import NetworkError, PqvpnError
from pqvpn.reasons import Reason

ERRORS = [
    {"code": "config.value", "text": "t", "detail": "first", "place": "node.mtu (line 3)", "remedy": "r"},
    {"code": "config.missing", "text": "t", "detail": "second", "place": "node.name", "remedy": "r"},
]


async def echo(request: dict[str, Any]) -> dict[str, Any]:
    return {"asked": request}


async def refuse(_: dict[str, Any]) -> dict[str, Any]:
    raise RequestRefusedError(ERRORS)


async def fail(_: dict[str, Any]) -> dict[str, Any]:
    raise NetworkError(Reason.NO_ROUTE_OUT, "no way", place="192.0.2.1:7")


@asynccontextmanager
async def served() -> AsyncIterator[bytes]:
    """A server; gives its address."""
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")  # a name that the kernel chooses
        listener.listen(64)
        api = Api(listener, {"echo": echo, "refuse": refuse, "fail": fail})
        await api.start()
        yield listener.getsockname()
        api.close()
        assert problems == []


async def ask(address: bytes, *lines: bytes) -> list[dict[str, Any]]:
    """Send all lines, then read to the end."""
    reader, writer = await asyncio.open_unix_connection(address)
    writer.write(b"".join(lines))
    writer.write_eof()
    answers = [msgspec.json.decode(line) for line in (await asyncio.wait_for(reader.read(), 5)).splitlines()]
    writer.close()
    await writer.wait_closed()
    return answers


def asking(*lines: bytes) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        async with served() as address:
            return await ask(address, *lines)

    return asyncio.run(run())


def test_a_request_gets_its_result() -> None:
    (answer,) = asking(b'{"op": "echo", "peer": "beta"}\n')
    assert answer == {"ok": True, "result": {"asked": {"op": "echo", "peer": "beta"}}}


def test_requests_on_one_connection_are_answered_in_order() -> None:
    answers = asking(b'{"op": "echo", "n": 1}\n{"op": "nonsense"}\n', b'{"op": "echo", "n": 3}\n')
    assert [a["ok"] for a in answers] == [True, False, True]
    assert answers[2]["result"]["asked"]["n"] == 3


@pytest.mark.parametrize(
    "line",
    [
        b"not JSON\n", b"[1]\n", b"null\n", b"\n", b'{"op": "echo"\n', b'{"op": "echo", "x": "\xff\xfe"}\n', b"\x00\n",
        b'{"op": ' + b"[" * 30_000 + b"}\n",
    ],
    ids=lambda line: repr(line[:24]),
)  # fmt: skip
def test_what_is_no_object_is_refused_and_the_next_is_answered(line: bytes) -> None:
    refused, answered = asking(line, b'{"op": "echo"}\n')
    assert refused["ok"] is False
    assert refused["error"] == refused["errors"][0]
    assert refused["error"]["code"] == "node.request_refused"
    assert refused["error"]["detail"] == "the request is not a JSON object"
    assert answered["ok"] is True


@pytest.mark.parametrize("depth", [500, 5000, 15_000])
def test_nesting_is_refused_and_the_next_is_answered(depth: int) -> None:
    """How deep a decoder goes differs between versions of Python; that the request is refused does not."""
    line = b'{"op": ' + b"[" * depth + b"]" * depth + b"}\n"
    refused, answered = asking(line, b'{"op": "echo"}\n')
    assert refused["error"]["code"] == "node.request_refused"
    assert len(refused["error"]["detail"]) < 60
    assert answered["ok"] is True


@pytest.mark.parametrize("line", [b"{}\n", b'{"op": 7}\n', b'{"op": "' + b"x" * 5000 + b'"}\n', b'{"op": ["echo"]}\n'])
def test_an_unknown_operation_is_refused_in_few_words(line: bytes) -> None:
    (answer,) = asking(line)
    assert answer["error"]["code"] == "node.request_refused"
    assert answer["error"]["detail"].startswith("no operation ")
    assert len(answer["error"]["detail"]) < 60


def test_an_operations_error_is_told_with_all_its_fields() -> None:
    (answer,) = asking(b'{"op": "fail"}\n')
    reason = Reason.NO_ROUTE_OUT
    assert answer == {
        "ok": False,
        "error": {
            "code": reason.code, "text": reason.text, "detail": "no way", "place": "192.0.2.1:7", "remedy": reason.remedy,
        },
        "errors": [answer["error"]],
    }  # fmt: skip


def test_a_list_of_errors_comes_whole() -> None:
    (answer,) = asking(b'{"op": "refuse"}\n')
    assert answer == {"ok": False, "error": ERRORS[0], "errors": ERRORS}


def test_a_line_that_is_too_long_ends_its_connection_only() -> None:
    async def run() -> None:
        async with served() as address:
            reader, writer = await asyncio.open_unix_connection(address)
            writer.write(b'{"op": "echo", "x": "' + b"x" * 200_000)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            assert (await ask(address, b'{"op": "echo"}\n'))[0]["ok"]

    asyncio.run(run())


def test_connections_are_limited_and_freed() -> None:
    async def run() -> None:
        async with served() as address:
            held = [await asyncio.open_unix_connection(address) for _ in range(32)]
            for reader, writer in held:
                writer.write(b'{"op": "echo"}\n')
                assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b'{"ok":true')
            reader, writer = await asyncio.open_unix_connection(address)
            assert await asyncio.wait_for(reader.read(), 5) == b""  # one too many
            writer.close()
            held[0][1].close()
            await held[0][1].wait_closed()
            async with asyncio.timeout(5):
                while not await _answers(address):
                    await asyncio.sleep(0)
            for _, writer in held:
                writer.close()

    asyncio.run(run())


async def _answers(address: bytes) -> bool:
    try:
        return (await ask(address, b'{"op": "echo"}\n'))[0]["ok"] is True
    except (IndexError, OSError):
        return False


def test_one_who_goes_away_in_the_middle_hurts_nobody() -> None:
    async def run() -> None:
        async with served() as address:
            for _ in range(50):
                with socket.socket(socket.AF_UNIX) as asker:
                    asker.connect(address)
                    asker.send(b'{"op": "echo"}\n' * 50)
            async with asyncio.timeout(5):
                while not await _answers(address):
                    await asyncio.sleep(0)

    asyncio.run(run())


STRANGER = """
import os, socket, sys
os.setuid(65534)
asker = socket.socket(socket.AF_UNIX)
asker.connect("\\0" + sys.argv[1])
asker.settimeout(5)
try:
    asker.send(b'{"op": "echo"}\\n')
    print("answer:", asker.recv(1000))
except (ConnectionResetError, BrokenPipeError):
    print("answer:", b"")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can ask as somebody else")
def test_another_user_gets_no_answer() -> None:
    """SO_PEERCRED carries the uid at connect(2), so a child that changed it stands for another user."""

    async def run() -> None:
        async with served() as address:
            asking = await asyncio.create_subprocess_exec(
                sys.executable, "-c", STRANGER, address.decode("latin-1")[1:], stdout=asyncio.subprocess.PIPE
            )
            answer, _ = await asyncio.wait_for(asking.communicate(), 10)
            assert answer == b"answer: b''\n"

    asyncio.run(run())


def test_errors_of_the_api_are_errors_of_the_project() -> None:
    error = RequestRefusedError(ERRORS)
    assert isinstance(error, PqvpnError)
    assert (error.detail, error.errors) == ("first", ERRORS)
