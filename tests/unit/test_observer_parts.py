"""The observer's parts: what reads facts, what waits for the disk, what looks at the machine, what it knows."""

import errno
import os
import socket
import threading
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pqvpn.facts import InterfaceObserved, NodeObserved, NodeStopped, PeerObserved
from pqvpn.observer import machine, start
from pqvpn.observer.intake import Intake
from pqvpn.observer.knowledge import Knowledge
from pqvpn.observer.worker import MOST_JOBS, Worker
from pqvpn.reasons import Reason
from pqvpn.resilience.health import Finding, Item, State
from pqvpn.resilience.limits import Limits
from pqvpn.telemetry import envelope
from pqvpn.telemetry.redaction import Policy, Redactor

NODE = start.Node("alpha", "pqvpn1xyz", "0.1.0", "pqvpn0", 1, ("beta",), 0.0)


# Intake


def test_facts_come_out_as_they_went_in() -> None:
    reading, sending = envelope.link()
    with reading, sending:
        intake, send = Intake(reading), envelope.Sender("control", sending)
        for number in range(100):
            send(NodeStopped(f"cause {number}"))
        first = [fact for _, fact in intake.read(64)]
        rest = [fact for _, fact in intake.read(64)]
    assert [f.cause for f in first + rest if isinstance(f, NodeStopped)] == [f"cause {n}" for n in range(100)]
    assert (len(first), intake.taken, intake.foreign) == (64, 100, 0)


def test_what_found_no_room_is_counted_by_process() -> None:
    reading, sending = envelope.link()
    with reading, sending:
        intake, send = Intake(reading), envelope.Sender("lane-0", sending)
        for _ in range(100_000):
            send(NodeStopped("x" * 4000))
            if send._lost >= 10:
                break
        while list(intake.read()):
            pass
        send(NodeStopped("after"))
        (last,) = intake.read()
    assert last[0].lost == 10
    assert intake.lost == {"lane-0": 10}
    assert intake.total_lost() == 10


NUMBERS = st.integers(-(2**63), 2**64 - 1)
GARBAGE = (
    st.binary(max_size=300)
    | st.builds(msgspec.msgpack.encode, st.dictionaries(st.text(max_size=9), NUMBERS | st.text()))
    | st.builds(
        lambda event, fields: msgspec.msgpack.encode(
            {"event": event, "time_ns": 1, "now": 1.0, "process": "p", "pid": 1, "fields": fields}
        ),
        st.sampled_from(["node.stopped", "log", "of.a.later.version"]),
        st.dictionaries(st.sampled_from(["cause", "text", "x"]), NUMBERS | st.text() | st.none()),
    )
)


@settings(max_examples=200, deadline=None)
@given(st.lists(GARBAGE.filter(bool), max_size=8))
def test_nothing_that_arrives_raises(datagrams: list[bytes]) -> None:
    reading, sending = envelope.link()
    with reading, sending:
        intake = Intake(reading)
        for datagram in datagrams:
            sending.send(datagram)
        got = list(intake.read())
        assert intake.foreign + len(got) == len(datagrams)


def test_a_datagram_that_is_too_large_is_foreign() -> None:
    reading, sending = envelope.link()
    with reading, sending:
        intake = Intake(reading)
        sending.send(msgspec.msgpack.encode({"event": "log", "fill": "x" * (envelope.LARGEST + 100)}))
        assert list(intake.read()) == []
        assert intake.foreign == 1


# Worker


@pytest.fixture
def failures() -> list[str]:
    return []


@pytest.fixture
def worker(failures: list[str]) -> Worker:
    return Worker(time.monotonic, lambda name, error: failures.append(f"{name} {type(error).__name__}"))


def test_jobs_run_in_order_and_one_that_fails_ends_none(worker: Worker, failures: list[str]) -> None:
    done: list[int] = []
    for number in range(5):
        worker.submit(str(number), lambda number=number: done.append(1 // (number - 2) and number))  # type: ignore[misc]
    worker.start()
    assert worker.end(5.0)
    assert len(done) == 4
    assert failures == ["2 ZeroDivisionError"]


def test_a_job_that_hangs_costs_no_memory_and_is_told(worker: Worker) -> None:
    let_go, begun = threading.Event(), threading.Event()
    worker.start()
    worker.submit("hang", lambda: (begun.set(), let_go.wait())[0])
    assert begun.wait(5.0)
    assert all(worker.submit("flush", lambda: None) for _ in range(1000))
    assert sum(worker.submit(f"job {n}", lambda: None) for n in range(1000)) == MOST_JOBS - 1
    time.sleep(0.05)
    assert 0.05 <= worker.hung(time.monotonic()) < 5.0
    assert not worker.end(0.05)
    let_go.set()
    assert worker.end(5.0)
    assert worker.hung(time.monotonic()) == 0.0


# Machine


def test_it_looks_at_itself(tmp_path: Path) -> None:
    (own,) = machine.processes({"observer": os.getpid(), "gone": 2**22 - 1})
    use = machine.disk(tmp_path / "state")
    assert own.component == "observer"
    assert own.resident > 1 << 20
    assert 2 < (own.descriptors or 0) < (own.most_descriptors or 0)
    assert use.free is not None
    assert use.refusal == ""
    assert list((tmp_path / "state").iterdir()) == []


def test_a_state_folder_that_takes_nothing_says_why(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in its place")
    use = machine.disk(tmp_path / "state")
    assert use.refusal in ("File exists", "Not a directory")
    assert use.refused is Reason.STATE_UNWRITABLE
    assert machine.meaning(errno.ENOSPC) is machine.meaning(errno.EDQUOT) is Reason.DISK_FULL


# Knowledge


def test_the_last_state_is_what_was_read_and_holds_no_address() -> None:
    knowledge = Knowledge(NODE, Redactor(Policy("pseudonym", bytes(32))))
    for fact in (
        NodeObserved(
            {"version": "0.1.0", "node": {"state": "running", "addresses": ["10.7.0.1/24"]}, "drops": {}}, 0.0
        ),
        PeerObserved("beta", {"name": "beta", "state": "up", "endpoint": "192.0.2.77:51820"}),
        InterfaceObserved("pqvpn0", exists=True, up=True),
    ):
        knowledge.take(envelope.stamped(fact, "control"), fact, 5.0)
    assert knowledge.changed
    finding = Finding(Item.PEER, "beta", State.FAILING, 1.0, Reason.NO_REPLY, "tried at 192.0.2.77:51820")
    state = knowledge.last([finding], 5.0, 1_700_000_000_000_000_000)
    assert not knowledge.changed
    assert state["status"]["peers"][0]["state"] == "up"
    assert state["interface"]["exists"] is True
    assert state["written"] == "2023-11-14T22:13:20.000000Z"
    (item,) = state["health"]["items"]
    assert item["since"] == "2023-11-14T22:13:16.000000Z"
    assert (item["since_seconds"], item["code"], item["suppressed_by"]) == (4.0, "network.no_reply", "")
    for secret in ("192.0.2.77", "10.7.0.1", "<redacted>"):
        assert secret not in str(state)


def test_a_stop_on_purpose_is_known() -> None:
    knowledge = Knowledge(NODE, Redactor(Policy("pseudonym", bytes(32))))
    assert knowledge.state(0.0) == "starting"
    fact = NodeStopped("SIGTERM")
    knowledge.take(envelope.stamped(fact, "supervisor"), fact, 0.0)
    assert knowledge.state(0.0) == "stopped"
    assert knowledge.last([], 0.0, 0)["stopped"] == "SIGTERM"


def test_the_start_message_shows_nothing_and_crosses_whole() -> None:
    message = start.ObserverStart(
        NODE,
        start.LogSettings("info", (("data", "debug", 60.0),), False, False, False, True, 1, 1.0, 1),
        start.RecordSettings(b"headers", {}, 1.0, 1, 1.0, 1.0, 1.0),
        start.CrashSettings(b"https://hunter2@host.example/1", "production", "", None, 1.0, 1, 1.0),
        start.HealthSettings(Limits(disk_free=1), "hunter2"),
        "pseudonym", b"key", (), "/state", 1, 2, 0,
    )  # fmt: skip
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        start.send(ours, message)
        received = start.receive(theirs)
        descriptors = (received.link, received.counters, received.health_socket)
        assert [os.fstat(fd).st_ino for fd in descriptors] == [os.fstat(fd).st_ino for fd in (1, 2, 0)]
        for fd in descriptors:
            os.close(fd)
        assert msgspec.structs.replace(received, link=1, counters=2, health_socket=0) == message
        ours.send(b"\xff")
        with pytest.raises(ValueError, match=r"malformed|truncated|Expected"):
            start.receive(theirs)
        ours.close()
        with pytest.raises(EOFError):
            start.receive(theirs)
    assert "hunter2" not in repr(message)
