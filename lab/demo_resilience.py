"""`make demo-resilience`: a tunnel carries on while its processes are killed, crash, hang and run out of memory.

Owns the story and its words; what is done stands in `resilience.py` and `faults.py`. `make bench-resilience` is the same
in numbers, with bars.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from lab.demo import Story
from lab.faults import KINDS
from lab.namespaces import Lab, LabError
from lab.obstacles import obstacle
from lab.resilience import TARGETS, Stage, disturb, kill_supervisor, stage
from lab.stream import MARKER
from lab.streams import Streams
from lab.waiting import WaitTimeoutError

_WHAT = {
    "lane": "A lane, which moves the packets",
    "control": "Control, which shakes hands and holds the keys' book",
    "observer": "The observer, which records",
    "spare": "The spare, which waits to replace the others",
}


def perform(story: Story, lab: Lab, times: int) -> list[str]:
    """The whole demonstration; what is not as it has to be."""
    story.step("Two machines, a tunnel, and two TCP connections through it at full rate")
    with stage(lab, (MARKER,)) as there:
        with Streams(there.alpha, there.beta, 2) as streams:
            _kill_everything(story, there, streams, times)
        story.step("What became of the connections, and what the outer link showed")
        full, near, far = there.wires
    story.say(f"{streams.bytes >> 20} MiB arrived as they were sent; connections lost: {len(streams.lost)}")
    story.say(f"{full.marks} transport packets seen outside; counters used twice: {full.reused}")
    story.say(f"Packets outside that were not the tunnel's: {near.foreign + far.foreign}")
    readable = sum(wire.hits[MARKER] for wire in there.wires)
    story.say(f"Packets outside in which what was sent could be read: {readable}")
    wrong = [*streams.lost]
    wrong += [f"{full.reused} counters were used twice"] if full.reused else []
    wrong += ["something was readable outside"] if readable or near.foreign or far.foreign else []
    return wrong


def _kill_everything(story: Story, there: Stage, streams: Streams, times: int) -> None:
    for target in TARGETS:
        story.step(f"{_WHAT[target]}: killed, crashed, hung, out of memory")
        for time in range(times):
            node = there.nodes[time % 2]
            for kind in KINDS:
                done = disturb(streams, node, target, kind)
                after = f"replaced after {done.replaced:.2f} s" if done.replaced else "survived"
                pause = f"longest pause {done.pause * 1e3:6.0f} ms (undisturbed: {done.quiet * 1e3:.0f} ms)"
                story.say(f"{node.name:<6} {done.how:<42} {after:<23} {pause}")
    story.step("The supervisor itself; then `pqvpn up`, as a service manager would")
    done = kill_supervisor(streams, there.alpha, "kill")
    story.say(
        f"The connections went on: longest pause {done.pause:.1f} s. Until then the kernel refused every packet inside:\n"
        "the blocking routes outlive the node."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 when everything was as it has to be, 1 when not, 69 when this machine forbids it."""
    parser = argparse.ArgumentParser(prog="make demo-resilience", description="A tunnel that carries on.")
    parser.add_argument("--times", type=int, default=1, help="each fault of each process (default: 1, some 2 minutes)")
    options = parser.parse_args(arguments)
    if found := obstacle():
        print(f"The demonstration cannot run here: {found}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    story = Story()
    try:
        with Lab() as lab:
            wrong = perform(story, lab, options.times)
    except (LabError, WaitTimeoutError, OSError) as error:
        print(f"\nThe demonstration failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; everything is taken down.", file=sys.stderr)
        return 130
    for each in wrong:
        print(f"\nNot as it has to be: {each}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
