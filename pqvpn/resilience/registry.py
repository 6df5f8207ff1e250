"""Every breaker of one process by its name: `peer/beta`, `dns/beta.example.net`, `netlink`.

Owns the kinds there are, the policy of each, and what an operator can do to one. A kind of which there is one only has no
key. Knows nothing of what is guarded: whoever guards asks for the breaker and tells its outcomes. What changes is told by
`publish`; between `collect` and its end it is given to the caller instead, who knows where it belongs.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final

from pqvpn.errors import PqvpnError
from pqvpn.facts import BreakerChanged, FactHook
from pqvpn.reasons import Reason
from pqvpn.resilience.breaker import Breaker, Cause, Policy, State, Transition
from pqvpn.resilience.breakers import Breakers

PEER_LONGEST: Final = 15.0
"""Seconds for which a peer is not called at most: one that comes back is to be reached soon."""
_PATH_CONSECUTIVE: Final = 2
_CRASH_REPORTS: Final = "crash-reports"
_NO_REMEDY: Final = "see the names: pqvpn breaker list"


class Kind(StrEnum):
    """What is guarded. The value is the first part of a breaker's name."""

    PEER = "peer"  # attempts to connect; key: the peer
    PATH = "path"  # one address of a peer; key: peer/address
    CRYPTO = "crypto"  # key: encapsulate, decapsulate, seal, open
    DNS = "dns"  # look-ups; key: the host
    NETLINK = "netlink"
    OTLP = "otlp"
    CRASHES = _CRASH_REPORTS


def without_hosts(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of breakers for a record: those of look-ups are named by hosts, which are told by the policy of addresses only."""
    dns = f"{Kind.DNS}/"
    return [row | {"name": f"{dns}<host>"} if row["name"].startswith(dns) else row for row in rows]


class Action(StrEnum):
    """What an operator can do."""

    OPEN = "open"  # refuse every call until reset
    CLOSE = "close"  # let every call through until reset
    RESET = "reset"  # closed, nothing remembered


@dataclass(frozen=True, slots=True)
class Settings:
    """[breakers]: as `Policy`, and `most` breakers of one kind. Times in seconds, `slow_after` 0: never."""

    window: float = 30.0
    minimum_calls: int = 5
    failure_rate: float = 0.5
    consecutive: int = 3
    open_for: float = 5.0
    open_longest: float = 60.0
    probes: int = 1
    slow_after: float = 0.0
    most: int = 1024


def policy_of(kind: Kind, settings: Settings) -> Policy:
    """The policy of one kind: what is guarded decides what of the settings can apply."""
    values = asdict(settings)
    del values["most"]
    policy = Policy(**values | {"slow_after": settings.slow_after or None})
    match kind:
        case Kind.PEER:  # an attempt takes as long as the protocol says, and is made again soon
            longest = min(settings.open_longest, PEER_LONGEST)
            return replace(
                policy, probes=1, slow_after=None, open_for=min(settings.open_for, longest), open_longest=longest
            )
        case Kind.PATH:  # the others are tried meanwhile
            return replace(policy, consecutive=min(_PATH_CONSECUTIVE, settings.consecutive), slow_after=None)
        case Kind.CRYPTO:  # by rate
            return replace(policy, consecutive=max(settings.consecutive, settings.minimum_calls), slow_after=None)
    return policy


class Registry:
    """The breakers of one `process`."""

    def __init__(self, settings: Settings, clock: Callable[[], float], publish: FactHook, process: str) -> None:
        self._process = process
        self._settings = settings
        self._clock = clock
        self._publish = publish
        self._kinds: dict[Kind, Breakers] = {}
        self._collected: list[BreakerChanged] | None = None
        self._about: tuple[str, str] = ("", "")
        self._told = 0

    def get(self, kind: Kind, key: str = "") -> Breaker:
        """The breaker of this kind and key; the same one for the same key."""
        return self.kind(kind).get(key)

    def kind(self, kind: Kind) -> Breakers:
        """All of one kind."""
        known = self._kinds.get(kind)
        if known is None:
            settings = self._settings
            known = self._kinds[kind] = Breakers(
                kind.value, policy_of(kind, settings), self._clock,
                lambda key, transition: self._changed(kind, key, transition), settings.most,
            )  # fmt: skip
        return known

    def forget(self, kind: Kind, key: str) -> None:
        """The key is no longer configured."""
        if kind in self._kinds:
            self._kinds[kind].forget(key)

    def keep(self, kind: Kind, keys: set[str]) -> None:
        """Forget all other keys of this kind."""
        for key in self._kinds[kind].all() if kind in self._kinds else ():
            if key not in keys:
                self._kinds[kind].forget(key)

    def apply(self, settings: Settings) -> None:
        """Take new settings; states stay."""
        self._settings = settings
        for kind, breakers in self._kinds.items():
            breakers.most = settings.most
            breakers.apply(policy_of(kind, settings))

    @contextmanager
    def collect(self, peer: str = "", attempt: str = "") -> Iterator[list[BreakerChanged]]:
        """What changes within goes into the list, as being about this peer and attempt, and is not published."""
        before, self._collected, self._about = self._collected, [], (peer, attempt)
        try:
            yield self._collected
        finally:
            self._collected, self._about = before, ("", "")

    def settle(self) -> None:
        """Notice what became half open by the passing of time, so that it is told in time."""
        for breaker in self._all().values():
            _ = breaker.state

    def good_news(self, kind: Kind, key: str = "") -> bool:
        """Forget failures, unless an operator holds it; whether it was open."""
        breaker = self._kinds[kind].all().get(key) if kind in self._kinds else None
        if breaker is None or breaker.held:
            return False
        opened = breaker.state is not State.CLOSED
        breaker.reset()
        return opened

    # -- for operators -----------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Every breaker there is."""
        return list(self._all())

    def rows(self, only_unusual: bool = False) -> list[dict[str, Any]]:
        """Every breaker as plain data, or those that are not closed or are held."""
        found = [self._row(name, breaker) for name, breaker in self._all().items()]
        return [row for row in found if not only_unusual or row["held"] or row["state"] != State.CLOSED.value]

    def act(self, name: str, action: Action) -> dict[str, Any]:
        """Carry out what an operator wants; answers the breaker as it is then. Raises PqvpnError for an unknown name."""
        breaker = self._all().get(name)
        if breaker is None:
            raise PqvpnError(Reason.REQUEST_REFUSED, f"no breaker {name[:128]!r}", remedy=_NO_REMEDY)
        before, told = breaker.state, self._told
        match action:
            case Action.OPEN:
                breaker.hold_open()
            case Action.CLOSE:
                breaker.hold_closed()
            case Action.RESET:
                breaker.reset()
        if self._told == told:  # the state stays, but now it is the operator's
            cause = {Action.OPEN: Cause.HELD_OPEN, Action.CLOSE: Cause.HELD_CLOSED, Action.RESET: Cause.RESET}[action]
            kind, _, key = name.partition("/")
            self._changed(Kind(kind), key, Transition(name, before, breaker.state, cause))
        return self._row(name, breaker)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _all(self) -> dict[str, Breaker]:
        return {
            f"{kind.value}/{key}" if key else kind.value: breaker
            for kind, breakers in self._kinds.items()
            for key, breaker in breakers.all().items()
        }

    def _changed(self, kind: Kind, key: str, change: Transition) -> None:
        self._told += 1
        peer, attempt = self._about
        if not peer and kind in (Kind.PEER, Kind.PATH):
            peer = key.partition("/")[0]
        if kind is Kind.DNS:  # the key is a host's name, which is recorded by the policy of addresses only
            key = peer
        fact = BreakerChanged(
            kind.value, key, change.after.value, change.before.value, change.cause.value, change.reason, peer, attempt
        )
        if self._collected is None:
            self._publish(fact)
        else:
            self._collected.append(fact)

    def _row(self, name: str, breaker: Breaker) -> dict[str, Any]:
        state = breaker.state
        calls, failures = breaker.counts()
        left = breaker.open_remaining
        return {
            "name": name,
            "process": self._process,
            "state": state.value,
            "held": breaker.held,
            "calls": calls,
            "failures": failures,
            "next_try_seconds": None if state is not State.OPEN or math.isinf(left) else round(left, 3),
        }
