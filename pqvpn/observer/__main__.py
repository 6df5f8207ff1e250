"""Entry of the observer process: `python -m pqvpn.observer FD WORDS`: the supervisor's link, and where stacks are left.

Owns the order of first things: step back behind the tunnel's processes, read the start message, give privileges up, then
load and serve.
"""

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pqvpn.observer.start import ObserverStart

_NICE = 10
"""The tunnel's processes, handshakes included, come first."""


def main() -> int:
    """Serve until told to end; returns the exit code."""
    os.nice(_NICE)  # before the imports, which take as long as a node's start
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # and wake up without pushing a lane off its core
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    from pqvpn.host import privileges, stacks
    from pqvpn.observer import start as starting

    stacks.watch(int(sys.argv[2]))
    link = socket.socket(fileno=int(sys.argv[1]))
    try:
        start = starting.receive(link)
    except (EOFError, ValueError):
        return os.EX_PROTOCOL
    privileges.confine(start.supervisor_pid, ends_by=signal.SIGTERM)  # what is queued is worth most when it is killed
    return _observe(start, link)


def _observe(start: "ObserverStart", link: socket.socket) -> int:
    import asyncio
    import gc

    from pqvpn.errors import PqvpnError, reason_of
    from pqvpn.facts import Problem
    from pqvpn.host import stacks
    from pqvpn.observer.process import ObserverProcess
    from pqvpn.telemetry import jsonlog
    from pqvpn.telemetry.crashes.telling import detail_of
    from pqvpn.telemetry.redaction import Policy, Redactor

    policy = Policy(start.addresses, start.pseudonym_key, frozenset(start.hosts))  # type: ignore[arg-type]
    redactor = Redactor(policy)
    log = start.log
    jsonlog.set_up(
        "observer",
        log.level,
        redactor=redactor,
        text=log.text or None,
        debug=log.debug,
        quiet=log.quiet,
        levels=log.levels,
    )
    gc.freeze()

    async def serve() -> None:
        await ObserverProcess(start, link, redactor).run()
        sys.stderr.flush()
        os._exit(os.EX_OK)  # everything is written; answers that are under way and idle threads are not waited for

    try:
        asyncio.run(serve())
    except Exception as error:  # noqa: BLE001 - the process's boundary: told by type, never by text, then restarted
        jsonlog.publish(Problem(reason_of(error), "observer", detail_of(error)))
        stacks.leave(error)  # the supervisor reports it: the link's other end is not ours
        return error.exit_code if isinstance(error, PqvpnError) else os.EX_SOFTWARE
    return os.EX_OK


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a disk or a collector that hangs in a thread must not keep the process
