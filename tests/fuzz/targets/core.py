"""Invariant: no datagram, frame or report makes the core raise; strangers get no more bytes than they sent; memory is bounded.

An input is a list of records (operation, two arguments, payload length u8, payload) played on two nodes that know each other:
deliver, repeat, damage or forge datagrams in flight, let time pass, say what a lane would say.
"""

from random import Random

from pqvpn.crypto import mac
from pqvpn.drops import DROP_COUNT, DropReason
from pqvpn.protocol import keys
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Activity, Effect, Install, Transmit
from pqvpn.protocol.settings import NodeSettings, PeerSettings
from pqvpn.wire.address import Address
from tests.fuzz import parties

SHORT_RUN = 800
_A, _B = Address.parse("192.0.2.1:1000"), Address.parse("192.0.2.2:1000")
_STRANGERS = tuple(Address.parse(f"198.51.100.{n}:7") for n in range(4))
_MOST_IN_FLIGHT = 64


class _World:
    def __init__(self) -> None:
        chance = Random(7)
        self.now = 1000.0
        self.flying: list[tuple[bytes, Address, Address]] = []  # datagram, from, to
        self.slots: dict[Address, list[int]] = {_A: [], _B: []}
        self.cores: dict[Address, Core] = {}
        self.paid: dict[Address, int] = {}  # bytes that strangers sent, less what they got
        self.mac1 = {_A: keys.mac1_key(None, parties.LOCAL_I.peer_id), _B: keys.mac1_key(None, parties.LOCAL_R.peer_id)}
        for at, local, seed, remote, there in (
            (_A, parties.LOCAL_I, parties.SEED_I, parties.REMOTE_R, _B),
            (_B, parties.LOCAL_R, parties.SEED_R, parties.REMOTE_I, _A),
        ):
            core = self.cores[at] = Core(NodeSettings(local.peer_id, seed), chance.randbytes, self.now)
            peer = PeerSettings(remote.peer_id, "peer", remote.key.raw, endpoints=(there,))
            self.take(at, core.set_peers((peer,), self.now))
        self.take(_A, self.cores[_A].want_session(parties.REMOTE_R.peer_id, self.now))

    def take(self, at: Address, effects: list[Effect]) -> int:
        """Carry effects out; returns the bytes sent."""
        sent = 0
        for effect in effects:
            if isinstance(effect, Transmit):
                sent += len(effect.datagram)
                if len(self.flying) < _MOST_IN_FLIGHT:
                    self.flying.append((effect.datagram, at, effect.to))
            elif isinstance(effect, Install):
                self.slots[at].append(effect.session.slot)
        return sent

    def deliver(self, at: Address, datagram: bytes, source: Address) -> None:
        core = self.cores.get(at)
        if core is None:
            return
        before = sum(core.drops)
        sent = self.take(at, core.receive(datagram, source, at.ip, self.now))
        assert sum(core.drops) - before <= 2
        if source in _STRANGERS:
            self.paid[source] = self.paid.get(source, 0) + len(datagram) - sent
            assert self.paid[source] >= 0


def check(data: bytes) -> None:
    world = _World()
    at = 0
    while at + 4 <= len(data):
        op, first, second, length = data[at : at + 4]
        payload = data[at + 4 : at + 4 + length]
        at += 4 + length
        _play(world, op % 9, first, second, payload)
    for core in world.cores.values():
        assert len(core.drops) == DROP_COUNT
        assert not any(core.drops[len(DropReason) :])
        sizes = core._admission.sizes()
        assert sizes["slots"] <= 256
        assert len(core.peers(world.now)) == 1
        assert all(view.sessions <= 3 for view in core.peers(world.now))


def _play(world: _World, op: int, first: int, second: int, payload: bytes) -> None:
    here = (_A, _B)[first & 1]
    core, slot = world.cores[here], 0
    if world.slots[here]:
        slot = world.slots[here][second % len(world.slots[here])]
    match op:
        case 0 | 1 if world.flying:  # arrives, perhaps again
            place = first % len(world.flying)
            datagram, source, to = world.flying[place]
            if op == 0:
                del world.flying[place]
            world.deliver(to, datagram, source)
        case 2 if world.flying:  # arrives damaged, perhaps with a MAC1 that fits, perhaps from elsewhere
            datagram, source, to = world.flying[first % len(world.flying)]
            damaged = bytearray(datagram)
            damaged[second : second + len(payload)] = payload
            world.deliver(to, _with_mac1(world, bytes(damaged), to), (source, *_STRANGERS)[second % 5])
        case 3:  # a stranger's own
            world.deliver(here, _with_mac1(world, payload, here), _STRANGERS[second % 4])
        case 4:  # time
            world.now += first / 4 + second * (16 if payload else 0)
            for place, one in world.cores.items():
                world.take(place, one.tick(world.now))
                assert one.deadline() > world.now  # else the driver would spin
        case 5:  # a lane reports a control frame
            world.take(here, core.control_frame(slot, payload, (_A, _B, *_STRANGERS)[second % 6], here.ip, world.now))
        case 6:  # a lane reports movement
            world.take(here, core.roamed(slot, _STRANGERS[second % 4], here.ip, 48 + len(payload), world.now))
        case 7:
            world.take(here, core.first_authenticated(slot, world.now))
        case 8:
            moved = Activity(*(world.now - b / 8 for b in payload[:4].ljust(4, b"\0")))
            world.take(here, core.observe(slot, moved, world.now))
            world.take(here, core.worn(slot, world.now) if second & 64 else [])


def _with_mac1(world: _World, datagram: bytes, to: Address) -> bytes:
    """The datagram with the MAC1 that everybody who knows the receiver's card can make."""
    trailer = {1: 32, 4: 32, 3: 16}.get(datagram[2]) if len(datagram) > 48 else None
    if trailer is None or datagram[0] != 1:
        return datagram
    covered = datagram[:-trailer]
    return covered + mac.blake2s_128(world.mac1[to].expose(), covered) + datagram[len(datagram) - trailer + 16 :]
