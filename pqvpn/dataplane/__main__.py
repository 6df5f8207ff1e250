"""`python -m pqvpn.dataplane FD`: a lane process; see `start` for what comes over the descriptor.

Owns the first thing a lane does: it gives every privilege up before it reads a byte.
"""

import os
import sys

from pqvpn.dataplane.worker import main
from pqvpn.host import privileges

if __name__ == "__main__":
    # a parent that is gone already closed the link as well, and the lane ends by that
    privileges.confine(os.getppid())
    sys.exit(main(int(sys.argv[1])))
