"""What runs first after the exec of an upgrade: the supervisor goes on, as another version.

Owns the way back: whatever keeps this version from coming so far that it watches over itself (`renewal.py`) executes the
former one again. `TRAMPOLINE` is given to the new interpreter by the version that runs, so that even a package that
cannot be imported leads back.
"""

import os
import socket
import sys
from pathlib import Path

from pqvpn.config import load, paths
from pqvpn.host import privileges, runtime
from pqvpn.node import state
from pqvpn.node.lifecycle import Node

TRAMPOLINE = """
import os, sys
memory, former = int(sys.argv[1]), sys.argv[2]
try:
    from pqvpn.node.resume import main
    code = main(memory, sys.argv[3])
except BaseException as error:
    for name in os.listdir("/proc/self/fd"):
        try:
            os.set_inheritable(int(name), True)
        except OSError:
            pass
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    why = f"{type(error).__name__} at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
    if isinstance(error, ImportError):  # the commonest, and its text names modules; another text may hold a secret
        why = f"{why}: {error}"[:300]
    elif hasattr(error, "reason"):
        why = f"{error.reason.code}, {why}"
    os.execv(former, [former, "-I", "-m", "pqvpn.node.resume", str(memory), why])
sys.stderr.flush()
sys.exit(code)
"""


def main(memory: int, refused: str) -> int:
    """Go on with the state in `memory`; returns the node's exit code. `refused`: why the newer version could not."""
    privileges.forbid_inspection()
    former = state.read(memory)
    if refused:
        former = state.with_refusal(former, refused)
    config = load.load(Path(former.config))
    folder = config.runtime_folder
    claimed = runtime.RuntimeFolder.resumed(paths.control_socket(folder), former.claim)
    state.keep_only(former.descriptors() | {memory})
    api = socket.socket(fileno=former.api)
    node = Node(Path(former.config), config, api, former.claim, debug=former.debug, resumed=former)
    code = node.run()  # what it raises leads back to the former version, which needs the folder
    claimed.release()
    return code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "") or os.EX_OK)
