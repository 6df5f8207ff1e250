"""`python -m bench.telemetry`: what telemetry costs the data path, fully on against fully off.

Two processes of the same code differ by some percent in speed for as long as they live (it depends on where their memory
lies), so do two connections, and the machine's own speed may swing by a factor of two within minutes. Therefore one
connection through the same processes is compared with itself, in slots of a second or two, by ratios within a round: two
nodes with every signal on, a log file, and a collector of its own in each namespace run as they are, and with their
observers standing still (SIGSTOP). All that telemetry does happens in the observers, but for one thing: control and the
supervisor write facts. What these two use a second is compared with that of a second pair, under the same load and with
`[telemetry] enabled = false`, and is added as a whole to the ratio of CPU.

Metrics are collected every 2 s instead of 15, and an observer that stood still has the facts of that time to work on: what
is measured is more than what the default costs. After every twentieth round it ends if the interval of each median lies on
one side of its bar, and after `--most` in any case; that it looks more than once makes the intervals a little less sure
than they say.
With `--null` the observers run in both slots: what is told then is the error of the method on this machine, and a ratio far
from 1 says that the machine is too busy for this measurement.
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
from lab.namespaces import Lab, LabError, Link
from lab.nodes import ROOT, introduce, make_node
from lab.obstacles import obstacle
from lab.waiting import WaitTimeoutError, wait_for

RESULT = pathlib.Path(__file__).resolve().parent / "results" / "telemetry.json"
_COLLECTOR_PORT = 4318
_SETTLE = 0.2
"""Seconds at the begin of a slot that are not counted."""
_LOOK_EVERY = 20
_FACTS = ("control", "supervisor")
_FACTS_SECONDS = 15.0
_WARM = 8.0
"""Seconds after the start until the observers have loaded everything."""


class _Pair(Pqvpn):
    """Two nodes of their own name, port and network. `settings` are those of both."""

    port = 51820

    def prepare(self) -> None:
        self._pids: dict[str, list[int]] = {}
        self.nodes = [
            make_node(
                self.lab, end, f"{self.name}-{where}", [f"{address}/24"], listen=self.port, settings=self.settings()
            )
            for end, where, address in zip(self.ends, ("near", "far"), (self.near, self.far), strict=True)
        ]
        introduce(self.nodes[0], self.nodes[1], *OUTER)

    def settings(self) -> dict[str, dict[str, object]]:
        return {"node": {"interface": f"pq-{self.name}"}}

    def start(self) -> None:
        """Start both nodes and wait until a connection can be made."""
        self.start_far()
        self.nodes[0].up()
        self.nodes[0].wait_for_peer(self.nodes[1].name)

    def settle(self) -> None:
        """Remember the processes that there are, by kind."""
        self._pids = {}
        for node in self.nodes:
            for each in node.status()["processes"]:
                self._pids.setdefault(str(each["component"]).partition("-")[0], []).append(each["pid"])

    def signal(self, kind: str, number: signal.Signals) -> None:
        """Send a signal to both processes of a kind."""
        for pid in self._pids.get(kind, ()):
            os.kill(pid, number)

    def seconds(self, *kinds: str) -> float:
        """Processor seconds that these kinds of processes, by default all, have used so far, to the nanosecond."""
        pids = [pid for kind in kinds or self._pids for pid in self._pids[kind]]
        return sum(_run_time(pid) for pid in pids)

    def arrived(self) -> int:
        """Bytes that came out of the tunnel at the far end."""
        net = pathlib.Path(f"/proc/{self._pids['supervisor'][1]}/net/dev").read_text()
        line = next(line for line in net.splitlines() if line.strip().startswith(f"pq-{self.name}:"))
        return int(line.partition(":")[2].split()[0])


def _run_time(pid: int) -> float:
    """Seconds that all threads of a process have run. Raises OSError when it is gone, which makes the figures worthless."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


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


class Off(_Pair):
    """No telemetry at all but the lines on standard error."""

    name, network, port = "off", 12, 51822

    def settings(self) -> dict[str, dict[str, object]]:
        return {**super().settings(), "telemetry": {"enabled": False}}


@dataclass(frozen=True)
class Plan:
    """How much is measured; `seconds` of each slot. `null`: the observers run in both."""

    least: int
    most: int
    seconds: float
    null: bool


@dataclass
class Results:
    """What was measured. `facts`: how much of a second control and the supervisor, both
    ends, run in a second, by pair. `whole`: the same of all processes of the pair with telemetry."""

    rounds: list[dict[str, Flow]] = field(default_factory=list)
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    facts: dict[str, float] = field(default_factory=dict)
    whole: float = 0.0

    @property
    def extra(self) -> float:
        """What writing facts adds to the CPU of all processes, as a share; below zero is luck and counts as nothing."""
        return max(0.0, self.facts["on"] - self.facts["off"]) / self.whole


@contextlib.contextmanager
def _stream(pair: _Pair) -> Iterator[None]:
    """One TCP connection at full rate from the near to the far end."""
    near, far = pair.ends
    port = str(measures.IPERF_PORT)
    with contextlib.ExitStack() as stack:
        server = far.popen(["iperf3", "-s", "-p", port], stdout=subprocess.DEVNULL)
        stack.callback(_end, server)
        wait_for("iperf3 to listen", lambda: far.run(["ss", "-Hltn", f"sport = {port}"]).stdout)
        client = near.popen(["iperf3", "-c", pair.far, "-p", port, "-t", "86400"], stdout=subprocess.DEVNULL)
        stack.callback(_end, client)
        before = pair.arrived()
        wait_for("bytes to arrive", lambda: pair.arrived() > before + (100 << 20))
        yield


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _slot(pair: _Pair, seconds: float) -> Flow:
    """Rate and CPU over some seconds. Raises MeasureError when the connection stands still."""
    time.sleep(_SETTLE)
    at, arrived, used = time.monotonic(), pair.arrived(), pair.seconds()
    time.sleep(seconds)
    took, arrived, used = time.monotonic() - at, pair.arrived() - arrived, pair.seconds() - used
    if arrived < 1 << 20:
        raise MeasureError(f"hardly a byte came through {pair.name!r}")
    return Flow(arrived * 8 / took / 1e9, used / (arrived / 1e9))


def _round(number: int, pair: _Pair, plan: Plan) -> dict[str, Flow]:
    """A slot with and one without the observers; which is first changes from round to round."""
    made = {}
    for name in ("on", "off") if number % 2 == 0 else ("off", "on"):
        if name == "off" and not plan.null:
            pair.signal("observer", signal.SIGSTOP)
        made[name] = _slot(pair, plan.seconds)
        pair.signal("observer", signal.SIGCONT)
    return made


def _facts(pair: _Pair, seconds: float) -> float:
    """How much of a second control and the supervisor run in a second of full load."""
    with _stream(pair):
        at, used = time.monotonic(), pair.seconds(*_FACTS)
        time.sleep(seconds)
        return (pair.seconds(*_FACTS) - used) / (time.monotonic() - at)


def _start(pair: _Pair) -> None:
    pair.prepare()
    if isinstance(pair, On):
        pair.start_collectors()
    pair.start()
    time.sleep(_WARM)
    has = any(each["component"] == "observer" for each in pair.nodes[0].status()["processes"])
    if has is not isinstance(pair, On):
        raise LabError(f"the nodes of {pair.name!r} have {'an' if has else 'no'} observer")
    pair.settle()


def _rounds(pair: On, plan: Plan, results: Results) -> None:
    with _stream(pair):
        at, used = time.monotonic(), pair.seconds()
        for number in range(plan.most):
            results.rounds.append(_round(number, pair, plan))
            results.whole = (pair.seconds() - used) / (time.monotonic() - at)
            verdicts = judge(results.rounds, results.extra)
            if number % 5 == 4:
                print(f"round {number + 1}: {'; '.join(str(verdict) for verdict in verdicts)}", flush=True)
            looked = number + 1 >= plan.least and (number + 1) % _LOOK_EVERY == 0
            if looked and all(verdict.decided for verdict in verdicts):
                return


def measure(plan: Plan, lab: Lab) -> Results:
    """All rounds, until the bars are decided. Raises LabError, MeasureError or OSError when a process ends meanwhile."""
    results = Results()
    near, far = lab.namespace("near"), lab.namespace("far")
    link: Link = lab.link(near, far, [f"{OUTER[0]}/24"], [f"{OUTER[1]}/24"])
    off, on = Off(lab, link), On(lab, link)
    for pair in (off, on):
        _start(pair)
        results.facts[pair.name] = _facts(pair, _FACTS_SECONDS)
        if pair is off:
            pair.stop()
    try:
        _rounds(on, plan, results)
    finally:
        on.stop()
    return results


def _write(plan: Plan, results: Results, verdicts: Sequence[Verdict]) -> None:
    RESULT.parent.mkdir(exist_ok=True)
    document = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "kernel": os.uname().release, "load_before": results.load},
        "plan": asdict(plan),
        "verdicts": [each.as_dict() for each in verdicts],
        "medians": summary(results.rounds),
        "control_and_supervisor_per_second": results.facts,
        "share_of_writing_facts": results.extra,
        "rounds": [{name: asdict(flow) for name, flow in each.items()} for each in results.rounds],
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.telemetry", description="Measure what telemetry costs.")
    parser.add_argument("--least", type=int, default=60, help="rounds at least (default: 60, some 4 minutes)")
    parser.add_argument(
        "--most", type=int, default=240, help="rounds at most, until the bars are decided (default: 240)"
    )
    parser.add_argument("--seconds", type=float, default=1.8, help="of each slot (default: 1.8)")
    parser.add_argument("--null", action="store_true", help="on against on: the error of the method")
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
    except (LabError, MeasureError, WaitTimeoutError, OSError) as error:
        print(f"Nothing was measured: {error}", file=sys.stderr)
        return 1
    verdicts = judge(results.rounds, results.extra)
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
    told = ", ".join(f"{1000 * share:.2f} ms a second with telemetry {name}" for name, share in results.facts.items())
    print(f"Control and supervisor, both ends: {told}: {results.extra:.2%} of all CPU, counted above.")
    if results.load > 0.5 * (os.cpu_count() or 1):
        print(f"The machine was busy before (load {results.load:.1f}): take the ratios with care.")


if __name__ == "__main__":
    sys.exit(main())
