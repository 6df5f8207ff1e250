"""`python -m bench.resilience`: every process of a node killed under TCP at full rate, in turn, again and again.

Two connections run through the tunnel all the time. Each fault is done `--times` times to each kind of process, on the
sending and on the receiving node by turns; the supervisor, whom only a service manager replaces, comes last. Bars: no
connection lost; no pause above 100 ms when a lane is killed, none above 2 s when a process hangs (until it is found), none
above the flow's own noise when control is killed; no counter used twice and no plaintext on the outer link, by captures of
it. Noise is what undisturbed windows of the same run have: one of the same length stands before each fault, and a rank-sum
test compares them. The observer and the spare have the bar of lanes: no packet waits for them, but on a machine without a
free core their successors' start costs the flow some milliseconds.

Faults: SIGKILL, SIGSEGV, SIGSTOP, and no more memory (by a cgroup, else RLIMIT_AS).
Exit code: 0 when all bars are met; 1 when one is missed; 75 when only bars are missed that undisturbed windows miss as well
(the machine is too busy); 69 when nothing can be measured here.
"""

import argparse
import datetime
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from dataclasses import asdict

from bench.resilience_figures import Evidence, Sample, Verdict, judge, rows
from lab.faults import KINDS
from lab.namespaces import Lab, LabError
from lab.obstacles import obstacle
from lab.resilience import TARGETS, Stage, disturb, kill_supervisor, stage
from lab.stream import MARKER
from lab.streams import Streams
from lab.waiting import WaitTimeoutError

RESULT = pathlib.Path(__file__).resolve().parent / "results" / "resilience.json"
_SUPERVISOR_KINDS = ("kill", "segv", "stop")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.resilience", description="Kill everything, under load.")
    parser.add_argument(
        "--times", type=int, default=20, help="each fault of each process (default: 20, some 30 minutes)"
    )
    parser.add_argument("--flows", type=int, default=2, help="TCP connections (default: 2)")
    parser.add_argument("--targets", default=",".join((*TARGETS, "supervisor")), help="which processes")
    parser.add_argument("--faults", default=",".join(KINDS), help="which faults")
    return parser


def _measure(there: Stage, streams: Streams, options: argparse.Namespace) -> list[Sample]:
    samples = []
    targets, kinds = options.targets.split(","), options.faults.split(",")
    for time in range(options.times):
        node = there.nodes[time % 2]
        for target in (t for t in targets if t != "supervisor"):
            for kind in kinds:
                outcome = disturb(streams, node, target, kind)
                samples.append(Sample(target, kind, outcome.pause, outcome.quiet, outcome.replaced))
                _show(node.name, samples[-1], outcome.how)
    for time in range(options.times if "supervisor" in targets else 0):
        node = there.nodes[time % 2]
        for kind in (k for k in kinds if k in _SUPERVISOR_KINDS):
            outcome = kill_supervisor(streams, node, kind)
            samples.append(Sample("supervisor", kind, outcome.pause, outcome.quiet, outcome.replaced))
            _show(node.name, samples[-1], outcome.how)
    return samples


def _show(node: str, sample: Sample, how: str) -> None:
    print(
        f"  {node:<6} {sample.target:<10} {how:<34} pause {sample.pause * 1e3:7.1f} ms   undisturbed "
        f"{sample.quiet * 1e3:6.1f} ms   replaced after {sample.replaced:6.3f} s",
        flush=True,
    )


def _report(samples: Sequence[Sample], verdicts: Sequence[Verdict], evidence: Evidence, rate: float) -> None:
    print(f"\n{'process':<11}{'fault':<8}{'times':>6}{'pause: median':>15}{'longest':>10}{'undisturbed longest':>21}")
    for row in rows(samples):
        middle = row.pauses[len(row.pauses) // 2]
        figures = f"{middle * 1e3:>12.1f} ms{row.pauses[0] * 1e3:>7.1f} ms{row.quiet[0] * 1e3:>18.1f} ms"
        print(f"{row.target:<11}{row.fault:<8}{len(row.samples):>6}{figures}")
    print(f"\nRate: {rate:.0f} Mbit/s on average.")
    for verdict in verdicts:
        print(f"  {'met   ' if verdict.met else 'missed'} {verdict.text}")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    content = {
        "made": made,
        "mbit_per_second": round(rate),
        "samples": [asdict(sample) for sample in samples],
        "evidence": asdict(evidence),
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    print(f"Written: {RESULT}")


def _run(lab: Lab, options: argparse.Namespace) -> list[Verdict]:
    with stage(lab, (MARKER,)) as there:
        began = datetime.datetime.now(datetime.UTC)
        with Streams(there.alpha, there.beta, options.flows) as streams:
            samples = _measure(there, streams, options)
        seconds = (datetime.datetime.now(datetime.UTC) - began).total_seconds()
    full, *others = there.wires
    evidence = Evidence(
        lost=streams.lost,
        reused=full.reused,
        foreign=sum(w.foreign for w in others),
        readable=sum(w.hits[MARKER] for w in there.wires),
        example=next((w.first_foreign.hex() for w in others if w.first_foreign), ""),
        marks=full.marks,
        uncaptured=full.dropped,
        kept=not any(w.dropped for w in others),
    )
    verdicts = judge(samples, evidence)
    _report(samples, verdicts, evidence, streams.bytes * 8 / seconds / 1e6)
    return verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    options = _parser().parse_args(arguments)
    if found := obstacle():
        print(f"No measurement is possible here: {found}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    with Lab() as lab:
        try:
            verdicts = _run(lab, options)
        except (LabError, WaitTimeoutError, OSError) as error:
            print(f"bar missed: the nodes did not recover: {error}", file=sys.stderr)
            for log in sorted(lab.folder.glob("*/log")):
                print(f"\nEnd of {log.parent.name}'s log:\n{log.read_text()[-3000:]}", file=sys.stderr)
            return 1
    unmet = [verdict for verdict in verdicts if not verdict.met]
    for verdict in unmet:
        print(f"bar missed: {verdict.text}", file=sys.stderr)
    if unmet and all(verdict.noise for verdict in unmet):
        print("Undisturbed windows miss the same bars: this machine is too busy to tell.", file=sys.stderr)
        return os.EX_TEMPFAIL
    return 1 if unmet else 0


if __name__ == "__main__":
    sys.exit(main())
