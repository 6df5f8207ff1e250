"""What each peer sent and received: totals over all its sessions, rates and loss.

Owns the sums that outlive a session's slot in shared memory. Knows nothing of handshakes. Sampled about once a second.
"""

from collections import deque
from dataclasses import dataclass, field

from pqvpn.dataplane.counters import MAX_LANES, Counters, Field, slot_base, tag_of

_WINDOW = 10
"""Samples that rates and loss are taken over."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Packets and inner bytes since the node started."""

    rx_packets: int = 0
    rx_bytes: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0

    def plus(self, other: "Totals") -> "Totals":
        """The sum."""
        return Totals(
            self.rx_packets + other.rx_packets,
            self.rx_bytes + other.rx_bytes,
            self.tx_packets + other.tx_packets,
            self.tx_bytes + other.tx_bytes,
        )


@dataclass(slots=True)
class _Peer:
    ended: Totals = field(default_factory=Totals)
    samples: deque[tuple[float, Totals]] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    arrivals: dict[int, deque[tuple[int, int]]] = field(default_factory=dict)


class Traffic:
    """Reads the counters of the slots it is told of."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._peers: dict[bytes, _Peer] = {}

    def ended(self, peer_id: bytes, slot: int, session_id: bytes) -> None:
        """A session ends: keep its sums, its slot may be used again."""
        peer = self._peers.setdefault(peer_id, _Peer())
        peer.ended = peer.ended.plus(self._of(slot, session_id))
        peer.arrivals.pop(slot, None)

    def sample(self, now: float, sessions: dict[bytes, list[tuple[int, bytes]]]) -> None:
        """Take one sample; `sessions` holds (slot, session ID) by peer."""
        for gone in self._peers.keys() - sessions.keys():
            del self._peers[gone]
        for peer_id, slots in sessions.items():
            peer = self._peers.setdefault(peer_id, _Peer())
            peer.samples.append((now, self._sum(peer, slots)))
            for slot, session_id in slots:
                seen = peer.arrivals.setdefault(slot, deque(maxlen=_WINDOW))
                seen.append(self._arrivals(slot, session_id))

    def totals(self, peer_id: bytes, slots: list[tuple[int, bytes]]) -> Totals:
        """All that the peer sent and received."""
        return self._sum(self._peers.get(peer_id, _Peer()), slots)

    def rates(self, peer_id: bytes) -> tuple[float, float]:
        """Inner bytes per second (received, sent) over the last samples."""
        samples = self._peers.get(peer_id, _Peer()).samples
        if len(samples) < 2:
            return 0.0, 0.0
        (began, first), (ended, last) = samples[0], samples[-1]
        span = max(ended - began, 1e-3)
        return (last.rx_bytes - first.rx_bytes) / span, (last.tx_bytes - first.tx_bytes) / span

    def loss(self, peer_id: bytes) -> float | None:
        """Share of the peer's packets that did not arrive over the last samples, from gaps in its counters."""
        peer = self._peers.get(peer_id)
        windows = [w for w in peer.arrivals.values() if len(w) > 1] if peer else []
        sent = sum(w[-1][0] - w[0][0] for w in windows)
        arrived = sum(w[-1][1] - w[0][1] for w in windows)
        return max(0.0, 1 - arrived / sent) if sent > 0 else None

    def _sum(self, peer: _Peer, slots: list[tuple[int, bytes]]) -> Totals:
        total = peer.ended
        for slot, session_id in slots:
            total = total.plus(self._of(slot, session_id))
        return total

    def _of(self, slot: int, session_id: bytes) -> Totals:
        a = self._counters.activity(slot, session_id)
        return Totals(a.rx_packets, a.rx_bytes, a.tx_packets, a.tx_bytes)

    def _arrivals(self, slot: int, session_id: bytes) -> tuple[int, int]:
        """Counters that the peer used up and packets that arrived, over all lanes."""
        used = arrived = 0
        tag = tag_of(session_id)
        for lane in range(MAX_LANES):
            base = slot_base(lane, slot)
            if self._counters.words[base + Field.TAG] == tag:
                used += self._counters.words[base + Field.RECEIVE_FROM]
                arrived += self._counters.words[base + Field.ARRIVED]
        return used, arrived
