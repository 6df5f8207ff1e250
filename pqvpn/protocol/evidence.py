"""What points to the cause of a failure without proving it: refusals, fragments and ICMP that concern configured peers.

Owns whose address is whose, and how often such things are told. Nothing in the core acts on it, for anybody can send
from anywhere. Memory and telling are bounded by the configured peers: a stranger's datagram costs one look-up.
"""

from dataclasses import dataclass
from typing import NamedTuple

from pqvpn.drops import DropReason
from pqvpn.facts import AnswerRefused, Fact, FragmentsLost, HandshakeRefused, IcmpReceived
from pqvpn.protocol.effects import Tell
from pqvpn.protocol.fragments import Incomplete
from pqvpn.protocol.peer import Peer
from pqvpn.wire.address import Address

INTERVAL = 10.0  # seconds between two records of the same kind about the same peer
REFRESH = 1.0  # how old the table of addresses may be: sessions move without telling it
_COARSE = 1.0  # leftover counts are told at most so often, all together
EVIDENT = frozenset(
    {
        DropReason.MAC1, DropReason.DECAPSULATION, DropReason.UNKNOWN_PEER, DropReason.BAD_HANDSHAKE,
        DropReason.POLICY_MISMATCH, DropReason.BISCUIT, DropReason.STALE_HANDSHAKE, DropReason.VERSION,
    }
)  # fmt: skip
"""Why an M1 or M3 was refused, as far as it says something about the two nodes' settings."""
_NEVER = float("inf")


class _Key(NamedTuple):
    peer_id: bytes
    kind: type[Fact]
    detail: str
    named: bool = False


@dataclass(slots=True)
class _Tally:
    quiet_until: float = float("-inf")
    count: int = 0
    where: Address | None = None


class Evidence:
    """Of one core. What is to be told waits until `take`. `peers`: the core's own, by ID."""

    def __init__(self, peers: dict[bytes, Peer]) -> None:
        self._peers = peers
        self._tallies: dict[_Key, _Tally] = {}
        self._told: list[Tell] = []
        self._table: dict[Address, Peer] = {}
        self._table_until = float("-inf")
        self._complete: dict[bytes, float] = {}  # when a whole M1 last came from a peer's address
        self._counts_due = self._parts_due = _NEVER

    @property
    def due(self) -> float:
        """When `flush` has something to do."""
        return min(self._counts_due, self._parts_due)

    def peer_at(self, address: Address, now: float) -> Peer | None:
        """The configured peer that is, was, or is said to be at this very address and port."""
        if now >= self._table_until:
            self._table_until = now + REFRESH
            self._table = {}
            for peer in self._peers.values():
                for target in peer.targets():
                    self._table.setdefault(target, peer)
        return self._table.get(address)

    def changed(self) -> None:
        """Peers or their endpoints changed."""
        self._table_until = float("-inf")

    def forget(self, peer_id: bytes) -> None:
        """The peer is no longer configured."""
        self.changed()
        self._complete.pop(peer_id, None)
        for key in [key for key in self._tallies if key.peer_id == peer_id]:
            del self._tallies[key]

    # -- what is noticed ---------------------------------------------------------------------------------------------

    def refused(self, drop: DropReason, source: Address, named: bytes | None, now: float) -> None:
        """An M1 or M3 was refused. `named`: the configured peer that its sender says it is, if it got that far."""
        if drop not in EVIDENT:
            return
        if named is not None:
            self._note(_Key(named, HandshakeRefused, drop.name.lower(), named=True), source, now)
            return
        peer = self.peer_at(source, now)
        if peer is not None:
            self._note(_Key(peer.settings.peer_id, HandshakeRefused, drop.name.lower()), source, now)

    def answer_refused(self, peer: Peer, refused: AnswerRefused, now: float, *, always: bool) -> None:
        """An M2 for an attempt of ours was refused. `always`: this is told whatever was told before."""
        if self._may_tell(_Key(peer.settings.peer_id, AnswerRefused, refused.drop), now) or always:
            self._tell(refused)

    def answer_incomplete(self, peer: Peer, attempt: str, lost: list[Incomplete], source: Address, now: float) -> None:
        """M2s for an attempt of ours stayed incomplete."""
        for each in lost:
            self._fragments_lost(peer, each, source, attempt, now)

    def awaits(self, source: Address, now: float, lifetime: float) -> None:
        """A part of an M1 came in. One from a peer is looked at again when its time is over, if nothing else wakes us."""
        if self._parts_due == _NEVER and self.peer_at(source, now) is not None:
            self.look_again(now + lifetime)

    def look_again(self, at: float) -> None:
        """Parts of M1s are there that will be lost by then."""
        self._parts_due = min(self._parts_due, at)

    def complete(self, source: Address, now: float) -> None:
        """All of an M1 came in: its repetitions need not."""
        peer = self.peer_at(source, now)
        if peer is not None:
            self._complete[peer.settings.peer_id] = now

    def incomplete(self, lost: list[Incomplete], now: float, quiet: float) -> None:
        """M1s stayed incomplete. None is told of a peer of which a whole one came in `quiet` seconds before that."""
        for each in lost:
            source = Address(each.key[:-10], int.from_bytes(each.key[-10:-8], "little"))
            peer = self.peer_at(source, now)
            if peer is not None and self._complete.get(peer.settings.peer_id, float("-inf")) < each.opened - quiet:
                self._fragments_lost(peer, each, source, "", now)

    def icmp(self, kind: str, to: Address, now: float) -> None:
        """The network says that what we sent to this address did not arrive."""
        peer = self.peer_at(to, now)
        if peer is not None:
            self._note(_Key(peer.settings.peer_id, IcmpReceived, kind), to, now)

    # -- what is told ------------------------------------------------------------------------------------------------

    def flush(self, now: float) -> None:
        """Tell the counts that nothing came after."""
        if now >= self._parts_due:
            self._parts_due = _NEVER
        if now < self._counts_due:
            return
        for key, tally in self._tallies.items():
            if tally.count and now >= tally.quiet_until:
                self._tell_count(key, tally, now)
        left = min((tally.quiet_until for tally in self._tallies.values() if tally.count), default=_NEVER)
        self._counts_due = max(left, now + _COARSE)

    def take(self) -> list[Tell]:
        """What is to be told since the last call."""
        told, self._told = self._told, []
        return told

    def _note(self, key: _Key, where: Address, now: float) -> None:
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally()
        tally.count += 1
        tally.where = where
        if now >= tally.quiet_until:
            self._tell_count(key, tally, now)
        else:
            self._counts_due = min(self._counts_due, max(tally.quiet_until, now + _COARSE))

    def _tell_count(self, key: _Key, tally: _Tally, now: float) -> None:
        name, count, where = self._peers[key.peer_id].settings.name, tally.count, str(tally.where)
        tally.quiet_until, tally.count = now + INTERVAL, 0
        if key.kind is IcmpReceived:
            self._tell(IcmpReceived(name, key.detail, where, count))
        else:
            self._tell(HandshakeRefused(name, key.detail, where, count, key.named))

    def _fragments_lost(self, peer: Peer, lost: Incomplete, source: Address, attempt: str, now: float) -> None:
        message = f"m{lost.msg}"
        if self._may_tell(_Key(peer.settings.peer_id, FragmentsLost, message), now):
            self._tell(FragmentsLost(peer.settings.name, message, lost.have, lost.want, str(source), attempt))

    def _may_tell(self, key: _Key, now: float) -> bool:
        tally = self._tallies.setdefault(key, _Tally())
        if now < tally.quiet_until:
            return False
        tally.quiet_until = now + INTERVAL
        return True

    def _tell(self, fact: Fact) -> None:
        self._told.append(Tell(fact))
