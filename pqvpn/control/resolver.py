"""Endpoints: "host:port" as configured becomes addresses, and stays resolved.

Owns look-ups, their retries and the last known good answer. A failure is never fatal: the old addresses stay, the failure is
told once, and the look-up is repeated with exponential backoff and full jitter. Knows nothing of handshakes.
"""

import asyncio
import ipaddress
import random
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pqvpn.facts import FactHook, Resolved, ResolveFailed
from pqvpn.host.clock import now
from pqvpn.reasons import Reason
from pqvpn.telemetry import context
from pqvpn.wire.address import Address

REFRESH = 300.0
"""Seconds after which a name is looked up again although all is well (dynamic DNS)."""
_FIRST_RETRY = 1.0
_LAST_RETRY = 60.0
_TIMEOUT = 10.0
_MAX_ADDRESSES = 8

AddressHook = Callable[[bytes, tuple[Address, ...]], None]


def split(endpoint: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port"; the configuration has checked the form."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def literal(endpoint: str) -> Address | None:
    """The address, when `endpoint` needs no look-up."""
    host, port = split(endpoint)
    try:
        return Address.of(ipaddress.ip_address(host).packed, port)
    except ValueError:
        return None


class _Answer(NamedTuple):
    """One name's answer. `failure`: why there is none, in words."""

    host: str
    addresses: tuple[Address, ...]
    failure: str
    seconds: float


class Resolver:
    """One task for each peer that has names among its endpoints. `on_addresses` gets every change, best address first."""

    def __init__(self, on_addresses: AddressHook, publish: FactHook) -> None:
        self._on_addresses = on_addresses
        self._publish = publish
        self._tasks: dict[bytes, tuple[tuple[str, ...], asyncio.Task[None]]] = {}
        self._again: dict[bytes, asyncio.Event] = {}

    def configure(self, endpoints: Mapping[bytes, tuple[str, ...]], names: Mapping[bytes, str]) -> None:
        """Keep these peers' endpoints (complete) resolved; unchanged ones are left alone."""
        for peer in [p for p, (old, _) in self._tasks.items() if endpoints.get(p) != old]:
            self._tasks.pop(peer)[1].cancel()
        for peer, wanted in endpoints.items():
            if peer in self._tasks or all(literal(e) for e in wanted):
                continue
            self._again[peer] = asyncio.Event()
            task = asyncio.create_task(self._keep(peer, wanted, names[peer]), name=f"resolve {names[peer]}")
            self._tasks[peer] = (wanted, task)

    def look_again(self, peer: bytes) -> None:
        """Look the peer's names up soon: its handshake does not get through."""
        if peer in self._again:
            self._again[peer].set()

    def close(self) -> None:
        """Stop all look-ups."""
        for _, task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _keep(self, peer: bytes, endpoints: tuple[str, ...], name: str) -> None:
        known: tuple[Address, ...] = ()
        retry = _FIRST_RETRY
        failing: tuple[tuple[str, str], ...] = ()
        while True:
            answers = [await _look_up(endpoint) for endpoint in endpoints]
            found = tuple(dict.fromkeys(a for answer in answers for a in answer.addresses))[:_MAX_ADDRESSES]
            failures = tuple((a.host, a.failure) for a in answers if a.failure)
            with context.attached(peer=name):
                self._tell(name, answers, failures != failing, len(found or known))
                if found and found != known:
                    known = found
                    self._on_addresses(peer, found)
            failing = failures
            retry = min(retry * 2, _LAST_RETRY) if failures else _FIRST_RETRY
            # not for secrecy: the jitter keeps many nodes from asking at once
            await self._wait(peer, random.uniform(0.1, retry) if failures else REFRESH)  # noqa: S311

    def _tell(self, name: str, answers: list[_Answer], news: bool, kept: int) -> None:
        """`news`: the failures are others than last time."""
        for host, addresses, failure, seconds in answers:
            if host and not failure:
                self._publish(Resolved(name, host, len(addresses), round(seconds, 4)))
            elif failure and news:
                self._publish(ResolveFailed(name, Reason.DNS_FAILED, failure, round(seconds, 4), kept, host))

    async def _wait(self, peer: bytes, seconds: float) -> None:
        again = self._again[peer]
        try:
            async with asyncio.timeout(seconds):
                await again.wait()
                await asyncio.sleep(_FIRST_RETRY)
        except TimeoutError:
            pass
        again.clear()


async def _look_up(endpoint: str) -> _Answer:
    """The addresses of one endpoint; a literal one is its own answer, without a host."""
    address = literal(endpoint)
    if address:
        return _Answer("", (address,), "", 0.0)
    host, port = split(endpoint)
    began = now()
    try:
        async with asyncio.timeout(_TIMEOUT):
            answers = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_DGRAM, flags=socket.AI_ADDRCONFIG
            )
    except (OSError, UnicodeError, TimeoutError) as error:
        failure = str(getattr(error, "strerror", None) or type(error).__name__)
        return _Answer(host, (), failure, now() - began)
    ips = (str(answer[4][0]).partition("%")[0] for answer in answers)
    found = dict.fromkeys(Address.of(ipaddress.ip_address(ip).packed, port) for ip in ips)
    return _Answer(host, tuple(found), "", now() - began)
