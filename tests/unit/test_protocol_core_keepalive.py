"""A peer that is to be connected always is called again when its session ends, without waiting for anything else."""

import random

from pqvpn.crypto.secret import Secret
from pqvpn.identity.private_key import IdentityKey
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Effect, Install, SendFrame, Transmit
from pqvpn.protocol.settings import NodeSettings, PeerSettings
from pqvpn.wire.address import Address

CHANCE = random.Random(3)
IDENTITIES = [IdentityKey(Secret(CHANCE.randbytes(64))) for _ in range(2)]
ADDRESSES = [Address.parse("192.0.2.1:51820"), Address.parse("192.0.2.2:51820")]


def core(number: int, keepalive: float | None) -> Core:
    own, card = IDENTITIES[number], IDENTITIES[1 - number].card()
    made = Core(NodeSettings(own.card().peer_id, own.seed), CHANCE.randbytes, 100.0)
    peer = PeerSettings(
        card.peer_id, "other", card.public_key.raw, endpoints=(ADDRESSES[1 - number],), keepalive=keepalive
    )
    made.set_peers((peer,), 100.0)
    return made


def connected(keepalive: float | None) -> tuple[Core, Core, list[int]]:
    """Two nodes with a session, and its slots in the first one."""
    cores = core(0, keepalive), core(1, None)
    waiting: list[tuple[int, Effect]] = [(0, e) for e in cores[0].want_session(IDENTITIES[1].card().peer_id, 100.0)]
    slots = []
    while waiting:
        number, effect = waiting.pop(0)
        if isinstance(effect, Install):
            slots.append((number, effect.session.slot))
        if isinstance(effect, Transmit):
            came = cores[1 - number].receive(effect.datagram, ADDRESSES[number], None, 100.1)
            waiting += [(1 - number, each) for each in came]
    for number, slot in slots:
        cores[number].first_authenticated(slot, 100.2)
    return *cores, [slot for number, slot in slots if number == 0]


def closed_by_peer(ours: Core, theirs: Core, slots: list[int]) -> Core:
    """The other node stops; what it says reaches ours."""
    bodies = [effect.body for effect in theirs.close(101.0) if isinstance(effect, SendFrame)]
    assert slots
    assert bodies
    for slot in slots:
        for body in bodies:
            ours.control_frame(slot, body, ADDRESSES[1], None, 101.0)
    assert all(view.session is None for view in ours.peers(101.1))
    return ours


def test_a_peer_with_keepalive_is_called_again_soon_after_it_closed_the_session() -> None:
    ours = closed_by_peer(*connected(25.0))
    due = ours.deadline()
    assert due is not None
    assert due < 101.0 + 5.0
    assert any(isinstance(effect, Transmit) for effect in ours.tick(due))


def test_a_peer_without_keepalive_is_left_alone() -> None:
    ours = closed_by_peer(*connected(None))
    due = ours.deadline()
    assert due is not None
    assert not any(isinstance(effect, Transmit) for effect in ours.tick(due))
