"""The replay window against a reference: a plain set of everything accepted."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pqvpn.protocol.replay import WINDOW, ReplayWindow


class Reference:
    """A set and the window's definition, nothing clever."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.floor = -1

    @property
    def highest(self) -> int:
        return max(self.seen, default=self.floor)

    def check(self, counter: int) -> bool:
        return counter > self.floor and counter not in self.seen and self.highest - counter <= WINDOW

    def accept(self, counter: int) -> None:
        self.seen.add(counter)


near = st.integers(-9000, 200)
jump = st.sampled_from(
    [-8193, -8192, -8129, -8128, -8127, -1, 0, 1, 2, 63, 64, 65, 8127, 8128, 8191, 8192, 8193, 20_000, 2**40]
)
step = st.tuples(st.sampled_from(["one", "run", "above"]), near | jump, st.integers(1, 300))


@settings(max_examples=300, deadline=None)
@given(st.lists(step, max_size=60))
def test_agrees_with_a_set(steps: list[tuple[str, int, int]]) -> None:
    ring, model = ReplayWindow(), Reference()
    for what, offset, count in steps:
        counter = max(0, model.highest + offset)
        if what == "one":
            expected = model.check(counter)
            assert ring.check(counter) == expected
            if expected:
                ring.accept(counter)
                model.accept(counter)
        elif what == "run":
            # a window that moves while the run is accepted must not change the answer for the run as a whole
            expected = all(model.check(c) for c in range(counter, counter + count))
            assert ring.check_run(counter, count) == expected
            if expected:
                ring.accept_run(counter, count)
                for c in range(counter, counter + count):
                    model.accept(c)
        elif count < 20:
            ring.start_above(counter)
            model.seen.clear()
            model.floor = counter
        assert ring.highest == model.highest
        probes = [ring.highest + d for d in (1, 0, -1, -63, -64, -65, -8127, -8128, -8129, -8192)]
        for probe in [p for p in probes if p >= 0]:
            assert ring.check(probe) == model.check(probe), probe
