"""From the spool to a real collector that goes away, hangs, lies and comes back: nothing is lost, nothing waits for it."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pqvpn.crypto.secret import Secret
from pqvpn.reasons import Reason
from pqvpn.telemetry.export import Drainer, Endpoint, ExportState, Target
from pqvpn.telemetry.export.outcome import Outcome, Verdict
from pqvpn.telemetry.export.pacing import Pacing, State
from pqvpn.telemetry.spool import Keeper, Kind, Loss, Record, Spool
from tests.otlp.payloads import logs, metrics, spans
from tests.otlp.server import Collector, Mode

PROTOCOLS = ("http/protobuf", "grpc")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path / "spool", 64 << 20, 86400.0) as made:
        yield made


@pytest.fixture(params=PROTOCOLS)
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    made = Collector(request.param)
    yield made
    made.stop()


def endpoint(collector: Collector, timeout: float = 5.0, headers: bytes = b"x-tenant: a") -> Endpoint:
    paths = ("", "", "") if collector.protocol == "grpc" else ("/v1/traces", "/v1/metrics", "/v1/logs")
    told = Secret(headers)
    return Endpoint(*(Target(collector.url + path, collector.protocol, told, timeout=timeout) for path in paths))


@pytest.fixture
def draining() -> Iterator[Callable[..., Drainer]]:
    started: list[Drainer] = []

    def start(spool: Spool | Keeper, to: Endpoint, **more: object) -> Drainer:
        drainer = Drainer(spool, to, **({"pacing": Pacing(jitter=lambda wait: min(wait, 0.1))} | more))
        if isinstance(spool, Keeper):
            spool.on_append = drainer.wake
        drainer.start()
        started.append(drainer)
        return drainer

    yield start
    for drainer in started:
        drainer.stop(5.0)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """The drainer's counts follow the collector's a moment later."""
    ends = time.monotonic() + seconds
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < ends, "not in time"
        tick.wait(0.005)


def fill(spool: Spool | Keeper, count: int, start: int = 0) -> list[str]:
    return [spool.append(Kind.TRACES, spans(n), 1).hex() for n in range(start, start + count)]


def test_everything_arrives_once_and_in_order(spool: Spool, collector: Collector, draining) -> None:
    ids = fill(spool, 30)
    ids.append(spool.append(Kind.METRICS, metrics(), 1).hex())
    ids.append(spool.append(Kind.LOGS, logs(), 1).hex())
    spool.append(Kind.CRASHES, b"not for this one", 1)
    with collector:
        drainer = draining(spool, endpoint(collector))
        until(lambda: spool.backlog().records == 0)
        assert [got.record for got in collector.received] == ids
        assert [got.signal for got in collector.received[-2:]] == ["metrics", "logs"]
        ids += fill(spool, 1, 100)
        drainer.wake()
        collector.recorder.wait_for(lambda r: len(r.received) == len(ids))
        until(lambda: drainer.state.sent == len(ids))
    assert collector.recorder.records().most_common(1)[0][1] == 1
    state = drainer.state
    assert (state.reachable, state.failed, state.duplicates, state.backlog.records) == (True, 0, 0, 0)
    assert spool.losses == {}


@pytest.mark.parametrize("outage", ["down", "killed", "hanging", "busy", "garbage", "cut"])
def test_an_outage_loses_nothing(spool: Spool, collector: Collector, draining, outage: str) -> None:
    bad = {"hanging": Mode.HANG, "busy": Mode.BUSY, "garbage": Mode.GARBAGE, "cut": Mode.CUT}
    if outage != "down":
        collector.start()
    drainer = draining(spool, endpoint(collector, timeout=0.5))
    before = fill(spool, 10)
    if outage != "down":
        drainer.wake()
        until(lambda: drainer.state.sent == 10)
    if outage == "killed":
        collector.stop()
    elif outage in bad:
        collector.behave(bad[outage])
    during = fill(spool, 100, 10)
    drainer.wake()
    until(lambda: drainer.state.failed >= 4)
    state = drainer.state
    assert (state.reachable, state.breaker) == (False, "open")
    wrong = Reason.COLLECTOR_ANSWER if outage == "garbage" else Reason.COLLECTOR_UNREACHABLE
    assert state.reason is wrong
    assert state.backlog.records >= 100
    assert state.backlog.oldest_ns
    collector.behave(Mode.OK)
    if outage == "hanging":
        collector.stop()
    if outage in ("down", "killed", "hanging"):
        collector.start()
    until(lambda: drainer.state.backlog.records == 0, 30.0)
    taken = collector.recorder.records()
    assert set(taken) == set(before + during)
    assert spool.losses == {}
    again = sum(taken.values()) - len(taken)
    assert again == (0 if outage in ("down", "killed", "busy") else taken[during[0]] - 1)
    if (collector.protocol, outage) != ("grpc", "busy"):  # gRPC says UNAVAILABLE of a lost connection, too
        assert drainer.state.duplicates == (1 if again else 0)
    assert drainer.state.breaker == "closed"


def test_a_collector_that_comes_and_goes_under_load(spool: Spool, collector: Collector, draining) -> None:
    drainer = draining(spool, endpoint(collector, timeout=1.0))
    ids: list[str] = []

    def load() -> None:
        for n in range(400):
            ids.extend(fill(spool, 1, n))
            drainer.wake()

    writer = threading.Thread(target=load)
    writer.start()
    for round_ in range(1, 6):
        collector.start()
        wanted = min(400, len(collector.received) + 20 * round_)
        collector.recorder.wait_for(lambda r, wanted=wanted: len(r.received) >= wanted)
        collector.stop()
    writer.join()
    collector.start()
    until(lambda: drainer.state.backlog.records == 0 and drainer.state.sent >= 400, 30.0)
    taken = collector.recorder.records()
    assert set(taken) == set(ids)
    assert sum(taken.values()) - len(taken) >= drainer.state.duplicates - 5


@pytest.mark.parametrize(
    ("collector", "mode"),
    [("http/protobuf", Mode.HANG), ("http/protobuf", Mode.DRIP), ("http/protobuf", Mode.HEADERS), ("grpc", Mode.HANG)],
    indirect=["collector"],
)
def test_stopping_does_not_wait_for_a_hanging_collector(
    spool: Spool, collector: Collector, draining, mode: Mode
) -> None:
    collector.start()
    collector.behave(mode)
    fill(spool, 3)
    drainer = draining(spool, endpoint(collector, timeout=30.0))
    collector.recorder.wait_for(lambda r: r.received)
    began = time.monotonic()
    assert drainer.stop()
    assert time.monotonic() - began < 0.5
    assert spool.backlog().records == 3


def test_stopping_does_not_wait_for_the_next_try(spool: Spool, collector: Collector, draining) -> None:
    fill(spool, 1)
    drainer = draining(spool, endpoint(collector), pacing=Pacing(jitter=lambda _: 60.0))
    until(lambda: drainer.state.failed == 1)
    assert drainer.state.next_try > 0
    began = time.monotonic()
    assert drainer.stop()
    assert time.monotonic() - began < 0.5


def test_good_news_end_the_wait(spool: Spool, collector: Collector, draining) -> None:
    ids = fill(spool, 1)
    drainer = draining(spool, endpoint(collector), pacing=Pacing(jitter=lambda _: 60.0))
    until(lambda: drainer.state.failed == 1)
    ids += fill(spool, 1, 1)
    drainer.wake()  # new records do not
    with collector:
        drainer.good_news()
        until(lambda: drainer.state.sent == 2)
    assert [got.record for got in collector.received] == ids


def test_what_was_rejected_is_counted_and_not_sent_again(spool: Spool, collector: Collector, draining) -> None:
    spool.append(Kind.TRACES, spans(1, 5), 5)
    with collector:
        collector.behave(Mode.PARTIAL, rejected=2)
        drainer = draining(spool, endpoint(collector))
        until(lambda: drainer.state.sent == 1)
        assert (drainer.state.partial, drainer.state.rejected, drainer.state.reachable) == (1, 2, True)
        assert drainer.state.reason is Reason.RECORDS_DROPPED
    assert spool.losses == {"rejected": Loss(0, 2)}
    assert len(collector.received) == 1


def test_a_collector_that_asks_to_wait_is_left_alone(spool: Spool, collector: Collector, draining) -> None:
    fill(spool, 1)
    with collector:
        collector.behave(Mode.BUSY, wait=120.0)
        drainer = draining(spool, endpoint(collector))
        until(lambda: drainer.state.failed == 1)
        assert 100 < drainer.state.next_try - drainer.state.since < 130
        collector.behave(Mode.OK)
        drainer.good_news()
        until(lambda: drainer.state.sent == 1)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [(Mode.FORBIDDEN, Reason.COLLECTOR_REFUSED), (Mode.ERROR, None), (Mode.PAGE, Reason.COLLECTOR_ANSWER)],
)
def test_a_wrong_token_or_place_keeps_the_data(tmp_path: Path, draining, mode: Mode, reason: Reason | None) -> None:
    with Keeper(tmp_path / "spool", 4 << 20, 86400.0) as keeper, Collector() as collector:
        collector.behave(mode)
        drainer = draining(keeper, endpoint(collector))
        ids = fill(keeper, 5)
        until(lambda: drainer.state.failed >= 4)
        assert reason in (None, drainer.state.reason)
        assert keeper.losses == {}
        collector.behave(Mode.OK)
        until(lambda: drainer.state.sent == 5)
        assert sorted(set(collector.recorder.records())) == sorted(ids)
        drainer.stop()


class Scripted:
    """A sender whose outcomes a test gives."""

    def __init__(self, say: Callable[[Record], Outcome]) -> None:
        self.say = say
        self.tried: list[bytes] = []

    def send(self, record: Record) -> Outcome:
        self.tried.append(record.payload)
        return self.say(record)

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass


NEVER = Outcome(Verdict.NEVER, Reason.COLLECTOR_REFUSED, "it answers with status 400")
ACCEPTED = Outcome(Verdict.ACCEPTED)
ANYWHERE = Endpoint(*(Target("http://127.0.0.1:1"),) * 3)


def test_a_record_that_will_never_do_is_set_aside_after_three_tries(spool: Spool, draining) -> None:
    for text in (b"good", b"bad", b"also good"):
        spool.append(Kind.LOGS, text, 2)
    sender = Scripted(lambda record: NEVER if record.payload == b"bad" else ACCEPTED)
    drainer = draining(spool, ANYWHERE, make=lambda _: sender, pacing=Pacing(jitter=lambda _: 0.0))
    until(lambda: drainer.state.sent == 2)
    assert sender.tried == [b"good", b"bad", b"bad", b"bad", b"also good"]
    assert spool.losses == {"refused": Loss(1, 2)}
    assert (drainer.state.refused, drainer.state.backlog.records) == (1, 0)


def test_a_collector_that_refuses_everything_does_not_empty_the_spool(spool: Spool, draining) -> None:
    fill(spool, 30)
    sender = Scripted(lambda _: NEVER)
    drainer = draining(spool, ANYWHERE, make=lambda _: sender, pacing=Pacing(jitter=lambda _: 0.0))
    until(lambda: len(sender.tried) >= 40)
    assert drainer.state.refused == 8
    assert spool.backlog().records == 22
    sender.say = lambda _: ACCEPTED
    until(lambda: drainer.state.sent == 22)


def test_a_mistake_of_ours_ends_neither_thread_nor_sending(spool: Spool, draining) -> None:
    fill(spool, 3)
    calls = iter(range(100))

    def say(_: Record) -> Outcome:
        if next(calls) < 5:
            raise ValueError("sesame")
        return ACCEPTED

    drainer = draining(spool, ANYWHERE, make=lambda _: Scripted(say), pacing=Pacing(jitter=lambda _: 0.0))
    until(lambda: drainer.state.sent == 2)
    assert drainer.state.refused == 1
    assert "sesame" not in repr(drainer.state)


def test_signals_without_a_target_are_passed_over(spool: Spool, draining) -> None:
    spool.append(Kind.TRACES, b"t", 1)
    spool.append(Kind.LOGS, b"l", 1)
    sender = Scripted(lambda _: ACCEPTED)
    drainer = draining(spool, Endpoint(logs=Target("http://127.0.0.1:1")), make=lambda _: sender)
    until(lambda: drainer.state.sent == 1)
    assert sender.tried == [b"l"]
    assert spool.backlog().records == 0


def test_what_waits_in_memory_is_sent_too(tmp_path: Path, draining) -> None:
    (tmp_path / "spool").write_text("in the way")
    with Keeper(tmp_path / "spool", 4 << 20, 86400.0) as keeper:
        assert keeper.trouble
        sender = Scripted(lambda _: ACCEPTED)
        drainer = draining(keeper, ANYWHERE, make=lambda _: sender)
        fill(keeper, 5)
        until(lambda: drainer.state.sent == 5)
        assert keeper.backlog().records == 0
        drainer.stop()


def test_the_breaker_opens_probes_and_closes() -> None:
    changes: list[tuple[State, State, Reason | None]] = []
    pacing = Pacing(lambda *change: changes.append(change), jitter=lambda wait: wait)
    reason = Reason.COLLECTOR_UNREACHABLE
    waits = [pacing.failed(0.0, reason, None) for _ in range(10)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert pacing.due(59.0) == 1.0
    assert pacing.state is State.OPEN
    assert pacing.due(60.0) == 0.0
    assert pacing.state is State.HALF_OPEN
    assert pacing.failed(60.0, reason, 90.0) == 90.0
    assert pacing.due(149.0) == 1.0
    pacing.good_news()
    assert pacing.due(149.0) == 0.0
    pacing.worked()
    assert pacing.failed(200.0, None, None) == 0.5
    assert pacing.state is State.CLOSED
    assert changes == [
        (State.CLOSED, State.OPEN, reason), (State.OPEN, State.HALF_OPEN, None), (State.HALF_OPEN, State.OPEN, reason),
        (State.OPEN, State.HALF_OPEN, None), (State.HALF_OPEN, State.CLOSED, None),
    ]  # fmt: skip


def test_the_state_begins_with_nothing_known(spool: Spool) -> None:
    assert Drainer(spool, ANYWHERE, now=lambda: 5.0).state == ExportState(since=5.0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_process_that_is_killed_while_it_sends_loses_nothing(tmp_path: Path, protocol: str) -> None:
    with Spool(tmp_path / "spool", 64 << 20, 86400.0) as spool:
        ids = fill(spool, 300)
    with Collector(protocol) as collector:
        command = [sys.executable, "-m", "tests.otlp.drain", str(tmp_path / "spool"), collector.url, protocol]
        for kills in (40, 90, 150):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                collector.recorder.wait_for(lambda r, kills=kills: len(r.received) >= kills)
                process.send_signal(signal.SIGKILL)
        subprocess.run(command, check=True, timeout=60)
        taken = collector.recorder.records()
    assert set(taken) == set(ids)
    assert sum(taken.values()) - len(taken) <= 3  # at most the one in hand, each time
    with Spool(tmp_path / "spool", 64 << 20, 86400.0) as spool:
        assert spool.backlog().records == 0
        assert spool.losses == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_receiver_as_a_program(spool: Spool, draining, tmp_path: Path, protocol: str) -> None:
    """What tests in namespaces start: over TLS, and writing down what it gets."""
    command = [sys.executable, "-m", "tests.otlp", "--protocol", protocol, "--dump", str(tmp_path / "dump")]
    command += ["--certificates", str(tmp_path / "certificates")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        port = program.stdout.readline().split()[1]
        path = "" if protocol == "grpc" else "/v1/traces"
        to = Target(f"https://localhost:{port}{path}", protocol, ca_file=str(tmp_path / "certificates" / "ca.pem"))
        ids = fill(spool, 3)
        drainer = draining(spool, Endpoint(traces=to))
        until(lambda: drainer.state.sent == 3)
        program.terminate()
    assert program.returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "dump").read_text().splitlines()]
    assert [line["record"] for line in lines] == ids
    assert {(line["signal"], line["items"]) for line in lines} == {("traces", 1)}
