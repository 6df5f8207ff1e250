"""How the bench of telemetry judges paired ratios."""

import random
import statistics

import pytest

from bench.measures import Flow
from bench.telemetry_figures import BARS, interval, judge, summary


def rounds(*pairs: tuple[float, float]) -> list[dict[str, Flow]]:
    """Rounds by (throughput, CPU) of the pair with telemetry; the other has 1 and 1."""
    return [{"on": Flow(gbit, cpu), "off": Flow(1.0, 1.0)} for gbit, cpu in pairs]


def test_the_bars_are_those_of_the_issue() -> None:
    assert [(bar.field, bar.limit, bar.at_least) for bar in BARS] == [("gbit", 0.99, True), ("cpu", 1.02, False)]


def test_the_median_decides_and_the_interval_says_how_surely() -> None:
    throughput, cpu = judge(rounds(*[(0.995, 1.03)] * 20))
    assert (throughput.met, throughput.decided) == (True, True)
    assert (cpu.met, cpu.decided) == (False, True)
    assert "MISSED" in str(cpu)
    throughput, cpu = judge(rounds(*[(0.9, 1.0), (1.1, 1.05), (1.0, 1.01)] * 3))
    assert (throughput.met, throughput.decided) == (True, False)
    assert "not sure" in str(throughput)
    assert throughput.as_dict()["interval"] == [throughput.low, throughput.high]


def test_nothing_measured_is_no_verdict() -> None:
    assert judge([]) == []
    assert summary([]) == {}


@pytest.mark.parametrize(
    ("count", "low", "high"), [(1, 1, 1), (5, 1, 5), (6, 1, 6), (9, 2, 8), (30, 10, 21), (100, 40, 61)]
)
def test_the_interval_is_that_of_the_tables(count: int, low: int, high: int) -> None:
    assert interval([float(n) for n in range(count, 0, -1)]) == (low, high)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    source = random.Random(7)
    held = 0
    for _ in range(400):
        low, high = interval([source.lognormvariate(0.0, 0.3) for _ in range(40)])
        held += low <= 1.0 <= high
    assert held / 400 >= 0.93


def test_the_summary_has_medians_of_both() -> None:
    found = summary(rounds((1.0, 2.0), (3.0, 4.0), (2.0, 9.0)))
    assert found["throughput, Gbit/s"] == {"on": statistics.median([1, 3, 2]), "off": 1.0}
    assert found["CPU, s/GB"]["on"] == 4.0


def test_what_is_counted_apart_is_added_to_cpu_alone() -> None:
    throughput, cpu = judge(rounds(*[(1.0, 1.01)] * 20), extra_cpu=0.02)
    assert throughput.median == 1.0
    assert cpu.median == pytest.approx(1.03)
    assert not cpu.met
