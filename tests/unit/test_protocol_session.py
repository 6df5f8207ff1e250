"""A session's clocks: what counts as silence when control knows of a packet before the lanes' counters say so."""

from dataclasses import replace

from pqvpn.protocol.effects import Activity, Role, Session
from pqvpn.protocol.paths import Path
from pqvpn.protocol.session import LiveSession
from pqvpn.protocol.settings import Timers
from pqvpn.wire.address import Address

THERE = Address(bytes([192, 0, 2, 1]), 51820)
SESSION = Session(3, b"t" * 32, b"i" * 16, Role.INITIATOR, 1, 0, 1, 1432, 16, 32, THERE, None, 1.0, 181.0)
TIMERS = Timers()


def live() -> LiveSession:
    return LiveSession(SESSION, Path(3, THERE, None, bytes), 130.0, confirmed=True)


def test_data_without_an_answer_is_silence() -> None:
    session = live()
    session.observe(Activity(received=4.0, sent=5.0, data_sent=5.0))
    assert not session.is_stale(TIMERS, 19.9)
    assert session.is_stale(TIMERS, 20.0)


def test_an_answer_that_control_heard_of_first_is_one() -> None:
    """A control frame reaches control at once, the counters of what was sent before it a tick later."""
    session = live()
    session.heard(5.04)
    session.observe(Activity(received=5.02, data_received=5.02, sent=5.0, data_sent=5.0))
    assert session.unanswered_since is None
    session.observe(Activity(received=5.02, data_received=5.02, sent=6.0, data_sent=6.0))
    assert session.unanswered_since == 6.0


def test_an_answer_ends_silence() -> None:
    session = live()
    seen = Activity(received=4.0, sent=5.0, data_sent=5.0)
    session.observe(seen)
    session.observe(replace(seen, received=9.0))
    assert not session.is_stale(TIMERS, 60.0)
