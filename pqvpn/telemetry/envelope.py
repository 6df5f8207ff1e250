"""A fact on its way from the process that published it to the observer: stamped, encoded, never blocking.

Owns the envelope's layout (one msgpack message in one SOCK_SEQPACKET datagram) and the sending end. The supervisor
holds both ends of the link, so that facts wait in the kernel while no observer runs; a full link costs the fact, is
counted, and the count travels with the next one. Knows nothing of what becomes of a fact.
"""

import os
import socket
import time
from typing import Any

import msgspec

from pqvpn.facts import FACTS, Fact
from pqvpn.telemetry import context

LINK_BUFFER = 4 << 20
"""Bytes that wait in the kernel for an observer that is being replaced."""
LARGEST = 128 << 10
_SO_SNDBUFFORCE = 32


class Envelope(msgspec.Struct, frozen=True):
    """One fact with its circumstances. `time_ns` is the wall clock, `now` CLOCK_BOOTTIME in seconds.

    `worked`: seconds for which the datagram that brought it about was worked on until now, 0.0: it was none.
    `lost`: facts of this process that found the link full since its last envelope.
    """

    event: str
    time_ns: int
    now: float
    process: str
    pid: int
    fields: dict[str, Any]
    session_id: str = ""
    peer: str = ""
    trace_id: str = ""
    span_id: str = ""
    worked: float = 0.0
    lost: int = 0

    def fact(self) -> Fact:
        """The fact itself. Raises ValueError when this version does not know it or its fields."""
        kind = FACTS.get(self.event)
        if kind is None:
            raise ValueError(f"no fact {self.event!r}")
        try:
            return msgspec.convert(self.fields, kind)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def stamped(fact: Fact, process: str, lost: int = 0) -> Envelope:
    """A fact of this process, of now, in the context in force."""
    here = context.current()
    fields = msgspec.to_builtins(fact)
    return Envelope(
        event=fact.event,
        time_ns=time.time_ns(),
        now=time.clock_gettime(time.CLOCK_BOOTTIME),
        process=process,
        pid=os.getpid(),
        fields=fields,
        session_id=fields.get("session_id") or here.session_id,
        peer=fields.get("peer") or here.peer,
        trace_id=fields.get("attempt") or here.trace_id,
        span_id=here.span_id,
        worked=context.worked(),
        lost=lost,
    )


def decode(data: bytes) -> Envelope:
    """What `Sender` sent. Raises ValueError (msgspec's errors are) when it is something else."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None


def link() -> tuple[socket.socket, socket.socket]:
    """(reading end, sending end). Every process of a node sends on the same one; a datagram stays whole."""
    reading, sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for option in (_SO_SNDBUFFORCE, socket.SO_SNDBUF):  # the first needs CAP_NET_ADMIN, the second has a limit
        try:
            sending.setsockopt(socket.SOL_SOCKET, option, LINK_BUFFER)
            break
        except OSError:
            continue
    return reading, sending


class Sender:
    """The sending end as one process has it."""

    def __init__(self, process: str, end: socket.socket) -> None:
        self._process = process
        self._end = end
        self._lost = 0

    def __call__(self, fact: Fact) -> None:
        """Send without waiting; a fact that finds no room is lost and counted."""
        data = _encoder.encode(stamped(fact, self._process, self._lost))
        if len(data) > LARGEST:
            self._lost += 1
            return
        try:
            self._end.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            self._lost += 1
        else:
            self._lost = 0
