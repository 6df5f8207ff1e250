"""When packets for a peer are refused instead of queued: it did not answer an attempt, never for silence alone."""

import random

from pqvpn.crypto.secret import Secret
from pqvpn.crypto.xwing import PrivateKey
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Activity, Effect, Role, SelectForSending, Session
from pqvpn.protocol.settings import NodeSettings, PeerSettings, Timers
from pqvpn.protocol.views import PeerState
from pqvpn.reasons import Reason
from pqvpn.wire.address import Address

OURS, THEIRS = b"o" * 32, b"t" * 32
THERE = Address(bytes([192, 0, 2, 1]), 51820)
TIMERS = Timers(attempt_gives_up=20.0)


def core() -> Core:
    made = Core(NodeSettings(OURS, Secret(b"s" * 32), timers=TIMERS), random.Random(1).randbytes, 0.0)
    public = PrivateKey(Secret(b"p" * 32)).public
    made.set_peers((PeerSettings(THEIRS, "beta", public, endpoints=(THERE,)),), 0.0)
    return made


def session(expires_at: float) -> Session:
    return Session(3, THEIRS, b"i" * 16, Role.INITIATOR, 1, 0, 1, 1432, 16, 32, THERE, None, 1.0, expires_at)


def run(it: Core, until: float) -> list[Effect]:
    """Tick whenever the core wants it."""
    found: list[Effect] = []
    while (now := it.deadline()) is not None and now <= until:
        found += it.tick(now)
    return found


def selections(effects: list[Effect]) -> list[SelectForSending]:
    return [effect for effect in effects if isinstance(effect, SelectForSending)]


def test_attempt_that_gave_up() -> None:
    it = core()
    assert selections(it.want_session(THEIRS, 1.0)) == []
    assert selections(run(it, 20.9)) == []
    assert selections(run(it, 22.0)) == [SelectForSending(THEIRS, None, refuse=True)]


def test_keys_that_expire_while_rekeying_fails() -> None:
    it = core()
    it.adopt((session(30.0),), 2.0, (3,))
    run(it, 15.0)
    it.want_session(THEIRS, 15.0, force=True)
    assert selections(run(it, 31.0))[-1] == SelectForSending(THEIRS, None, refuse=True)


def test_attempt_that_gave_up_beside_a_session() -> None:
    """What still sends goes on sending."""
    it = core()
    it.adopt((session(100.0),), 2.0, (3,))
    it.want_session(THEIRS, 3.0, force=True)
    assert selections(run(it, 30.0)) == []


def test_keys_that_expire_in_silence() -> None:
    it = core()
    it.adopt((session(30.0),), 2.0, (3,))
    it.observe(3, Activity(received=2.0, data_received=2.0, sent=3.0, data_sent=2.0), 3.0)
    assert selections(run(it, 31.0)) == [SelectForSending(THEIRS, None)]
    (view,) = it.peers(31.0)
    assert (view.state, view.reason) == (PeerState.DOWN, Reason.IDLE)  # nobody missed them


def test_keys_that_somebody_missed_say_so() -> None:
    it = core()
    it.adopt((session(30.0),), 2.0, (3,))
    run(it, 15.0)
    it.want_session(THEIRS, 15.0, force=True)
    run(it, 31.0)
    (view,) = it.peers(31.0)
    assert view.reason is Reason.KEYS_EXPIRED
