"""`python -m tests.otlp --port N [--protocol grpc] [--dump FILE]`: an OTLP receiver as a program of its own.

Prints `ready PORT` when it listens, writes one JSON object a request to FILE (time_ns, record, signal, items, mode,
payload in base64), and ends on SIGTERM or SIGINT. SIGUSR1 makes it hang from then on, SIGUSR2 well behaved again.
"""

import argparse
import signal
import sys
import threading
from pathlib import Path

from tests.otlp import certificates
from tests.otlp.server import Collector, Mode


def main() -> int:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m tests.otlp", description="Receive OTLP.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--protocol", choices=("http/protobuf", "grpc"), default="http/protobuf")
    parser.add_argument("--dump", type=Path, help="where requests are written, one JSON object a line")
    parser.add_argument("--mode", choices=[mode.value for mode in Mode], default="ok")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds, for `busy` and `late`")
    parser.add_argument("--certificates", type=Path, help="folder: makes certificates there and serves TLS")
    options = parser.parse_args()
    made = certificates.make(options.certificates) if options.certificates else None
    ended = threading.Event()
    collector = Collector(options.protocol, port=options.port, certificates=made, dump=options.dump)
    collector.behave(Mode(options.mode), wait=options.wait)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    signal.signal(signal.SIGUSR1, lambda *_: collector.behave(Mode.HANG))
    signal.signal(signal.SIGUSR2, lambda *_: collector.behave(Mode.OK))
    with collector:
        print(f"ready {collector.port}", flush=True)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
