"""The reassembler against a model: lists and rules as written in PROTOCOL section 3, nothing clever."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from pqvpn.drops import DropReason
from pqvpn.protocol.fragments import Reassembler

SLOTS, PER_SOURCE, LIFE = 6, 2, 3.0


@dataclass
class ModelSlot:
    what: tuple[int, int]
    group: bytes
    proven: bool
    ends: float
    chunks: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Model:
    slots: dict[bytes, ModelSlot] = field(default_factory=dict)

    def add(self, key, group, proven, msg, index, idx, chunk, now):  # type: ignore[no-untyped-def] # a model
        count = {1: 3, 4: 4}[msg]
        slot = self.slots.get(key)
        if slot is None:
            if sum(s.group == group for s in self.slots.values()) >= PER_SOURCE:
                return DropReason.REASSEMBLY_FULL
            if len(self.slots) >= SLOTS:
                unproven = [k for k, s in self.slots.items() if not s.proven]
                if not proven or not unproven:
                    return DropReason.REASSEMBLY_FULL
                del self.slots[unproven[0]]
            slot = self.slots[key] = ModelSlot((msg, index), group, proven, now + LIFE)
        if slot.what != (msg, index) or slot.chunks.get(idx, chunk) != chunk:
            del self.slots[key]
            return DropReason.REASSEMBLY_CONFLICT
        slot.chunks[idx] = chunk
        if len(slot.chunks) < count:
            return None
        del self.slots[key]
        return b"".join(slot.chunks[i] for i in range(count))


fragment = st.tuples(
    st.integers(0, 7),  # key
    st.integers(0, 2),  # source
    st.booleans(),  # proven
    st.sampled_from([1, 1, 1, 4]),
    st.sampled_from([16, 16, 16, 32]),
    st.integers(0, 3),
    st.sampled_from([b"a", b"a", b"a", b"b"]),
    st.sampled_from([0.0, 0.1, 1.0, 4.0]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(fragment, max_size=80))
def test_agrees_with_the_model(steps: list[tuple[int, int, bool, int, int, int, bytes, float]]) -> None:
    table, model, now = Reassembler(LIFE, SLOTS, PER_SOURCE), Model(), 0.0
    for key_no, source, proven, msg, index, idx, content, gap in steps:
        now += gap
        count = {1: 3, 4: 4}[msg]
        if idx >= count:
            continue
        key, group = bytes([key_no]), bytes([source, proven])
        chunk = content + bytes([idx])
        stale = [k for k, s in model.slots.items() if s.ends <= now]
        for k in stale:
            del model.slots[k]
        assert len(table.expire(now)) == len(stale)
        expected = model.add(key, group, proven, msg, index, idx, chunk, now)
        assert table.add(key, group, proven, msg, index, idx, count, chunk, now) == expected
        assert len(table) == len(model.slots) <= SLOTS
        assert table.crowded == (len(table) > SLOTS // 2)
        assert len(table._groups) <= len(table)
        for k in range(8):
            assert table.holds(bytes([k])) == (bytes([k]) in model.slots)


@given(st.permutations([0, 1, 2, 0, 1, 2]))
def test_any_order_and_duplicates_complete_once(order: list[int]) -> None:
    table = Reassembler(LIFE)
    bodies = [table.add(b"k", b"g", False, 1, 16, i, 3, bytes([i]), 0.0) for i in order]
    assert next(b for b in bodies if b is not None) == b"\x00\x01\x02"
    assert len(table) <= 1


def test_a_full_table_refuses_strangers_and_makes_room_for_the_proven() -> None:
    table = Reassembler(LIFE)

    def begin(number: int, proven: bool) -> bytes | DropReason | None:
        key = number.to_bytes(4, "little")
        return table.add(key, key, proven, 1, 16, 0, 3, b"x", 0.0)

    assert [begin(n, False) for n in range(256)] == [None] * 256
    assert begin(256, False) is DropReason.REASSEMBLY_FULL
    assert begin(257, True) is None
    assert len(table) == 256
    assert not table.holds((0).to_bytes(4, "little"))
    for n in range(1000, 1255):
        assert begin(n, True) is None
    assert begin(2000, True) is DropReason.REASSEMBLY_FULL
    assert len(table) == 256
