"""Reassembly of handshake messages (PROTOCOL section 3): small fixed tables, MAC1 already verified by the caller.

Owns partly received messages and the caps on them. Knows no MAC, no cookie and no message: chunks in, a body out.
Lengths and
counts come from the caller's table by msg, never from the wire.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from pqvpn.drops import DropReason

SLOTS = 256
PER_SOURCE = 4
PER_ATTEMPT = 4


class Incomplete(NamedTuple):
    """A message of which parts were still missing when its time was over. `opened`: when the first part came."""

    key: bytes
    msg: int
    have: int
    want: int
    opened: float


@dataclass(slots=True)
class _Slot:
    msg: int
    index: int
    group: bytes  # whose cap it counts against
    proven: bool  # its first fragment had a valid MAC2
    expires: float
    chunks: list[bytes | None] = field(default_factory=list)


class Reassembler:
    """Messages in parts. `slots`, `per_group`: how many at once in all and per group; `lifetime` in seconds.

    The responder keys slots by (ip, port, msg_id) and groups them by source; an initiator has one table for an
    attempt.
    Body and dropping are the only outcomes: nothing raises.
    """

    def __init__(self, lifetime: float, slots: int = SLOTS, per_group: int = PER_SOURCE) -> None:
        self._lifetime, self._limit, self._per_group = lifetime, slots, per_group
        self._slots: dict[bytes, _Slot] = {}  # in order of expiry: lifetimes are equal
        self._groups: dict[bytes, int] = {}
        self.opened = 0.0  # when the first part came of the last message that became whole

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def crowded(self) -> bool:
        """More than half the slots are used: time for cookie mode."""
        return len(self._slots) * 2 > self._limit

    def expire(self, now: float) -> list[Incomplete]:
        """Free slots past their time; what was in them."""
        freed = []
        while self._slots:
            key, slot = next(iter(self._slots.items()))
            if slot.expires > now:
                break
            self._free(key)
            have = len(slot.chunks) - slot.chunks.count(None)
            freed.append(Incomplete(key, slot.msg, have, len(slot.chunks), slot.expires - self._lifetime))
        return freed

    def holds(self, key: bytes) -> bool:
        """Whether a slot is open under this key (a fragment for it costs no token)."""
        return key in self._slots

    def add(
        self,
        key: bytes,
        group: bytes,
        proven: bool,
        msg: int,
        index: int,
        idx: int,
        count: int,
        chunk: bytes,
        now: float,
    ) -> bytes | DropReason | None:
        """Take chunk `idx` of `count`. Returns the whole body, why the chunk was dropped, or None while parts are
        missing.

        A chunk that differs from the one present, or another (msg, index) under the same key, frees the slot:
        whoever can
        inject must not be able to keep a poisoned message in place. `proven` sources push out unproven ones when
        full.
        """
        slot = self._slots.get(key)
        if slot is None:
            refusal = self._open(key, group, proven, msg, index, count, now)
            if refusal is not None:
                return refusal
            slot = self._slots[key]
        present = slot.chunks[idx] if (slot.msg, slot.index) == (msg, index) else b""
        if present is None:
            slot.chunks[idx] = chunk
        elif present != chunk:
            self._free(key)
            return DropReason.REASSEMBLY_CONFLICT
        body: list[bytes] = [part for part in slot.chunks if part is not None]
        if len(body) < count:
            return None
        self.opened = slot.expires - self._lifetime
        self._free(key)
        return b"".join(body)

    def _open(
        self, key: bytes, group: bytes, proven: bool, msg: int, index: int, count: int, now: float
    ) -> DropReason | None:
        if self._groups.get(group, 0) >= self._per_group:
            return DropReason.REASSEMBLY_FULL
        if len(self._slots) >= self._limit:
            victim = next((k for k, s in self._slots.items() if not s.proven), None) if proven else None
            if victim is None:
                return DropReason.REASSEMBLY_FULL
            self._free(victim)
        self._groups[group] = self._groups.get(group, 0) + 1
        self._slots[key] = _Slot(msg, index, group, proven, now + self._lifetime, [None] * count)
        return None

    def _free(self, key: bytes) -> None:
        slot = self._slots.pop(key)
        left = self._groups[slot.group] - 1
        if left:
            self._groups[slot.group] = left
        else:
            del self._groups[slot.group]
