"""Every public function of `host`, `control` and `telemetry` that the supervisor calls raises: at start, work and end.

What the state must be then is what docs/reasons.md says of the class of error: a start ends with the code of what was
raised and leaves nothing, or does without; a node that runs goes on, tells by code, and is whole again; an end comes to its
end. And nowhere is an exception's text, which stands for a secret.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from lab import Lab, LabError, WaitTimeoutError, wait_for
from lab.nodes import Node, introduce, make_node
from tests.canary.canaries import Canary, contents, report, search
from tests.netns.injected import SCOPE, Run, Stage
from tests.netns.test_netns_sockets import shut_down
from tests.unit.faulting import CANARY, KINDS, Target, targets

pytestmark = [pytest.mark.netns, pytest.mark.slow]

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
"""What may fail while the node runs without a record, and why. All of telemetry may: it is what tells (`drop`)."""
DEAF = "control.supervision.receive_as_supervisor"
"""Without it a start waits for control to say that it is ready: it tells, and ends when it is told to."""
PACKAGES = ("host", "control", "telemetry")
WITHOUT = {(f"host.icmp.{name}", "os") for name in ("blocked4", "blocked6", "program4", "program6", "open_sockets")}
"""Without what a start does although the kernel refused it, and tells nothing: a node needs no ICMP."""


@dataclass
class Survey:
    """What a supervisor calls, by when."""

    start: set[str] = field(default_factory=set)
    work: dict[str, set[str]] = field(default_factory=dict)
    end: set[str] = field(default_factory=set)

    def steps_of(self, target: str) -> list[str]:
        """The least that it takes to have it called; then, for what tells, something that is told."""
        step = next(step for step, called in self.work.items() if target in called)
        return [step, "lane", "lane"] if target.startswith("telemetry.") else [step] * len(KINDS)


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
    silent = str(target) in SILENT or target.package == "pqvpn.telemetry"
    if not silent and not any(record["code"] in codes for record in ours):
        wrong.append("nothing was told")
    return wrong


def _clean(node: Node) -> str:
    """What of the text of an exception is anywhere."""
    sinks = contents(node.folder / "state") | {"log": node.log().encode()}
    return report(search([Canary.of_text("text", CANARY)], sinks))


def _of(package: str, names: Iterable[str]) -> list[str]:
    found = sorted(name for name in names if name.startswith(f"{package}."))
    assert len(found) > {"host": 5, "control": 2, "telemetry": 20}[package]
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_start_ends_with_the_code_of_what_was_raised_or_does_without(
    stage: Stage, survey: Survey, package: str
) -> None:
    wrong = []
    for name in _of(package, survey.start - {DEAF}):
        for kind in KINDS:
            wrong += [f"{name} {kind}: {each}" for each in _start(stage, TARGETS[name], kind)]
    assert not wrong, "\n".join(wrong)
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


def test_a_start_that_hears_nothing_of_control_tells_so_and_can_be_ended(stage: Stage, survey: Survey) -> None:
    assert DEAF in survey.start
    with stage.run(DEAF, *KINDS) as run:
        wait_for("it to be told", lambda: not _told(run, TARGETS[DEAF], list(KINDS)))
        assert run.end() == 0
        wait_for("nothing to be left", lambda: _gone(stage))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_node_that_runs_goes_on_and_is_whole_again(stage: Stage, survey: Survey, package: str) -> None:
    node, wrong = stage.node, []
    names = _of(package, {name for called in survey.work.values() for name in called})
    with stage.run() as run:
        assert run.comes_up() is None
        wait_for("the node to be whole", lambda: is_whole(node), 20.0)
        for name in names:
            acts = [STEPS[step] for step in survey.steps_of(name)]
            wrong += [f"{name}: {each}" for each in _work(run, TARGETS[name], acts)]
        wait_for("nobody else to be left", lambda: _inside(stage) == set(node.pids()))
        assert run.end() == 0
    assert not wrong, "\n".join(wrong)
    assert _clean(node) == ""


def _work(run: Run, target: Target, acts: list[Act]) -> list[str]:
    node, since = run.node, len(run.told())
    raised, done = [], _nothing(node)
    run.held = max(run.held, run.ask("inject", str(target), *KINDS)["open"])
    for act in acts:
        if len(raised) < len(KINDS):
            with contextlib.suppress(LabError, WaitTimeoutError, AssertionError):  # what is away cannot be taken away
                done = act(node)
            raised = _met(run)
    run.ask("release")
    os.kill(run.pid, signal.SIGHUP)  # as an operator does who has mended it: it is tried again at once
    wait_for(f"the node to be whole after {target}", lambda: done() and is_whole(node), 20.0)
    if not raised:  # what redacts keeps what it has redacted
        return [] if target.module.startswith("pqvpn.telemetry.redaction") else ["it was not called"]
    return [*_told(run, target, raised[: len(KINDS)], since), *_left_open(run, target)]


def _left_open(run: Run, target: Target) -> list[str]:
    """Descriptors that are open since, but for one, which may hang on the error that the supervisor keeps; of what closes
    none can be asked back."""
    if target.name == "close":
        return []
    with contextlib.suppress(WaitTimeoutError):
        wait_for("no descriptor to be left", lambda: run.ask("state")["open"] <= run.held + 1, 3.0)
    left = run.ask("state")["open"] - run.held
    return [f"{left} descriptors are left open"] if left > 1 else []


def _met(run: Run) -> list[str]:
    """Wait until every kind was raised, or for long enough."""
    until = time.monotonic() + _MET
    while len(raised := run.ask("state")["raised"]) < len(KINDS) and time.monotonic() < until:
        time.sleep(0.02)
    return list(raised)


def test_an_end_comes_to_its_end(stage: Stage, survey: Survey) -> None:
    wrong = []
    for number, name in enumerate(_of("host", survey.end)):
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
