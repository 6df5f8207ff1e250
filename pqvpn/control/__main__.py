"""Entry of the control process: `python -m pqvpn.control FD WORDS`: the supervisor's link, and where stacks are left.

Owns the order of first things: give privileges up, wait for the start message (`spare.py` waits long), then serve.
Imported modules are complete before the first byte from the network is read.
"""

import asyncio
import gc
import os
import signal
import socket
import sys

from pqvpn.control import supervision
from pqvpn.control.process import ControlProcess
from pqvpn.errors import PqvpnError
from pqvpn.facts import Problem
from pqvpn.host import privileges, stacks
from pqvpn.telemetry import jsonlog
from pqvpn.telemetry.crashes import describe
from pqvpn.telemetry.publish import Publisher
from pqvpn.telemetry.redaction import Policy, Redactor

_NICE = 5
"""Where all cores are busy, a flood of handshakes must not take the lanes' time; a handshake may wait for milliseconds."""


def main() -> int:
    """Become control and serve; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    stacks.watch(int(sys.argv[2]))  # first: what ends this process from here on leaves its place, and no text
    privileges.confine(os.getppid())  # a parent that is gone already closed the link as well
    gc.freeze()
    return serve(socket.socket(fileno=int(sys.argv[1])))


def serve(link: socket.socket) -> int:
    """Wait for the start message on the supervisor's link and serve until told to end; returns the exit code."""
    os.nice(_NICE)
    try:
        start = supervision.receive_start(link)
    except EOFError:
        return os.EX_OK
    except ValueError:
        return os.EX_PROTOCOL
    publish = _publisher(start)
    try:
        return asyncio.run(_serve(start, link, publish))
    except PqvpnError as error:
        publish(Problem(error.reason, "control", error.detail))
        publish(describe.exception(error, "control", handled=False, kind="startup"))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the process's boundary: told by type, never by text, then restarted
        publish(describe.exception(error, "control", handled=False))
        return os.EX_SOFTWARE


def _publisher(start: supervision.ControlStart) -> Publisher:
    policy = Policy(start.redact_addresses, start.redact_key, frozenset(start.redact_hosts))  # type: ignore[arg-type]
    jsonlog.set_up(
        "control",
        start.log_level,
        redactor=Redactor(policy),
        text=start.log_text or None,
        debug=start.debug,
        quiet=start.quiet,
        levels=start.log_levels,
    )
    return Publisher("control", socket.socket(fileno=start.facts) if start.facts >= 0 else None)


async def _serve(start: supervision.ControlStart, link: socket.socket, publish: Publisher) -> int:
    return await ControlProcess(start, link, publish).run()


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a look-up that hangs in a thread must not keep the process
