"""TCP connections at full rate between two nodes, watched from here: whether one is lost, and how long each stands still.

Owns the two processes of `stream.py` and what they tell.
"""

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from lab.namespaces import LabError
from lab.nodes import ROOT, Node
from lab.waiting import wait_for

_END_SECONDS = 60.0


@dataclass(frozen=True)
class Pause:
    """One connection stood still for `seconds` until `until` (CLOCK_MONOTONIC)."""

    connection: int
    seconds: float
    until: float


class Streams:
    """`count` connections from one node to another while in the `with` block. `bytes` and `lost` are known afterwards.

    `rate`: bytes a second of each, 0: as fast as it goes.
    """

    def __init__(self, sender: Node, receiver: Node, count: int, port: int = 5201, rate: int = 0) -> None:
        self._sender, self._receiver, self._count, self._port = sender, receiver, count, port
        self._rate = rate
        self._told: dict[str, list[dict[str, Any]]] = {"receive": [], "send": []}
        self._grown = threading.Condition()
        self.lost: list[str] = []
        self.bytes = 0

    def __enter__(self) -> Self:
        self._in = self._start(self._receiver, "receive")
        wait_for("the receiver", lambda: self._told["receive"])
        self._out = self._start(self._sender, "send")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._out.terminate()
        for process in (self._out, self._in):
            if error is not None:
                process.kill()  # what is wrong is known already: nobody waits for an orderly end over a broken tunnel
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        for thread in self._threads:
            thread.join(_END_SECONDS)
        self._judge()

    def wait_flowing(self, timeout: float = 60.0) -> float:
        """Wait until every connection has received something since now; returns the time."""
        since = time.monotonic()

        def flow() -> bool:
            with self._grown:
                seen = {t["flows"] for t in self._told["receive"] if "flows" in t and t["at"] > since}
            return len(seen) == self._count

        wait_for("the connections to go on", flow, timeout)
        return time.monotonic()

    def longest(self, begin: float, end: float) -> float:
        """The longest pause, seconds, of any connection that overlaps the time from `begin` to `end`, all of it.

        One that is not over yet is seen when it is: call this when something arrived after `end`.
        """
        return max((p.seconds for p in self._between(begin, end)), default=0.0)

    def longest_within(self, begin: float, end: float) -> float:
        """The same, without what lies outside of that time."""
        found = (min(p.until, end) - max(p.until - p.seconds, begin) for p in self._between(begin, end))
        return max(found, default=0.0)

    def _between(self, begin: float, end: float) -> list[Pause]:
        with self._grown:
            return [p for p in self._pauses() if p.until > begin and p.until - p.seconds < end]

    def _pauses(self) -> list[Pause]:
        return [Pause(t["connection"], t["pause"], t["until"]) for t in self._told["receive"] if "pause" in t]

    def _start(self, node: Node, side: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "lab.stream", side, self._receiver.address, str(self._port)]
        command += ["--count", str(self._count), "--rate", str(self._rate)]
        process = node.namespace.popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        thread = threading.Thread(target=self._listen, args=(process, side), daemon=True, name=f"stream {side}")
        self._threads = [*getattr(self, "_threads", []), thread]
        thread.start()
        return process

    def _listen(self, process: "subprocess.Popen[str]", side: str) -> None:
        if process.stdout is None:
            raise LabError("no pipe")
        for line in process.stdout:
            with self._grown:
                self._told[side].append(json.loads(line))

    def _judge(self) -> None:
        ends = {
            side: {t["end"]: t for t in told if "end" in t and not t["broken"]} for side, told in self._told.items()
        }
        self.lost = [t["broken"] for told in self._told.values() for t in told if t.get("broken")]
        arrived = sorted((e["bytes"], e["crc"]) for e in ends["receive"].values())
        sent = sorted((e["bytes"], e["crc"]) for e in ends["send"].values())
        if len(arrived) < self._count and not self.lost:
            self.lost = ["a connection did not end"] * (self._count - len(arrived))
        elif arrived != sent and not self.lost:
            self.lost = ["what arrived is not what was sent"]
        self.bytes = sum(size for size, _ in arrived)


def rest(seconds: float) -> float:
    """Let the streams flow; the time when it is over, of their clock."""
    time.sleep(seconds)
    return time.monotonic()
