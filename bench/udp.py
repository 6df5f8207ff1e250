"""The two ends of a small-packet measurement, run as programs inside namespaces.

    udp.py flood ADDRESS PORT SECONDS SIZE[-SIZE]    sends as fast as it can; prints datagrams per second
    udp.py sink ADDRESS PORT SECONDS SIZE            counts bytes, taking joined datagrams (UDP_GRO); prints datagrams per second
    udp.py sink ADDRESS PORT SECONDS mixed           counts datagrams one by one; prints datagrams per second
    udp.py attack ADDRESS PORT SECONDS RATE FILE     sends garbage and, in turn, the datagrams of FILE (hexadecimal lines)

The sink's time begins with the first datagram; it prints 0 when none comes within 8 seconds.
"""

import contextlib
import os
import pathlib
import socket
import sys
import time

_UDP_GRO = 104
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 16 << 20
_BURST = 200


def _socket(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)


def flood(address: str, port: int, seconds: float, sizes: list[int]) -> float:
    """Send datagrams of `sizes` bytes in turn for `seconds`; returns how many a second went out."""
    datagrams = [bytes(sizes[i % len(sizes)]) for i in range(_BURST)]
    with _socket(address) as out:
        out.connect((address, port))
        sent, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            for datagram in datagrams:
                with contextlib.suppress(OSError):  # a full queue, or the sink is not there yet
                    out.send(datagram)
                    sent += 1
        return sent / seconds


def sink(address: str, port: int, seconds: float, size: int) -> float:
    """Receive for `seconds` from the first datagram on; returns datagrams a second. `size` 0: of any size."""
    with _socket(address) as into:
        if size:
            into.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        into.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        with contextlib.suppress(PermissionError):  # without root the system's limit holds, for every contender
            into.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        into.bind((address, port))
        into.settimeout(8)
        print("ready", flush=True)
        buffer = bytearray(65536)
        count = 0
        try:
            into.recv_into(buffer)
            began = time.monotonic()
            into.settimeout(1)
            while time.monotonic() - began < seconds:
                received = into.recv_into(buffer)
                count += received if size else 1
        except TimeoutError:
            pass
        return count / (size or 1) / seconds


def attack(address: str, port: int, seconds: float, rate: int, recorded: list[bytes]) -> float:
    """Send `rate` datagrams a second, by turns garbage of every type byte and `recorded`; returns the rate kept."""
    garbage = [bytes((i % 6, 1)) + os.urandom(30 + 13 * i) for i in range(64)]
    datagrams = [each for pair in zip(garbage, recorded * len(garbage), strict=False) for each in pair] or garbage
    with _socket(address) as out:
        sent, began = 0, time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            while sent < elapsed * rate:
                with contextlib.suppress(OSError):
                    out.sendto(datagrams[sent % len(datagrams)], (address, port))
                sent += 1
            time.sleep(0.001)  # paces the flood
        return sent / seconds


def main(arguments: list[str]) -> None:
    what, address, port, seconds, *rest = arguments
    if what == "flood":
        low, _, high = rest[0].partition("-")
        sizes = [int(low) + (i * 37) % (int(high) - int(low) + 1) for i in range(_BURST)] if high else [int(low)]
        result = flood(address, int(port), float(seconds), sizes)
    elif what == "sink":
        result = sink(address, int(port), float(seconds), 0 if rest[0] == "mixed" else int(rest[0]))
    else:
        recorded = [bytes.fromhex(line) for line in pathlib.Path(rest[1]).read_text().split()]
        result = attack(address, int(port), float(seconds), int(rest[0]), recorded)
    print(f"{result:.0f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
