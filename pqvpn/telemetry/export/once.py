"""One bounded time of sending, by a process that is about to end.

Owns when to stop waiting. Loaded on such an end only.
"""

import time
from typing import Final

from pqvpn.telemetry.export.drainer import Drainer
from pqvpn.telemetry.spool import Spool

PATIENCE: Final = 3.0
"""Seconds until what is not sent waits for the next start that succeeds."""
_LOOK: Final = 0.02


def deliver(spool: Spool, drainer: Drainer) -> None:
    """Send what waits in the spool, until all is sent, the receiver refuses or is out of reach, or it took too long."""
    drainer.start()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and spool.backlog().records and drainer.state.reachable is not False:
        time.sleep(_LOOK)  # its thread tells nobody
    drainer.stop()
