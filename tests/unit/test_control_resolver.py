"""Names become addresses: the last good answer stays, failures are told once, look-ups go on. No real name server is asked."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pqvpn.control import resolver as module
from pqvpn.control.resolver import Resolver, literal, split
from pqvpn.facts import Fact, Resolved, ResolveFailed, RetryEnded, RetryWaiting
from pqvpn.reasons import Reason
from pqvpn.resilience.breaker import State
from pqvpn.resilience.registry import Kind, Registry, Settings
from pqvpn.wire.address import Address

BETA, GAMMA = b"B" * 32, b"G" * 32
Answer = list[str] | Exception


class Names:
    """Stands in for the loop's getaddrinfo: answers by host, and each question can be awaited."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.told: list[tuple[bytes, tuple[Address, ...]]] = []
        self.facts: list[Fact] = []
        self.breakers: Registry
        self._turn = asyncio.Condition()

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        async with self._turn:
            self.asked.append(host)
            self._turn.notify_all()
        answer = self.answers[host]
        if isinstance(answer, Exception):
            raise answer
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM, 17, "", (ip, port)) for ip in answer
        ]

    async def questions(self, count: int) -> None:
        """Until so many were asked and the answers were dealt with."""
        async with asyncio.timeout(5), self._turn:
            await self._turn.wait_for(lambda: len(self.asked) >= count)
        for _ in range(5):
            await asyncio.sleep(0)

    def addresses(self, peer: bytes, addresses: tuple[Address, ...]) -> None:
        self.told.append((peer, addresses))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries within milliseconds."""
    monkeypatch.setattr(module, "REFRESH", 60.0)
    monkeypatch.setattr(module, "_FIRST_RETRY", 0.001)
    monkeypatch.setattr(module, "_LAST_RETRY", 0.004)
    monkeypatch.setattr(module, "_SHORTEST_RETRY", 0.001)
    monkeypatch.setattr(module, "_ABSENT_RETRY", 0.004)


def scenario(check: Callable[[Names, Resolver], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    async def run() -> None:
        names = Names()
        asyncio.get_running_loop().getaddrinfo = names.getaddrinfo  # type: ignore[method-assign]
        quick = Settings(open_for=0.001, open_longest=0.004)
        names.breakers = Registry(quick, time.monotonic, names.facts.append, "control")
        resolver = Resolver(names.addresses, names.facts.append, names.breakers)
        try:
            await check(names, resolver)
        finally:
            resolver.close()
            await asyncio.sleep(0)

    def test() -> None:
        asyncio.run(run())

    return test


def at(text: str) -> Address:
    return Address.parse(text)


@scenario
async def test_a_name_becomes_addresses(names: Names, resolver: Resolver) -> None:
    names.answers["beta.example"] = ["192.0.2.7", "2001:db8::7", "192.0.2.7"]
    resolver.configure({BETA: ("beta.example:51820",)}, {BETA: "beta"})
    await names.questions(1)
    assert names.told == [(BETA, (at("192.0.2.7:51820"), at("[2001:db8::7]:51820")))]
    (fact,) = names.facts
    assert isinstance(fact, Resolved)
    assert (fact.peer, fact.host, fact.addresses) == ("beta", "beta.example", 2)
    assert 0 <= fact.seconds < 5


@scenario
async def test_mapped_and_scoped_answers_have_one_spelling(names: Names, resolver: Resolver) -> None:
    names.answers["beta.example"] = ["::ffff:192.0.2.7", "fe80::1%eth0"]
    resolver.configure({BETA: ("beta.example:1",)}, {BETA: "beta"})
    await names.questions(1)
    assert names.told == [(BETA, (at("192.0.2.7:1"), at("[fe80::1]:1")))]


@scenario
async def test_literals_need_no_look_up_and_keep_their_place(names: Names, resolver: Resolver) -> None:
    names.answers["beta.example"] = ["192.0.2.7"]
    resolver.configure({GAMMA: ("192.0.2.9:1",), BETA: ("[2001:db8::1]:2", "beta.example:3")}, {BETA: "b", GAMMA: "g"})
    await names.questions(1)
    assert names.asked == ["beta.example"]
    assert names.told == [(BETA, (at("[2001:db8::1]:2"), at("192.0.2.7:3")))]


@scenario
async def test_a_failure_is_told_once_and_tried_again(names: Names, resolver: Resolver) -> None:
    names.answers["beta.example"] = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    resolver.configure({BETA: ("beta.example:1",)}, {BETA: "beta"})
    await names.questions(4)
    assert names.told == []
    (fact,) = (fact for fact in names.facts if isinstance(fact, ResolveFailed))
    assert (fact.peer, fact.reason, fact.kept) == ("beta", Reason.DNS_FAILED, 0)
    assert (fact.host, fact.detail) == ("beta.example", "Temporary failure in name resolution")
    names.answers["beta.example"] = ["192.0.2.7"]
    await names.questions(len(names.asked) + 1)
    assert names.told == [(BETA, (at("192.0.2.7:1"),))]


@scenario
async def test_the_last_good_answer_stays_when_the_name_fails(names: Names, resolver: Resolver) -> None:
    names.answers["beta.example"] = ["192.0.2.7"]
    resolver.configure({BETA: ("beta.example:1",)}, {BETA: "beta"})
    await names.questions(1)
    for failure in (
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        TimeoutError(),
        UnicodeError("label"),
    ):
        names.answers["beta.example"] = failure
        before = len(names.asked)
        resolver.look_again(BETA)
        await names.questions(before + 2)
    names.answers["beta.example"] = []  # an empty answer is no news either
    await names.questions(len(names.asked) + 1)
    assert names.told == [(BETA, (at("192.0.2.7:1"),))]
    assert [(f.host, f.detail, f.kept) for f in names.facts if isinstance(f, ResolveFailed)] == [
        ("beta.example", "Name or service not known", 1), ("beta.example", "TimeoutError", 1),
        ("beta.example", "UnicodeError", 1),
    ]  # fmt: skip


@scenario
async def test_a_forged_no_opens_nothing_and_makes_no_wait_longer(names: Names, resolver: Resolver) -> None:
    """That a name does not exist can be said by anybody on the way: an answer, and no failure."""
    names.answers["beta.example"] = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    resolver.configure({BETA: ("beta.example:1",)}, {BETA: "beta"})
    for count in range(1, 40):
        await names.questions(count)
    assert names.breakers.get(Kind.DNS, "beta.example").state is State.CLOSED
    assert names.breakers.get(Kind.DNS, "beta.example").counts()[1] == 0
    assert {fact.number for fact in names.facts if isinstance(fact, RetryWaiting)} <= {1}
    assert max(fact.seconds for fact in names.facts if isinstance(fact, RetryWaiting)) <= module._ABSENT_RETRY


@scenario
async def test_a_silent_server_opens_the_hosts_breaker_and_good_news_closes_it(
    names: Names, resolver: Resolver
) -> None:
    names.breakers.apply(Settings(open_for=30.0))
    names.answers["beta.example"] = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    resolver.configure({BETA: ("beta.example:1",)}, {BETA: "beta"})
    await names.questions(3)
    assert names.breakers.get(Kind.DNS, "beta.example").state is State.OPEN
    await asyncio.sleep(0.05)
    assert len(names.asked) == 3, "it is left alone"
    names.answers["beta.example"] = ["192.0.2.7"]
    resolver.good_news()
    await names.questions(4)
    assert names.told == [(BETA, (at("192.0.2.7:1"),))]
    assert names.breakers.get(Kind.DNS, "beta.example").state is State.CLOSED
    assert [f.outcome for f in names.facts if isinstance(f, RetryEnded)] == ["good_news"]


@scenario
async def test_hosts_that_are_not_configured_any_more_are_forgotten(names: Names, resolver: Resolver) -> None:
    names.answers |= {f"h{n}.example": [f"192.0.2.{n}"] for n in range(20)}
    for n in range(20):
        resolver.configure({BETA: (f"h{n}.example:1",)}, {BETA: "beta"})
        await names.questions(n + 1)
    assert names.breakers.names() == ["dns/h19.example"]


@scenario
async def test_a_new_answer_is_told_the_same_one_is_not(names: Names, resolver: Resolver) -> None:
    names.answers["beta.example"] = ["192.0.2.7"]
    resolver.configure({BETA: ("beta.example:1",)}, {BETA: "beta"})
    await names.questions(1)
    resolver.look_again(BETA)
    await names.questions(2)
    names.answers["beta.example"] = ["192.0.2.8"]
    resolver.look_again(BETA)
    await names.questions(3)
    assert [addresses for _, addresses in names.told] == [(at("192.0.2.7:1"),), (at("192.0.2.8:1"),)]


@scenario
async def test_one_of_two_names_failing_does_not_hide_the_other(names: Names, resolver: Resolver) -> None:
    names.answers |= {"a.example": socket.gaierror(socket.EAI_NONAME, "no"), "b.example": ["192.0.2.8"]}
    resolver.configure({BETA: ("a.example:1", "b.example:2")}, {BETA: "beta"})
    await names.questions(2)
    assert names.told == [(BETA, (at("192.0.2.8:2"),))]
    assert [type(fact) for fact in names.facts if not isinstance(fact, RetryWaiting)][:2] == [ResolveFailed, Resolved]


@scenario
async def test_a_reload_leaves_unchanged_peers_alone(names: Names, resolver: Resolver) -> None:
    names.answers |= {"beta.example": ["192.0.2.7"], "gamma.example": ["192.0.2.8"], "new.example": ["192.0.2.9"]}
    both = {BETA: ("beta.example:1",), GAMMA: ("gamma.example:1",)}
    resolver.configure(both, {BETA: "beta", GAMMA: "gamma"})
    await names.questions(2)
    resolver.configure(both | {GAMMA: ("new.example:1",)}, {BETA: "beta", GAMMA: "gamma"})
    await names.questions(3)
    assert names.asked == ["beta.example", "gamma.example", "new.example"]
    resolver.configure({}, {})
    resolver.look_again(GAMMA)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(names.asked) == 3


@scenario
async def test_at_most_eight_addresses_are_taken(names: Names, resolver: Resolver) -> None:
    names.answers["beta.example"] = [f"192.0.2.{n}" for n in range(100)]
    resolver.configure({BETA: ("beta.example:1",)}, {BETA: "beta"})
    await names.questions(1)
    assert len(names.told[0][1]) == 8


@pytest.mark.parametrize(
    ("text", "host", "port", "address"),
    [
        ("192.0.2.1:7", "192.0.2.1", 7, at("192.0.2.1:7")),
        ("[2001:db8::1]:7", "2001:db8::1", 7, at("[2001:db8::1]:7")),
        ("[::ffff:192.0.2.1]:7", "::ffff:192.0.2.1", 7, at("192.0.2.1:7")),
        ("beta.example.net:51820", "beta.example.net", 51820, None),
    ],
)
def test_endpoints_are_split(text: str, host: str, port: int, address: Address | None) -> None:
    assert split(text) == (host, port)
    assert literal(text) == address
