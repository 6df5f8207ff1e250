"""Log lines: one JSON object a fact with the fields promised, plain text on demand, no exception text unless debugging."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pqvpn.facts import ChildEnded, Fact, HandshakeCompleted, NodeStopped, Problem
from pqvpn.reasons import Reason
from pqvpn.telemetry import jsonlog

Lines = Callable[[], list[str]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    root, own = logging.getLogger(), logging.getLogger("pqvpn")
    before = root.handlers[:], root.level, own.level
    written: list[str] = []

    def read() -> list[str]:
        written.extend(capsys.readouterr().err.split("\n")[:-1])
        return written

    yield read
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    own.setLevel(before[2])


def only(lines: Lines) -> dict[str, Any]:
    (line,) = lines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_fact_is_one_line_with_its_fields(lines: Lines) -> None:
    jsonlog.set_up("control", "info")
    jsonlog.publish(HandshakeCompleted("beta", "ab" * 16, "initiator", "X-Wing, AES-256-GCM", "192.0.2.1:7", 0.125))
    found = only(lines)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "info", "component": "control", "message": "handshake.completed", "peer": "beta", "session_id": "ab" * 16,
        "role": "initiator", "suite": "X-Wing, AES-256-GCM", "endpoint": "192.0.2.1:7", "seconds": 0.125,
        "policy": "full",
    }  # fmt: skip


def test_reasons_are_told_by_code_and_empty_fields_left_out(lines: Lines) -> None:
    jsonlog.set_up("lane-0", "info")
    jsonlog.publish(Problem(Reason.DNS_FAILED, "resolver"))
    found = only(lines)
    assert (found["reason"], found["level"], found["message"]) == ("network.dns_failed", "warning", "problem")
    assert not {"detail", "peer", "session_id"} & set(found)


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", 3), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_the_level_holds_back_what_is_below(lines: Lines, level: str, expected: int) -> None:
    jsonlog.set_up("supervisor", level)
    ended = ChildEnded("lane-0", 7, "SIGKILL", Reason.CHILD_DIED)
    facts: tuple[Fact, ...] = (NodeStopped("SIGTERM"), Problem(Reason.STALE, "core"), ended)
    for fact in facts:
        jsonlog.publish(fact)
    assert len(lines()) == expected


def test_what_stands_in_a_field_cannot_break_the_line(lines: Lines) -> None:
    jsonlog.set_up("control", "info")
    jsonlog.publish(NodeStopped('quo"te\nnew line\u2028 \x1b[31m'))
    assert only(lines)["cause"] == 'quo"te\nnew line\u2028 \x1b[31m'


@pytest.mark.parametrize("debug", [False, True])
def test_an_exceptions_text_is_kept_out_unless_debugging(lines: Lines, debug: bool) -> None:
    jsonlog.set_up("control", "info", debug=debug)
    try:
        raise ValueError("the psk was hunter2")
    except ValueError:
        logging.getLogger("pqvpn").exception("it failed")
    found = only(lines)
    assert found["exception"] == "ValueError"
    assert found["place"].startswith("test_telemetry_jsonlog.py:")
    assert ("hunter2" in lines()[0]) is debug
    assert found.get("text", "") == ("the psk was hunter2" if debug else "")


def test_text_is_short_and_without_colour(lines: Lines) -> None:
    jsonlog.set_up("control", "info", text=True)
    jsonlog.publish(NodeStopped("SIGTERM"))
    (line,) = lines()
    time, rest = line.split(" ", 1)
    assert len(time) == len("12:34:56.789")
    assert rest.split() == ["info", "control", "node.stopped", "cause=SIGTERM", "seconds=0.0"]


def test_other_libraries_are_heard_only_when_they_warn(lines: Lines) -> None:
    jsonlog.set_up("control", "debug")
    logging.getLogger("asyncio").info("chatter")
    logging.getLogger("asyncio").warning("slow")
    assert only(lines)["message"] == "slow"


def test_setting_up_again_replaces(lines: Lines) -> None:
    jsonlog.set_up("control", "info")
    jsonlog.set_up("lane-1", "info")
    jsonlog.publish(NodeStopped("x"))
    assert only(lines)["component"] == "lane-1"
