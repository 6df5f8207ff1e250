"""Endpoints: "host:port" as configured becomes addresses, and stays resolved.

Owns look-ups, their retries and the last known good answer; nobody else repeats a look-up. A failure is never fatal: the
old addresses stay, the failure is told once, and the look-up is repeated with exponential backoff and full jitter; while a
host's breaker is open it is not asked for. That a name does not exist is an answer: anybody on the way can forge it, so it
opens no breaker and makes no wait longer. Knows nothing of handshakes.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pqvpn.facts import FactHook, Resolved, ResolveFailed, RetryEnded, RetryWaiting
from pqvpn.host.clock import now
from pqvpn.reasons import Reason
from pqvpn.resilience.backoff import Backoff
from pqvpn.resilience.breaker import BreakerOpenError
from pqvpn.resilience.registry import Kind, Registry
from pqvpn.telemetry import context
from pqvpn.wire.address import Address

REFRESH = 300.0
"""Seconds after which a name is looked up again although all is well (dynamic DNS)."""
_FIRST_RETRY = 1.0
_LAST_RETRY = 60.0
_SHORTEST_RETRY = 0.1
_ABSENT_RETRY = 15.0
"""Seconds until a name that does not exist is looked up again, at most."""
_HELD = 5.0
"""Seconds after which a host that an operator keeps from being asked for is looked at again."""
_ABSENT = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
"""What `getaddrinfo` says when a server answered that there is none."""
_TIMEOUT = 10.0
_MAX_ADDRESSES = 8

AddressHook = Callable[[bytes, tuple[Address, ...]], None]
FailureHook = Callable[[str, Exception], None]


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
    """One name's answer. `failure`: why there is none, in words; `absent`: a server says so. `wait`: seconds, when it was
    not asked for because its breaker is open.
    """

    host: str
    addresses: tuple[Address, ...]
    failure: str
    seconds: float
    absent: bool = False
    wait: float = 0.0


class Resolver:
    """One task for each peer that has names among its endpoints. `on_addresses` gets every change, best address first."""

    def __init__(
        self, on_addresses: AddressHook, publish: FactHook, breakers: Registry, failed: FailureHook = lambda *_: None
    ) -> None:
        self._on_addresses = on_addresses
        self._publish = publish
        self._breakers = breakers
        self._failed = failed
        self._tasks: dict[bytes, tuple[tuple[str, ...], asyncio.Task[None]]] = {}
        self._again: dict[bytes, asyncio.Event] = {}

    def configure(self, endpoints: Mapping[bytes, tuple[str, ...]], names: Mapping[bytes, str]) -> None:
        """Keep these peers' endpoints (complete) resolved; unchanged ones are left alone."""
        for peer in [p for p, (old, _) in self._tasks.items() if endpoints.get(p) != old]:
            self._tasks.pop(peer)[1].cancel()
        self._breakers.keep(Kind.DNS, {split(e)[0] for wanted in endpoints.values() for e in wanted})
        for peer, wanted in endpoints.items():
            if peer in self._tasks or all(literal(e) for e in wanted):
                continue
            self._again[peer] = asyncio.Event()
            task = asyncio.create_task(self._always(peer, wanted, names[peer]), name=f"resolve {names[peer]}")
            self._tasks[peer] = (wanted, task)

    def look_again(self, peer: bytes) -> None:
        """Look the peer's names up soon: an operator wants it called."""
        if peer in self._again and peer in self._tasks:
            for endpoint in self._tasks[peer][0]:
                self._breakers.good_news(Kind.DNS, split(endpoint)[0])
            self._again[peer].set()

    def good_news(self) -> None:
        """The network changed: look all names up soon."""
        for peer in self._again.keys() & self._tasks.keys():
            self.look_again(peer)

    def close(self) -> None:
        """Stop all look-ups."""
        for _, task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _always(self, peer: bytes, endpoints: tuple[str, ...], name: str) -> None:
        """Keep on whatever happens: a peer whose look-ups ended for ever would be lost when its address changes."""
        while True:
            try:
                await self._keep(peer, endpoints, name)
            except Exception as error:  # noqa: BLE001 - the task's boundary: told, then tried again
                self._failed("resolver", error)
            await asyncio.sleep(_LAST_RETRY)

    async def _keep(self, peer: bytes, endpoints: tuple[str, ...], name: str) -> None:
        known: tuple[Address, ...] = ()
        waits = Backoff(_FIRST_RETRY, _LAST_RETRY, shortest=_SHORTEST_RETRY)
        failing: tuple[tuple[str, str], ...] = ()
        while True:
            answers = [await self._ask(endpoint) for endpoint in endpoints]
            found = tuple(dict.fromkeys(a for answer in answers for a in answer.addresses))[:_MAX_ADDRESSES]
            asked = [a for a in answers if not a.wait]
            failures = tuple((a.host, a.failure) for a in asked if a.failure)
            with context.attached(peer=name):
                self._tell(name, asked, failures != failing, len(found or known))
                if found and found != known:
                    known = found
                    self._on_addresses(peer, found)
                failing = failures if asked else failing
                seconds = self._next(name, answers, waits)
            if await self._wait(peer, seconds) and waits.tries:
                self._ended(name, waits, "good_news")

    def _next(self, name: str, answers: list[_Answer], waits: Backoff) -> float:
        """Seconds until the names are looked up again, told where something failed."""
        failed = [a for a in answers if a.failure or a.wait]
        if not failed:
            if waits.tries:
                self._ended(name, waits, "recovered")
            return REFRESH
        if all(a.absent for a in failed):  # no longer with each answer: anybody on the way could make it so
            number, seconds = 1, Backoff(_ABSENT_RETRY, _ABSENT_RETRY, shortest=_SHORTEST_RETRY).next()
        else:
            seconds = max(waits.next(), *(a.wait for a in failed))
            number = waits.tries
        # by the peer's name: a host's name is an address, and what is recorded of it goes by the policy of addresses
        self._publish(RetryWaiting(Kind.DNS, name, number, round(seconds, 3), Reason.DNS_FAILED, name))
        return seconds

    def _ended(self, name: str, waits: Backoff, outcome: str) -> None:
        self._publish(RetryEnded(Kind.DNS, name, waits.reset(), outcome, None, name))

    async def _ask(self, endpoint: str) -> _Answer:
        """Look one endpoint up, by leave of its host's breaker."""
        address = literal(endpoint)
        if address:
            return _Answer("", (address,), "", 0.0)
        host = split(endpoint)[0]
        try:
            permit = self._breakers.get(Kind.DNS, host).acquire()
        except BreakerOpenError as refusal:
            wait = refusal.seconds if 0 < refusal.seconds < _LAST_RETRY else _HELD
            return _Answer(host, (), "", 0.0, wait=max(wait, _SHORTEST_RETRY))
        try:
            answer = await _look_up(endpoint)
        except BaseException:
            permit.abandoned()
            raise
        if answer.failure and not answer.absent:
            permit.failed(Reason.DNS_FAILED)
        else:
            permit.succeeded()
        return answer

    def _tell(self, name: str, answers: list[_Answer], news: bool, kept: int) -> None:
        """`news`: the failures are others than last time."""
        for host, addresses, failure, seconds, *_ in answers:
            if host and not failure:
                self._publish(Resolved(name, host, len(addresses), round(seconds, 4)))
            elif failure and news:
                self._publish(ResolveFailed(name, Reason.DNS_FAILED, failure, round(seconds, 4), kept, host))

    async def _wait(self, peer: bytes, seconds: float) -> bool:
        """Wait; whether somebody asked for it to end early."""
        again = self._again[peer]
        try:
            async with asyncio.timeout(seconds):
                await again.wait()
                await asyncio.sleep(_FIRST_RETRY)
        except TimeoutError:
            pass
        early = again.is_set()
        again.clear()
        return early


async def _look_up(endpoint: str) -> _Answer:
    """The addresses of one endpoint that is a name."""
    host, port = split(endpoint)
    began = now()
    try:
        async with asyncio.timeout(_TIMEOUT):
            answers = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_DGRAM, flags=socket.AI_ADDRCONFIG
            )
    except (OSError, UnicodeError, TimeoutError) as error:
        failure = str(getattr(error, "strerror", None) or type(error).__name__)
        absent = isinstance(error, socket.gaierror) and error.errno in _ABSENT
        return _Answer(host, (), failure, now() - began, absent)
    ips = (str(answer[4][0]).partition("%")[0] for answer in answers)
    found = dict.fromkeys(Address.of(ipaddress.ip_address(ip).packed, port) for ip in ips)
    return _Answer(host, tuple(found), "", now() - began)
