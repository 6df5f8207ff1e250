"""How the benchmark judges: paired ratios, bars, what could not be measured; and what it draws."""

import xml.etree.ElementTree as ET

import pytest

from bench import plot
from bench.figures import FIGURES, REFERENCE, SUBJECT, Round, judge, median, ratios, summary
from bench.measures import record_m1

ROUNDS: list[Round] = [
    {SUBJECT: {"tcp1": 2.0, "rtt": 0.4, "pss": 100.0}, REFERENCE: {"tcp1": 1.0, "rtt": 0.5}},
    {SUBJECT: {"tcp1": 9.0, "rtt": 0.6, "pss": 140.0}, REFERENCE: {"tcp1": 10.0, "rtt": 0.5}},
    {SUBJECT: {"tcp1": 3.0, "rtt": 0.7, "pss": 120.0}, REFERENCE: {"rtt": 0.5}},
]


def verdicts(key: str) -> list[bool | None]:
    return [verdict.met for verdict in judge(ROUNDS) if verdict.figure.key == key]


def test_ratios_are_paired_and_rounds_without_the_other_left_out() -> None:
    assert ratios(ROUNDS, "tcp1", SUBJECT, REFERENCE) == pytest.approx([2.0, 0.9])


def test_median_of_rounds() -> None:
    assert median(ROUNDS, SUBJECT, "tcp1") == 3.0
    assert median(ROUNDS, "openvpn", "tcp1") is None


def test_bars_met_missed_and_not_measured() -> None:
    assert verdicts("tcp1") == [True, None]  # 1.45x wireguard-go; no OpenVPN there
    assert verdicts("rtt") == [False]  # 1.2x where at most 1.0x is wanted
    assert verdicts("pss") == [True]  # 120 MiB of 128
    assert verdicts("start") == [None]


def test_a_missed_bar_is_named_with_its_value() -> None:
    (missed,) = [verdict for verdict in judge(ROUNDS) if verdict.met is False]
    assert missed.text == "round trip, median: 1.20, bar ≤ 1x wireguard-go"


def test_every_figure_has_a_bar() -> None:
    assert all(figure.bars for figure in FIGURES)


def test_drawing_is_xml_with_a_row_for_each_measured_ratio() -> None:
    drawing = plot.draw(summary(ROUNDS, [SUBJECT, REFERENCE]), SUBJECT, REFERENCE)
    texts = [element.text for element in ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")]
    assert "one TCP flow" in texts
    assert "1.45x" in texts
    assert {"bar ≥ 1x", "bar ≤ 1x"} <= set(texts)  # which way is better
    assert "8 TCP flows" not in texts


def test_first_handshake_messages_are_picked_from_frames() -> None:
    def frame(protocol: int, payload: bytes, to: int = 2) -> bytes:
        return bytes(23) + bytes([protocol]) + bytes(6) + bytes([10, 0, 0, to]) + bytes(8) + payload

    m1, transport = bytes((1, 1, 1, 3)) + bytes(20), bytes((4, 0, 0, 0)) + bytes(20)
    frames = [frame(17, m1), frame(17, transport), frame(6, m1), frame(17, m1, to=1), b"short"]
    assert record_m1(frames) == [m1]
