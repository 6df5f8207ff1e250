"""`python -m lab.stream receive|send ...`: TCP connections at full rate, and every pause of what arrives.

One process a side, so that neither waits for the other's interpreter. The receiver prints one JSON line for each pause of a
connection of at least `NOTED` seconds when it is over, and one at each connection's end; times are of CLOCK_MONOTONIC, which
all namespaces share. Knows no VPN.

    {"flows": 0, "at": 123.4}                              about each quarter of a second in which something arrives
    {"pause": 0.012, "connection": 0, "until": 123.4}
    {"end": 0, "bytes": 1048576, "crc": 1234, "broken": ""}
"""

import argparse
import json
import selectors
import signal
import socket
import sys
import threading
import time
import zlib
from dataclasses import dataclass

NOTED = 0.004
_FLOWS_EVERY = 0.25
MARKER = b"resilience-must-not-be-seen-outside"
"""Stands in every KiB that is sent."""
_PART = (MARKER.ljust(1024, b"\x5a")) * 64
_READ = 1 << 20
_SO_MAX_PACING_RATE = 47


@dataclass
class _Arriving:
    number: int
    connection: socket.socket
    last: float
    told: float = 0.0
    bytes: int = 0
    crc: int = 0


def receive(address: str, port: int, count: int) -> None:
    """Take `count` connections until each ends."""
    selector = selectors.DefaultSelector()
    with _listening(address, port) as listener:
        _tell({"ready": True})
        for number in range(count):
            connection, _ = listener.accept()
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, _Arriving(number, connection, time.monotonic()))
    buffer = bytearray(_READ)
    while selector.get_map():
        for key, _ in selector.select():
            if not _take(key.data, memoryview(buffer)):
                selector.unregister(key.data.connection)
                key.data.connection.close()


def _take(arriving: _Arriving, buffer: memoryview) -> bool:
    broken = ""
    try:
        size = arriving.connection.recv_into(buffer)
    except OSError as error:
        size, broken = 0, str(error)
    now = time.monotonic()
    if now - arriving.last >= NOTED:
        pause = round(now - arriving.last, 6)
        _tell({"pause": pause, "connection": arriving.number, "until": now})
    arriving.last = now
    if now - arriving.told >= _FLOWS_EVERY and size:
        arriving.told = now
        _tell({"flows": arriving.number, "at": now})
    if size:
        arriving.crc = zlib.crc32(buffer[:size], arriving.crc)
        arriving.bytes += size
        return True
    _tell({"end": arriving.number, "bytes": arriving.bytes, "crc": arriving.crc, "broken": broken})
    return False


def send(address: str, port: int, count: int, rate: int = 0) -> None:
    """Send on `count` connections until SIGTERM, then end each orderly and say what was sent.

    `rate`: bytes a second of each, 0: as fast as it goes.
    """
    stop = threading.Event()
    threads = [threading.Thread(target=_send, args=(number, address, port, stop, rate)) for number in range(count)]
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # signals are handled between waits


def _send(number: int, address: str, port: int, stop: threading.Event, rate: int) -> None:
    sent, crc, broken = 0, 0, ""
    try:
        with socket.create_connection((address, port), timeout=60.0) as out:
            if rate:
                out.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate)
                out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(_PART))
            while not stop.is_set():
                out.sendall(_PART)
                sent += len(_PART)
                crc = zlib.crc32(_PART, crc)
            out.shutdown(socket.SHUT_WR)
            out.recv(1)  # the other end closes when it has everything
    except OSError as error:
        broken = str(error) or type(error).__name__
    _tell({"end": number, "bytes": sent, "crc": crc, "broken": broken})


def _listening(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(64)
    return listener


def _tell(record: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")  # one write a line, whole: the threads of a sender share the pipe
    sys.stdout.flush()


def main() -> int:
    """Be one side."""
    parser = argparse.ArgumentParser(prog="python -m lab.stream")
    parser.add_argument("side", choices=("receive", "send"))
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--rate", type=int, default=0, help="bytes a second of each connection (default: no limit)")
    options = parser.parse_args()
    if options.side == "receive":
        receive(options.address, options.port, options.count)
    else:
        send(options.address, options.port, options.count, options.rate)
    return 0


if __name__ == "__main__":
    sys.exit(main())
