"""Facts and readings become health: each item by what shows it."""

from typing import Any

import pytest

from pqvpn.facts import (
    ChildEnded,
    ClockJumped,
    CryptoChecked,
    Fact,
    InterfaceObserved,
    NodeObserved,
    PeerObserved,
    RetryWaiting,
    SocketsObserved,
)
from pqvpn.observer.checkbook import Checkbook
from pqvpn.observer.checks import Checks, Verdict
from pqvpn.observer.machine import Disk, ProcessUse
from pqvpn.reasons import Reason
from pqvpn.resilience.health import Finding, Health, Item, State
from pqvpn.resilience.limits import Limits

LIMITS = Limits()
FINE = InterfaceObserved("pqvpn0", exists=True, up=True)


def _fail(name: str, error: Exception) -> None:
    raise error


class House:
    """Checks with a clock that goes by seconds; every observation is repeated until it must show."""

    def __init__(self) -> None:
        self.health = Health()
        self.checks = Checks(self.health, 0.0, LIMITS)
        self.now = 0.0
        self.book = Checkbook(lambda: self.now, _fail)
        self.checks.enter(self.book)

    def hold(self, *facts: Fact, seconds: int = 12) -> None:
        for _ in range(seconds):
            self.now += 1.0
            for fact in facts:
                self.book.take(fact, self.now)

    def check(self, seconds: int = 12, sends: int = 0) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.checks.check(self.now, sends)

    def finding(self, item: Item, key: str = "") -> Finding:
        return next(f for f in self.health.report(self.now) if (f.item, f.key) == (item, key))


@pytest.fixture
def house() -> House:
    return House()


def node(**fields: Any) -> NodeObserved:
    status: dict[str, Any] = {
        "node": {"security": "full", "self_tests": {"passed": True, "failed": []}, "state": "running"},
        "processes": [{"component": "control", "pid": 7}, {"component": "lane-0", "pid": 8}],
        "drops": {},
    }
    return NodeObserved({**status, **fields}, 0.0)


def peer(state: str, code: str = "network.no_reply", **fields: Any) -> PeerObserved:
    return PeerObserved("beta", {"state": state, "reason": {"code": code}, "last_received_seconds": 31.0, **fields})


@pytest.mark.parametrize(
    ("seen", "item", "reason"),
    [
        (InterfaceObserved("pqvpn0", exists=False), Item.INTERFACE, Reason.TUN_GONE),
        (InterfaceObserved("pqvpn0", exists=True, up=False), Item.INTERFACE, Reason.TUN_DOWN),
        (InterfaceObserved("pqvpn0", True, True, ("10.7.0.1/24",)), Item.ADDRESSES, Reason.TUN_DOWN),
        (InterfaceObserved("pqvpn0", True, True, (), "eth0 has 10.7.0.1, too"), Item.CONFLICT, Reason.ADDRESS_CONFLICT),
    ],
)
def test_the_interface(house: House, seen: InterfaceObserved, item: Item, reason: Reason) -> None:
    house.hold(FINE)
    house.hold(seen)
    found = house.finding(item)
    assert (found.state, found.reason) == (State.FAILING, reason)
    assert found.evidence
    house.hold(FINE)
    assert house.finding(item).state is State.OK


def test_a_kernel_that_does_not_answer_about_the_interface(house: House) -> None:
    house.hold(FINE)
    house.hold(RetryWaiting("netlink", "", 3, 2.0, Reason.KERNEL_REFUSED))
    assert house.finding(Item.INTERFACE).state is State.OK
    house.hold(RetryWaiting("netlink", "", 3, 2.0, Reason.KERNEL_SILENT))
    found = house.finding(Item.INTERFACE)
    assert (found.state, found.reason) == (State.WARNING, Reason.KERNEL_SILENT), "nothing says that it is gone"
    house.hold(FINE)
    assert house.finding(Item.INTERFACE).state is State.OK


def test_fewer_lanes(house: House) -> None:
    def lanes(running: object) -> NodeObserved:
        return node(node={"security": "full", "lanes": 2, "lanes_running": running})

    house.hold(lanes(2))
    house.hold(lanes(1), seconds=1)
    assert house.finding(Item.LANES).state is State.OK, "one that is just replaced"
    house.hold(lanes(1))
    found = house.finding(Item.LANES)
    assert (found.state, found.reason, found.evidence) == (State.WARNING, Reason.FEWER_LANES, "1 of 2 lanes run")
    house.hold(lanes(0))
    found = house.finding(Item.LANES)
    assert (found.state, found.reason) == (State.FAILING, Reason.NO_LANES)
    house.hold(lanes(2))
    assert house.finding(Item.LANES).state is State.OK
    house.hold(lanes("nonsense"), node())
    assert house.finding(Item.LANES).state is State.OK


def test_control_that_falls_silent(house: House) -> None:
    house.hold(node())
    house.check(3)
    assert house.finding(Item.CONTROL).state is State.OK
    house.check(4)
    found = house.finding(Item.CONTROL)
    assert (found.state, found.reason) == (State.FAILING, Reason.NOT_REPORTING)
    house.hold(node(), seconds=4)
    assert house.finding(Item.CONTROL).state is State.OK


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (peer("up"), State.OK),
        (peer("stale", "network.stale"), State.WARNING),
        (peer("connecting"), State.WARNING),
        (peer("down"), State.FAILING),
        (peer("down", "network.idle"), State.OK),
        (peer("down", "network.no_endpoint"), State.OK),
        (peer("a word of a later version", "network.of_a_later_version"), State.WARNING),
        (PeerObserved("beta", {}), State.WARNING),
    ],
)
def test_peers(house: House, seen: PeerObserved, expected: State) -> None:
    house.hold(seen)
    assert house.finding(Item.PEER, "beta").state is expected


def test_a_peer_says_since_when_nothing_came(house: House) -> None:
    house.hold(peer("down", endpoint="192.0.2.1:7"))
    assert house.finding(Item.PEER, "beta").evidence == "last authenticated packet 31 s ago; tried at 192.0.2.1:7"
    house.hold(peer("down", last_received_seconds=None))
    assert house.finding(Item.PEER, "beta").evidence == "nothing authenticated came yet; no address"


def test_a_peer_that_is_well_says_when_it_was_heard_and_probed(house: House) -> None:
    heard = "last authenticated packet 31 s ago"
    for probed, said in (
        ({"rtt_ms": 12.34, "probe_answered_seconds": 4.2}, "; probe of the path answered 4 s ago, round trip 12.3 ms"),
        ({"rtt_ms": None, "probe_answered_seconds": 4.2}, "; probe of the path answered 4 s ago"),
        ({"rtt_ms": 12.34}, ""),
        ({"probes_unanswered": 1}, "; 1 probe of the path unanswered, none was"),
        ({"probes_unanswered": 2, "probe_answered_seconds": 14.0},
         "; 2 probes of the path unanswered, the last that was 14 s ago"),
    ):  # fmt: skip
        house.hold(peer("up", **probed))
        found = house.finding(Item.PEER, "beta")
        assert (found.state, found.evidence) == (State.OK, heard + said)


def test_a_peer_that_is_heard_and_answers_no_probe_is_reached_one_way_only(house: House) -> None:
    house.hold(peer("up"), seconds=1)
    lost = peer("up", last_received_seconds=0.2, probes_unanswered=3, probe_answered_seconds=21.0)
    house.hold(lost, seconds=3)
    assert house.finding(Item.PEER, "beta").state is State.OK
    house.hold(lost)
    found = house.finding(Item.PEER, "beta")
    assert (found.state, found.reason) == (State.WARNING, Reason.ONE_WAY)
    assert found.evidence.endswith("3 probes of the path unanswered, the last that was 21 s ago")
    house.hold(peer("up", probe_answered_seconds=0.1), seconds=4)
    assert house.finding(Item.PEER, "beta").state is State.OK


def test_peers_that_are_not_configured_any_more_are_forgotten(house: House) -> None:
    house.hold(peer("down"), node())
    for _ in range(20):
        house.hold(node(), seconds=1)
        house.check(1)
    assert all(f.item is not Item.PEER for f in house.health.report(house.now))


def test_self_tests_and_security(house: House) -> None:
    house.hold(CryptoChecked(("ML-KEM-768",)), seconds=1)
    assert house.finding(Item.CRYPTO).reason is Reason.SELF_TEST_FAILED
    house.hold(node(node={"security": "degraded", "self_tests": {"failed": []}}))
    assert house.finding(Item.SECURITY).reason is Reason.SECURITY_DEGRADED
    house.hold(node(node={"security": "refused", "self_tests": {"failed": ["AES-256-GCM"]}}))
    assert house.finding(Item.CRYPTO).evidence == "AES-256-GCM"
    assert house.finding(Item.SECURITY).suppressed_by == "crypto.self_test"


def test_a_process_that_ends_again_and_again(house: House) -> None:
    house.hold(node(), seconds=1)
    ended = ChildEnded("lane-0", 7, "SIGSEGV", Reason.CHILD_DIED)
    house.hold(ended, seconds=2)
    assert house.finding(Item.PROCESSES, "lane-0").state is State.OK, "twice is no loop"
    house.hold(ended, seconds=1)
    assert house.finding(Item.PROCESSES, "lane-0").state is State.WARNING
    house.hold(ended, seconds=6)
    assert house.finding(Item.PROCESSES, "lane-0").state is State.FAILING
    house.check(80)
    assert house.finding(Item.PROCESSES, "lane-0").state is State.OK


def test_datagrams_that_the_kernel_refuses(house: House) -> None:
    for second in range(12):
        house.hold(node(drops={"udp_send": second}), seconds=1)
        house.check(1)
    assert house.finding(Item.SOCKETS).state is State.FAILING
    for second in range(12):
        house.hold(node(drops={"udp_send": 100 + second}), seconds=1)
        house.check(1, sends=second)
    assert house.finding(Item.SOCKETS).state is State.WARNING, "some go out"


def test_a_refusal_stands_while_nothing_is_tried(house: House) -> None:
    """A sender inside that hears nothing waits longer and longer: between two tries nothing is known to be well."""
    house.hold(node(drops={"udp_send": 0}), seconds=1)
    house.check(2, sends=5)
    house.hold(node(drops={"udp_send": 1}), seconds=1)
    house.check(10, sends=5)
    assert house.finding(Item.SOCKETS).state is State.FAILING
    house.check(1, sends=6)
    house.check(8, sends=6)
    assert house.finding(Item.SOCKETS).state is State.OK, "something went out"
    house.hold(node(drops={"udp_send": 2}), seconds=1)
    house.check(50, sends=6)
    assert house.finding(Item.SOCKETS).state is State.OK, "not for ever: nobody may want to send"


def test_a_socket_that_was_shut_down(house: House) -> None:
    house.check()
    house.hold(SocketsObserved(("lane-0", "control")), seconds=1)
    house.check()
    found = house.finding(Item.SOCKETS)
    assert (found.state, found.reason) == (State.FAILING, Reason.SOCKET_LOST)
    assert found.evidence == "shut down: the socket of lane-0, control"
    house.hold(SocketsObserved(), seconds=1)
    house.check()
    assert house.finding(Item.SOCKETS).state is State.OK


def test_control_that_comes_too_late(house: House) -> None:
    late = NodeObserved(node().status, 0.8)
    house.hold(late, seconds=2)
    assert house.finding(Item.PROCESSOR, "control").state is not State.WARNING, "once is no want"
    house.hold(late, seconds=4)
    assert (house.finding(Item.PROCESSOR, "control").state, house.finding(Item.PROCESSOR, "control").reason) == (
        State.WARNING,
        Reason.STARVED,
    )
    house.hold(NodeObserved(node().status, 6.0), seconds=4)
    assert house.finding(Item.PROCESSOR, "control").state is State.FAILING
    house.hold(node(), seconds=12)
    assert house.finding(Item.PROCESSOR, "control").state is State.OK


def test_a_jump_of_the_wall_clock(house: House) -> None:
    house.check(3)
    house.hold(ClockJumped(3600.0), seconds=1)
    assert house.finding(Item.CLOCK).evidence == "by +3600.0 s"
    house.check(30)
    assert house.finding(Item.CLOCK).state is State.WARNING
    house.check(40)
    assert house.finding(Item.CLOCK).state is State.OK


def test_disk_descriptors_and_memory(house: House) -> None:
    def look(found: tuple[ProcessUse, ...], disk: Disk) -> None:
        for _ in range(35):
            house.now += 1.0
            house.checks.processes(found, house.now)
            house.checks.disk(disk, house.now)

    look((ProcessUse("control", 7, 20 << 20, 30, 1024), ProcessUse("lane-0", 8, 20 << 20)), Disk(1 << 30))
    assert {f.state for f in house.health.report(house.now)} == {State.OK}
    look((ProcessUse("control", 7, LIMITS.memory_fails + 1, 1000, 1024),), Disk(1 << 20))
    assert house.finding(Item.DISK).reason is Reason.DISK_LOW
    assert house.finding(Item.MEMORY, "control").state is State.FAILING
    assert house.finding(Item.DESCRIPTORS, "control").evidence == "control has 1000 of 1024"
    look((), Disk(1 << 30, "Read-only file system"))
    assert house.finding(Item.DISK).reason is Reason.STATE_UNWRITABLE
    look((), Disk(0, "No space left on device", Reason.DISK_FULL))
    assert house.finding(Item.DISK).reason is Reason.DISK_FULL
    assert {f.item for f in house.health.report(house.now)} == {Item.DISK}, "processes that are gone are forgotten"


def test_a_disk_that_has_room_for_the_probe_and_not_for_records_is_full(house: House) -> None:
    def pass_by(seconds: int, kept: Verdict) -> None:
        for _ in range(seconds):
            house.now += 1.0
            house.checks.records(kept, 0.0, house.now)
            house.checks.disk(Disk(1 << 20), house.now)

    pass_by(10, (State.WARNING, Reason.DISK_FULL, "No space left on device"))
    first, second = house.health.report(house.now)
    assert (first.item, first.reason, first.evidence) == (Item.DISK, Reason.DISK_FULL, "No space left on device")
    assert (second.item, second.suppressed_by) == (Item.RECORDS, "host.disk")
    pass_by(70, (State.OK, None, ""))
    assert house.finding(Item.DISK).reason is Reason.DISK_LOW


def test_records_link_and_collector(house: House) -> None:
    for _ in range(12):
        house.now += 1.0
        house.checks.records((State.OK, None, ""), 11.0, house.now)
        house.checks.collector((State.WARNING, Reason.COLLECTOR_UNREACHABLE, "refused"), house.now)
    house.checks.link(3, house.now)
    assert house.finding(Item.RECORDS).evidence == "the disk has not answered for 11 s"
    assert house.finding(Item.COLLECTOR).reason is Reason.COLLECTOR_UNREACHABLE
    assert house.finding(Item.LINK).evidence == "3 more, 3 in total"


def test_readings_of_any_shape_raise_nothing(house: House) -> None:
    for status in (
        {},
        {"node": 3, "processes": {}, "drops": []},
        {"processes": [1, {"pid": "x"}], "node": {"self_tests": 1}},
    ):
        house.hold(NodeObserved(status, 0.0), PeerObserved("p", status))
        house.check(1)
