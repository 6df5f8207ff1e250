"""`python -m pqvpn.dataplane FD`: a lane process; see `start` for what comes over the descriptor."""

import sys

from pqvpn.dataplane.worker import main

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
