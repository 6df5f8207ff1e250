"""What control tells by the clock, with a clock of the test's own."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pqvpn.control import watch as module
from pqvpn.control.watch import Watch
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
        self.start = SimpleNamespace(restarted=False, crypto_interval=60.0)
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
    for _ in range(120):
        rig.tick(1.0)
    assert [fact.failed for fact in rig.facts(CryptoChecked)] == [()] * 3
    monkeypatch.setattr(module.selftest, "failures", lambda: ("x25519",))
    for _ in range(120):
        rig.tick(1.0)
    after = [fact.failed for fact in rig.facts(CryptoChecked)][3:]
    assert set(after) == {("x25519",)}
    assert 50 < len(after) <= 120  # the first after a minute, then each second: a breaker wants more than one answer
    assert rig.facts(Problem) == [Problem(Reason.SELF_TEST_FAILED, "crypto", "x25519")]
    assert rig.failed_tests == ("x25519",), "what status shows"
    monkeypatch.setattr(module.selftest, "failures", lambda: ())
    for _ in range(3):
        rig.tick(1.0)
    assert rig.failed_tests == ()


def test_how_often_primitives_are_checked_is_a_setting(rig: Rig) -> None:
    rig.watch.crypto_every = 10.0
    for _ in range(100):
        rig.tick(1.0)
    assert len(rig.facts(CryptoChecked)) == 10


def test_what_failed_at_the_start_is_shown_until_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core was made without it, and stays so."""
    rig = Rig(monkeypatch, ("x25519",))
    for _ in range(3):
        rig.tick(1.0)
    monkeypatch.setattr(module.selftest, "failures", lambda: ("blake2s-128",))
    for _ in range(120):
        rig.tick(1.0)
    assert rig.failed_tests == ("x25519", "blake2s-128")


def test_self_tests_that_take_long_leave_the_event_loop(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> tuple[str, ...]:
        rig.now += 0.5
        return ()

    monkeypatch.setattr(module.selftest, "failures", slow)

    async def run() -> None:
        rig.tick(61.0)
        checked = len(rig.facts(CryptoChecked))
        rig.tick(61.0)
        assert len(rig.facts(CryptoChecked)) == checked  # not yet: it runs aside
        async with asyncio.timeout(5):
            while len(rig.facts(CryptoChecked)) == checked:
                await asyncio.sleep(0.001)

    asyncio.run(run())
