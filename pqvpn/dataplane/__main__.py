"""`python -m pqvpn.dataplane FD WORDS`: a lane process, or one that waits to become one; `start` has what comes over FD.

Owns the first things a lane does: it gives every privilege up before it reads a byte, and leaves its stacks at WORDS when
it crashes.
"""

import os
import sys

from pqvpn.dataplane.worker import main
from pqvpn.host import privileges, stacks

if __name__ == "__main__":
    stacks.watch(int(sys.argv[2]))  # first: what ends this process from here on leaves its place, and no text
    # a parent that is gone already closed the link as well, and the lane ends by that
    privileges.confine(os.getppid())
    sys.exit(main(int(sys.argv[1])))
