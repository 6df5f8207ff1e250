"""What the tests of failures lean on: connections that must not break, what nodes tell, outer datagrams taken apart.

A `Flow` is one TCP connection that is busy until told to finish; whatever the test does meanwhile, both ends must agree on
every byte. Knows the header of transport packets (PROTOCOL section 5) and nothing else of the protocol.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from lab import Namespace, wait_for
from lab.nodes import Node

_SO_MAX_PACING_RATE = 47
_PORTS = iter(range(20000, 60000))
_TRANSPORT = 4
_BLOCK = os.urandom(1 << 16)


class Flow:
    """A paced TCP connection from `sender` to `address`, which `receiver` has, kept busy while in the `with` block.

    `rate` is bytes per second. Leaving the block sends the end and compares: raises AssertionError when the connection broke,
    stood still for `patience` seconds, or bytes differ.
    """

    def __init__(
        self, sender: Namespace, receiver: Namespace, address: str, *, rate: int = 4 << 20, patience: float = 15.0
    ) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._patience = patience
        self._stop = threading.Event()
        self._grown = threading.Condition()
        self._problems: list[str] = []
        self._sent, self._got = hashlib.sha256(), hashlib.sha256()
        self.sent = self.received = 0
        port = next(_PORTS)
        with receiver.socket(family, socket.SOCK_STREAM) as listener:
            listener.bind((address, port))
            listener.listen(1)
            listener.settimeout(patience)
            self._out = sender.socket(family, socket.SOCK_STREAM)
            self._out.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate)
            self._out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
            self._out.settimeout(patience)
            self._out.connect((address, port))
            self._in, _ = listener.accept()
        self._in.settimeout(patience)
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._send, self._receive)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.more()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * self._patience)
        self._out.close()
        self._in.close()
        if error is None:
            assert not self._problems, self._problems
            assert (self.received, self._got.digest()) == (self.sent, self._sent.digest())

    def more(self, size: int = 1 << 18) -> None:
        """Wait until `size` bytes more have arrived than when this was called."""
        with self._grown:
            goal = self.received + size
            arrived = self._grown.wait_for(lambda: self.received >= goal or self._problems, self._patience)
            assert arrived, f"nothing more arrived for {self._patience} s after {self.received} bytes"
            assert not self._problems, self._problems

    def _send(self) -> None:
        with self._noting("sender"):
            while not self._stop.is_set():
                part = self.sent.to_bytes(8) + _BLOCK[:16376]
                self._out.sendall(part)
                self._sent.update(part)
                self.sent += len(part)
            self._out.shutdown(socket.SHUT_WR)

    def _receive(self) -> None:
        with self._noting("receiver"):
            while part := self._in.recv(1 << 16):
                self._got.update(part)
                with self._grown:
                    self.received += len(part)
                    self._grown.notify_all()

    @contextlib.contextmanager
    def _noting(self, who: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with self._grown:
                self._problems.append(f"{who}: {error!r}")
                self._grown.notify_all()


def flow(sender: Node, receiver: Node, **options: Any) -> Flow:
    """A `Flow` through the tunnel between two nodes."""
    return Flow(sender.namespace, receiver.namespace, receiver.address, **options)


@contextlib.contextmanager
def both_ways(one: Node, other: Node) -> Iterator[Flow]:
    """A `Flow` each way, both of which have gone on at the end, in the session that was there at the beginning."""
    session = one.peer(other.name)["session_id"]
    with flow(one, other) as there, flow(other, one) as back:
        yield there
        there.more()
        back.more()
    assert one.peer(other.name)["session_id"] == other.peer(one.name)["session_id"] == session


# What nodes tell


def told(node: Node, message: str, **fields: Any) -> list[dict[str, Any]]:
    """The records of the node's log of this event and with these fields, oldest first."""
    found = []
    for line in node.log().splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            known = {**record, **record.get("fields", {}), "reason": record.get("code")}
            if record.get("event") == message and fields.items() <= known.items():
                found.append(known)
    return found


def wait_told(node: Node, message: str, count: int = 1, timeout: float = 10.0, **fields: Any) -> dict[str, Any]:
    """Wait until the node's log has `count` such records; returns the latest."""
    return wait_for(
        f"{node.name} to tell {message} {fields}", lambda: len(seen := told(node, message, **fields)) >= count and seen[-1],
        timeout,
    )  # fmt: skip


def wait_replaced(node: Node, component: str, pid: int, timeout: float = 10.0) -> int:
    """Wait until `component` runs under another pid than `pid`, and say which."""

    def probe() -> int | None:
        now = node.pids(component)
        return now[0] if now and now != [pid] else None

    return wait_for(f"{node.name}'s {component} to be replaced", probe, timeout)


def in_parallel(*calls: Callable[[], Any]) -> list[Any]:
    """Call all at the same time; their results in order."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [each.result() for each in [pool.submit(call) for call in calls]]


# What passes outside


def payloads(frames: Sequence[bytes], port: int = 51820) -> Iterator[bytes]:
    """The UDP payloads to or from `port` in Ethernet frames, IPv4 and IPv6."""
    for frame in frames:
        kind = frame[12:14]
        if kind == b"\x08\x00" and frame[23] == socket.IPPROTO_UDP:
            udp = 14 + (frame[14] & 15) * 4
        elif kind == b"\x86\xdd" and frame[20] == socket.IPPROTO_UDP:
            udp = 54
        else:
            continue
        if port in struct.unpack_from("!HH", frame, udp):
            yield frame[udp + 8 :]


def transport_counters(frames: Sequence[bytes], port: int = 51820) -> list[tuple[int, int]]:
    """(receiver index, counter) of every transport packet, also of those that the kernel carries joined in one frame."""
    found = []
    for payload in payloads(frames, port):
        while len(payload) >= 48 and payload[0] == _TRANSPORT:
            index, counter = struct.unpack_from("<IQ", payload, 4)
            found.append((index, counter))
            # joined packets of one lane have consecutive counters: the next header shows where this packet ends
            following = payload.find(struct.pack("<IQ", index, counter + 1), 16)
            assert following > 0 or len(payload) <= 2100, "a joined datagram that does not go on with the next counter"
            payload = payload[following - 4 :] if following > 0 else b""
    return found


def assert_never_reused(frames: Sequence[bytes], at_least: int = 100) -> None:
    """No (receiver index, counter) stands in two transport packets, and there were `at_least` so many."""
    counters = transport_counters(frames)
    assert len(counters) >= at_least, "the capture shows too little to prove anything"
    assert len(counters) == len(set(counters))
