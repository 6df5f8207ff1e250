"""Nodes in which functions raise by request: `python -m tests.netns.injected CONFIG SOCKET`, in the node's namespace.

Owns one process that has imported everything, and forks a node for each connection: a start costs what a start costs, and no
imports. Says what was called, has what is named raise, and says how often it did. `Stage` is the other side of it.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from types import TracebackType
from typing import Any, Self

from lab import wait_for
from lab.nodes import ROOT, Node
from pqvpn.telemetry import jsonlog
from pqvpn.telemetry.logfiles.repeats import Repeats
from tests.unit.faulting import Target, raising, targets, watching

SCOPE = ("pqvpn.host", "pqvpn.control", "pqvpn.telemetry")
_QUICK = {
    "pqvpn.node.spare": {"AFTER": 0.05, "_LONGEST": 0.2, "_LIVED": 0.0},
    "pqvpn.node.mending": {"_FIRST": 0.05, "_LONGEST": 0.1},
    "pqvpn.node.sockets": {"_FIRST": 0.05, "_LONGEST": 0.1},
    "pqvpn.node.watch": {"_LONGEST": 0.2, "_SHARE": 1.0},
    "pqvpn.resilience.supervisor": {"_AGAIN": 0.1},
    "pqvpn.resilience.boundary": {"TELL_EVERY": 0.0, "PAUSE": 0.005},
}
"""Seconds of the supervisor's patience, which a campaign does not have: how long, and nothing else."""
_LARGEST = 1 << 20


def main() -> None:
    """Fork a node for each connection, one at a time."""
    config, place = sys.argv[1:]
    known = {str(target): target for target in targets(*SCOPE)}
    for name, values in _QUICK.items():
        vars(importlib.import_module(name)).update(values)
    importlib.import_module("pqvpn.node.entry")
    jsonlog._output.repeats = Repeats(burst=sys.maxsize)  # the same fault again and again is what is looked at
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(place)
        listener.listen()
        while True:
            asked, _ = listener.accept()
            if (pid := os.fork()) == 0:
                listener.close()
                _become(asked, config, known)
            _, status = os.waitpid(pid, 0)
            with asked, contextlib.suppress(OSError):
                asked.send(json.dumps({"exit": os.waitstatus_to_exitcode(status)}).encode())


def _become(asked: socket.socket, config: str, known: dict[str, Target]) -> None:
    """Be a node as `pqvpn up` is, in a process of its own that answers to the stage."""
    from pqvpn.cli import main as cli

    first = json.loads(asked.recv(_LARGEST))
    log = os.open(first["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    asked.send(json.dumps({"pid": os.getpid()}).encode())
    code = os.EX_SOFTWARE
    with contextlib.ExitStack() as stack:
        reached = stack.enter_context(watching(known.values())) if first["watch"] else set()
        raised = stack.enter_context(raising(known[first["target"]], *first["kinds"])) if first["target"] else []
        threading.Thread(target=_answer, args=(asked, known, reached, raised), daemon=True).start()
        try:
            cli.run(["up", "--config", config])
        except SystemExit as ended:
            code = int(ended.code or 0)
        asked.send(json.dumps({"last": sorted(map(str, reached))}).encode())
    sys.stderr.flush()
    os._exit(code)


def _answer(asked: socket.socket, known: dict[str, Target], reached: set[Target], raised: list[str]) -> None:
    with contextlib.ExitStack() as held:
        while message := asked.recv(_LARGEST):
            request = json.loads(message)
            if request["op"] == "inject":
                held.close()
                raised = held.enter_context(raising(known[request["target"]], *request["kinds"]))
            elif request["op"] == "release":
                held.close()
            said = {"raised": raised, "reached": sorted(map(str, reached)), "open": _open()}
            asked.send(json.dumps(said).encode())
            if request["op"] == "reached":
                reached.clear()


def _open() -> int:
    """How many descriptors this process has; /proc/self is not for one that may not be inspected."""
    gc.collect()  # what hangs on an error that was told
    count = 0
    for number in range(1024):
        with contextlib.suppress(OSError):
            os.fstat(number)
            count += 1
    return count


class Stage:
    """The process that forks `node`, whose own `start` is not used."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._place = node.folder / "stage"
        self.process = node.namespace.popen(
            [sys.executable, "-m", "tests.netns.injected", str(node.config), str(self._place)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        wait_for("the stage", self._place.is_socket, 30.0)

    def run(self, target: str = "", *kinds: str, watch: bool = False) -> "Run":
        """Start a node; `target` raises from the beginning."""
        return Run(self, {"log": str(self.node.log_file), "target": target, "kinds": kinds, "watch": watch})


class Run:
    """One life of the node."""

    def __init__(self, stage: Stage, first: dict[str, Any]) -> None:
        self.node = stage.node
        self.began = len(self.node.log())
        self.last: set[str] = set()
        self.held = 0  # descriptors that it had open, at most, when it was whole
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.connect(str(stage._place))
        self._link.settimeout(30.0)
        self._link.send(json.dumps(first).encode())
        self.pid: int = json.loads(self._link.recv(_LARGEST))["pid"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._link.close()

    def ask(self, operation: str, target: str = "", *kinds: str) -> dict[str, Any]:
        """One request of the node's thread. Raises EOFError when it has ended."""
        self._link.send(json.dumps({"op": operation, "target": target, "kinds": kinds}).encode())
        answer = json.loads(self._link.recv(_LARGEST) or b"{}")
        if "raised" not in answer:
            raise EOFError(f"the node ended: {answer}")
        return dict(answer)

    def wait(self, seconds: float) -> int | None:
        """The exit code when it ends within that time."""
        while select.select([self._link], [], [], seconds)[0]:
            said = json.loads(self._link.recv(_LARGEST))
            if "exit" in said:
                return int(said["exit"])
            self.last = set(said.get("last", ()))
        return None

    def comes_up(self, seconds: float = 20.0) -> int | None:
        """Wait until it runs (None), or has ended (its exit code)."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if (code := self.wait(0.02)) is not None:
                return code
            if any(record["event"] == "node.started" for record in self.told()):
                return None
            with contextlib.suppress(OSError):  # what tells may be what fails
                if self.node.status()["node"]["state"] == "running":
                    return None
        raise TimeoutError(f"neither up nor ended:\n{self.log()[-3000:]}")

    def end(self, seconds: float = 10.0) -> int:
        """SIGTERM, and its exit code."""
        os.kill(self.pid, signal.SIGTERM)
        code = self.wait(seconds)
        assert code is not None, f"it does not end:\n{self.log()[-3000:]}"
        return code

    def log(self) -> str:
        """What it wrote."""
        return self.node.log()[self.began :]

    def told(self) -> list[dict[str, Any]]:
        """The records among that."""
        found = []
        for line in self.log().splitlines():
            with contextlib.suppress(ValueError):
                found.append({"event": "", "code": "", **json.loads(line)})
        return found


if __name__ == "__main__":
    main()
