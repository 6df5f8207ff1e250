"""Descriptors that travel inside a message to another process.

Owns how a frozen record with descriptors in it crosses a unix socket: on the way each descriptor is its place in the list
that SCM_RIGHTS carries, on arrival it is the receiver's own number; -1 stays "none". Knows nothing of the records.
"""

import socket
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

MOST = 250
"""Descriptors beside one message; the kernel takes 253 (SCM_MAX_FD)."""
Record = TypeVar("Record", bound=msgspec.Struct)


def pack(record: Record, names: Iterable[str]) -> tuple[Record, list[int]]:
    """The record as it travels, and the descriptors that go with it. `names`: its fields that hold some."""
    descriptors: list[int] = []

    def place(descriptor: int) -> int:
        if descriptor < 0:
            return -1
        descriptors.append(descriptor)
        return len(descriptors) - 1

    return _replaced(record, names, place), descriptors


def unpack(record: Record, names: Iterable[str], descriptors: Sequence[int]) -> Record:
    """The record with its descriptors. Raises ValueError when it names one that did not come."""

    def number(place: int) -> int:
        if place < 0:
            return -1
        if place >= len(descriptors):
            raise ValueError("a descriptor did not come with its message")
        return descriptors[place]

    return _replaced(record, names, number)


def send(link: socket.socket, data: bytes, descriptors: list[int]) -> None:
    """One message with its descriptors. Raises OSError when it finds no room."""
    if descriptors:
        socket.send_fds(link, [data], descriptors)
    else:
        link.send(data)


def receive(link: socket.socket, most: int) -> tuple[bytes, list[int]]:
    """Wait for one message of at most `most` bytes. Raises EOFError when the link closed."""
    data, descriptors, _, _ = socket.recv_fds(link, most, MOST)
    if not data:
        raise EOFError("the link closed")
    return data, list(descriptors)


def _replaced(record: Record, names: Iterable[str], change: Any) -> Record:
    changed = {}
    for name in names:
        value = getattr(record, name)
        changed[name] = change(value) if isinstance(value, int) else tuple(change(each) for each in value)
    return msgspec.structs.replace(record, **changed)
