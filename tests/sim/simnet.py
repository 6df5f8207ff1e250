"""A virtual network, a virtual clock and whole nodes on it: the cores are the real ones, chance is seeded.

Every run checks, at every step: no plaintext on the wire, no counter twice under a key, no session below its policy, both
ends of a session agree, nothing delivered twice, unauthenticated amplification at most 1, tables bounded.
"""

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

from simlane import InvariantBroken, Lanes, Upcalls

from pqvpn.control.gates import Gates
from pqvpn.crypto import xwing
from pqvpn.crypto.secret import Secret
from pqvpn.drops import DropReason
from pqvpn.facts import Fact
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import (
    Effect,
    Erase,
    Failed,
    Install,
    MoveEndpoint,
    Role,
    SelectForSending,
    SendFrame,
    Session,
    SetPathMtu,
    Tell,
    Transmit,
)
from pqvpn.protocol.settings import NodeSettings, PeerSettings, Timers
from pqvpn.resilience.registry import Settings as Breakers
from pqvpn.wire.address import Address
from pqvpn.wire.handshake import Msg

MARK = b"plain words of the inside "
Adversary = Callable[[bytes, Address, Address], list[tuple[bytes, Address, Address]]]


@cache
def identity(number: int) -> tuple[bytes, Secret, bytes]:
    """(peer ID, seed, public key) of the node with this number."""
    seed = Secret(hashlib.sha256(b"seed %d" % number).digest())
    public = xwing.PrivateKey(seed).public
    return hashlib.sha256(b"PQVPN-v1 card\0" + public).digest(), seed, public


@dataclass
class Weather:
    """What the network does to datagrams. Probabilities, seconds, bytes."""

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    replay: float = 0.0  # an old datagram comes again, sometimes from elsewhere
    delay: float = 0.02
    jitter: float = 0.0
    mtu: int = 1500  # of the path, IP headers included


@dataclass
class World:
    """Clock, network and nodes of one run."""

    seed: int
    now: float = 1000.0
    weather: Weather = field(default_factory=Weather)
    partitioned: bool = False
    adversary: Adversary | None = None

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.nodes: dict[int, Node] = {}
        self.at: dict[Address, Node] = {}
        self.used: set[tuple[bytes, int]] = set()
        self.agreed: dict[bytes, list[tuple[Session, tuple[bytes, ...], tuple[bytes, ...]]]] = {}
        self.history: list[tuple[bytes, Address, Address]] = []
        self.wire: list[tuple[float, bytes, Address, Address]] = []
        self.keep_wire = False
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def after(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._order), action))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def run_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Run until the condition holds, at most so long; whether it came true."""
        end = self.now + seconds
        while not condition():
            if not self._queue or self._queue[0][0] > end:
                self.now = end
                return condition()
            self.now, _, action = heapq.heappop(self._queue)
            action()
        return True

    def send(self, datagram: bytes, source: Address, to: Address) -> None:
        """A node sends; the weather decides."""
        if MARK in datagram:
            raise InvariantBroken("plaintext on the wire")
        if self.keep_wire:
            self.wire.append((self.now, datagram, source, to))
        w, chance = self.weather, self.chance
        if w.replay:
            if len(self.history) < 200:
                self.history.append((datagram, source, to))
            else:
                self.history[chance.randrange(200)] = (datagram, source, to)
            if chance.random() < w.replay:
                old, came, went = chance.choice(self.history)
                self._fly(
                    old, Address(bytes([203, 0, 113, chance.randrange(4)]), 9) if chance.random() < 0.5 else came, went
                )
        if self.adversary is not None:
            for changed in self.adversary(datagram, source, to):
                self._fly(*changed)
            return
        if chance.random() < w.loss:
            return
        for _ in range(1 + (chance.random() < w.duplicate)):
            copy = datagram
            if chance.random() < w.corrupt:
                place = chance.randrange(len(copy))
                copy = copy[:place] + bytes([copy[place] ^ (1 << chance.randrange(8))]) + copy[place + 1 :]
            self._fly(copy, source, to)

    def _fly(self, datagram: bytes, source: Address, to: Address) -> None:
        if self.partitioned or len(datagram) + (48 if to.is_ipv6 else 28) > self.weather.mtu:
            return
        self.after(
            self.weather.delay + self.chance.random() * self.weather.jitter, lambda: self._land(datagram, source, to)
        )

    def _land(self, datagram: bytes, source: Address, to: Address) -> None:
        node = self.at.get(to)
        if node is not None and not self.partitioned:
            node.datagram(datagram, source, to.ip)

    def installed(self, node: "Node", effect: Install) -> None:
        """Both ends of a session agree on everything, and nothing is below the policy."""
        s = effect.session
        if s.policy != node.policy:
            raise InvariantBroken(f"a session with policy {s.policy}, configured is {node.policy}")
        receive, send = (tuple(k.expose() for k in keys) for keys in (effect.receive, effect.send))
        ends = self.agreed.setdefault(s.session_id, [])
        for other, other_receive, other_send in ends:
            same = (other.aead, other.policy, other.lanes, other.mtu) == (s.aead, s.policy, s.lanes, s.mtu)
            mirrored = (other.index_in, other.index_out) == (s.index_out, s.index_in) and other.role != s.role
            if not same or not mirrored or (other_receive, other_send) != (send, receive):
                raise InvariantBroken("the two ends of a session differ")
        ends.append((s, receive, send))
        if len(ends) > 2 or len(set(receive + send)) != 2 * s.lanes:
            raise InvariantBroken("a session was installed again, or two keys are equal")


class Node(Upcalls):
    """A node: a real core, a model of its lanes, an address."""

    def __init__(
        self,
        world: World,
        number: int,
        address: Address,
        settings: NodeSettings,
        peers: tuple[PeerSettings, ...],
        breakers: Breakers | None = None,
    ) -> None:
        self.world, self.number, self.address = world, number, address
        self.settings, self.peer_settings = settings, peers
        self.policy = 0
        self.breakers = breakers or Breakers()
        self.facts: list[Fact] = []
        self.failed: list[Failed] = []
        self.inbox: dict[bytes, set[bytes]] = {}
        self.heard_bytes: dict[bytes, int] = {}
        self.answered_bytes: dict[bytes, int] = {}
        self._chance = random.Random(f"{world.seed} {number}")
        self._wake = 0
        world.nodes[number] = self
        self.start()

    def random(self, count: int) -> bytes:
        return self._chance.randbytes(count)

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with nothing but configuration."""
        self.world.at[self.address] = self
        self.lanes = Lanes(self, self._transport, self.world.used)
        self._make_core()
        self.do(self.core.set_peers(self.peer_settings, self.world.now))

    def _make_core(self) -> None:
        """A core behind the breakers of a real control process."""
        self.gates = Gates(self.breakers, lambda: self.world.now, self.facts.append)
        self.gates.configure({peer.peer_id: peer.name for peer in self.peer_settings})
        self.core = Core(self.settings, self.random, self.world.now, self.gates)

    def crash(self) -> None:
        """Lose everything, answer nothing."""
        self.world.at.pop(self.address, None)
        self._wake += 1

    def restart_control(self) -> None:
        """The control process dies and comes back; lanes go on."""
        self._make_core()
        effects = self.core.set_peers(self.peer_settings, self.world.now)
        held = tuple(replace(h.session, endpoint=h.endpoint, source=h.source) for h in self.lanes.held.values())
        self.do(effects + self.core.adopt(held, self.world.now, tuple(self.lanes.selected.values())))

    def move(self, address: Address) -> None:
        """The node's address changes under its feet."""
        self.world.at.pop(self.address, None)
        self.address = address
        self.world.at[address] = self

    @property
    def alive(self) -> bool:
        return self.world.at.get(self.address) is self

    # -- effects -----------------------------------------------------------------------------------------------------

    def do(self, effects: list[Effect]) -> None:
        now = self.world.now
        for effect in effects:
            match effect:
                case Transmit(datagram, to, _):
                    self.world.send(datagram, self.address, to)
                case Install():
                    self.world.installed(self, effect)
                    self.lanes.install(effect)
                case SelectForSending(peer_id, slot):
                    self.lanes.select(peer_id, slot, now)
                case Erase(slot, _):
                    self.lanes.erase(slot)
                case SendFrame():
                    self.lanes.frame(effect, now)
                case MoveEndpoint():
                    self.lanes.move(effect)
                case SetPathMtu(peer_id, mtu):
                    self.lanes.path_mtu[peer_id] = mtu
                case Tell(fact):
                    self.facts.append(fact)
                case Failed():
                    self.failed.append(effect)
        self._check()
        self._arm()

    def _check(self) -> None:
        counts: dict[bytes, int] = {}
        for held in self.lanes.held.values():
            counts[held.session.peer_id] = counts.get(held.session.peer_id, 0) + 1
        sizes = self.core._admission.sizes()
        context = self.core._context
        if max(counts.values(), default=0) > 3 or sizes["slots"] > 256 or len(context.indices) > 4 * len(context.peers):
            raise InvariantBroken(f"a table outgrew its bound: {counts}, {sizes}, {len(context.indices)}")
        if set(self.core._live) != set(self.lanes.held) or context._slots != set(self.lanes.held):
            raise InvariantBroken("core and lanes hold different sessions")

    def _arm(self) -> None:
        self._wake += 1
        turn, deadline = self._wake, self.core.deadline()
        if deadline is not None:
            self.world.after(max(0.0, deadline - self.world.now), lambda: self._tick(turn))

    def _tick(self, turn: int) -> None:
        if turn != self._wake or not self.alive:
            return
        now = self.world.now
        effects: list[Effect] = []
        for slot in list(self.lanes.held):
            effects += self.core.observe(slot, self.lanes.activity(slot), now)
        self.do(effects + self.core.tick(now))

    # -- inputs ------------------------------------------------------------------------------------------------------

    def datagram(self, datagram: bytes, source: Address, local: bytes) -> None:
        if datagram and datagram[0] == 4:
            self.lanes.receive(datagram, source, local, self.world.now)
            return
        effects = self.core.receive(datagram, source, local, self.world.now)
        self._weigh(datagram, source, effects)
        self.do(effects)

    def _weigh(self, datagram: bytes, source: Address, effects: list[Effect]) -> None:
        """Answers to a stranger go where it is and never exceed what came from there.

        M1 and M3 go to whom we call: M1 again for the first cookie of an attempt, M3 after an authenticated M2.
        """
        heard = self.heard_bytes[source.ip] = self.heard_bytes.get(source.ip, 0) + len(datagram)
        ours = {bytes([1, 1, Msg.M1]), bytes([1, 1, Msg.M3])}
        answers = [e for e in effects if isinstance(e, Transmit) and e.datagram[:3] not in ours]
        out = sum(len(e.datagram) for e in answers)
        answered = self.answered_bytes[source.ip] = self.answered_bytes.get(source.ip, 0) + out
        if answered > heard or any(e.to != source for e in answers):
            raise InvariantBroken(f"{answered} bytes answered to {heard}")

    def _transport(self, datagram: bytes, to: Address, source: bytes | None) -> None:
        self.world.send(datagram, self.address, to)

    def want_session(self, peer_id: bytes) -> None:
        self.do(self.core.want_session(peer_id, self.world.now))

    def first_authenticated(self, slot: int) -> None:
        self.do(self.core.first_authenticated(slot, self.world.now))

    def roamed(self, slot: int, source: Address, local: bytes | None, allowed: int) -> None:
        self.do(self.core.roamed(slot, source, local, allowed, self.world.now))

    def control_frame(self, slot: int, body: bytes, source: Address, local: bytes | None) -> None:
        self.do(self.core.control_frame(slot, body, source, local, self.world.now))

    def delivered(self, peer_id: bytes, data: bytes) -> None:
        message = data.rstrip(b"\0")
        if not message.startswith(MARK):
            raise InvariantBroken("something was delivered that nobody sent")
        inbox = self.inbox.setdefault(peer_id, set())
        if message in inbox:
            raise InvariantBroken("a packet was delivered twice")
        inbox.add(message)

    def pick_lane(self, lanes: int) -> int:
        return self.world.chance.randrange(lanes)

    def say(self, peer_id: bytes, text: bytes, size: int = 0) -> bytes:
        """The inside sends a packet to a peer."""
        message = (MARK + text).ljust(size, b".")
        self.lanes.from_inside(peer_id, message, self.world.now)
        return message

    @property
    def lane_drops(self) -> dict[DropReason, int]:
        return self.lanes.drops


def peer_of(number: int, address: Address | None = None, **more: object) -> PeerSettings:
    """Settings for the node with this number as somebody's peer."""
    peer_id, _, public = identity(number)
    endpoints = () if address is None else (address,)
    return PeerSettings(peer_id, f"node-{number}", public, endpoints=endpoints, **more)  # type: ignore[arg-type]


def node_of(number: int, timers: Timers | None = None, **more: object) -> NodeSettings:
    """Settings of the node with this number."""
    peer_id, seed, _ = identity(number)
    return NodeSettings(peer_id, seed, timers=timers or Timers(), **more)  # type: ignore[arg-type]


def address_of(number: int, place: int = 0, ipv6: bool = False) -> Address:
    """Where a node is."""
    ip = bytes.fromhex("20010db8") + bytes(10) + bytes([place, number]) if ipv6 else bytes([192, 0, 2 + place, number])
    return Address(ip, 51820)


def mesh(
    world: World,
    count: int,
    timers: Timers | None = None,
    ipv6: bool = False,
    node: dict[str, object] | None = None,
    peer: dict[str, object] | None = None,
) -> list[Node]:
    """Nodes 1..count that all know each other."""
    numbers = range(1, count + 1)
    return [
        Node(
            world,
            n,
            address_of(n, ipv6=ipv6),
            node_of(n, timers, **(node or {})),
            tuple(peer_of(m, address_of(m, ipv6=ipv6), **(peer or {})) for m in numbers if m != n),
        )
        for n in numbers
    ]


__all__ = [
    "MARK",
    "InvariantBroken",
    "Node",
    "Role",
    "Weather",
    "World",
    "address_of",
    "identity",
    "mesh",
    "node_of",
    "peer_of",
]
