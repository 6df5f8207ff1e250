"""The breakers of one kind, by key: as many as are configured, and no more.

Owns which are kept when there are too many. Knows nothing of what is guarded, nor of a breaker's state beyond whether it
may be forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pqvpn.resilience.breaker import Breaker, Policy, Transition

SHARED: Final = "*"
"""The key of the breaker that serves those for which there is no room."""


@dataclass(slots=True)
class Breakers:
    """The breakers of one kind by key, at most `most` of them; `on_change` hears every one's transitions.

    A key beyond the limit takes the place of the one that was used longest ago among those that are closed and not
    held: what is open or held must not be forgotten by being crowded out. With none such, `shared` serves the rest.
    """

    kind: str
    policy: Policy
    clock: Callable[[], float]
    on_change: Callable[[str, Transition], None]
    most: int = 1024
    is_failure: type[Exception] | tuple[type[Exception], ...] = Exception
    _by_key: dict[str, Breaker] = field(default_factory=dict)
    _shared: Breaker | None = None

    def get(self, key: str) -> Breaker:
        """The breaker of this key; the same one for the same key."""
        known = self._by_key.pop(key, None)
        if known is None:
            if len(self._by_key) >= self.most and not self._make_room():
                self._shared = self._shared or self._make(SHARED)
                return self._shared
            known = self._make(key)
        self._by_key[key] = known  # at the end: used last
        return known

    def forget(self, key: str) -> None:
        """The key is no longer configured."""
        self._by_key.pop(key, None)

    def all(self) -> dict[str, Breaker]:
        """Every breaker by key, used last last."""
        return self._by_key | ({SHARED: self._shared} if self._shared else {})

    def apply(self, policy: Policy) -> None:
        """Take a new policy for all breakers, present and to come; states and windows stay."""
        self.policy = policy
        for breaker in self.all().values():
            breaker.apply(policy)

    def _make_room(self) -> bool:
        idle = next((k for k, b in self._by_key.items() if b.closed and not b.held), None)
        if idle is None:
            return False
        del self._by_key[idle]
        return True

    def _make(self, key: str) -> Breaker:
        made = Breaker(f"{self.kind} {key}", self.policy, self.clock, is_failure=self.is_failure)
        made.listeners.append(lambda transition: self.on_change(key, transition))
        return made
