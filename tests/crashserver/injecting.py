"""A node one of whose processes fails on demand: `python -m tests.crashserver.injecting TRIGGERS up --config FILE`.

Owns the faults, and how they get into processes that are started without this folder on their path: each child runs this
file first. A fault strikes when its file appears in the folder TRIGGERS. Every exception's text is the file's content: a
canary that no report may hold.
"""

import runpy
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn


class Trigger:
    """Raises once for each appearance of its file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def pull(self, name: str, error: type[Exception] = ZeroDivisionError) -> None:
        """Fail now if somebody asked for it."""
        if text := self._taken(name):
            self._fail(text, error)

    def asked(self, name: str) -> str:
        """The canary, when somebody asked for this fault; once."""
        return self._taken(name)

    def _taken(self, name: str) -> str:
        path = self._folder / name
        try:
            text = path.read_text()
            path.unlink()
        except OSError:
            return ""
        return text

    def _fail(self, text: str, error: type[Exception]) -> NoReturn:
        secret = text
        raise error(f"the text of an exception: {secret}")


class _Dying:
    def __init__(self, trigger: Trigger, text: str) -> None:
        self._fail = trigger._fail
        self._text = text

    def __del__(self) -> None:
        self._fail(self._text, ArithmeticError)


class Deadly(BaseException):
    """What no boundary within a process catches."""


def control(trigger: Trigger) -> None:
    import asyncio

    from pqvpn.control.process import ControlProcess
    from pqvpn.host.clock import now
    from pqvpn.protocol.core import Core

    tick, read = Core.tick, ControlProcess._read_icmp

    def failing(self: Core, time: float) -> Any:
        trigger.pull("control")
        return tick(self, time)

    def beside(self: ControlProcess) -> None:
        if text := trigger.asked("thread"):
            threading.Thread(target=trigger._fail, args=(text, LookupError), name="a thread of ours").start()
        if text := trigger.asked("loop"):
            asyncio.get_running_loop().call_soon(trigger._fail, text, BufferError)
        if trigger.asked("memory"):
            self.do(lambda: [bytearray(1 << 30)])  # type: ignore[list-item]
        if text := trigger.asked("finaliser"):
            _Dying(trigger, text)
        if text := trigger.asked("control-dies"):
            self.ended.set()
            self.lanes.close = lambda: trigger._fail(text, RuntimeError)  # type: ignore[method-assign]
        self.do(lambda: self.core.tick(now()))
        read(self)

    Core.tick = failing  # type: ignore[method-assign]
    ControlProcess._read_icmp = beside  # type: ignore[method-assign]


def lane(trigger: Trigger) -> None:
    from pqvpn.dataplane.worker import Worker

    other = Worker._other

    def failing(self: Worker, fd: int) -> None:
        trigger.pull("lane")
        if text := trigger.asked("lane-dies"):
            raise Deadly(text)
        other(self, fd)

    Worker._other = failing  # type: ignore[method-assign]


def observer(trigger: Trigger) -> None:
    from pqvpn.observer.checks import Checks
    from pqvpn.observer.process import ObserverProcess

    check, run = Checks.check, ObserverProcess._from_supervisor

    def failing(self: Checks, *given: Any) -> None:
        trigger.pull("observer")
        check(self, *given)

    def dying(self: ObserverProcess) -> None:
        run(self)
        if text := trigger.asked("observer-dies"):
            self._goodbye = lambda _: trigger._fail(text, RuntimeError)  # type: ignore[method-assign]
            self._ended.set()

    Checks.check = failing  # type: ignore[method-assign]
    ObserverProcess._from_supervisor = dying  # type: ignore[method-assign]


def supervisor(trigger: Trigger, folder: str) -> None:
    """Have the node's children run this file, and the supervisor's own loop fail on demand."""
    from pqvpn.node import children
    from pqvpn.node.watch import InterfaceWatch

    start, look = children.subprocess.Popen, InterfaceWatch.look_if_due

    def injected(command: list[str], **options: Any) -> Any:
        place = command.index("-m")
        rest = [__file__, folder, *command[place + 1 :]]
        return start([*command[:place], *rest], **options)

    def failing(self: InterfaceWatch, *given: Any) -> None:
        trigger.pull("supervisor")
        look(self, *given)

    children.subprocess.Popen = injected  # type: ignore[misc, assignment]
    InterfaceWatch.look_if_due = failing  # type: ignore[method-assign]


_PATCHES = {
    "pqvpn.control": (control,),
    "pqvpn.dataplane": (lane,),
    "pqvpn.control.spare": (control, lane),
    "pqvpn.observer": (observer,),
}


def main() -> None:
    """Either the command line of a node, or one of its children."""
    folder, first, *rest = sys.argv[1:]
    trigger = Trigger(Path(folder))
    if first in _PATCHES:
        for patch in _PATCHES[first]:
            patch(trigger)
        sys.argv[1:] = rest
        runpy.run_module(first, run_name="__main__", alter_sys=True)
        return
    supervisor(trigger, folder)
    from pqvpn.cli.main import run

    run([first, *rest])


if __name__ == "__main__":
    main()
