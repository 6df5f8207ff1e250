"""Every public function of `host` that the supervisor calls raises: at its start, at its work, at its end.

What the state must be then is what docs/reasons.md says of the class of error: a start ends with the code of what was
raised and leaves nothing, or does without; a node that runs goes on, tells by code, and is whole again; an end comes to its
end. And nowhere is an exception's text, which stands for a secret.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from lab import Lab, LabError, WaitTimeoutError, wait_for
from lab.nodes import Node, introduce, make_node
from tests.canary.canaries import Canary, contents, report, search
from tests.netns.injected import SCOPE, Run, Stage
from tests.netns.test_netns_sockets import shut_down
from tests.unit.faulting import CANARY, KINDS, Target, targets

pytestmark = pytest.mark.netns

ADDRESS = "10.7.0.1/24"
SETTINGS = {
    "node": {"lanes": 1},
    "health": {"interval": "100ms"},
    "restart": {"first_wait": "50ms", "longest_wait": "100ms", "burst": 100, "slow_every": "1s"},
    "breakers": {"consecutive": 100, "minimum_calls": 1000, "open_for": "500ms"},
}
WHOLE = {"supervisor", "control", "lane-0", "observer", "spare"}
_MET = 1.5
"""Seconds within which something that was provoked calls what it calls."""
TARGETS = {str(target): target for target in targets(*SCOPE)}

SILENT = {
    "host.clock.now": "without a clock nothing can be told",
}
"""What may fail while the node runs without a record, and why."""
WITHOUT = {(f"host.icmp.{name}", "os") for name in ("blocked4", "blocked6", "program4", "program6", "open_sockets")}
"""Without what a start does although the kernel refused it, and tells nothing: a node needs no ICMP."""


@dataclass
class Survey:
    """What a supervisor calls, by when."""

    start: set[str] = field(default_factory=set)
    work: dict[str, set[str]] = field(default_factory=dict)
    end: set[str] = field(default_factory=set)

    def step_of(self, target: str) -> str:
        """The least that it takes to have it called."""
        return next(step for step, called in self.work.items() if target in called)


# What a supervisor does something about, from what costs least: how it is provoked, and how it shows that it was done.
Act = Callable[[Node], Callable[[], bool]]


def _nothing(node: Node) -> Callable[[], bool]:
    until = time.monotonic() + 0.5  # some looks
    return lambda: time.monotonic() > until


def _reload(node: Node) -> Callable[[], bool]:
    before = node.log().count('"reload')
    os.kill(_pid(node, "supervisor"), signal.SIGHUP)
    until = time.monotonic() + 0.5
    return lambda: node.log().count('"reload') > before or time.monotonic() > until


def _killed(component: str) -> Act:
    def act(node: Node) -> Callable[[], bool]:
        pid = _pid(node, component)
        os.kill(pid, signal.SIGKILL)
        return lambda: node.pids(component) not in ([], [pid]) and is_whole(node)

    return act


def _address(node: Node) -> Callable[[], bool]:
    node.namespace.delete_address("pqvpn0", ADDRESS)
    return lambda: is_whole(node)


def _socket(node: Node) -> Callable[[], bool]:
    pid = _pid(node, "lane-0")
    shut_down(node, "lane-0")
    return lambda: node.pids("lane-0") not in ([], [pid]) and is_whole(node)


def _interface(node: Node) -> Callable[[], bool]:
    pid = _pid(node, "lane-0")
    node.namespace.delete_link("pqvpn0")
    return lambda: node.pids("lane-0") not in ([], [pid]) and is_whole(node)


STEPS: dict[str, Act] = {
    "looks": _nothing,
    "reload": _reload,
    "spare": _killed("spare"),
    "lane": _killed("lane-0"),
    "control": _killed("control"),
    "address": _address,
    "socket": _socket,
    "interface": _interface,
}


def _pid(node: Node, component: str) -> int:
    (pid,) = wait_for(component, lambda: node.pids(component), 3.0)
    return pid


def is_whole(node: Node) -> bool:
    """Whether everything runs and stands as configured."""
    status = node.status()
    if {each["component"] for each in status["processes"]} != WHOLE or status["node"]["state"] != "running":
        return False
    return _has_address(node)


def _has_address(node: Node) -> bool:
    done = node.namespace.run(["ip", "-j", "addr", "show", "dev", "pqvpn0"], check=False)
    found = json.loads(done.stdout or "[]") if done.returncode == 0 else []
    return any(f"{a['local']}/{a['prefixlen']}" == ADDRESS for link in found for a in link.get("addr_info", ()))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        alpha = make_node(lab, a, "alpha", [ADDRESS], settings=SETTINGS)
        introduce(alpha, make_node(lab, b, "beta", ["10.7.0.2/24"]), None, None)
        yield Stage(alpha)


@pytest.fixture(scope="module")
def survey(stage: Stage) -> Survey:
    """An undisturbed life."""
    found, node = Survey(), stage.node
    with stage.run(watch=True) as run:
        assert run.comes_up() is None
        wait_for("the node to be whole", lambda: is_whole(node), 20.0)
        found.start = set(run.ask("reached")["reached"])
        for name, act in STEPS.items():
            done = act(node)
            wait_for(name, done, 20.0)
            found.work[name] = set(run.ask("reached")["reached"])
        assert run.end() == 0
        found.end = run.last
    return found


def _inside(stage: Stage) -> set[int]:
    return set(stage.node.namespace.processes()) - {stage.process.pid}


def _gone(stage: Stage) -> bool:
    return not _inside(stage) and "pqvpn0" not in stage.node.namespace.run(["ip", "link"]).stdout


def _told(run: Run, target: Target, kinds: list[str], since: int = 0) -> list[str]:
    """What is wrong with what the supervisor told of it."""
    codes = {target.told(kind).code for kind in kinds}
    ours = [record for record in run.told()[since:] if record.get("process") == "supervisor"]
    of_edge = [
        r for r in ours if r["event"] == "problem" and r["fields"].get("component", "").startswith("supervisor.")
    ]
    wrong = [f"told as {r['code']}" for r in of_edge if r["code"] not in codes]
    if not any(record["code"] in codes for record in ours) and str(target) not in SILENT:
        wrong.append("nothing was told")
    return wrong


def _clean(node: Node) -> str:
    """What of the text of an exception is anywhere."""
    sinks = contents(node.folder / "state") | {"log": node.log().encode()}
    return report(search([Canary.of_text("text", CANARY)], sinks))


def test_a_start_ends_with_the_code_of_what_was_raised_or_does_without(stage: Stage, survey: Survey) -> None:
    wrong = []
    for name in sorted(survey.start):
        for kind in KINDS:
            wrong += [f"{name} {kind}: {each}" for each in _start(stage, TARGETS[name], kind)]
    assert not wrong, "\n".join(wrong)
    assert len(survey.start) > 30
    assert _clean(stage.node) == ""


def _start(stage: Stage, target: Target, kind: str) -> list[str]:
    with stage.run(str(target), kind) as run:
        reason, code = target.told(kind), run.comes_up()
        if code is None:
            raised = run.ask("state")["raised"]  # if not, it is not of the start but of the work that followed
            wrong = _told(run, target, [kind]) if raised and (str(target), kind) not in WITHOUT else []
            code = run.end()
            wrong += [f"its end: exit code {code}"] if code not in (0, reason.exit_code) else []
        else:
            wrong = [f"exit code {code}"] if code != reason.exit_code else []
            wrong += [] if reason.code in run.log() else [f"told: {run.log()[-300:]}"]
        wait_for("nothing to be left", lambda: _gone(stage))
    return wrong


def test_a_node_that_runs_goes_on_and_is_whole_again(stage: Stage, survey: Survey) -> None:
    node, wrong = stage.node, []
    names = sorted({name for called in survey.work.values() for name in called})
    with stage.run() as run:
        assert run.comes_up() is None
        wait_for("the node to be whole", lambda: is_whole(node), 20.0)
        for name in names:
            wrong += [f"{name}: {each}" for each in _work(run, TARGETS[name], STEPS[survey.step_of(name)])]
        wait_for("nobody else to be left", lambda: _inside(stage) == set(node.pids()))
        assert run.end() == 0
    assert not wrong, "\n".join(wrong)
    assert len(names) > 20
    assert _clean(node) == ""


def _work(run: Run, target: Target, act: Act) -> list[str]:
    node, since = run.node, len(run.told())
    before, raised, done = run.ask("inject", str(target), *KINDS)["open"], [], _nothing(node)
    for _ in KINDS:
        if len(raised) < len(KINDS):
            with contextlib.suppress(LabError, WaitTimeoutError, AssertionError):  # what is away cannot be taken away
                done = act(node)
            raised = _met(run)
    run.ask("release")
    os.kill(run.pid, signal.SIGHUP)  # as an operator does who has mended it: it is tried again at once
    wait_for(f"the node to be whole after {target}", lambda: done() and is_whole(node), 20.0)
    if not raised:
        return ["it was not called"]
    return [*_told(run, target, raised[: len(KINDS)], since), *_left_open(run, target, before)]


def _left_open(run: Run, target: Target, before: int) -> list[str]:
    """Descriptors that are open since; of what closes none can be asked back."""
    if target.name == "close":
        return []
    with contextlib.suppress(WaitTimeoutError):
        wait_for("no descriptor to be left", lambda: run.ask("state")["open"] <= before, 3.0)
    left = run.ask("state")["open"] - before
    return [f"{left} descriptors are left open"] if left > 0 else []


def _met(run: Run) -> list[str]:
    """Wait until every kind was raised, or for long enough."""
    until = time.monotonic() + _MET
    while len(raised := run.ask("state")["raised"]) < len(KINDS) and time.monotonic() < until:
        time.sleep(0.02)
    return list(raised)


def test_an_end_comes_to_its_end(stage: Stage, survey: Survey) -> None:
    wrong = []
    for number, name in enumerate(sorted(survey.end)):
        kind = KINDS[number % len(KINDS)]
        with stage.run() as run:
            assert run.comes_up() is None
            run.ask("inject", name, kind)
            code = run.end()
            if code not in (0, TARGETS[name].told(kind).exit_code):
                wrong.append(f"{name} {kind}: exit code {code}")
            wait_for("nothing to be left", lambda: _gone(stage))
    assert not wrong, "\n".join(wrong)
    assert _clean(stage.node) == ""


def test_afterwards_nothing_is_left(stage: Stage) -> None:
    """What guarded a node that could not end well is removed by the next one's end."""
    with stage.run() as run:
        assert run.comes_up() is None
        assert run.end() == 0
    wait_for("nothing to be left", lambda: _gone(stage))
    for family in ("-4", "-6"):
        shown = stage.node.namespace.run(["ip", family, "route", "show", "table", "all", "proto", "157"]).stdout
        assert shown == ""
