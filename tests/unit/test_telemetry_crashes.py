"""Crash reports up to the envelope: what is told of an exception or a dump, grouping, limits, and nothing else."""

import dataclasses
import json
import platform
import re
import subprocess
import sys
from typing import Any

import pytest

from pqvpn.errors import NetworkError
from pqvpn.facts import Crashed
from pqvpn.reasons import Reason
from pqvpn.telemetry.crashes import describe, event
from pqvpn.telemetry.crashes.client import CrashClient
from pqvpn.telemetry.crashes.limits import Limits
from pqvpn.telemetry.crashes.recorder import CrashRecorder, Naming
from pqvpn.telemetry.envelope import Envelope, stamped
from pqvpn.telemetry.redaction import Policy

CANARY = "canary-of-a-secret-0123456789"


def failing() -> None:
    hidden = CANARY
    try:
        raise KeyError(hidden)
    except KeyError as error:
        raise ValueError(hidden) from error


def crash_of(error: BaseException, **more: Any) -> Crashed:
    return describe.exception(error, "control", handled=False, **more)


@pytest.fixture
def crash() -> Crashed:
    with pytest.raises(ValueError, match="canary") as met:
        failing()
    return crash_of(met.value)


def envelope(crash: Crashed) -> Envelope:
    return stamped(crash, "control")


def test_an_exception_is_told_by_types_and_places(crash: Crashed) -> None:
    assert (crash.error, crash.chain, crash.reason) == ("ValueError", ("KeyError",), Reason.INTERNAL)
    assert crash.frames[-1].endswith("in failing")
    assert re.fullmatch(r"(pqvpn/tests/unit/)?test_telemetry_crashes\.py:\d+", crash.place), (
        "the checkout may be named like the package"
    )
    assert CANARY not in repr(crash)


def test_the_reason_of_our_own_errors_is_theirs() -> None:
    assert crash_of(NetworkError(Reason.DNS_FAILED, CANARY)).reason is Reason.DNS_FAILED
    assert crash_of(NetworkError(Reason.DNS_FAILED)).error == "pqvpn.errors.NetworkError"


def test_a_cause_that_points_back_ends() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert crash_of(first).chain == ("KeyError",)


def test_deep_recursion_keeps_the_innermost_frames() -> None:
    def deeper(n: int) -> None:
        if not n:
            raise OSError
        deeper(n - 1)

    with pytest.raises(OSError) as met:  # noqa: PT011 - ours
        deeper(300)
    assert len(crash_of(met.value).frames) == describe.MOST_FRAMES


def test_the_dump_of_a_real_segmentation_fault_is_read() -> None:
    code = (
        "import ctypes, faulthandler, sys\n"
        "faulthandler.enable(file=sys.stderr)\n"
        "def outer(): inner()\n"
        "def inner(): ctypes.string_at(0)\n"
        "outer()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    frames = describe.native(ended.stderr)
    assert ended.returncode < 0
    assert [f.partition(" in ")[2] for f in frames] == ["<module>", "outer", "inner", "string_at"]
    assert frames[-1].startswith("ctypes/__init__.py:")


def test_of_several_threads_the_current_one_is_told() -> None:
    dump = (
        "Fatal Python error: Aborted\n\n"
        'Thread 0x01 (most recent call first):\n  File "/x/pqvpn/other.py", line 5 in wait\n\n'
        'Current thread 0x02 (most recent call first):\n  File "/x/pqvpn/control/process.py", line 9 in run\n'
        'Thread 0x03 (most recent call first):\n  File "/x/pqvpn/other.py", line 6 in wait\n'
    )
    assert describe.native(dump) == ("pqvpn/control/process.py:9 in run",)


@pytest.mark.parametrize("dump", ["", "nonsense", 'File "', "Current thread", "\0" * 100])
def test_a_torn_dump_gives_no_frames(dump: str) -> None:
    assert describe.native(dump) == ()


def test_where_an_installation_lies_is_not_told(crash: Crashed) -> None:
    assert not any(f.startswith("/") for f in crash.frames)


# -- events ----------------------------------------------------------------------------------------------------------


def test_what_the_servers_need(crash: Crashed) -> None:
    made = event.event_of(crash, envelope(crash), event.Surroundings(node="alpha", health=(("disk", "ok"),)))
    assert all(isinstance(part, str) for part in made["fingerprint"])
    (value,) = made["exception"]["values"]
    for frame in value["stacktrace"]["frames"]:
        assert None not in frame.values()
        assert "vars" not in frame
    assert all(isinstance(v, str) and len(v) <= 200 for v in made["tags"].values())
    assert made["tags"]["pqvpn.reason"] == "node.internal"
    json.dumps(made)


def test_values_that_vary_do_not_part_an_issue(crash: Crashed) -> None:
    other = describe.exception(NetworkError(Reason.DNS_FAILED, "a"), "lane-0", handled=True)
    same = describe.exception(NetworkError(Reason.DNS_FAILED, "b"), "lane-3", handled=True)
    assert event.fingerprint(other) == event.fingerprint(same)
    assert event.fingerprint(other) != event.fingerprint(crash)


def test_the_report_and_the_trace_find_each_other() -> None:
    crash = Crashed("exception", "control", Reason.INTERNAL, "ValueError", attempt="ab" * 16, session_id="cd" * 16)
    made = event.event_of(crash, envelope(crash), event.Surroundings())
    assert made["contexts"]["trace"]["trace_id"] == made["tags"]["trace_id"] == "ab" * 16
    assert made["tags"]["session.id"] == "cd" * 16


# -- the SDK ---------------------------------------------------------------------------------------------------------


def test_an_envelope_holds_the_event_and_nothing_of_the_sdks_own(crash: Crashed) -> None:
    stored: list[bytes] = []
    client = CrashClient(lambda whole: whole, stored.append)
    assert client.report(event.event_of(crash, envelope(crash), event.Surroundings(node="alpha")))
    (data,) = stored
    _, header, body = data.split(b"\n")[:3]
    assert json.loads(header)["type"] == "event"
    found = json.loads(body)
    assert not {"modules", "sdk", "server_name", "user", "request", "threads"} & found.keys()
    assert CANARY.encode() not in data
    for place in (sys.executable, sys.prefix, __file__):
        assert place.encode() not in data


def test_the_sdk_starts_no_process_and_asks_no_environment(crash: Crashed, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would ask git for a release."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for name in ("SENTRY_RELEASE", "SENTRY_ENVIRONMENT", "SENTRY_DSN", "SENTRY_SPOTLIGHT"):
        monkeypatch.setenv(name, CANARY)
    stored: list[bytes] = []
    client = CrashClient(lambda whole: whole, stored.append)
    assert client.report(event.event_of(crash, envelope(crash), event.Surroundings()))
    assert CANARY.encode() not in stored[0]


def test_what_cannot_be_scrubbed_is_not_stored(crash: Crashed) -> None:
    def refuse(_: Any) -> Any:
        raise ValueError("no")

    stored: list[bytes] = []
    CrashClient(refuse, stored.append).report(event.event_of(crash, envelope(crash), event.Surroundings()))
    assert stored == []


def test_the_scrubber_sees_the_whole_event(crash: Crashed) -> None:
    stored: list[bytes] = []
    client = CrashClient(lambda whole: whole | {"tags": {"pqvpn.node": "scrubbed"}}, stored.append)
    client.report(event.event_of(crash, envelope(crash), event.Surroundings(node=CANARY)))
    assert b"scrubbed" in stored[0]
    assert CANARY.encode() not in stored[0]


# -- limits ----------------------------------------------------------------------------------------------------------


def test_a_crash_loop_is_a_few_reports_with_a_count() -> None:
    limits = Limits(burst=2, every=60.0)
    admitted = [limits.admit(("a",), float(second)) for second in range(121)]
    assert [count for count in admitted if count] == [1, 1, 59, 60]


def test_fingerprints_do_not_disturb_each_other_and_are_bounded() -> None:
    limits = Limits(burst=1, every=60.0, most=10)
    assert [limits.admit((str(n),), 0.0) for n in range(100)] == [1] * 100
    assert limits.admit(("99",), 0.0) is None
    assert limits.admit(("0",), 0.0) == 1  # forgotten: there is room for ten


# -- the recorder ----------------------------------------------------------------------------------------------------


def recorder_of(kept: list[bytes], host: str = "") -> CrashRecorder:
    policy = Policy("mask", b"k" * 32)
    return CrashRecorder(policy, Naming("alpha", "test", host), kept.append, frozenset(("disk.space",)))


def test_a_report_tells_its_surroundings_and_nothing_secret(crash: Crashed) -> None:
    kept: list[bytes] = []
    recorder = recorder_of(kept)
    recorder.health = (("disk.space", "failing"),)
    secret = "c2VjcmV0IG9mIHRoZSBub2RlIHdpdGggMzIgYnl0ZXMh"
    recorder.note(
        {
            "time": 1.0,
            "level": "info",
            "component": "control",
            "message": "x",
            "endpoint": "192.0.2.77:5",
            "psk": secret,
        }
    )
    recorder.record(envelope(crash), dataclasses.replace(crash, place=f"x {secret}", thread=f"psk={secret}"))
    (data,) = kept
    found = json.loads(data.split(b"\n")[2])
    assert found["tags"]["pqvpn.node"] == "alpha"
    assert found["contexts"]["health"] == {"disk space": "failing"}
    assert found["breadcrumbs"]["values"][0]["message"] == "x"
    assert secret.encode() not in data
    assert b"192.0.2.77" not in data
    assert "server_name" not in found


def test_the_hosts_name_is_told_when_allowed_and_nothing_else_in_its_place(crash: Crashed) -> None:
    kept: list[bytes] = []
    for host in (platform.node(), "10.0.0.7", "c2VjcmV0LW9mLWEtbm9kZQ"):
        recorder_of(kept, host).record(envelope(crash), crash)
    assert [json.loads(data.split(b"\n")[2]).get("server_name") for data in kept] == [platform.node(), None, None]


def test_a_loop_of_crashes_is_a_few_reports(crash: Crashed) -> None:
    kept: list[bytes] = []
    recorder = recorder_of(kept)
    for _ in range(500):
        recorder.record(envelope(crash), crash)
    assert len(kept) == 3
    assert (recorder.recorded, recorder.left_out, recorder.failed) == (3, 497, 0)


def test_a_disk_that_refuses_is_counted(crash: Crashed) -> None:
    def refuse(_: bytes) -> None:
        raise OSError

    recorder = CrashRecorder(Policy("mask", b"k" * 32), Naming("alpha"), refuse)
    recorder.record(envelope(crash), crash)
    assert (recorder.recorded, recorder.failed) == (0, 1)


def test_every_kind_passes_the_redactor_whole() -> None:
    kept: list[bytes] = []
    recorder = recorder_of(kept)
    for number, kind in enumerate(("exception", "signal", "killed", "out_of_memory", "hang", "startup")):
        crash = Crashed(kind, "lane-0", Reason.CHILD_DIED, f"SIG{number}", pid=7, frames=("pqvpn/x.py:1 in f",))
        recorder.record(envelope(crash), crash)
    kinds = [json.loads(data.split(b"\n")[2])["tags"]["pqvpn.kind"] for data in kept]
    assert kinds == ["exception", "signal", "killed", "out_of_memory", "hang", "startup"]
