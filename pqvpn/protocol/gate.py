"""What the core asks before it calls a peer, and tells afterwards: the seam for circuit breakers.

Owns the interface, and the gate that lets everything through. Pure: who stands behind it may count outcomes but gets the
time from us; what it has to say comes back as facts, which the core tells in their place among its own. Only outcomes of
calls of ours are told to it, and proofs of life that are authenticated; nothing else that was received leads here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pqvpn.drops import DropReason
from pqvpn.facts import Fact
from pqvpn.protocol.effects import Trigger
from pqvpn.reasons import Reason
from pqvpn.wire.address import Address

T = TypeVar("T")
Facts = tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """The answer to `begin`. `refused`: nothing is begun; whoever wants a session asks again."""

    facts: Facts = ()
    refused: bool = False


class Gate(Protocol):
    """Asked and told by the core. `attempt` is the trace id in hex."""

    def begin(self, peer_id: bytes, attempt: str, trigger: Trigger, now: float) -> Leave:
        """May this attempt begin? When it may, its end is told by `ended`."""

    def ended(self, peer_id: bytes, attempt: str, worked: bool | None, reason: Reason | None) -> Facts:
        """An attempt ended; None: neither with a session nor for lack of an answer."""

    def proven(self, peer_id: bytes) -> Facts:
        """The peer itself opened a session, its address changed, or an operator calls it: what failed says nothing now."""

    def usable(self, peer_id: bytes, attempt: str, targets: tuple[Address, ...]) -> tuple[tuple[Address, ...], Facts]:
        """Those of several addresses that are worth a try, in their order; never none of them."""

    def answered(self, peer_id: bytes, attempt: str, target: Address, worked: bool) -> Facts:
        """One of several addresses answered an M1 or a path challenge of ours, or did not in time."""

    def guard(self, operation: str, call: Callable[[], T], *, ours: bool) -> T | DropReason:
        """Do a piece of cryptography; CRYPTO_UNAVAILABLE when this machine's is at fault, or was too often.

        `ours`: nothing in its input came from the network, so that what it raises proves a fault of this machine.
        """


class OpenGate:
    """Lets everything through and remembers nothing."""

    def begin(self, peer_id: bytes, attempt: str, trigger: Trigger, now: float) -> Leave:
        """See `Gate`."""
        return Leave()

    def ended(self, peer_id: bytes, attempt: str, worked: bool | None, reason: Reason | None) -> Facts:
        """See `Gate`."""
        return ()

    def proven(self, peer_id: bytes) -> Facts:
        """See `Gate`."""
        return ()

    def usable(self, peer_id: bytes, attempt: str, targets: tuple[Address, ...]) -> tuple[tuple[Address, ...], Facts]:
        """See `Gate`."""
        return targets, ()

    def answered(self, peer_id: bytes, attempt: str, target: Address, worked: bool) -> Facts:
        """See `Gate`."""
        return ()

    def guard(self, operation: str, call: Callable[[], T], *, ours: bool) -> T | DropReason:
        """Does it; what it raises is raised."""
        return call()
