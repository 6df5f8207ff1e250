"""Invariant: a message between the node's processes decodes to a value that encodes to an equal one, or ValueError.

The first byte says which link the rest came over.
"""

import socket

import msgspec

from pqvpn.control import supervision
from pqvpn.dataplane import commands, events, start
from pqvpn.dataplane.links import ControlLink

_LONGEST = 60_000  # one datagram on the test's own socket pair


def check(data: bytes) -> None:
    if len(data) < 2:
        return
    message = data[1:]
    match data[0] % 5:
        case 0:
            _same(commands.decode, commands.encode, message)
            _to_a_lane(message)
        case 1:
            _same(events.decode, events.encode, message)
        case 2:
            _over_a_link(supervision.receive_as_supervisor, message)
        case 3:
            _over_a_link(lambda end: supervision.receive_as_control(end)[0], message)
        case _:
            _over_a_link(start.receive, message)


def _same(decode, encode, message: bytes) -> None:  # type: ignore[no-untyped-def] # two modules with different types
    try:
        value = decode(message)
    except ValueError:
        return
    assert decode(encode(value)) == value
    assert len(repr(value)) < 1 << 20


def _to_a_lane(message: bytes) -> None:
    """A lane takes what is a command, leaves out what is none, and raises nothing."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = ControlLink(theirs.detach())
    with ours:
        ours.send(message[:_LONGEST])
        assert len(link.commands()) <= 1
        link.close()


def _over_a_link(receive, message: bytes) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(message[:_LONGEST])
        try:
            value = receive(theirs)
        except ValueError:
            return
        assert isinstance(value, msgspec.Struct)
        assert "Start" not in type(value).__name__ or "seed" not in repr(value)
