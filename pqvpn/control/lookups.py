"""One look-up of each configured name, for an operator who asks what the resolver says now.

Owns the look-ups and their bounds. Asks past the breakers of `resolver.py` and tells them nothing, and uses none of the
threads in which the node's own look-ups wait: what hangs here hangs alone, and at most so many do.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterable
from typing import Any

from pqvpn.host.clock import now

LASTS = 5.0
"""Seconds that an answer is waited for."""
NAMES = 64
"""Names that are asked for in one go; no more than these are told."""
THREADS = 8
"""Look-ups at a time, those included that nobody waits for any more."""


class Lookups:
    """Of one control process."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(THREADS)

    async def ask(self, wanted: Iterable[tuple[str, str, int]]) -> list[dict[str, Any]]:
        """Look up (peer, host, port), side by side; one result each."""
        begun: set[tuple[str, str, int]] = set()
        tasks = {each: asyncio.create_task(self._one(each, begun)) for each in list(wanted)[:NAMES]}
        if tasks:
            await asyncio.wait(tasks.values(), timeout=LASTS)
        found = []
        for each, task in tasks.items():
            if task.done():
                found.append({"peer": each[0], "host": each[1], **task.result()})
            else:
                task.cancel()
                error = f"no answer within {LASTS:.0f} s" if each in begun else "not asked: others gave no answer yet"
                found.append({"peer": each[0], "host": each[1], **_result([], LASTS, error)})
        return found

    async def _one(self, wanted: tuple[str, str, int], begun: set[tuple[str, str, int]]) -> dict[str, Any]:
        await self._room.acquire()
        begun.add(wanted)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[dict[str, Any]] = loop.create_future()

        def told(result: dict[str, Any]) -> None:
            self._room.release()
            if not answer.done():
                answer.set_result(result)

        def look_up() -> None:
            try:
                result = _look_up(*wanted[1:])
            except Exception as failure:  # noqa: BLE001 - the thread's boundary: whoever waits gets an answer
                result = _result([], 0.0, type(failure).__name__)
            with contextlib.suppress(Exception):  # the process ends
                loop.call_soon_threadsafe(told, result)

        try:
            threading.Thread(target=look_up, name="look-up", daemon=True).start()
        except RuntimeError:
            told(_result([], 0.0, "not asked: this machine has no room for a thread"))
        return await answer


def _result(addresses: list[str], seconds: float, error: str) -> dict[str, Any]:
    return {"addresses": addresses, "seconds": round(seconds, 4), "error": error}


def _look_up(host: str, port: int) -> dict[str, Any]:
    began = now()
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_ADDRCONFIG)
    except (OSError, UnicodeError) as failure:
        return _result([], now() - began, str(getattr(failure, "strerror", None) or type(failure).__name__))
    addresses = list(dict.fromkeys(str(each[4][0]).partition("%")[0] for each in found))
    return _result(addresses, now() - began, "")
