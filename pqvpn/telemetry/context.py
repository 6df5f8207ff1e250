"""The session in whose service something happens: a private context variable.

Owns `Context` and the one variable that holds it. It is attached for each datagram, event or request by the driver that
knows the session, is inherited by tasks and `asyncio.to_thread`, and crosses to other processes inside envelopes. It is
never OpenTelemetry baggage: nothing of it leaves this host by propagation.
"""

import contextlib
import contextvars
import hashlib
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


def root_span_id(trace_id: str) -> str:
    """The span id (16 hex digits) of the root of an attempt's trace.

    Derived, not drawn: only the trace id travels to the other node (PROTOCOL section 2), whose spans hang below the
    root all the same.
    """
    return hashlib.sha256(b"pqvpn root span" + bytes.fromhex(trace_id)).hexdigest()[:16]
