"""The circuit breakers of control, as the core sees them (`protocol/gate.py`) and as operators do.

Owns which outcomes count for which breaker (docs/decisions/0013-breakers.md): attempts of ours by peer, our M1s and path
challenges by address where a peer has several, faults of this machine's cryptography by operation. Nothing that was
received is an outcome unless it is authenticated. Knows no socket; decides nothing about peers or keys.
"""

import contextlib
from collections.abc import Callable
from typing import Final, TypeVar

from pqvpn.crypto import selftest
from pqvpn.drops import DropReason
from pqvpn.facts import FactHook, Problem, RetryEnded, RetryWaiting
from pqvpn.protocol.effects import Trigger
from pqvpn.protocol.gate import Facts, Leave
from pqvpn.reasons import Reason
from pqvpn.resilience.breaker import BreakerOpenError, Permit, State
from pqvpn.resilience.registry import Kind, Registry, Settings
from pqvpn.wire.address import Address

T = TypeVar("T")

VERDICT_LASTS: Final = 1.0
"""Seconds for which the self-tests' verdict on a fault stands: strangers must not be able to ask for more of them."""
OPERATIONS: Final = ("encapsulate", "decapsulate", "seal", "open")
_FREE: Final = frozenset({Trigger.REKEY, Trigger.SILENCE, Trigger.LOST, Trigger.OPERATOR})
"""Attempts that are not kept back: a session is in use or was until now, or a person waits."""


class Gates:
    """Of one control process. `test` runs the self-tests; the names of those that fail."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        publish: FactHook,
        test: Callable[[], tuple[str, ...]] = selftest.failures,
    ) -> None:
        self.registry = Registry(settings, clock, publish, "control")
        self._clock = clock
        self._publish = publish
        self._test = test
        self._verdict: tuple[bool, float] = (False, float("-inf"))
        self._permits: dict[bytes, Permit] = {}
        self._failures: dict[bytes, int] = {}
        self._known: dict[bytes, str] = {}
        for operation in OPERATIONS:
            self.registry.get(Kind.CRYPTO, operation)

    def configure(self, names: dict[bytes, str]) -> None:
        """These peers, complete, are configured: each has its breaker, and nobody else."""
        gone = {peer: name for peer, name in self._known.items() if names.get(peer) != name}
        self._known = dict(names)
        for peer in gone:
            self._permits.pop(peer, None)
            self._failures.pop(peer, None)
        self.registry.keep(Kind.PEER, set(names.values()))
        for path in list(self.registry.kind(Kind.PATH).all()):
            if path.partition("/")[0] not in names.values():
                self.registry.forget(Kind.PATH, path)
        for name in names.values():
            self.registry.get(Kind.PEER, name)

    # -- connecting --------------------------------------------------------------------------------------------------

    def begin(self, peer_id: bytes, attempt: str, trigger: Trigger, now: float) -> Leave:
        """See `Gate`."""
        name = self._known.get(peer_id)
        if name is None:
            return Leave()
        breaker = self.registry.get(Kind.PEER, name)
        with self.registry.collect(name, attempt) as facts:
            try:
                self._permits[peer_id] = breaker.acquire()
            except BreakerOpenError:
                if trigger not in _FREE or (breaker.held and breaker.state is State.OPEN):
                    return Leave(tuple(facts), refused=True)
                self._permits.pop(peer_id, None)
        return Leave(tuple(facts))

    def ended(self, peer_id: bytes, attempt: str, worked: bool | None, reason: Reason | None) -> Facts:
        """See `Gate`."""
        name = self._known.get(peer_id)
        if name is None:
            return ()
        breaker, permit = self.registry.get(Kind.PEER, name), self._permits.pop(peer_id, None)
        with self.registry.collect(name, attempt) as changed:
            if permit is not None:
                _settle(permit, worked, reason)
            if worked and not breaker.held:  # one that was let through besides the probe proves as much
                breaker.reset()
        told: list[RetryWaiting | RetryEnded] = []
        if worked is False:
            number = self._failures[peer_id] = self._failures.get(peer_id, 0) + 1
            seconds = breaker.open_remaining
            if 0 < seconds < float("inf"):
                told.append(RetryWaiting(Kind.PEER, name, number, round(seconds, 3), reason, name, attempt))
            else:
                told.append(RetryEnded(Kind.PEER, name, number, "gave_up", reason, name, attempt))
        elif worked and (number := self._failures.pop(peer_id, 0)):
            told.append(RetryEnded(Kind.PEER, name, number, "recovered", None, name, attempt))
        return (*changed, *told)

    def proven(self, peer_id: bytes) -> Facts:
        """See `Gate`. An attempt under way goes on, and its outcome counts for the new beginning."""
        name = self._known.get(peer_id)
        if name is None:
            return ()
        with self.registry.collect(name) as facts:
            opened = self.registry.good_news(Kind.PEER, name)
            for path in self._paths(name):
                self.registry.good_news(Kind.PATH, path)
        number = self._failures.pop(peer_id, 0)
        if not opened or not number:
            return tuple(facts)
        return (*facts, RetryEnded(Kind.PEER, name, number, "good_news", None, name))

    # -- paths -------------------------------------------------------------------------------------------------------

    def usable(self, peer_id: bytes, attempt: str, targets: tuple[Address, ...]) -> tuple[tuple[Address, ...], Facts]:
        """See `Gate`. Breakers of addresses that are none of the peer's any more are forgotten: their number is bounded."""
        name = self._known.get(peer_id)
        if name is None:
            return targets, ()
        keys = {_path(name, target): target for target in targets}
        with self.registry.collect(name, attempt) as facts:
            for path in self._paths(name):
                if path not in keys:
                    self.registry.forget(Kind.PATH, path)
            found = tuple(target for path, target in keys.items() if not self.registry.get(Kind.PATH, path).opened)
        return found or targets, tuple(facts)

    def answered(self, peer_id: bytes, attempt: str, target: Address, worked: bool) -> Facts:
        """See `Gate`."""
        name = self._known.get(peer_id)
        if name is None:
            return ()
        breaker = self.registry.get(Kind.PATH, _path(name, target))
        with self.registry.collect(name, attempt) as facts:
            try:
                _settle(breaker.acquire(), worked, None if worked else Reason.NO_REPLY)
            except BreakerOpenError:  # it was tried although it is open, since nothing better is known
                if worked and not breaker.held:
                    breaker.reset()
        return tuple(facts)

    def _paths(self, name: str) -> list[str]:
        return [path for path in self.registry.kind(Kind.PATH).all() if path.startswith(f"{name}/")]

    # -- cryptography ------------------------------------------------------------------------------------------------

    def guard(self, operation: str, call: Callable[[], T], *, ours: bool) -> T | DropReason:
        """See `Gate`."""
        if any(self.registry.get(Kind.CRYPTO, lane).opened for lane in ("seal", "open")):
            return DropReason.CRYPTO_UNAVAILABLE
        try:
            permit = self.registry.get(Kind.CRYPTO, operation).acquire()
        except BreakerOpenError:
            return DropReason.CRYPTO_UNAVAILABLE
        try:
            result = call()
        except Exception as error:
            if not ours and not self._is_broken():
                permit.abandoned()
                raise
            permit.failed(Reason.SELF_TEST_FAILED)
            self._publish(Problem(Reason.SELF_TEST_FAILED, "crypto", f"{operation}: {type(error).__name__}"))
            return DropReason.CRYPTO_UNAVAILABLE
        permit.succeeded()
        return result

    def lane_fault(self, where: str) -> None:
        """A lane caught an internal error. It counts where the self-tests of the same library fail, too."""
        if "engine.py" in where and self._is_broken():
            self._count_lanes(worked=False)

    def tested(self, failed: tuple[str, ...]) -> None:
        """The self-tests ran: what gave a wrong answer counts against every operation that is made of it."""
        self._verdict = (bool(failed), self._clock())
        ciphers = not selftest.usable_aeads(failed)
        self._count_lanes(worked=not ciphers)
        for operation in ("encapsulate", "decapsulate"):
            self._count(operation, worked=selftest.handshakes_possible(failed))

    def _is_broken(self) -> bool:
        broken, at = self._verdict
        if self._clock() - at >= VERDICT_LASTS:
            broken = bool(self._test())
            self._verdict = (broken, self._clock())
        return broken

    def _count_lanes(self, *, worked: bool) -> None:
        for operation in ("seal", "open"):
            self._count(operation, worked=worked)

    def _count(self, operation: str, *, worked: bool) -> None:
        with contextlib.suppress(BreakerOpenError):
            _settle(self.registry.get(Kind.CRYPTO, operation).acquire(), worked, Reason.SELF_TEST_FAILED)


def _settle(permit: Permit, worked: bool | None, reason: Reason | None) -> None:
    if worked is None:
        permit.abandoned()
    elif worked:
        permit.succeeded()
    else:
        permit.failed(reason)


def _path(name: str, target: Address) -> str:
    return f"{name}/{target}"
