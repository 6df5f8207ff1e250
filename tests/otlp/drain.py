"""`python -m tests.otlp.drain FOLDER URL PROTOCOL`: open a spool and drain it to a collector until nothing is left.

Stands for a node that is killed in the middle of it.
"""

import sys
import threading
from pathlib import Path

from pqvpn.telemetry.export import Drainer, Endpoint, Target
from pqvpn.telemetry.export.pacing import Pacing
from pqvpn.telemetry.spool import Spool


def main(folder: str, url: str, protocol: str) -> int:
    """Drain and end."""
    path = "" if protocol == "grpc" else "/v1/traces"
    target = Target(url + path, "grpc" if protocol == "grpc" else "http/protobuf", timeout=5.0)
    with Spool(Path(folder), 64 << 20, 86400.0) as spool:
        drainer = Drainer(spool, Endpoint(target, target, target), pacing=Pacing(jitter=lambda _: 0.05))
        drainer.start()
        tick = threading.Event()
        while spool.backlog().records:
            tick.wait(0.02)
        drainer.stop()
        print(drainer.state.sent, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
