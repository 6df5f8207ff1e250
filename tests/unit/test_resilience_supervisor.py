"""The supervisor on real child processes: restart, pacing, fatal codes, orderly and forced ends."""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from pqvpn.facts import ChildEnded, ChildStarted, Fact, Problem, RetryEnded, RetryWaiting
from pqvpn.host.clock import now
from pqvpn.reasons import Reason
from pqvpn.resilience.restarts import RestartPolicy, When
from pqvpn.resilience.supervisor import Ended, Process, Supervisor, describe_exit

SLEEPER = ["sleep", "60"]


def shell(code: str) -> list[str]:
    return ["sh", "-c", code]


class House:
    """A supervisor with its event loop. `time` is added to the real clock, so that minutes pass at will."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.facts: list[Fact] = []
        self.changes = 0
        self.time = 0.0
        self.spawned: list[subprocess.Popen[bytes]] = []
        self.supervisor = Supervisor(self.selector, lambda: now() + self.time, self.facts.append, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def add(self, name: str, command: list[str], pass_fds: tuple[int, ...] = ()) -> None:
        self.supervisor.add(name, lambda: self.spawn(command, pass_fds))

    def spawn(self, command: list[str], pass_fds: tuple[int, ...] = ()) -> Process:
        self.spawned.append(subprocess.Popen(command, pass_fds=pass_fds))
        return Process(self.spawned[-1])

    def popen(self, name: str) -> "subprocess.Popen[bytes]":
        process = self.supervisor.children[name].process
        assert process is not None
        return process.popen

    def serve_until(self, done: Callable[[], bool], limit: float = 5.0) -> None:
        ends = time.monotonic() + limit
        while not done():
            assert time.monotonic() < ends, "it did not come to pass"
            due = self.supervisor.next_start()
            for key, _ in self.selector.select(0.5 if due is None else max(0.0, min(0.5, due - now() - self.time))):
                key.data()
            self.supervisor.start_due()

    def ended(self) -> list[ChildEnded]:
        return [f for f in self.facts if isinstance(f, ChildEnded)]

    def started(self) -> list[ChildStarted]:
        return [f for f in self.facts if isinstance(f, ChildStarted)]


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    for process in made.spawned:
        if process.poll() is None:
            process.kill()
        process.wait()
    for child in made.supervisor.children.values():
        if child.process is not None:
            os.close(child.pidfd)
            if child.process.last_words >= 0:
                os.close(child.process.last_words)
    made.selector.close()


def test_a_killed_child_is_replaced_at_once(house: House) -> None:
    house.add("lane-0", SLEEPER)
    house.add("lane-1", SLEEPER)
    first, other = house.popen("lane-0"), house.popen("lane-1")
    began = now()
    first.send_signal(signal.SIGKILL)
    house.serve_until(lambda: len(house.spawned) == 3)
    assert now() - began < 0.5
    child = house.supervisor.children["lane-0"]
    assert house.popen("lane-0") is house.spawned[2]
    assert child.pid != first.pid
    assert child.restarts == 1
    assert house.supervisor.next_start() is None
    assert house.popen("lane-1") is other
    assert other.poll() is None
    assert [(f.process, f.pid, f.status, f.reason) for f in house.ended()] == [
        ("lane-0", first.pid, "SIGKILL", Reason.CHILD_DIED)
    ]
    assert [(f.process, f.restarts) for f in house.started()] == [("lane-0", 0), ("lane-1", 0), ("lane-0", 1)]
    assert house.changes == 4


def test_a_child_that_ends_again_and_again_is_paced(house: House) -> None:
    house.add("lane-0", shell("exit 3"))
    house.serve_until(lambda: len(house.ended()) == 2)  # the first replacement comes at once, the second waits
    waits = []
    for ends in range(3, 10):
        due = house.supervisor.next_start()
        assert due is not None
        waits.append(due - now() - house.time)
        house.supervisor.start_due()  # not yet
        assert len(house.spawned) == ends - 1 or waits[-1] <= 0.001
        house.time += waits[-1]
        house.serve_until(lambda ends=ends: len(house.ended()) == ends)  # type: ignore[misc]
    assert all(0.0 <= wait <= 0.1 * 2**n for n, wait in enumerate(waits[:3]))
    assert waits[-1] == pytest.approx(30.0, abs=0.5)  # a loop: rare tries
    assert {f.reason for f in house.facts if isinstance(f, Problem)} == {Reason.RESTART_LOOP}
    assert house.supervisor.children["lane-0"].restarts == 9
    assert house.ended()[0].status == "exit 3"


def test_a_child_that_lived_long_is_replaced_at_once_again(house: House) -> None:
    house.add("lane-0", shell("exit 3"))
    house.serve_until(lambda: len(house.ended()) == 3)
    assert house.supervisor.next_start() is not None
    child = house.supervisor.children["lane-0"]
    child.start = lambda: house.spawn(SLEEPER)
    house.time += 1.0
    house.supervisor.start_due()
    house.time += 11.0
    house.spawned[-1].kill()
    count = len(house.spawned)
    house.serve_until(lambda: len(house.spawned) > count)
    assert house.supervisor.next_start() is None
    assert not child.history.looping


@pytest.mark.parametrize("code", [os.EX_NOPERM, os.EX_CONFIG])
def test_codes_that_a_restart_cannot_mend_are_fatal(house: House, code: int) -> None:
    house.add("control", shell(f"exit {code}"))
    house.serve_until(lambda: house.supervisor.fatal is not None)
    assert house.supervisor.fatal == code
    assert len(house.spawned) == 1
    assert house.supervisor.next_start() is None


def test_other_codes_are_not_fatal(house: House) -> None:
    house.add("control", shell("exit 70"))
    house.serve_until(lambda: len(house.spawned) == 2)
    assert house.supervisor.fatal is None


def test_end_waits_then_kills_what_does_not_end(house: House) -> None:
    reading, writing = os.pipe()
    code = "import os, signal, sys, time; signal.signal(15, signal.SIG_IGN); os.write(int(sys.argv[1]), b'x'); time.sleep(60)"
    stubborn = [sys.executable, "-Ic", code, str(writing)]
    house.add("stubborn", stubborn, pass_fds=(writing,))
    house.add("obedient", shell("trap 'exit 0' TERM; sleep 60 & wait"))
    os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    for process in house.spawned:
        process.terminate()
    began = time.monotonic()
    house.supervisor.end(["stubborn", "obedient"], 0.3)
    took = time.monotonic() - began
    assert 0.25 <= took < 1.0
    assert house.spawned[0].returncode == -signal.SIGKILL
    assert house.spawned[1].returncode is not None
    assert all(child.process is None for child in house.supervisor.children.values())
    assert house.selector.get_map() == {}
    house.supervisor.start_due()
    assert len(house.spawned) == 2
    assert house.ended() == []


def test_a_child_that_waits_for_its_restart_is_not_started_by_an_end(house: House) -> None:
    house.add("lane-0", shell("exit 1"))
    house.serve_until(lambda: len(house.ended()) == 3)
    assert house.supervisor.next_start() is not None
    house.supervisor.end(["lane-0"], 0.1)
    house.time += 10.0
    house.supervisor.start_due()
    assert house.supervisor.children["lane-0"].process is None


def test_a_start_that_the_kernel_refuses_is_tried_again(house: House) -> None:
    refused = [OSError(11, "Resource temporarily unavailable")]

    def spawn() -> Process:
        if house.spawned and refused:
            raise refused.pop()
        return house.spawn(SLEEPER)

    house.supervisor.add("child", spawn)
    os.kill(house.spawned[0].pid, signal.SIGKILL)
    house.serve_until(lambda: not refused)
    assert [f.reason for f in house.facts if isinstance(f, Problem)] == [Reason.KERNEL_REFUSED]
    house.serve_until(lambda: len(house.spawned) == 2)
    assert house.popen("child") is house.spawned[1]


def test_exits_in_words() -> None:
    assert describe_exit(0) == "exit 0"
    assert describe_exit(78) == "exit 78"
    assert describe_exit(-9) == "SIGKILL"
    assert describe_exit(-11) == "SIGSEGV"


def test_a_child_without_progress_is_asked_for_its_stacks_and_replaced(house: House) -> None:
    told: list[Ended] = []
    house.supervisor.autopsy = told.append
    signs = {"busy": 0}
    pokes: list[str] = []
    code = "import faulthandler, sys, time; faulthandler.register(10, file=int(sys.argv[1])); print(flush=True); time.sleep(60)"

    def start(name: str) -> Process:
        words = os.memfd_create("words")
        command = [sys.executable, "-Ic", code, str(words)]
        house.spawned.append(subprocess.Popen(command, pass_fds=(words,), stdout=subprocess.PIPE))
        with house.spawned[-1].stdout or sys.exit() as ready:
            ready.readline()
        house.supervisor.watch(name, lambda: signs.get(name, 0), lambda: pokes.append(name))
        return Process(house.spawned[-1], words)

    for name in ("busy", "stuck"):
        house.supervisor.add(name, lambda name=name: start(name))
    signs["stuck"] = 1  # it has begun
    for _ in range(12):
        signs["busy"] += 1
        house.supervisor.start_due()
        house.time += 0.25
    house.serve_until(lambda: bool(told))
    assert [(e.name, e.code, e.hung) for e in told] == [("stuck", -signal.SIGKILL, True)]
    assert [f.reason for f in house.ended()] == [Reason.CHILD_HUNG]
    assert len(house.spawned) == 3
    assert {"busy", "stuck"} <= set(pokes)


def test_ends_are_told_with_their_circumstances(house: House) -> None:
    told: list[Ended] = []
    house.supervisor.autopsy = told.append
    house.add("lane-0", shell("kill -SEGV $$"))
    house.serve_until(lambda: bool(told))
    assert (told[0].name, told[0].code, told[0].hung) == ("lane-0", -signal.SIGSEGV, False)


def test_a_policy_may_say_never(house: House) -> None:
    house.supervisor.add("lane-0", lambda: house.spawn(shell("exit 3")), RestartPolicy(when=When.NEVER))
    house.serve_until(lambda: len(house.ended()) == 1)
    assert house.supervisor.next_start() is None
    assert len(house.spawned) == 1


def test_one_that_is_left_where_it_is_starts_with_another_policy(house: House) -> None:
    house.supervisor.add("lane", lambda: house.spawn(shell("exit 1")), RestartPolicy(When.NEVER))
    house.serve_until(lambda: house.supervisor.children["lane"].process is None)
    house.supervisor.apply("lane", RestartPolicy(When.NEVER, burst=9))
    assert house.supervisor.children["lane"].start_again_at is None
    house.supervisor.apply("lane", RestartPolicy())
    house.serve_until(lambda: len(house.spawned) == 2)


@pytest.mark.parametrize("listens", [True, False])
def test_one_that_has_something_to_put_away_is_asked_before_another_takes_its_place(
    house: House, listens: bool
) -> None:
    """Its end is no fault and is told as none, however it came about."""
    told, ask = os.pipe()
    code = f"import os, time; os.read({told}, 1); {'' if listens else 'time.sleep(60)'}"
    house.add("observer", [sys.executable, "-c", code], (told,))
    house.supervisor.renew("observer", lambda: os.close(ask), 60.0 if listens else 0.1)
    house.serve_until(lambda: len(house.spawned) == 2)
    assert house.spawned[0].returncode == (0 if listens else -signal.SIGKILL)
    assert (house.ended(), house.supervisor.children["observer"].restarts) == ([], 0)
    os.close(told)


def test_asked_to_hurry_nobody_is_waited_for(house: House) -> None:
    house.add("stubborn", shell("trap '' TERM; sleep 60"))
    house.supervisor.hurry()
    began = time.monotonic()
    house.supervisor.end(["stubborn"], 5.0)
    assert time.monotonic() - began < 1.0


def retries(house: House) -> list[RetryWaiting | RetryEnded]:
    return [fact for fact in house.facts if isinstance(fact, RetryWaiting | RetryEnded)]


def test_waits_are_told_and_end_when_it_lives(house: House) -> None:
    house.add("lane-0", shell("exit 3"))
    house.serve_until(lambda: len(house.ended()) == 2)
    while not house.supervisor.children["lane-0"].history.looping:
        ends = len(house.ended())
        house.time += 10.0 if ends > 2 else 1.0
        house.serve_until(lambda ends=ends: len(house.ended()) > ends)  # type: ignore[misc]
    told = retries(house)
    assert [(each.operation, each.key, each.number) for each in told] == [("restart", "lane-0", n) for n in range(2, 7)]
    assert [each.reason for each in told] == [Reason.CHILD_DIED] * 4 + [Reason.RESTART_LOOP]
    assert isinstance(told[-1], RetryWaiting)
    assert told[-1].seconds == 30.0
    house.supervisor.children["lane-0"].start = lambda: house.spawn(SLEEPER)
    house.time += 30.0
    house.supervisor.start_due()
    assert retries(house) == told, "it has to live first"
    house.time += 10.0
    house.supervisor.start_due()
    assert retries(house)[-1] == RetryEnded("restart", "lane-0", 6, "recovered")
    assert len(retries(house)) == len(told) + 1
    assert not house.supervisor.children["lane-0"].history.looping
    assert house.supervisor.next_start() is None


def test_good_news_ends_a_wait(house: House) -> None:
    house.add("lane-0", shell("exit 3"))
    while not house.supervisor.children["lane-0"].history.looping:
        ends = len(house.ended())
        house.serve_until(lambda ends=ends: len(house.ended()) > ends, 10.0)  # type: ignore[misc]
        house.time += 10.0 if ends > 2 else 0.0
    house.supervisor.children["lane-0"].start = lambda: house.spawn(SLEEPER)
    house.supervisor.good_news()
    house.supervisor.start_due()
    assert house.supervisor.children["lane-0"].process is not None
    assert [each.outcome for each in retries(house) if isinstance(each, RetryEnded)] == ["good_news"]


def test_a_child_whose_work_another_does_is_not_missed(house: House) -> None:
    house.add("lane-0", shell("exit 3"))
    house.serve_until(lambda: len(house.ended()) == 3)
    house.time += 20.0
    child = house.supervisor.children["lane-0"]
    assert not house.supervisor.progressing(15.0)
    child.covered = True
    assert house.supervisor.progressing(15.0)
