"""`python -m lab.chaos`: faults at random on two real nodes, until the time is over or an invariant does not hold.

After each fault: nothing readable outside and no counter used twice; both nodes whole and the same TCP connection going on
without help, within a time that follows from the protocol's timers; memory and descriptors back to what they were; and the
fault told in the node's log with its reason code.

examples:
  make chaos                                        ten minutes of everything, with a seed that is told
  make chaos CHAOS="--seed 7 --for 2h"              the same sequence each time
  make chaos CHAOS="--seed 7 --steps 12"            the first twelve faults of it
  make chaos CHAOS="--faults kill,stop --for 5m"    some faults only (a failure says how to have it again)
  make chaos CHAOS="--once"                         each fault of the table once, in its order
  make chaos CHAOS="--list"                         the table

exit code: 0 all invariants held; 1 one did not; 64 the command line is wrong; 69 no namespaces can be had here; 130 stopped.
"""

import argparse
import itertools
import os
import re
import secrets
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Final

from lab.chaos.faults import Fault
from lab.chaos.invariants import Base, ViolationError, check_captures
from lab.chaos.run import Step, plan, suffer
from lab.chaos.scene import Scene
from lab.chaos.table import BY_NAME, TABLE
from lab.namespaces import Lab, LabError
from lab.obstacles import obstacle
from lab.waiting import WaitTimeoutError

CONNECTION_LIVES: Final = 20
"""Faults that one connection has to survive before another one takes its place."""
_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_TAIL: Final = 3000


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9.]+)([smh]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is no duration such as 90s, 10m or 2h")
    return float(found[1]) * _UNITS[found[2]]


def _faults(text: str) -> tuple[Fault, ...]:
    unknown = [name for name in text.split(",") if name not in BY_NAME]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such fault: {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    return tuple(BY_NAME[name] for name in text.split(","))


def _parser() -> argparse.ArgumentParser:
    about, _, examples = (__doc__ or "").partition("\nexamples:")
    parser = argparse.ArgumentParser(
        prog="python -m lab.chaos",
        description=about,
        epilog=f"examples:{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="what the sequence follows from (default: a new one, which is told)")
    parser.add_argument("--for", type=_seconds, default=600.0, metavar="TIME", dest="time", help="default: 10m")
    parser.add_argument("--steps", type=int, help="end after so many faults")
    parser.add_argument("--faults", type=_faults, default=TABLE, metavar="NAME,...", help="only these")
    parser.add_argument("--once", action="store_true", help="each fault once, in the order of the table")
    parser.add_argument("--list", action="store_true", help="show the table")
    return parser


def _list() -> None:
    for each in TABLE:
        print(f"{each.name:<24}{each.text}; {' '.join(each.places)}".rstrip("; "))
        print(f"{'':<24}told: {', '.join(sorted(each.codes))}; healed by {each.healer.value}")


def _steps(options: argparse.Namespace) -> Iterable[Step]:
    steps: Iterable[Step] = plan(options.seed, options.faults)
    if options.once:
        steps = itertools.islice(steps, len(options.faults))
        steps = sorted(steps, key=lambda step: options.faults.index(step.fault))
    return itertools.islice(steps, options.steps) if options.steps else steps


def _run(scene: Scene, options: argparse.Namespace, done: list[Step]) -> None:
    base = Base(scene)
    for name, use in base.uses.items():
        print(f"  {name}: {use.memory >> 20} MiB, {sum(use.descriptors.values())} descriptors at rest", flush=True)
    began = time.monotonic()
    for number, step in enumerate(_steps(options), 1):
        if time.monotonic() - began >= options.time:
            break
        done.append(step)
        print(f"{time.monotonic() - began:8.1f} s  {number:>4}  {step!s:<44}", end=" ", flush=True)
        outcome = suffer(scene, base, step)
        print(
            f"{outcome.code} after {outcome.told_after:.1f} s, well {outcome.recovered_after:.1f} s later"
            f"  ({outcome.how})",
            flush=True,
        )
        if number % CONNECTION_LIVES == 0:
            scene.begin_streams()
            _check_lost(scene)
    scene.end_traffic()
    _check_lost(scene)
    check_captures(scene)


def _check_lost(scene: Scene) -> None:
    if scene.lost:
        raise ViolationError(f"a connection was lost: {'; '.join(scene.lost)}")


def _failed(options: argparse.Namespace, done: Sequence[Step], lab: Lab, error: Exception) -> None:
    print(f"\n\nDoes not hold: {error}", file=sys.stderr)
    for log in sorted(lab.folder.glob("*/log")):
        print(f"\nEnd of {log.parent.name}'s log:\n{log.read_text()[-_TAIL:]}", file=sys.stderr)
    print(f"\nSeed {options.seed}, after: {'; '.join(map(str, done)) or 'no fault'}", file=sys.stderr)
    names = f" --faults {','.join(options.named)}" if options.named else ""
    once = " --once" if options.once else ""
    print(
        f'Again: make chaos CHAOS="--seed {options.seed} --steps {len(done)} --for 24h{names}{once}"', file=sys.stderr
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as error:
        return os.EX_USAGE if error.code else 0
    if options.list:
        _list()
        return 0
    if found := obstacle():
        print(f"No chaos is possible here: {found}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    options.seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    options.named = () if options.faults == TABLE else tuple(each.name for each in options.faults)
    for each, why in [(each, why) for each in options.faults if (why := each.obstacle())]:
        print(f"Left out: {each.name}: {why}")
        options.faults = tuple(other for other in options.faults if other is not each)
    if not options.faults:
        return os.EX_UNAVAILABLE
    print(f"Seed {options.seed}", flush=True)
    done: list[Step] = []
    with Lab() as lab:
        try:
            with Scene(lab) as scene:
                _run(scene, options, done)
        except (ViolationError, LabError, WaitTimeoutError, OSError) as error:
            _failed(options, done, lab, error)
            return 1
        except KeyboardInterrupt:
            print(f"\nStopped after {len(done)} faults; everything is taken down.", file=sys.stderr)
            return 130
    print(f"\nAll invariants held: {len(done)} faults, seed {options.seed}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
