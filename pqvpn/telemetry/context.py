"""The session in whose service something happens, and since when: private context variables.

Owns `Context`, the variable that holds it, and the one with the time at which the datagram at hand was taken. The context
is attached for each datagram, event or request by the driver that knows the session, is inherited by tasks and
`asyncio.to_thread`, and crosses to other processes inside envelopes. It is never OpenTelemetry baggage: nothing of it leaves
this host by propagation.
"""

import contextlib
import contextvars
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Context:
    """`session_id` 32 and `trace_id` 32 hex digits, `span_id` 16; empty where there is none. `peer`: its name."""

    session_id: str = ""
    peer: str = ""
    trace_id: str = ""
    span_id: str = ""


_NOTHING = Context()
_current: contextvars.ContextVar[Context] = contextvars.ContextVar("pqvpn", default=_NOTHING)


def current() -> Context:
    """The context in force here; an empty one when nobody attached any."""
    return _current.get()


@contextlib.contextmanager
def attached(session_id: str = "", peer: str = "", attempt: str = "") -> Iterator[None]:
    """Work in the service of a session or an attempt; ends with the block."""
    token = _current.set(Context(session_id, peer, attempt, root_span_id(attempt) if attempt else ""))
    try:
        yield
    finally:
        _current.reset(token)


_taken: contextvars.ContextVar[float | None] = contextvars.ContextVar("pqvpn_taken", default=None)


@contextlib.contextmanager
def taking() -> Iterator[None]:
    """A datagram was taken from the socket; what is told within the block says how long it was worked on."""
    token = _taken.set(time.monotonic())
    try:
        yield
    finally:
        _taken.reset(token)


def worked() -> float:
    """Seconds since the datagram at hand was taken; 0.0 when there is none."""
    taken = _taken.get()
    return 0.0 if taken is None else time.monotonic() - taken


def root_span_id(trace_id: str) -> str:
    """The span id (16 hex digits) of the root of an attempt's trace.

    Derived, not drawn: only the trace id travels to the other node (PROTOCOL section 2), whose spans hang below the
    root all the same.
    """
    return hashlib.sha256(b"pqvpn root span" + bytes.fromhex(trace_id)).hexdigest()[:16]
