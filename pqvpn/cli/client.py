"""The way to a running node: its control socket and its pid file.

Owns one request and its answer (docs/architecture.md, section Control socket), bounded in time and size. Knows nothing of
what the operations do.
"""

import contextlib
import fcntl
import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pqvpn.cli.output import RefusedError
from pqvpn.config import paths
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

_ANSWER_LIMIT = 8 << 20
_ANSWER_SECONDS = 5.0


def request(runtime: Path, operation: str, *, seconds: float = _ANSWER_SECONDS, **arguments: Any) -> dict[str, Any]:
    """Ask the node whose runtime folder is `runtime`; answers its result.

    Raises PqvpnError: node.not_running, cli.control_unreachable when it runs but does not answer within `seconds`,
    host.no_permission; RefusedError with the node's own reasons when it refuses.
    """
    place = paths.control_socket(runtime)
    message = json.dumps({"op": operation, **arguments}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(str(place))
            connection.sendall(message)
            line = _line(connection, time.monotonic() + seconds)
    except PermissionError:
        detail = "the control socket is not open to this user"
        remedy = "run as root or as the user that runs the node"
        raise PqvpnError(Reason.NO_PERMISSION, detail, place=str(place), remedy=remedy) from None
    except OSError as error:
        raise _unanswered(runtime, error.strerror or str(error)) from None
    return _result(runtime, line)


def _line(connection: socket.socket, deadline: float) -> bytes:
    data = bytearray()
    while b"\n" not in data:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        chunk = connection.recv(1 << 16)
        if not chunk or len(data) > _ANSWER_LIMIT:
            raise OSError("the answer is cut off" if not chunk else "the answer is too long")
        data += chunk
    return bytes(data[: data.index(b"\n")])


def _unanswered(runtime: Path, why: str) -> PqvpnError:
    pid = running_pid(runtime)
    if pid is None:
        return PqvpnError(Reason.NOT_RUNNING, place=str(runtime))
    return PqvpnError(Reason.CONTROL_UNREACHABLE, f"the node runs with pid {pid}, but: {why}", place=str(runtime))


def _result(runtime: Path, line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
        if answer["ok"]:
            return dict(answer["result"])
        errors = tuple(_error(error) for error in answer.get("errors") or [answer["error"]])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _unanswered(runtime, "its answer is not understood") from None
    raise RefusedError(errors)


def _error(described: Mapping[str, Any]) -> PqvpnError:
    code = described["code"]
    reason = next((known for known in Reason if known.code == code), Reason.INTERNAL)  # else a node of another version
    detail = str(described.get("detail") or described.get("text") or code)
    place, remedy = str(described.get("place") or ""), str(described.get("remedy") or "")
    return PqvpnError(reason, detail, place=place, remedy=remedy)


def running_pid(runtime: Path) -> int | None:
    """The pid of the node that holds the lock of the runtime folder, None when nobody does; 0 when it is not readable.

    Asks with a shared lock, for an instant only.
    """
    try:
        with open(paths.pid_file(runtime), "rb") as file:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            text = file.read(32).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else 0


def wait_until_ended(runtime: Path, seconds: float) -> bool:
    """Wait until no node holds the lock; False when one still does after `seconds`."""
    deadline = time.monotonic() + seconds
    while running_pid(runtime) is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)  # flock has no wait with a limit
    return True
