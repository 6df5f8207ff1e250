"""An unexpected error in one peer's service ends that peer's sessions, which are made anew; all others live on."""

from collections.abc import Callable
from typing import Any

import pytest
from simnet import Node, World, identity, mesh

from pqvpn.protocol.core import Core
from pqvpn.protocol.peer import Peer

A, B, C = (identity(number)[0] for number in (1, 2, 3))


class CanaryError(RuntimeError):
    """What nobody expects."""


def fail(*_: Any, **__: Any) -> Any:
    raise CanaryError("canary")


def connected() -> tuple[World, Node, Node, Node]:
    world = World(1)
    world.keep_wire = True
    a, b, c = mesh(world, 3)
    a.say(B, b"hello")
    a.say(C, b"hello")
    world.run(2.0)
    assert set(a.lanes.selected) == {B, C}
    return world, a, b, c


def live(node: Node, peer: bytes) -> Any:
    ((_, session),) = [held for held in node.core._live.values() if held[0].settings.peer_id == peer]
    return session


def break_session(core: Core, peer: Peer) -> None:
    before, broken = core._session_due, set(map(id, peer.sessions.values()))

    def due(owner: Peer, session: Any, now: float) -> Any:
        return fail() if id(session) in broken else before(owner, session, now)

    core._session_due = due  # type: ignore[method-assign]


class Broken(dict):  # type: ignore[type-arg]
    """Sessions that cannot even be ended in order."""

    pop = fail


def break_all(core: Core, peer: Peer) -> None:
    break_session(core, peer)
    peer.sessions = Broken(peer.sessions)


def break_policy(core: Core, peer: Peer) -> None:
    before = core._roster.policy

    def policy(asked: Peer, now: float) -> int:
        return fail() if asked is peer else before(asked, now)

    core._roster.policy = policy  # type: ignore[method-assign]


def break_attempt(core: Core, peer: Peer) -> None:
    attempts = core._attempts
    before = attempts._next
    attempts._next = lambda attempt: fail() if attempt.peer is peer else before(attempt)  # type: ignore[method-assign]


@pytest.mark.parametrize("damage", [break_session, break_all, break_policy])
def test_one_peers_sessions_end_and_are_made_anew(damage: Callable[[Core, Peer], None]) -> None:
    world, a, b, c = connected()
    old, untouched = live(a, B).session.session_id, live(a, C).session.session_id
    damage(a.core, a.core._context.peers[B])
    world.run(2.0)
    assert {(failed.peer_id, type(failed.error)) for failed in a.failed} == {(B, CanaryError)}
    assert live(a, B).session.session_id != old
    assert live(a, C).session.session_id == untouched
    assert len(a.lanes.held) == 2
    a.say(B, b"again")
    a.say(C, b"again")
    world.run(1.0)
    assert len(b.inbox[A]) == len(c.inbox[A]) == 2
    seen = len(a.failed)
    world.run(30.0)
    assert len(a.failed) == seen  # what was broken is gone with the old state


def test_an_attempt_that_fails_keeps_no_other_attempt_from_its_turn() -> None:
    world = World(2)
    a, *_ = mesh(world, 3)
    world.partitioned = True
    a.say(B, b"hello")
    a.say(C, b"hello")
    break_attempt(a.core, a.core._context.peers[B])
    a.core._next_deadline = lambda: world.now + 0.1  # type: ignore[method-assign] # what the driver does when it fails
    world.run(1.0)
    world.partitioned = False
    world.run(5.0)
    assert {failed.peer_id for failed in a.failed} == {B}
    assert set(a.lanes.selected) == {B, C}


def test_a_call_that_cannot_begin_is_told_and_tried_again() -> None:
    world, a, _, c = connected()
    start = a.core._attempts.start
    a.core._attempts.start = fail  # type: ignore[method-assign]
    break_session(a.core, a.core._context.peers[B])
    world.run(2.0)
    assert set(a.lanes.selected) == {C}
    a.core._attempts.start = start  # type: ignore[method-assign]
    a.say(B, b"again")
    a.say(C, b"again")
    world.run(2.0)
    assert set(a.lanes.selected) == {B, C}
    assert len(c.inbox[A]) == 2
