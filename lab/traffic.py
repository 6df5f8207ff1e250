"""Traffic between namespaces, made from here with sockets that live there: pings and files.

Needs no program of the system. Knows no VPN: it measures whatever lies between two addresses.
"""

import contextlib
import hashlib
import ipaddress
import os
import select
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from lab.namespaces import LabError, Namespace

_CHUNK = 1 << 20
_ECHO_REQUEST = {4: 8, 6: 128}
_ECHO_REPLY = {4: 0, 6: 129}


@dataclass(frozen=True)
class Pings:
    """Round trips in milliseconds, in the order of arrival, of `sent` requests."""

    sent: int
    times: list[float]

    @property
    def lost(self) -> int:
        return self.sent - len(self.times)

    @property
    def median(self) -> float:
        return statistics.median(self.times)


def ping(
    namespace: Namespace,
    address: str,
    count: int = 3,
    *,
    interval: float = 0.01,
    timeout: float = 2.0,
    payload: bytes = b"",
) -> Pings:
    """Send `count` echo requests, one after each other's reply and `interval` seconds apart at least.

    A reply that takes longer than `timeout` seconds counts as lost. `payload` follows the ICMP header.
    """
    version = ipaddress.ip_address(address).version
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    identifier = int.from_bytes(os.urandom(2))
    times: list[float] = []
    with namespace.socket(family, socket.SOCK_RAW, protocol) as raw:
        for sequence in range(count):
            began = time.monotonic()
            raw.sendto(_echo_request(version, identifier, sequence, payload), (address, 0))
            if _await_reply(raw, version, identifier, sequence, began + timeout):
                times.append((time.monotonic() - began) * 1000)
                select.select([], [], [], max(0.0, began + interval - time.monotonic()))
    return Pings(count, times)


def _echo_request(version: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    message = struct.pack("!BBHHH", _ECHO_REQUEST[version], 0, 0, identifier, sequence) + payload
    if version == 6:
        return message  # the kernel fills in the checksum of ICMPv6 (RFC 3542 section 3.1)
    words = struct.unpack(f"!{(len(message) + 1) // 2}H", message + b"\0" * (len(message) % 2))
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack("!H", ~total & 0xFFFF) + message[4:]


def _await_reply(raw: socket.socket, version: int, identifier: int, sequence: int, deadline: float) -> bool:
    expected = struct.pack("!HH", identifier, sequence & 0xFFFF)
    while (left := deadline - time.monotonic()) > 0:
        raw.settimeout(left)
        try:
            packet = raw.recv(65536)
        except TimeoutError:
            return False
        message = packet[(packet[0] & 15) * 4 :] if version == 4 else packet
        if message[0] == _ECHO_REPLY[version] and message[4:8] == expected:
            return True
    return False


@dataclass(frozen=True)
class Transfer:
    """A file that went over TCP. `digest` is the SHA-256 (hexadecimal) of what arrived, `seconds` to its last byte."""

    size: int
    digest: str
    seconds: float


def transfer(
    sender: Namespace,
    receiver: Namespace,
    address: str,
    parts: Callable[[int], bytes],
    size: int,
    *,
    port: int = 5000,
    timeout: float = 60.0,
) -> Transfer:
    """Send `size` bytes from `sender` over one TCP connection to `address`, which `receiver` has.

    `parts(offset)` gives the bytes from an offset on. Raises OSError when the connection breaks or stands still for
    `timeout` seconds, and LabError when bytes are missing.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with receiver.socket(family, socket.SOCK_STREAM) as listener, sender.socket(family, socket.SOCK_STREAM) as out:
        listener.bind((address, port))
        listener.listen(1)
        listener.settimeout(timeout)
        out.settimeout(timeout)
        sending = threading.Thread(target=_send, args=(out, (address, port), parts, size), name="sender")
        began = time.monotonic()
        sending.start()
        try:
            digest, received = _receive(listener, timeout)
        finally:
            seconds = time.monotonic() - began
            with contextlib.suppress(OSError):  # a sender on a dead path would stand in sendall far beyond the timeout
                out.shutdown(socket.SHUT_RDWR)
            sending.join()
    if received != size:
        raise LabError(f"only {received} of {size} bytes arrived")
    return Transfer(size, digest, seconds)


def _send(out: socket.socket, address: tuple[str, int], parts: Callable[[int], bytes], size: int) -> None:
    # What goes wrong here is seen at the other end: bytes are missing.
    try:
        out.connect(address)
        offset = 0
        while offset < size:
            part = parts(offset)[: size - offset]
            out.sendall(part)
            offset += len(part)
        out.shutdown(socket.SHUT_WR)
    except OSError:
        out.close()


def _receive(listener: socket.socket, timeout: float) -> tuple[str, int]:
    sha256, received = hashlib.sha256(), 0
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(timeout)
        while part := connection.recv(_CHUNK):
            sha256.update(part)
            received += len(part)
    return sha256.hexdigest(), received
