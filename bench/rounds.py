"""The rounds: contenders are started together and measured in turn, figure by figure.

The machine's speed may swing by a factor of two within minutes: what is compared is measured seconds apart, in an order that is
reversed from round to round, and only ratios within a round are compared.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from bench import measures
from bench.contenders import ALL, OUTER, Contender, Pqvpn, UnavailableError
from bench.figures import Round
from bench.measures import MeasureError
from lab.namespaces import Lab, LabError, Namespace
from lab.waiting import WaitTimeoutError, wait_for

_ATTACKER = "10.0.1.2"


@dataclass(frozen=True)
class Plan:
    """What to measure: `seconds` for each TCP flow, `packet_seconds` for each flood of small packets, `attack_rate` per s."""

    rounds: int
    seconds: float
    packet_seconds: float
    attack_rate: int
    contenders: tuple[str, ...]


@dataclass
class Results:
    """Everything measured so far. `left_out`: contender -> why; `parts`: of each start, by round; `load`: average before."""

    rounds: list[Round] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)
    load: float = field(default_factory=lambda: os.getloadavg()[0])


class Bench:
    """A laboratory with all contenders in it, for `run`."""

    def __init__(self, plan: Plan, lab: Lab) -> None:
        self._plan = plan
        self._results = Results()
        near, far = lab.namespace("near"), lab.namespace("far")
        self._link = lab.link(near, far, [f"{OUTER[0]}/24"], [f"{OUTER[1]}/24"])
        self._attacker = self._make_attacker(lab, far)
        self._iperf_server(far)
        self._contenders = self._prepare(lab)

    @staticmethod
    def _make_attacker(lab: Lab, far: Namespace) -> Namespace:
        attacker = lab.namespace("attacker")
        lab.link(attacker, far, [f"{_ATTACKER}/24"], ["10.0.1.1/24"])
        attacker.add_route(f"{OUTER[1]}/32", via="10.0.1.1")
        return attacker

    @staticmethod
    def _iperf_server(far: Namespace) -> None:
        server = far.popen(["iperf3", "-s", "--forceflush"], stdout=subprocess.DEVNULL)
        wait_for("iperf3 to listen", lambda: far.run(["ss", "-Hltn", f"sport = {measures.IPERF_PORT}"]).stdout)
        if server.poll() is not None:
            raise LabError("iperf3 -s ended")

    def _prepare(self, lab: Lab) -> list[Contender]:
        made = []
        for kind in ALL:
            if kind.name not in self._plan.contenders:
                continue
            contender = kind(lab, self._link)
            try:
                contender.prepare()
            except UnavailableError as error:
                self._results.left_out[kind.name] = str(error)
                print(f"Left out: {error}", flush=True)
                continue
            self._results.versions[kind.name] = contender.version()
            made.append(contender)
        return made

    def run(self) -> Results:
        """All rounds. A measurement that fails is told and left out of its round."""
        for number in range(self._plan.rounds):
            order = self._contenders if number % 2 == 0 else self._contenders[::-1]
            began = time.monotonic()
            self._results.rounds.append(self._round(order))
            self._tell(number, time.monotonic() - began)
        return self._results

    def _tell(self, number: int, seconds: float) -> None:
        print(f"round {number + 1} of {self._plan.rounds} ({seconds:.0f} s)", flush=True)
        for name, values in self._results.rounds[-1].items():
            print(f"  {name:<14}" + "  ".join(f"{key} {value:.3g}" for key, value in values.items()), flush=True)

    def _round(self, order: Sequence[Contender]) -> Round:
        values: Round = {contender.name: {} for contender in order}
        with ExitStack() as running:
            recorded: list[bytes] = []
            started = []
            for contender in order:
                running.callback(self._stop, contender)
                with self._link.b.capture(self._link.far, limit=1 << 20) as first_packets:
                    if self._try(values, contender, "start", partial(self._start, contender)):
                        started.append(contender)
                if isinstance(contender, Pqvpn):
                    recorded = measures.record_m1(first_packets.frames)
            self._measure(started, values)
            for contender in started:
                if isinstance(contender, Pqvpn):
                    self._try(values, contender, "attacked", partial(self._attacked, contender, recorded))
                self._try(values, contender, "pss", partial(self._memory, contender))
        return values

    def _stop(self, contender: Contender) -> None:
        try:
            contender.stop()
        except (LabError, OSError, subprocess.TimeoutExpired) as error:
            self._results.failures.append(f"{contender.name}, stop: {error}")

    def _start(self, contender: Contender) -> float:
        took, parts = measures.start(contender)
        if parts:
            self._results.parts.append(parts)
        return took

    @staticmethod
    def _memory(contender: Contender) -> float:
        return max(map(measures.memory, contender.pids()))

    def _attacked(self, contender: Contender, recorded: list[bytes]) -> float:
        if not recorded:
            raise MeasureError("no first handshake message was seen to replay")
        plan = self._plan
        return measures.attacked(contender, self._attacker, recorded, plan.attack_rate, plan.seconds)

    def _measure(self, contenders: Sequence[Contender], values: Round) -> None:
        plan = self._plan

        def one_flow(contender: Contender) -> float:
            flow = measures.tcp(contender, 1, plan.seconds)
            values[contender.name]["cpu"] = flow.cpu
            return flow.gbit

        steps: dict[str, Callable[[Contender], float]] = {
            "tcp1": one_flow,
            "tcp8": lambda c: measures.tcp(c, 8, plan.seconds).gbit,
            "udp64": lambda c: measures.udp(c, "64", "64", plan.packet_seconds),
            "mixed": lambda c: measures.udp(c, "40-88", "mixed", plan.packet_seconds),
            "rtt": measures.round_trip,
        }
        for key, step in steps.items():
            for contender in contenders:
                self._try(values, contender, key, partial(step, contender))

    def _try(self, values: Round, contender: Contender, key: str, measure: Callable[[], float]) -> bool:
        try:
            values[contender.name][key] = measure()
        except (MeasureError, LabError, WaitTimeoutError, OSError) as error:
            failure = f"{contender.name}, {key}: {error}"
            self._results.failures.append(failure)
            print(f"FAILED {failure}", flush=True)
            return False
        return True
