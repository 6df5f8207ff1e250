"""A node one of whose processes fails on demand: `python -m tests.crashserver.injecting TRIGGERS up --config FILE`.

Owns the faults, and how they get into processes that are started without this folder on their path: each child runs this
file first. A fault strikes when its file appears in the folder TRIGGERS. Every exception's text is the file's content: a
canary that no report may hold. Four conditions last for as long as their file is there: `clock` (the wall clock shows another
hour), `crypto` (ML-KEM gives wrong secrets), `leak` (the observer takes more and more memory, as the file says) and `kernel`
(the supervisor hears no answer of the kernel about its interface).
"""

import runpy
import sys
import threading
import time
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

    def lasts(self, name: str) -> str:
        """What the file of a condition says, for as long as it is there."""
        try:
            return (self._folder / name).read_text()
        except OSError:
            return ""

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


class Leak:
    """Memory that is held while the condition lasts: `leak` says how many MiB a second, and how many at most."""

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger
        self._held: list[bytes] = []
        self._since = 0.0

    def look(self) -> None:
        """Take what is due by now, or give everything back."""
        if not (told := self._trigger.lasts("leak")):
            self._held.clear()
            return
        rate, most = map(int, told.split())
        if not self._held:
            self._since = time.monotonic()
        due = min(most, max(1, int(rate * (time.monotonic() - self._since))))
        self._held.extend(b"\x01" * (1 << 20) for _ in range(due - len(self._held)))


def clock(trigger: Trigger) -> None:
    """What control reads as the time of day."""
    from pqvpn.control import watch

    made = watch.Watch.__init__

    def shifted(self: watch.Watch, *given: Any) -> None:
        made(self, *given)
        self._wall = lambda: time.time() + (3600.0 if trigger.lasts("clock") else 0.0)

    watch.Watch.__init__ = shifted  # type: ignore[method-assign]


def crypto(trigger: Trigger) -> None:
    """A library that gives wrong answers; the next self-test is due at once, instead of within a minute."""
    from pqvpn.control import watch
    from pqvpn.crypto import selftest, xwing

    class Wrong:
        """A private key of ML-KEM whose secrets are wrong while the condition lasts."""

        def __init__(self, key: Any) -> None:
            self._key = key

        def __getattr__(self, name: str) -> Any:
            return getattr(self._key, name)

        def decapsulate(self, ciphertext: bytes) -> bytes:
            secret = bytes(self._key.decapsulate(ciphertext))
            return bytes(len(secret)) if trigger.lasts("crypto") else secret

        @staticmethod
        def from_seed_bytes(seed: bytes) -> "Wrong":
            return Wrong(right.from_seed_bytes(seed))

        @staticmethod
        def generate() -> "Wrong":
            return Wrong(right.generate())

    right, tick = selftest.MLKEM768PrivateKey, watch.Watch.tick

    def hurried(self: watch.Watch, late: float) -> None:
        if trigger.lasts("crypto") and not self._failed:
            self._checked_at -= self.crypto_every
        tick(self, late)

    for module in (selftest, xwing):
        module.MLKEM768PrivateKey = Wrong  # type: ignore[attr-defined]
    watch.Watch.tick = hurried  # type: ignore[method-assign]


def self_test(trigger: Trigger) -> None:
    """A library that never comes back, once."""
    from pqvpn.crypto import selftest

    right = selftest.TESTS[selftest.HKDF]

    def hanging() -> bool:
        if trigger.asked("self-test"):
            threading.Event().wait()
        return right()

    selftest.TESTS[selftest.HKDF] = hanging


def kernel(trigger: Trigger) -> None:
    """Sockets that hear no answer."""
    from pqvpn.host.netlink import Interface
    from tests.deaf import deafen

    asking = Interface._asking

    def silent(self: Interface, *given: Any) -> Any:
        if trigger.lasts("kernel"):
            deafen(self._netlink)
        return asking(self, *given)

    Interface._asking = silent  # type: ignore[method-assign]


def control(trigger: Trigger) -> None:
    import asyncio

    from pqvpn.control.process import ControlProcess
    from pqvpn.errors import PqvpnError
    from pqvpn.host.clock import now
    from pqvpn.protocol.core import Core
    from pqvpn.reasons import Reason

    tick, read, made = Core.tick, ControlProcess._read_icmp, ControlProcess.__init__

    def starting(self: ControlProcess, *given: Any) -> None:
        if trigger.asked("control-start"):
            raise PqvpnError(Reason.INTERNAL, "as a start that fails does")
        made(self, *given)

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
    ControlProcess.__init__ = starting  # type: ignore[method-assign]
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
    leak = Leak(trigger)

    def failing(self: Checks, *given: Any) -> None:
        leak.look()
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
    "pqvpn.control": (control, clock, crypto, self_test),
    "pqvpn.dataplane": (lane,),
    "pqvpn.control.spare": (control, clock, crypto, self_test, lane),
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
    kernel(trigger)
    from pqvpn.cli.main import run

    run([first, *rest])


if __name__ == "__main__":
    main()
