"""`python -m bench.telemetry`: what telemetry costs the data path, fully on against fully off.

Two pairs of nodes run between the same two namespaces. One has every signal on, a log file, and sends to a collector of
its own in each namespace; the other has `[telemetry] enabled = false`. They take turns of a few seconds; the pair that is
not measured stands still (SIGSTOP), lest it takes the time of the other. The order is reversed from round to round, and
only ratios within a round are compared: the machine's speed may swing by a factor of two within minutes.

Metrics are collected every 2 s instead of 15, so that each turn holds a collection: what is measured is more than what
the default costs. After every tenth round it ends if the interval of each median lies on one side of its bar, and after
`--most` in any case; that it looks more than once makes the intervals a little less sure than they say.
With `--null` both pairs have telemetry off: what is told then is the error of the method on this machine, and a ratio far
from 1 says that the machine is too busy for this measurement. The observers' own processor time is told besides, which
needs no comparison.
Exit code: 0 when both bars are met, 1 when one is missed, 69 when nothing can be measured here.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from bench import measures
from bench.contenders import OUTER, Pqvpn
from bench.measures import Flow, MeasureError
from bench.telemetry_figures import Verdict, judge, summary
from lab.namespaces import Lab, LabError, Link, Namespace
from lab.nodes import ROOT, introduce, make_node
from lab.obstacles import obstacle
from lab.waiting import WaitTimeoutError, wait_for

RESULT = pathlib.Path(__file__).resolve().parent / "results" / "telemetry.json"
_COLLECTOR_PORT = 4318
_SETTLE = 0.7
"""Seconds that a pair has to do what fell due while it stood still."""
_LOOK_EVERY = 10
_WARM = 8.0
"""Seconds after the start until the observers have loaded everything."""


class _Pair(Pqvpn):
    """Two nodes of their own name, port and network. `settings` are those of both."""

    port = 51820

    def prepare(self) -> None:
        self.nodes = [
            make_node(
                self.lab, end, f"{self.name}-{where}", [f"{address}/24"], listen=self.port, settings=self.settings()
            )
            for end, where, address in zip(self.ends, ("near", "far"), (self.near, self.far), strict=True)
        ]
        introduce(self.nodes[0], self.nodes[1], *OUTER)

    def settings(self) -> dict[str, dict[str, object]]:
        return {"node": {"interface": f"pq-{self.name}"}}

    def helpers(self) -> list[int]:
        """Processes that belong to the pair and are not counted."""
        return []

    def halt(self) -> None:
        """Stand still; supervisors first, so that none misses its children."""
        for pid in self._all_pids():
            os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Run again; supervisors last."""
        for pid in reversed(self._all_pids()):
            os.kill(pid, signal.SIGCONT)

    def _all_pids(self) -> list[int]:
        if not hasattr(self, "_known"):
            self._known = [pid for side in self.pids() for pid in side]
        return [*self._known, *self.helpers()]


class On(_Pair):
    """Everything on but debugging."""

    name, network, port = "on", 11, 51821

    def settings(self) -> dict[str, dict[str, object]]:
        endpoint = f"http://127.0.0.1:{_COLLECTOR_PORT}"
        telemetry = {"enabled": True, "endpoint": endpoint, "sample": 1.0, "metrics_interval": "2s"}
        return {**super().settings(), "telemetry": telemetry, "log": {"file": True}}

    def start_collectors(self) -> None:
        """A receiver in each namespace."""
        command = [sys.executable, "-m", "tests.otlp", "--port", str(_COLLECTOR_PORT)]
        self._collectors = [
            end.popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for end in self.ends
        ]
        for each in self._collectors:
            assert each.stdout
            if not each.stdout.readline().startswith("ready"):
                raise LabError("a collector did not start")

    def helpers(self) -> list[int]:
        return [each.pid for each in self._collectors]


class Off(_Pair):
    """No telemetry at all but the lines on standard error."""

    name, network, port = "off", 12, 51822

    def settings(self) -> dict[str, dict[str, object]]:
        return {**super().settings(), "telemetry": {"enabled": False}}


class Null(Off):
    """As `Off`, in the place of `On`."""

    name, network, port = "on", 11, 51821


@dataclass(frozen=True)
class Plan:
    """How much is measured; `seconds` of each turn. `null`: nothing against nothing."""

    least: int
    most: int
    seconds: float
    null: bool


@dataclass
class Results:
    """Rounds in which both were measured, and what failed."""

    rounds: list[dict[str, Flow]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    processes: dict[str, float] = field(default_factory=dict)


def _turn(pair: _Pair, seconds: float) -> Flow:
    pair.go_on()
    try:
        time.sleep(_SETTLE)
        return measures.tcp(pair, 1, seconds)
    finally:
        pair.halt()


def _rounds(pairs: Sequence[_Pair], plan: Plan, results: Results, server: "_Server") -> Iterator[dict[str, Flow]]:
    for number in range(plan.most):
        order = pairs if number % 2 == 0 else pairs[::-1]
        try:
            yield {pair.name: _turn(pair, plan.seconds) for pair in order}
        except (MeasureError, LabError, OSError, subprocess.TimeoutExpired) as error:
            results.failures.append(f"round {number + 1}: {error}")
            print(f"Failed: {results.failures[-1]}", flush=True)
            if len(results.failures) > plan.most / 5:
                return
            server.start()  # one whose client went away may count itself busy for long


class _Server:
    """The iperf3 server in `far`; `start` replaces one that runs."""

    def __init__(self, far: Namespace) -> None:
        self._far = far
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        self._process = self._far.popen(["iperf3", "-s", "--forceflush"], stdout=subprocess.DEVNULL)
        wait_for("iperf3 to listen", lambda: self._far.run(["ss", "-Hltn", f"sport = {measures.IPERF_PORT}"]).stdout)


def _start(pairs: Sequence[_Pair]) -> None:
    for pair in pairs:
        pair.prepare()
        if isinstance(pair, On):
            pair.start_collectors()
        pair.start_far()
        pair.nodes[0].up()
        pair.nodes[0].wait_for_peer(pair.nodes[1].name)
    time.sleep(_WARM)
    for pair in pairs:
        has = any(each["component"] == "observer" for each in pair.nodes[0].status()["processes"])
        if has is not isinstance(pair, On):
            raise LabError(f"the nodes of {pair.name!r} have {'an' if has else 'no'} observer")
        pair.pids()
        pair.halt()


def _stop(pairs: Sequence[_Pair]) -> None:
    for pair in pairs:
        with contextlib.suppress(LabError, OSError, ProcessLookupError):
            pair.go_on()
            pair.stop()


def measure(plan: Plan, lab: Lab) -> Results:
    """All rounds, until the bars are decided."""
    results = Results()
    near, far = lab.namespace("near"), lab.namespace("far")
    link: Link = lab.link(near, far, [f"{OUTER[0]}/24"], [f"{OUTER[1]}/24"])
    server = _Server(far)
    pairs: list[_Pair] = [kind(lab, link) for kind in (Null if plan.null else On, Off)]
    try:
        _start(pairs)
        for made in _rounds(pairs, plan, results, server):
            results.rounds.append(made)
            verdicts = judge(results.rounds)
            print(f"round {len(results.rounds)}: {'; '.join(str(verdict) for verdict in verdicts)}", flush=True)
            looked = len(results.rounds) >= plan.least and len(results.rounds) % _LOOK_EVERY == 0
            if looked and all(verdict.decided for verdict in verdicts):
                break
        results.processes = _processes(pairs[0])
    finally:
        _stop(pairs)
    return results


def _processes(pair: _Pair) -> dict[str, float]:
    """Processor seconds of each kind of process of the pair with telemetry, since its start."""
    pair.go_on()
    used: dict[str, float] = {}
    for node in pair.nodes:
        for each in node.status()["processes"]:
            name = str(each["component"]).partition("-")[0]
            if each["restarts"]:
                raise LabError(
                    f"{each['component']} of {node.name} was replaced meanwhile: the figures are worth nothing"
                )
            used[name] = round(used.get(name, 0.0) + measures.cpu_seconds([each["pid"]]), 2)
    return used


def _write(plan: Plan, results: Results, verdicts: Sequence[Verdict]) -> None:
    RESULT.parent.mkdir(exist_ok=True)
    document = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "kernel": os.uname().release, "load_before": results.load},
        "plan": asdict(plan),
        "verdicts": [each.as_dict() for each in verdicts],
        "medians": summary(results.rounds),
        "cpu_seconds_of_processes": results.processes,
        "rounds": [{name: asdict(flow) for name, flow in each.items()} for each in results.rounds],
        "failures": results.failures,
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.telemetry", description="Measure what telemetry costs.")
    parser.add_argument("--least", type=int, default=30, help="rounds at least (default: 30, some 4 minutes)")
    parser.add_argument(
        "--most", type=int, default=150, help="rounds at most, until the bars are decided (default: 150)"
    )
    parser.add_argument("--seconds", type=float, default=2.5, help="of each turn (default: 2.5)")
    parser.add_argument("--null", action="store_true", help="off against off: the error of the method")
    return parser


def main() -> int:
    """Measure, tell, and write bench/results/telemetry.json."""
    options = _parser().parse_args()
    if found := obstacle():
        print(f"No measurement is possible here: {found}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    if missing := [program for program in ("iperf3", "ss") if shutil.which(program) is None]:
        print(f"No measurement is possible without {', '.join(missing)}.", file=sys.stderr)
        return os.EX_UNAVAILABLE
    plan = Plan(options.least, options.most, options.seconds, options.null)
    try:
        with Lab() as lab:
            results = measure(plan, lab)
    except (LabError, WaitTimeoutError) as error:
        print(f"Nothing was measured: {error}", file=sys.stderr)
        return 1
    verdicts = judge(results.rounds)
    if not plan.null:
        _write(plan, results, verdicts)
    _show(results, verdicts)
    print(f"Written: {RESULT}" if not plan.null else "Nothing was written.")
    return 0 if verdicts and all(verdict.met for verdict in verdicts) else 1


def _show(results: Results, verdicts: Sequence[Verdict]) -> None:
    print(f"\n{'':22}{'on':>10}{'off':>10}")
    for title, values in summary(results.rounds).items():
        print(f"{title:22}{values['on']:>10.3f}{values['off']:>10.3f}")
    print(f"\nMedians of {len(results.rounds)} paired ratios on/off, with the interval that holds it 19 times of 20:")
    for verdict in verdicts:
        print(f"  {verdict}")
    told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in sorted(results.processes.items()))
    print(f"CPU of the pair with telemetry, both ends, since its start: {told}.")
    if results.load > 0.5 * (os.cpu_count() or 1):
        print(f"The machine was busy before (load {results.load:.1f}): take the ratios with care.")


if __name__ == "__main__":
    sys.exit(main())
