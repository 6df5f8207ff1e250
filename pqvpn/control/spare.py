"""A warm spare: `python -m pqvpn.control.spare FD WORDS`, which becomes a lane or control when the first message says so.

Owns the choice. One spare for both, since two would cost more memory than all the keys of a node are worth: whatever dies
first takes it, and another is made. It holds no key and no descriptor of the tunnel until then.
"""

import gc
import os
import signal
import socket
import sys

from pqvpn.control import __main__ as control
from pqvpn.control import supervision
from pqvpn.dataplane import worker as lane
from pqvpn.host import privileges, stacks


def main() -> int:
    """Wait, become what is wanted, and serve; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's ^C is for the supervisor
    stacks.watch(int(sys.argv[2]))  # first: what ends this process from here on leaves its place, and no text
    privileges.confine(os.getppid())  # a parent that is gone already closed the link as well
    gc.collect()
    gc.freeze()
    link = socket.socket(fileno=int(sys.argv[1]))
    stacks.call(stacks.WAITING)
    first = link.recv(1, socket.MSG_PEEK)
    if not first:
        return os.EX_OK
    if supervision.begins_start(first):
        stacks.call("pqvpn-control")
        return control.serve(link)
    stacks.call("pqvpn-lane")
    return lane.main(link.detach())


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a look-up that hangs in a thread must not keep the process
