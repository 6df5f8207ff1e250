"""The path MTU search against a model of a path: what passes is acknowledged one round trip later."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pqvpn.protocol.pmtu import FLOOR, STEP, PathMtu, Probe

RTT = 0.04


class Way:
    """A path that carries `limit` bytes; drives a search through virtual time."""

    def __init__(self, limit: int, top: int = 1432) -> None:
        self.limit, self.now = limit, 100.0
        self.search = PathMtu(top, timeout=1.0, confirm_interval=5.0, raise_interval=600.0)
        self.flying: list[tuple[float, Probe]] = []
        self.sent = 0
        self.seen: list[int] = [self.search.current]
        self.fly(self.search.start(self.now, RTT))

    def fly(self, probes: list[Probe]) -> None:
        self.sent += len(probes)
        self.flying += [(self.now + RTT, p) for p in probes if p.size <= self.limit]

    def run(self, seconds: float, active: bool = True) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.01
            due, self.flying = [f for f in self.flying if f[0] <= self.now], [f for f in self.flying if f[0] > self.now]
            for _, probe in due:
                self.search.acknowledged(probe.number, probe.size, self.now)
            self.fly(self.search.tick(self.now, active, RTT))
            if self.seen[-1] != self.search.current:
                self.seen.append(self.search.current)


def best(limit: int, top: int = 1432) -> int:
    """The largest size that the search can find: the top, or whole blocks."""
    return top if limit >= top else max(FLOOR, limit - (limit - 8) % STEP)


@settings(max_examples=40, deadline=None)
@given(st.integers(FLOOR, 1500))
def test_finds_the_largest_size_within_two_seconds(limit: int) -> None:
    way = Way(limit)
    way.run(2.0)
    assert way.search.current == best(limit)
    assert len(way.seen) <= 3  # the inside is told once or twice, not at every step
    assert way.sent < 60


def test_a_wide_path_is_never_reported_narrow() -> None:
    way = Way(2000)
    way.run(30)
    assert way.seen == [1432]


def test_a_black_hole_is_noticed_while_data_moves() -> None:
    way = Way(1432)
    way.run(3)
    way.limit = 1300
    way.run(9)
    assert way.search.current == best(1300)


def test_idle_paths_are_not_probed() -> None:
    way = Way(1432)
    way.run(1)
    sent = way.sent
    way.run(60, active=False)
    assert way.sent == sent


def test_a_path_that_widens_is_used_again_in_time_and_never_told_the_floor_meanwhile() -> None:
    way = Way(1300)
    way.run(3)
    way.limit = 1432
    way.run(601)
    assert way.search.current == 1432
    assert min(way.seen) >= best(1300) - STEP


def test_a_failed_attempt_to_raise_keeps_the_size_in_use() -> None:
    way = Way(1300)
    way.run(3)
    before = len(way.seen)
    way.run(601)
    assert way.seen[before - 1 :] == [best(1300)]


def test_a_dead_path_changes_nothing() -> None:
    way = Way(1432)
    way.run(1)
    way.limit = 0
    way.run(60)
    assert way.search.current == 1432
    way.limit = 1350
    way.run(9)
    assert way.search.current == best(1350)


def test_a_new_path_after_a_narrow_one_is_raised_at_once() -> None:
    way = Way(1300)
    way.run(3)
    way.limit = 1432
    way.fly(way.search.start(way.now, RTT))
    way.run(1)
    assert way.search.current == 1432


def test_forged_acknowledgements_are_ignored() -> None:
    search = PathMtu(1432, 1.0, 5.0, 600.0)
    probes = search.start(0.0, RTT)
    for number in range(0, 65536, 97):
        search.acknowledged(number, 2000, 0.1)
    search.acknowledged(probes[0].number, probes[0].size - 1, 0.1)
    assert search.current == 1432
    assert search.deadline() is not None


def test_a_small_session_never_probes_above_its_size() -> None:
    way = Way(2000, top=1000)
    way.run(20)
    assert way.seen == [1000]
