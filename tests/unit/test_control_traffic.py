"""Sums over sessions that come and go, rates and loss, from real shared memory."""

import os
from collections.abc import Iterator

import pytest

from pqvpn.control.traffic import Totals, Traffic
from pqvpn.dataplane.counters import Counters, Field, slot_base, tag_of

BETA, GAMMA = b"B" * 32, b"G" * 32
ONE, TWO = b"1" * 16, b"2" * 16


class Memory:
    def __init__(self, fd: int) -> None:
        self.counters = Counters(fd)

    def put(self, slot: int, session_id: bytes, lane: int = 0, **words: int) -> None:
        base = slot_base(lane, slot)
        self.counters.words[base + Field.TAG] = tag_of(session_id)
        for name, value in words.items():
            self.counters.words[base + Field[name.upper()]] = value


@pytest.fixture
def memory() -> Iterator[Memory]:
    fd = Counters.create()
    made = Memory(fd)
    yield made
    made.counters.close()
    os.close(fd)


def test_totals_are_summed_over_lanes_and_sessions(memory: Memory) -> None:
    traffic = Traffic(memory.counters)
    memory.put(3, ONE, 0, rx_packets=1, rx_bytes=100, tx_packets=2, tx_bytes=200)
    memory.put(3, ONE, 1, rx_packets=10, rx_bytes=1000, tx_packets=20, tx_bytes=2000)
    memory.put(4, TWO, 0, rx_packets=5, rx_bytes=50, tx_packets=6, tx_bytes=60)
    assert traffic.totals(BETA, [(3, ONE), (4, TWO)]) == Totals(16, 1150, 28, 2260)
    assert traffic.totals(BETA, []) == Totals()


def test_totals_outlive_their_session_and_its_slot(memory: Memory) -> None:
    traffic = Traffic(memory.counters)
    memory.put(3, ONE, rx_packets=1, rx_bytes=100, tx_packets=2, tx_bytes=200)
    traffic.sample(1.0, {BETA: [(3, ONE)]})
    traffic.ended(BETA, 3, ONE)
    memory.put(3, TWO, rx_packets=7, rx_bytes=70, tx_packets=0, tx_bytes=0)
    assert traffic.totals(BETA, []) == Totals(1, 100, 2, 200)
    assert traffic.totals(BETA, [(3, TWO)]) == Totals(8, 170, 2, 200)


def test_numbers_of_another_session_in_the_slot_are_not_counted(memory: Memory) -> None:
    traffic = Traffic(memory.counters)
    memory.put(3, ONE, 0, rx_packets=1, rx_bytes=100)
    memory.put(3, TWO, 1, rx_packets=9, rx_bytes=900)
    assert traffic.totals(BETA, [(3, TWO)]) == Totals(9, 900, 0, 0)


def test_rates_over_the_samples_go_on_through_a_rekey(memory: Memory) -> None:
    traffic = Traffic(memory.counters)
    assert traffic.rates(BETA) == (0.0, 0.0)
    memory.put(3, ONE, rx_bytes=1000, tx_bytes=100)
    traffic.sample(10.0, {BETA: [(3, ONE)]})
    assert traffic.rates(BETA) == (0.0, 0.0)
    memory.put(3, ONE, rx_bytes=3000, tx_bytes=200)
    traffic.sample(12.0, {BETA: [(3, ONE)]})
    assert traffic.rates(BETA) == (1000.0, 50.0)
    traffic.ended(BETA, 3, ONE)
    memory.put(4, TWO, rx_bytes=1000, tx_bytes=0)
    traffic.sample(14.0, {BETA: [(4, TWO)]})
    assert traffic.rates(BETA) == (750.0, 25.0)


def test_rates_forget_what_is_long_past(memory: Memory) -> None:
    traffic = Traffic(memory.counters)
    memory.put(3, ONE, rx_bytes=0)
    traffic.sample(0.0, {BETA: [(3, ONE)]})
    memory.put(3, ONE, rx_bytes=1_000_000)
    for second in range(1, 12):
        traffic.sample(float(second), {BETA: [(3, ONE)]})
    assert traffic.rates(BETA) == (0.0, 0.0)


def test_two_samples_at_one_time_divide_by_nothing(memory: Memory) -> None:
    traffic = Traffic(memory.counters)
    memory.put(3, ONE, rx_bytes=0)
    for _ in range(2):
        traffic.sample(5.0, {BETA: [(3, ONE)]})
    assert traffic.rates(BETA) == (0.0, 0.0)


def test_loss_is_the_gap_in_the_peers_counters(memory: Memory) -> None:
    traffic = Traffic(memory.counters)
    assert traffic.loss(BETA) is None
    memory.put(3, ONE, 0, receive_from=100, arrived=100)
    memory.put(3, ONE, 1, receive_from=50, arrived=50)
    traffic.sample(1.0, {BETA: [(3, ONE)]})
    assert traffic.loss(BETA) is None
    traffic.sample(2.0, {BETA: [(3, ONE)]})
    assert traffic.loss(BETA) is None  # nothing came: nothing is known
    memory.put(3, ONE, 0, receive_from=180, arrived=160)
    memory.put(3, ONE, 1, receive_from=70, arrived=70)
    traffic.sample(3.0, {BETA: [(3, ONE)]})
    assert traffic.loss(BETA) == pytest.approx(0.2)


def test_packets_that_come_late_make_no_negative_loss(memory: Memory) -> None:
    traffic = Traffic(memory.counters)
    memory.put(3, ONE, receive_from=100, arrived=90)
    traffic.sample(1.0, {BETA: [(3, ONE)]})
    memory.put(3, ONE, receive_from=101, arrived=101)
    traffic.sample(2.0, {BETA: [(3, ONE)]})
    assert traffic.loss(BETA) == 0.0


def test_peers_do_not_mix_and_removed_ones_are_forgotten(memory: Memory) -> None:
    traffic = Traffic(memory.counters)
    memory.put(3, ONE, rx_bytes=100)
    traffic.sample(1.0, {BETA: [(3, ONE)], GAMMA: []})
    traffic.ended(BETA, 3, ONE)
    assert traffic.totals(GAMMA, []) == Totals()
    traffic.sample(2.0, {GAMMA: []})
    assert traffic.totals(BETA, []) == Totals()
