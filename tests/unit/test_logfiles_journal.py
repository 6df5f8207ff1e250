"""The observer's log: which facts become lines, repeats, a disk that refuses for a while."""

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pqvpn.facts import FACTS, Fact, LogLine, NodeObserved, NodeStopped, PeerStateChanged, Problem
from pqvpn.reasons import Reason
from pqvpn.telemetry import envelope
from pqvpn.telemetry.logfiles import journal, lines, messages, repeats
from pqvpn.telemetry.logfiles.files import LogFiles
from pqvpn.telemetry.logfiles.journal import Journal
from pqvpn.telemetry.logfiles.levels import Levels
from pqvpn.telemetry.redaction import Policy, Redactor


class Disk(LogFiles):
    """Keeps lines in memory; refuses while `full`."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"), 1 << 20, 60.0, 1 << 21)
        self.lines: list[dict[str, Any]] = []
        self.full = False

    def write(self, lines: Sequence[bytes]) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.lines += [json.loads(line) for line in lines]


class House:
    def __init__(self, level: str = "info") -> None:
        self.disk = Disk()
        self.levels = Levels(level)
        self.journal = Journal(self.disk, self.levels, Redactor(Policy("pseudonym", bytes(32))))

    def tell(self, fact: Fact, now: float = 0.0) -> None:
        self.journal.take(envelope.stamped(fact, "control"), fact, now)

    def written(self) -> list[dict[str, Any]]:
        self.journal.flush()
        return self.disk.lines


@pytest.fixture
def house() -> House:
    return House()


def test_a_line_says_who_when_and_what(house: House) -> None:
    house.tell(PeerStateChanged("beta", "down", "up", 4.5, Reason.NO_REPLY, "ab" * 16))
    (line,) = house.written()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info", "component": "session", "process": "control", "session_id": "ab" * 16, "peer": "beta",
        "code": "network.no_reply", "event": "peer.state", "message": "beta is down, was up",
        "fields": {"state": "down", "before": "up", "seconds": 4.5},
    }  # fmt: skip


def test_readings_are_no_lines(house: House) -> None:
    house.tell(NodeObserved({}, 0.0))
    assert house.written() == []


def test_levels_change_while_it_runs(house: House) -> None:
    loud = LogLine("chatter", "debug", "somebody")
    house.tell(loud)
    house.levels.change("telemetry", "debug", 10.0)
    house.tell(loud, 5.0)
    house.tell(LogLine("later", "debug", "somebody"), 10.0)
    assert [line["message"] for line in house.written()] == ["chatter"]


def test_critical_records_are_errors(house: House) -> None:
    house.tell(LogLine("it burns", "critical", "somebody"))
    assert house.written()[0]["level"] == "error"


def test_repeats_are_summarised(house: House) -> None:
    for number in range(1000):
        house.tell(Problem(Reason.NO_ROUTE_OUT, "udp", "no route"), number / 100)
        house.tell(LogLine(f"{number % 2}", "error", "somebody"), number / 100)  # two that differ
    house.journal.tick(repeats.WINDOW + 1)
    said = house.written()
    assert len(said) == 3 * repeats.BURST + 3
    assert sorted(line["fields"]["repeats"] for line in said[-3:]) == [495, 495, 995]
    assert "the same 995 times in 61 s" in next(line["message"] for line in said[-3:] if line["event"] == "problem")


def test_the_last_repeats_are_told_at_the_end(house: House) -> None:
    for _ in range(8):
        house.tell(LogLine("x", "error", "somebody"))
    house.journal.close(1.0)
    assert house.written()[-1]["fields"]["repeats"] == 3


def test_what_an_operator_did_is_told_each_time(house: House) -> None:
    for _ in range(20):
        house.tell(NodeStopped("x"))
    assert len(house.written()) == 20


def test_a_full_disk_costs_nothing_but_the_oldest(house: House) -> None:
    house.disk.full = True
    for number in range(journal.MOST_WAITING + 10):
        house.tell(NodeStopped(f"cause {number}"))
    assert not house.journal.flush()
    assert house.journal.failure == "No space left on device"
    assert house.journal.dropped == 10
    house.disk.full = False
    causes = [line["fields"]["cause"] for line in house.written()]
    assert causes == [f"cause {number}" for number in range(10, journal.MOST_WAITING + 10)]
    assert house.journal.failure == ""


def test_a_line_without_end_is_cut(house: House) -> None:
    line = {"time": "t", "level": "info", "message": "m" * 100_000, "fields": {"detail": "x" * 100_000}}
    cut = json.loads(lines.as_json(line))
    assert len(cut["message"]) == 1024
    assert cut["fields"]["cut"] > 200_000


def test_every_fact_that_is_told_has_a_sentence() -> None:
    told = {event for event, kind in FACTS.items() if kind.told}
    assert told <= set(messages.SENTENCES)


def test_times_have_microseconds_and_a_zone() -> None:
    assert lines.rfc3339(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456Z"
    assert lines.rfc3339(0) == "1970-01-01T00:00:00.000000Z"
