"""Every public function that the observer calls raises while it works: it lives, goes on, tells by code, and tells no text.

Its class of errors is `drop` (docs/reasons.md): what failed costs its record, which is told or counted, and nothing else.
"""

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from faulting import CANARY, KINDS, PACKAGES, Target, raising, targets, watching
from observer_rig import House, Observer, alone

from pqvpn.facts import Crashed, Fact, Problem
from pqvpn.observer.process import ObserverProcess
from pqvpn.telemetry.store import Store
from tests.canary.canaries import Canary, contents, report, search

SCOPE = (*PACKAGES, "pqvpn.observer")
BOUNDARY = {"observer.faults.Faults.boundary", "observer.faults.Faults.tell"}
"""What everything ends at, and nothing is behind: where that fails the process ends, and is started again."""
SILENT = {
    "host.clock.now": "without a clock nothing can be told",
    "observer.http.Application.__call__": "Uvicorn answers 500",
    "observer.pacing.BreakerPacing.due": "shown as the delivery's state, which health tells",
    "observer.process.ObserverProcess.publish": "it is what tells",
    "telemetry.crashes.limits.Limits.dump": "limits that are not kept begin anew",
}
"""What may fail without a problem, a count or a line of its own, and why. What redacts fails closed instead."""


class Observed:
    """An observer under attack, and what it told of it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.observer = Observer(house)
        self.told: list[Fact] = []
        self.lines = _Ear()
        logging.getLogger().addHandler(self.lines)
        process = self.observer.process
        publish = process.publish

        def heard(fact: Fact) -> None:
            self.told.append(fact)
            publish(fact)

        process.publish = process._crash._publish = process._faults._publish = heard  # type: ignore[method-assign]

    def begin(self) -> None:
        """Forget what was told, and what may not be told again so soon."""
        self.told.clear()
        self.lines.count = 0
        process = self.observer.process
        process._faults._places.clear()
        process._crash._limits._seen.clear()
        self._before = self.counts()

    def counts(self) -> tuple[int, ...]:
        """Everything that is counted instead of told."""
        keeping = self.observer.process._keeping
        states = [each._state for each in (keeping.records._drainer, keeping.crashes._drainer) if each]
        sending = [number for state in states for number in (state.failed, state.refused, state.reachable is False)]
        return (sum(keeping.records._signals.lost.values()), keeping.crashes._recorder.failed, *sending)

    def noticed(self) -> bool:
        """Whether there is any sign of what failed."""
        return (
            any(isinstance(fact, Problem) for fact in self.told)
            or self.counts() != self._before
            or bool(self.lines.count)
        )

    def dead(self) -> list[str]:
        """What does not live of all that an observer is."""
        names = [thread.name for thread in threading.enumerate()]
        running = [str(task.get_coro()) for task in asyncio.all_tasks()]
        parts = {"disk": names.count("disk") == 1, "drainers": names.count("drainer") == 2}
        parts["process"] = not self.observer.running.done()
        parts["timers"] = sum(ObserverProcess._every.__qualname__ in name for name in running) == TIMERS
        parts["servers"] = sum(ObserverProcess._serve.__qualname__ in name for name in running) == 2
        return [name for name, lives in parts.items() if not lives]


TIMERS = len(("flush", "metrics", "lag", "checks", "last"))


class _Ear(logging.Handler):
    """Counts lines of libraries, which are no facts."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += not hasattr(record, "fact")


async def inject(seen: Observed, target: Target, asks: bool) -> list[str]:
    """Have one function raise while the observer works; what is wrong with its state, or with what it told."""
    seen.begin()
    drives, answers, wrong = 0, b"", []
    with raising(target, *KINDS) as raised:
        while len(raised) < len(KINDS) and drives < len(KINDS):
            answers += b"".join(await seen.observer.drive(asks))
            drives += 1
    problems = {
        fact.reason for fact in seen.told if isinstance(fact, Problem) and fact.component.startswith("observer")
    }
    crashes = {fact.error for fact in seen.told if isinstance(fact, Crashed)}
    closed = (
        {"KeyError"} if target.module.startswith("pqvpn.telemetry.redaction") else set()
    )  # of a report without a name
    if foreign := problems - {target.told(kind) for kind in KINDS}:
        wrong.append(f"told as {foreign}")
    if foreseen := crashes - {"RuntimeError"} - closed:
        wrong.append(f"reported as crashes: {foreseen}")
    if CANARY in repr(seen.told) or CANARY.encode() in answers:
        wrong.append("the text was told")
    redacts = target.module.startswith("pqvpn.telemetry.redaction")
    if raised and not seen.noticed() and str(target) not in SILENT and not redacts:
        wrong.append("nothing was told or counted")
    if dead := seen.dead():
        wrong.append(f"does not live: {dead}")
    return [f"{target}: {each}" for each in wrong]


async def survey(house: House) -> tuple[set[Target], set[Target]]:
    """What an observer calls from its start to its end, and what of it without being asked."""
    with watching(targets(*SCOPE)) as reached:
        observer = Observer(house)
        await observer.drive()
        await observer.drive()
        assert await observer.end() is None
    with watching(targets(*SCOPE)) as working:
        observer = Observer(house)
        await observer.drive(asks=False)
        await observer.end()
    return reached, working


async def campaign(house: House) -> tuple[list[str], int]:
    """(what is wrong, how many functions were met)."""
    reached, unasked = await survey(house)
    seen, wrong = Observed(house), []
    await seen.observer.drive()
    for target in sorted(t for t in reached if str(t) not in BOUNDARY):
        wrong += await inject(seen, target, target not in unasked)
        if seen.dead():
            return wrong, 0
    await seen.observer.drive()  # undisturbed: everything is done again
    answers = await seen.observer.answers()
    assert [answer[9:12] for answer in answers[:4]] == [b"200"] * 4
    assert await seen.observer.end() is None
    return wrong, len(reached)


def scenario(folder: Path, do: Any) -> Any:
    """Something with a house of its own, alone in this process."""

    async def run() -> Any:
        house = House(folder)
        try:
            return await do(house)
        finally:
            house.close()

    with alone():
        return asyncio.run(run())


def check(folder: Path, capfd: pytest.CaptureFixture[str], **secrets: bytes) -> None:
    """Nothing secret is in any file, compressed or not, or on standard error."""
    canaries = [Canary(name, raw) for name, raw in secrets.items()] + [Canary.of_text("text", CANARY)]
    sinks = contents(folder / "state") | {"stderr": capfd.readouterr().err.encode()}
    assert report(search(canaries, sinks)) == ""
    assert len(sinks) > 10


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # an observer's end is its process's: it closes nothing
@pytest.mark.slow
def test_the_observer_goes_on_whatever_raises(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kept: dict[str, bytes] = {}

    async def do(house: House) -> tuple[list[str], int, int, int]:
        kept.update(house.secrets)
        wrong, met = await campaign(house)
        return wrong, met, len(house.collector.received), len(house.crashes.ids)

    wrong, met, received, reported = scenario(tmp_path, do)
    assert wrong == []
    assert met > 200
    assert received > 10
    assert reported > 10
    assert len(list(Store(tmp_path / "state").logs())) > 10
    check(tmp_path, capfd, **{name.replace(" ", "_"): raw for name, raw in kept.items()})
