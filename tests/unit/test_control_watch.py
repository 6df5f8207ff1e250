"""What control tells by the clock, with a clock of the test's own."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pqvpn.control import watch as module
from pqvpn.control.selftests import SelfTests
from pqvpn.control.watch import Watch
from pqvpn.crypto import selftest
from pqvpn.facts import ClockJumped, CryptoChecked, Fact, NodeObserved, PeerObserved, PeerStateChanged, Problem
from pqvpn.protocol.effects import Role, Session
from pqvpn.protocol.views import PeerState, PeerView
from pqvpn.reasons import Reason
from pqvpn.telemetry import context
from pqvpn.wire.address import Address

HERE = Address.parse("192.0.2.1:7")
SESSION = Session(3, b"B" * 32, b"\xab" * 16, Role.RESPONDER, 2, 0, 2, 1432, 16, 32, HERE, None, 150.0, 330.0)


def view(
    state: PeerState, reason: Reason | None = None, session: Session | None = None, peer: bytes = b"B" * 32
) -> PeerView:
    return PeerView(peer, "beta", state, reason, None, HERE, None, None, session, int(session is not None))


class Rig:
    """A process that is nothing but what `Watch` asks of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failed_tests: tuple[str, ...] = ()) -> None:
        self.now, self.wall = 1000.0, 5000.0
        self.views: tuple[PeerView, ...] = ()
        self.told: list[tuple[Fact, context.Context]] = []
        self.failed_tests = failed_tests
        self.start = SimpleNamespace(restarted=False, crypto_interval=60.0, crypto_timeout=5.0)
        self.tests, self.held = SelfTests(), False
        self.gates = SimpleNamespace(registry=SimpleNamespace(settle=lambda: None), tested=lambda failed: None)
        self.core = SimpleNamespace(peers=lambda now: self.views)
        monkeypatch.setattr(module, "now", lambda: self.now)
        self.watch = Watch(self, lambda: self.wall)  # type: ignore[arg-type]

    def publish(self, fact: Fact) -> None:
        self.told.append((fact, context.current()))

    def node_status(self, views: tuple[PeerView, ...], time: float) -> dict[str, Any]:
        return {"version": "1", "peers": len(views), "breakers": []}

    def peer_statuses(self, views: tuple[PeerView, ...], time: float) -> list[dict[str, Any]]:
        return [{"name": v.name, "session_id": v.session.session_id.hex() if v.session else None} for v in views]

    def tick(self, seconds: float = 0.25, late: float = 0.0) -> None:
        self.now += seconds
        self.wall += seconds
        self.watch.tick(late)
        assert self.held or self.tests._aside.wait(10.0)

    def facts(self, kind: type[Fact]) -> list[Any]:
        return [fact for fact, _ in self.told if isinstance(fact, kind)]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_changes_of_state_and_reason_are_told_once_with_the_time_before(rig: Rig) -> None:
    rig.views = (view(PeerState.DOWN, Reason.IDLE),)
    rig.tick()
    assert rig.facts(PeerStateChanged) == []
    rig.tick(10.0)
    rig.views = (view(PeerState.CONNECTING),)
    rig.tick()
    rig.views = (view(PeerState.CONNECTING, Reason.NO_REPLY),)
    rig.tick(5.0)
    rig.views = (view(PeerState.UP, None, SESSION),)
    rig.tick(1.0)
    rig.tick()
    assert rig.facts(PeerStateChanged) == [
        PeerStateChanged("beta", "connecting", "down", 10.25),
        PeerStateChanged("beta", "connecting", "connecting", 5.0, Reason.NO_REPLY),
        PeerStateChanged("beta", "up", "connecting", 6.0, None, "ab" * 16),
    ]
    assert rig.watch.since(b"B" * 32) == rig.now - 0.25
    assert rig.watch.since(b"X" * 32) is None


@pytest.mark.parametrize(("restarted", "told"), [(False, [("up", "down")]), (True, [])])
def test_a_peer_that_is_up_at_first_sight_came_up_unless_control_was_restarted(
    rig: Rig, restarted: bool, told: list[tuple[str, str]]
) -> None:
    rig.start.restarted = restarted
    rig.views = (view(PeerState.UP, None, SESSION),)
    rig.tick()
    assert [(fact.state, fact.before) for fact in rig.facts(PeerStateChanged)] == told


def test_peers_that_are_gone_are_forgotten(rig: Rig) -> None:
    rig.views = (view(PeerState.DOWN, Reason.IDLE), view(PeerState.DOWN, Reason.IDLE, peer=b"C" * 32))
    rig.tick()
    rig.views = rig.views[:1]
    rig.tick()
    assert rig.watch.since(b"C" * 32) is None
    assert rig.watch.since(b"B" * 32) is not None
    assert rig.facts(PeerStateChanged) == []


def test_readings_come_once_a_second_with_the_worst_lag_and_whose_they_are(rig: Rig) -> None:
    rig.views = (view(PeerState.UP, None, SESSION),)
    for late in (0.0, 0.2, 0.1, 0.0, 0.05, 0.0, 0.0, 0.0, 0.0):
        rig.tick(late=late)
    readings = rig.facts(NodeObserved)
    assert [reading.lag for reading in readings] == [0.0, 0.2, 0.0]
    assert readings[0].status == {"version": "1", "peers": 1, "breakers": []}
    whose = [here for fact, here in rig.told if isinstance(fact, PeerObserved)]
    assert {(here.session_id, here.peer) for here in whose} == {("ab" * 16, "beta")}
    assert len(whose) == 3


@pytest.mark.parametrize(("moved", "told"), [(0.9, []), (1.5, [1.5]), (-3600.0, [-3600.0])])
def test_a_wall_clock_that_jumps_is_told(rig: Rig, moved: float, told: list[float]) -> None:
    rig.tick()
    rig.wall += moved
    rig.tick()
    rig.tick()
    assert [fact.seconds for fact in rig.facts(ClockJumped)] == told


def test_a_suspend_is_no_jump(rig: Rig) -> None:
    """CLOCK_BOOTTIME goes on while the machine sleeps, as the wall clock does."""
    rig.tick(86400.0)
    assert rig.facts(ClockJumped) == []


def test_primitives_are_checked_at_start_and_every_minute(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.watch.begin()
    assert rig.facts(CryptoChecked) == [CryptoChecked()]
    for _ in range(121):  # what a run found is seen with the next tick
        rig.tick(1.0)
    assert [fact.failed for fact in rig.facts(CryptoChecked)] == [()] * 3
    monkeypatch.setitem(selftest.TESTS, "x25519", lambda: False)
    for _ in range(120):
        rig.tick(1.0)
    after = [fact.failed for fact in rig.facts(CryptoChecked)][3:]
    assert set(after) == {("x25519",)}
    assert 50 < len(after) <= 120  # the first after a minute, then each second: a breaker wants more than one answer
    assert rig.facts(Problem) == [Problem(Reason.SELF_TEST_FAILED, "crypto", "x25519")]
    assert rig.failed_tests == ("x25519",), "what status shows"
    monkeypatch.undo()
    monkeypatch.setattr(module, "now", lambda: rig.now)
    for _ in range(3):
        rig.tick(1.0)
    assert rig.failed_tests == ()


def test_how_often_primitives_are_checked_is_a_setting(rig: Rig) -> None:
    rig.watch.crypto_every = 10.0
    for _ in range(101):
        rig.tick(1.0)
    assert len(rig.facts(CryptoChecked)) == 10


def test_what_failed_at_the_start_is_shown_until_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core was made without it, and stays so."""
    rig = Rig(monkeypatch, ("x25519",))
    for _ in range(3):
        rig.tick(1.0)
    monkeypatch.setitem(selftest.TESTS, "blake2s-128", lambda: False)
    for _ in range(120):
        rig.tick(1.0)
    assert rig.failed_tests == ("x25519", "blake2s-128")


class Library:
    """A primitive that does not come back until it is let go."""

    def __init__(self) -> None:
        self.let_go, self.calls = threading.Event(), 0

    def __call__(self) -> bool:
        self.calls += 1
        self.let_go.wait(60.0)
        return True


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    library = Library()
    monkeypatch.setitem(selftest.TESTS, "x-wing", library)
    yield library
    library.let_go.set()


def test_a_self_test_that_never_answers_fails_in_its_time_and_nothing_waits_for_it(rig: Rig, stuck: Library) -> None:
    rig.held = True
    rig.tick(61.0)
    for _ in range(19):
        rig.tick()
    assert (rig.facts(CryptoChecked), rig.watch.stuck) == ([], False), "it still has time"
    rig.tick()
    unknown = ("x-wing", "hkdf-sha256", "blake2s-128")
    assert [fact.failed for fact in rig.facts(CryptoChecked)] == [unknown], "what was not tested is not trusted"
    detail = "x-wing has not answered for 5 s: x-wing, hkdf-sha256, blake2s-128"
    assert rig.facts(Problem) == [Problem(Reason.SELF_TEST_FAILED, "crypto", detail)]
    assert rig.watch.stuck
    for _ in range(40):
        rig.tick()
    assert len(rig.facts(CryptoChecked)) == 11, "it fails each second: a breaker wants more than one answer"
    assert len(rig.facts(Problem)) == 1
    assert len(rig.facts(NodeObserved)) > 10, "all else goes on"
    names = [thread.name for thread in threading.enumerate()]
    assert (stuck.calls, names.count("self-tests")) == (1, 1), "never a second thread on top"


def test_a_late_answer_is_no_answer_and_the_next_run_tells(rig: Rig, stuck: Library) -> None:
    rig.held = True
    rig.tick(61.0)
    for _ in range(21):
        rig.tick()
    told = len(rig.facts(CryptoChecked))
    stuck.let_go.set()
    rig.held = False
    assert rig.tests._aside.wait(10.0)
    rig.tick()
    assert not rig.watch.stuck
    assert len(rig.facts(CryptoChecked)) == told, "it passed, but late"
    for _ in range(8):
        rig.tick()
    assert rig.failed_tests == ()
    assert stuck.calls > 1


def test_time_that_the_process_did_not_have_is_not_counted(rig: Rig, stuck: Library) -> None:
    """A machine that slept for an hour in the middle of a self-test."""
    rig.held = True
    rig.tick(61.0)
    rig.tick(3600.0)
    assert rig.facts(CryptoChecked) == []


def test_one_that_hangs_at_the_start_is_left_out_and_its_process_stays(
    monkeypatch: pytest.MonkeyPatch, stuck: Library
) -> None:
    tests = SelfTests()
    assert tests.at_start(0.2) == ("x-wing", "hkdf-sha256", "blake2s-128")
    assert tests.hang
    rig = Rig(monkeypatch, tests.unanswered)
    rig.tests = rig.watch._tests = tests
    rig.watch._hung = rig.watch._hung_at_start = True
    rig.held = True
    for _ in range(40):
        rig.tick()
    assert not rig.watch.stuck, "the next process would only do the same"
    assert rig.facts(CryptoChecked)[-1].failed == tests.unanswered


def test_the_start_waits_no_longer_than_the_tests_take() -> None:
    assert SelfTests().at_start(600.0) == ()
