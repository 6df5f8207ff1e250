"""Log lines on stderr: one JSON object a fact with the fields promised, plain text on demand, levels, repeats, redaction."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pqvpn.facts import ChildEnded, Fact, HandshakeCompleted, LogLine, NodeStopped, Problem
from pqvpn.reasons import Reason
from pqvpn.telemetry import context, envelope, jsonlog
from pqvpn.telemetry.logfiles import repeats
from pqvpn.telemetry.publish import Publisher, relay
from pqvpn.telemetry.redaction import Policy, Redactor

Lines = Callable[[], list[str]]
REDACTOR = Redactor(Policy("pseudonym", bytes(32)))


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


def set_up(process: str, level: str, **options: Any) -> None:
    jsonlog.set_up(process, level, redactor=REDACTOR, **options)


def only(lines: Lines) -> dict[str, Any]:
    (line,) = lines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_fact_is_one_line_with_its_fields(lines: Lines) -> None:
    set_up("control", "info")
    jsonlog.publish(HandshakeCompleted("beta", "ab" * 16, "initiator", "X-Wing, AES-256-GCM", "192.0.2.1:7", 0.125))
    found = only(lines)
    assert found.pop("time")[-8:].endswith("Z")
    endpoint = found["fields"].pop("endpoint")
    assert endpoint.endswith(":7")
    assert "192.0.2.1" not in lines()[0]
    assert found == {
        "level": "info", "component": "handshake", "process": "control", "session_id": "ab" * 16, "peer": "beta",
        "event": "handshake.completed", "message": "session with beta agreed, as initiator",
        "fields": {"role": "initiator", "suite": "X-Wing, AES-256-GCM", "seconds": 0.125, "policy": "full"},
    }  # fmt: skip


def test_the_context_in_force_is_in_the_line(lines: Lines) -> None:
    set_up("control", "info")
    with context.attached("cd" * 16, "beta", "ef" * 16):
        jsonlog.publish(NodeStopped("x"))
    found = only(lines)
    assert (found["session_id"], found["peer"], found["trace_id"]) == ("cd" * 16, "beta", "ef" * 16)
    assert found["span_id"] == context.root_span_id("ef" * 16)


def test_reasons_are_told_by_code_and_empty_fields_left_out(lines: Lines) -> None:
    set_up("lane-0", "info")
    jsonlog.publish(Problem(Reason.DNS_FAILED, "resolver"))
    found = only(lines)
    assert (found["code"], found["level"], found["event"]) == ("network.dns_failed", "warning", "problem")
    assert found["message"] == Reason.DNS_FAILED.text
    assert not {"detail", "peer", "session_id", "trace_id"} & set(found) | set(found["fields"]) & {"detail"}


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", 3), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_the_level_holds_back_what_is_below(lines: Lines, level: str, expected: int) -> None:
    set_up("supervisor", level)
    ended = ChildEnded("lane-0", 7, "SIGKILL", Reason.CHILD_DIED)
    facts: tuple[Fact, ...] = (NodeStopped("SIGTERM"), Problem(Reason.STALE, "core"), ended)
    for fact in facts:
        jsonlog.publish(fact)
    assert len(lines()) == expected


def test_one_area_can_be_louder_and_falls_back(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    time = [100.0]
    monkeypatch.setattr(jsonlog, "_now", lambda: time[0])
    set_up("supervisor", "error")
    jsonlog.set_level("node", "debug", 600.0)
    jsonlog.publish(NodeStopped("first"))
    assert [(i.area, i.level, i.seconds) for i in jsonlog.levels()] == [("*", "error", None), ("node", "debug", 600.0)]
    time[0] += 601.0
    jsonlog.publish(NodeStopped("second"))
    assert only(lines)["fields"]["cause"] == "first"


def test_what_stands_in_a_field_cannot_break_the_line(lines: Lines) -> None:
    set_up("control", "info")
    jsonlog.publish(NodeStopped('quo"te\nnew line\u2028 end'))
    assert only(lines)["fields"]["cause"] == 'quo"te\nnew line\u2028 end'


def test_nothing_reaches_a_terminal_that_moves_its_cursor(lines: Lines) -> None:
    set_up("control", "info", text=True)
    jsonlog.publish(NodeStopped("\x1b[2J\nnext"))
    (line,) = lines()
    assert line.isprintable()


@pytest.mark.parametrize("debug", [False, True])
def test_an_exceptions_text_is_kept_out_unless_debugging(lines: Lines, debug: bool) -> None:
    set_up("control", "info", debug=debug)
    try:
        raise ValueError("the cat is called Hunter")
    except ValueError:
        logging.getLogger("somebody").exception("it failed")
    found = only(lines)
    assert found["fields"]["error"] == "ValueError"
    assert found["fields"]["place"].startswith("test_telemetry_jsonlog.py:")
    assert ("Hunter" in lines()[0]) is debug


def test_text_is_short_and_without_colour(lines: Lines) -> None:
    set_up("control", "info", text=True)
    jsonlog.publish(NodeStopped("SIGTERM"))
    (line,) = lines()
    time, rest = line.split(" ", 1)
    assert len(time) == len("12:34:56.789")
    assert rest.split() == [
        "info",
        "control",
        "node.stopped",
        "the",
        "node",
        "ended:",
        "SIGTERM",
        "cause=SIGTERM",
        "seconds=0.0",
    ]


def test_other_libraries_are_heard_only_when_they_warn(lines: Lines) -> None:
    set_up("control", "debug")
    logging.getLogger("asyncio").info("chatter")
    logging.getLogger("asyncio").warning("slow")
    assert only(lines)["message"] == "slow"


def test_setting_up_again_replaces(lines: Lines) -> None:
    set_up("control", "info")
    set_up("lane-1", "info")
    jsonlog.publish(NodeStopped("x"))
    assert only(lines)["process"] == "lane-1"


def test_the_same_again_and_again_is_summarised(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    time = [100.0]
    monkeypatch.setattr(jsonlog, "_now", lambda: time[0])
    set_up("control", "info")
    for _ in range(417):
        jsonlog.publish(Problem(Reason.NO_ROUTE_OUT, "udp", "no route"))
        time[0] += 0.1
    assert len(lines()) == repeats.BURST
    time[0] = 161.0
    Publisher("control")(NodeStopped("another"))
    told = [json.loads(line) for line in lines()[repeats.BURST :]]
    assert [each["event"] for each in told] == ["problem", "node.stopped"]
    assert told[0]["message"].endswith("; the same 412 times in 61 s")
    assert told[0]["fields"]["repeats"] == 412


def test_a_detached_node_tells_errors_only_once_it_has_started(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    time = [100.0]
    monkeypatch.setattr(jsonlog, "_now", lambda: time[0])
    set_up("supervisor", "info", quiet=True)
    jsonlog.publish(NodeStopped("first"))
    time[0] += jsonlog.QUIET_AFTER
    jsonlog.publish(NodeStopped("second"))
    jsonlog.publish(ChildEnded("lane-0", 7, "SIGKILL", Reason.CHILD_DIED))
    assert [json.loads(line)["event"] for line in lines()] == ["node.stopped", "process.ended"]


def test_a_process_without_redactor_says_nothing_of_a_fact(lines: Lines) -> None:
    set_up("control", "info")
    jsonlog._output.redactor = jsonlog._Withheld()
    jsonlog.publish(Problem(Reason.STALE, "core", "a secret"))
    assert "secret" not in lines()[0]


def test_records_of_other_libraries_become_facts(lines: Lines) -> None:
    set_up("control", "error")
    facts: list[Fact] = []
    relay(facts.append)
    logging.getLogger("asyncio").warning("slow %s", "callback")
    jsonlog.publish(ChildEnded("lane-0", 7, "SIGKILL", Reason.CHILD_DIED))
    for feedback in ("opentelemetry.exporter.otlp", "urllib3.connectionpool"):
        logging.getLogger(feedback).error("no collector")
    (line,) = facts
    assert isinstance(line, LogLine)
    assert (line.text, line.severity, line.logger) == ("slow callback", "warning", "asyncio")


def test_a_relay_that_fails_fails_nobody(lines: Lines) -> None:
    set_up("control", "error")

    def refuse(_: Fact) -> None:
        logging.getLogger("asyncio").warning("again")  # would never end
        raise RuntimeError

    relay(refuse)
    logging.getLogger("asyncio").warning("slow")


def test_what_cannot_be_encoded_fails_nobody(lines: Lines) -> None:
    set_up("control", "info")
    reading, sending = envelope.link()
    with reading, sending:
        publish = Publisher("control", sending)
        publish(NodeStopped("\udcff"))
        publish(NodeStopped("cause", float(10**300)))
        publish(NodeStopped("fine"))
    assert json.loads(lines()[-1])["fields"]["cause"] == "fine"
    assert "Traceback" not in "".join(lines())
