"""Where crashes are caught, remembered and read back: hooks, limits across restarts, last words, hostile folders."""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pqvpn.diag import crashes as shown
from pqvpn.errors import PqvpnError
from pqvpn.facts import Crashed, Fact
from pqvpn.reasons import Reason
from pqvpn.telemetry.crashes import describe, reading, remember
from pqvpn.telemetry.crashes.boundary import Boundary, of_loop
from pqvpn.telemetry.crashes.limits import Limits
from pqvpn.telemetry.crashes.recorder import CrashRecorder, Naming
from pqvpn.telemetry.envelope import stamped
from pqvpn.telemetry.redaction import Policy
from pqvpn.telemetry.spool import Kind, Spool


class Told:
    def __init__(self) -> None:
        self.facts: list[Crashed] = []
        self.now = 0.0
        self.boundary = Boundary(self.take, "control", lambda: self.now)

    def take(self, fact: Fact) -> None:
        assert isinstance(fact, Crashed)
        self.facts.append(fact)


def error_of(kind: type[BaseException] = ValueError) -> BaseException:
    try:
        raise kind("a secret")
    except BaseException as error:  # noqa: BLE001 - it is what is wanted
        return error


@pytest.fixture
def hooks() -> Iterator[None]:
    before = threading.excepthook, sys.unraisablehook
    yield
    threading.excepthook, sys.unraisablehook = before


def test_a_flood_of_one_failure_is_one_fact_a_second_with_its_count() -> None:
    told = Told()
    for _ in range(1000):
        told.boundary.caught(error_of())
    told.now = 1.0
    told.boundary.caught(error_of())
    assert [fact.count for fact in told.facts] == [1, 1000]


def test_a_publisher_that_fails_ends_in_nothing() -> None:
    def refuse(_: Fact) -> None:
        boundary.caught(error_of(KeyError))
        raise OSError

    boundary = Boundary(refuse, "control", lambda: 0.0)
    boundary.caught(error_of())


@pytest.mark.usefixtures("hooks")
def test_threads_finalisers_and_loops_end_at_the_boundary(capsys: pytest.CaptureFixture[str]) -> None:
    class Dying:
        def __del__(self) -> None:
            raise LookupError("a secret")

    told = Told()
    told.boundary.watch()
    thread = threading.Thread(target=lambda: 1 / 0, name="ours")
    thread.start()
    thread.join()
    Dying()
    of_loop(told.boundary)(None, {"exception": error_of(BufferError)})
    of_loop(told.boundary)(None, {"message": "no exception"})
    threading.excepthook(threading.ExceptHookArgs((SystemExit, SystemExit(), None, None)))
    assert [fact.error for fact in told.facts] == ["ZeroDivisionError", "LookupError", "BufferError"]
    assert told.facts[0].thread == "ours"
    assert "secret" not in "".join(capsys.readouterr())


def test_want_of_memory_is_a_kind_of_its_own() -> None:
    told = Told()
    told.boundary.caught(error_of(MemoryError))
    assert (told.facts[0].kind, told.facts[0].reason) == ("out_of_memory", Reason.OUT_OF_MEMORY)


def test_last_words_are_read_as_they_were_left() -> None:
    error = error_of(ZeroDivisionError)
    words = describe.last_words(type(error), error.__traceback__)
    assert describe.error_in(words) == "ZeroDivisionError"
    assert describe.native(words)[-1].endswith("in error_of")
    assert "a secret" not in words


@pytest.mark.parametrize(
    ("dump", "error"),
    [("Fatal Python error: Segmentation fault\n", "SIGSEGV"), ("Fatal Python error: Aborted", "SIGABRT"), ("", "")],
)
def test_the_signal_of_a_dump(dump: str, error: str) -> None:
    assert describe.error_in(dump) == error


# -- limits across restarts ------------------------------------------------------------------------------------------


def test_a_process_that_fails_at_each_start_does_not_begin_anew(tmp_path: Path) -> None:
    kept: list[bytes] = []
    crash = Crashed("startup", "supervisor", Reason.INTERNAL, "OSError")
    for _ in range(50):
        recorder = CrashRecorder(Policy("mask"), Naming("alpha"), kept.append, remembered=tmp_path / remember.NAME)
        recorder.record(stamped(crash, "supervisor"), crash)
    assert len(kept) == 3
    assert (tmp_path / remember.NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", ["", "[", "{}", "[[1]]", '[[["a"], "x", 1, 1]]', "null", "[" * 10000, '[[["a"], 1e400, 1, 1]]']
)
def test_damaged_limits_are_no_limits(tmp_path: Path, content: str) -> None:
    place = tmp_path / remember.NAME
    place.write_text(content)
    limits = Limits()
    remember.load(place, limits, 100.0)
    assert limits.admit(("b",), 100.0) == 1


def test_limits_of_a_clock_that_was_ahead_do_not_last(tmp_path: Path) -> None:
    place, limits = tmp_path / remember.NAME, Limits(burst=1, every=60.0)
    limits.admit(("a",), 1e12)
    remember.save(place, limits)
    again = Limits(burst=1, every=60.0)
    remember.load(place, again, 1000.0)
    assert again.admit(("a",), 1000.0) is None
    assert again.admit(("a",), 1061.0) == 2


# -- reading back ----------------------------------------------------------------------------------------------------


def put(state: Path, *payloads: bytes) -> None:
    with Spool(state / "crashes", 1 << 20, 86400.0) as spool:
        for payload in payloads:
            spool.append(Kind.CRASHES, payload, 1)


def recorded(state: Path) -> list[str]:
    kept: list[bytes] = []
    recorder = CrashRecorder(Policy("mask"), Naming("alpha"), kept.append)
    for kind in ("exception", "signal"):
        crash = Crashed(kind, "lane-0", Reason.INTERNAL, "ValueError", frames=("pqvpn/x.py:1 in f",), handled=True)
        recorder.record(stamped(crash, "control"), crash)
    put(state, *kept)
    return [reading.event_id(data) for data in kept]


def test_crashes_are_listed_newest_first_and_found_by_their_beginning(tmp_path: Path) -> None:
    first, second = recorded(tmp_path)
    found, notes = shown.of(tmp_path)
    assert ([crash.report.id for crash in found], notes) == ([second, first], ())
    assert shown.find(found, first[:10].upper()).kind == "exception"
    assert shown.find(found, "last").report.id == second
    assert shown.document(found)[0]["place"] == "pqvpn/x.py:1"
    with pytest.raises(PqvpnError, match="no crash 'zz'"):
        shown.find(found, "zz")
    text = "\n".join(line.text for line in (*shown.lines(found, notes, 0.0, 80), *shown.details(found[0], 0.0, 80)))
    assert "lane-0: ValueError (signal) at pqvpn/x.py:1; not sent" in text


def test_a_node_without_crashes(tmp_path: Path) -> None:
    found, notes = shown.of(tmp_path)
    assert [line.text for line in shown.lines(found, notes, 0.0, 80)] == ["No crash is recorded here."]
    with pytest.raises(PqvpnError):
        shown.find(found, "last")


EVENTS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["exception", "values", "tags", "contexts", "health", "breadcrumbs", "stacktrace", "frames", "extra", "count",
             "type", "timestamp", "lineno", "filename", "pqvpn.kind", "mechanism"]
        ) | st.text(max_size=4), inner, max_size=6,
    ),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=150)
@given(EVENTS, st.binary(max_size=40))
def test_whatever_is_in_the_folder_is_shown_safely(event: Any, rubbish: bytes) -> None:
    head = json.dumps({"event_id": "ab" * 16}).encode()
    envelope = head + b'\n{"type": "event"}\n' + json.dumps(event).encode() + b"\n" + rubbish
    found = reading.event_of(envelope)
    report = reading.Report(reading.event_id(envelope), 0, envelope, found, False)
    crash = shown._crash(report)
    lines = [*shown.lines([crash], (), 0.0, 80), *shown.details(crash, 0.0, 80)]
    json.dumps(shown.document([crash]))
    assert all(line.text.isprintable() for line in lines)
    assert not reading.event_of(rubbish) or rubbish
