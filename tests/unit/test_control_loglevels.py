"""The operation `log_level`: what it accepts, and whom it tells."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from pqvpn.control import loglevels, supervision
from pqvpn.errors import PqvpnError
from pqvpn.facts import Fact, LevelChanged
from pqvpn.telemetry import jsonlog
from pqvpn.telemetry.redaction import Policy, Redactor


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    jsonlog.set_up("control", "info", redactor=Redactor(Policy("pseudonym", bytes(32))))
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def change(request: dict[str, Any]) -> tuple[dict[str, Any], list[Fact], list[supervision.ToSupervisor]]:
    ours, theirs = supervision.link()
    facts: list[Fact] = []
    with ours, theirs:
        answer = loglevels.change(request, facts.append, theirs)
        ours.setblocking(False)
        try:
            told = [supervision.receive_as_supervisor(ours)]
        except BlockingIOError:
            told = []
    return answer, facts, told


def test_everybody_who_logs_hears_of_a_change() -> None:
    answer, facts, told = change({"op": "log_level", "area": "handshake", "level": "debug", "for_seconds": 60})
    assert facts == [LevelChanged("handshake", "debug", 60.0)]
    assert told == [supervision.LevelRequested("handshake", "debug", 60.0)]
    assert [each["area"] for each in answer["levels"]] == ["*", "handshake"]
    assert 59.0 < answer["levels"][1]["seconds"] <= 60.0


def test_without_a_level_it_only_shows() -> None:
    answer, facts, told = change({"op": "log_level"})
    assert (facts, told) == ([], [])
    assert answer["levels"] == [{"area": "*", "level": "info", "seconds": None}]
    assert {"handshake", "tun", "session"} <= set(answer["areas"])


@pytest.mark.parametrize(
    "request_",
    [
        {"area": "handshake"},
        {"level": "debug"},
        {"area": "kitchen", "level": "debug"},
        {"area": "handshake", "level": "loud"},
        {"area": ["handshake"], "level": "debug"} | {"area": "handshak"},
        *({"area": "*", "level": "info", "for_seconds": wrong} for wrong in (0, -1, True, "60", 1e9, [])),
    ],
)
def test_what_it_does_not_know_it_refuses(request_: dict[str, Any]) -> None:
    before = jsonlog.levels()
    with pytest.raises(PqvpnError):
        change(request_)
    assert jsonlog.levels() == before


def test_a_process_that_starts_later_has_the_levels_that_were_set() -> None:
    jsonlog.set_level("*", "warning")
    jsonlog.set_level("data", "error")
    jsonlog.set_level("data", "debug", 600.0)
    jsonlog.set_level("tun", "debug", 0.0)  # over already
    settings = jsonlog.settings()
    assert [each[:2] for each in settings] == [("*", "warning"), ("data", "error"), ("data", "debug")]
    shown = jsonlog.levels()
    jsonlog.set_up("control", "info", redactor=Redactor(Policy("pseudonym", bytes(32))), levels=settings)
    assert [(each.area, each.level) for each in jsonlog.levels()] == [("*", "warning"), ("data", "debug")]
    assert [each.area for each in shown if each.level != "warning"] == ["data"]
