"""A small pure model of a node's lanes: real keys, real packets, real replay windows; no speed.

Owns what the real data plane owns (keys, counters, windows, endpoints, queues) for all lanes of a node at once, and checks
what the data plane must never do. Outgoing datagrams go to `send(datagram, to, source)`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag

from pqvpn.crypto.aead import Aead, transport_nonce
from pqvpn.crypto.secret import Secret
from pqvpn.drops import DropReason
from pqvpn.protocol.effects import Activity, Install, MoveEndpoint, SendFrame, Session
from pqvpn.protocol.replay import ReplayWindow
from pqvpn.protocol.unvalidated import divide, earned
from pqvpn.wire.address import Address
from pqvpn.wire.transport import (
    CONTROL_META,
    HEADER_SIZE,
    KEEPALIVE_META,
    META_SIZE,
    Header,
    Kind,
    Meta,
    pad,
    pad_exactly,
    parse_header,
    parse_meta,
)

QUEUE = 16
IP_META = Meta(Kind.IP).encode()


class InvariantBroken(AssertionError):  # noqa: N818 - the name says what happened
    """Something happened that must never happen."""


@dataclass
class Held:
    """One session in the lanes."""

    session: Session
    receive: list[tuple[object, bytes]]
    send: list[tuple[object, bytes]]
    send_keys: tuple[Secret, ...]
    endpoint: Address
    source: bytes | None
    budget: int | None = None
    counters: list[int] = field(default_factory=list)
    windows: list[ReplayWindow] = field(default_factory=list)
    times: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("received", "data_received", "sent", "data_sent"), 0.0)
    )
    spoke: bool = False


class Lanes:
    """All lanes of one node."""

    def __init__(
        self, node: "Upcalls", send: Callable[[bytes, Address, bytes | None], None], used: set[tuple[bytes, int]]
    ) -> None:
        self.node, self.send, self.used = node, send, used
        self.held: dict[int, Held] = {}
        self.by_index: dict[int, Held] = {}
        self.selected: dict[bytes, int] = {}
        self.queues: dict[bytes, deque[bytes]] = {}
        self.path_mtu: dict[bytes, int] = {}
        self.asked: dict[bytes, float] = {}
        self.drops: dict[DropReason, int] = {}

    # -- commands ----------------------------------------------------------------------------------------------------

    def install(self, effect: Install) -> None:
        s = effect.session
        if s.slot in self.held or s.index_in in self.by_index:
            raise InvariantBroken("a slot or an index was given out twice")
        ciphers = [
            [(Aead(s.aead).cipher(Secret(k.expose()[:32])), k.expose()[32:]) for k in keys]
            for keys in (effect.receive, effect.send)
        ]
        held = Held(s, ciphers[0], ciphers[1], effect.send, s.endpoint, s.source)
        held.counters = [0] * s.lanes
        held.windows = [ReplayWindow() for _ in range(s.lanes)]
        if not len(effect.receive) == len(effect.send) == s.lanes:
            raise InvariantBroken("keys for another number of lanes")
        self.held[s.slot] = held
        self.by_index[s.index_in] = held

    def select(self, peer_id: bytes, slot: int | None, now: float) -> None:
        if slot is None:
            self.selected.pop(peer_id, None)
            return
        if self.held[slot].session.peer_id != peer_id:
            raise InvariantBroken("another peer's session was selected")
        self.selected[peer_id] = slot
        for data in self.queues.pop(peer_id, ()):
            self.seal(self.held[slot], IP_META, data, now)

    def erase(self, slot: int) -> None:
        held = self.held.pop(slot)
        del self.by_index[held.session.index_in]
        if self.selected.get(held.session.peer_id) == slot:
            raise InvariantBroken("the session in use was erased without another being selected")

    def move(self, effect: MoveEndpoint) -> None:
        held, budget = self.held[effect.slot], effect.budget
        if budget is not None and held.budget is not None and held.endpoint == effect.to:
            budget = held.budget
        held.endpoint, held.source, held.budget = effect.to, effect.source, budget

    def frame(self, effect: SendFrame, now: float) -> None:
        held = self.held.get(effect.slot)
        if held is None:
            raise InvariantBroken("a frame for a session that is not installed")
        meta = CONTROL_META if effect.kind == Kind.CONTROL else KEEPALIVE_META
        self.seal(held, meta, effect.body, now, effect.pad_to, effect.to, effect.source)

    # -- packets -----------------------------------------------------------------------------------------------------

    def from_inside(self, peer_id: bytes, data: bytes, now: float) -> None:
        slot = self.selected.get(peer_id)
        held = None if slot is None else self.held[slot]
        if held is not None and now < held.session.expires_at:
            if len(data) <= self.path_mtu.get(peer_id, held.session.mtu):
                self.seal(held, IP_META, data, now)
            else:
                self._drop(DropReason.TOO_BIG)
            return
        self.queues.setdefault(peer_id, deque(maxlen=QUEUE)).append(data)
        if now >= self.asked.get(peer_id, float("-inf")) + 1.0:
            self.asked[peer_id] = now
            self.node.want_session(peer_id)

    def seal(
        self,
        held: Held,
        meta: bytes,
        data: bytes,
        now: float,
        pad_to: int = 0,
        to: Address | None = None,
        source: bytes | None = None,
    ) -> None:
        s = held.session
        if now >= s.expires_at:
            return self._drop(DropReason.KEYS_EXPIRED)
        lane = self.node.pick_lane(s.lanes)
        counter = held.counters[lane]
        held.counters[lane] += 1
        cipher, iv = held.send[lane]
        used = (held.send_keys[lane].expose(), counter)
        if used in self.used:
            raise InvariantBroken("a counter was used twice under one key")
        self.used.add(used)
        header = Header(lane, False, 0, s.index_out | lane, counter).encode()
        plain = pad_exactly(meta, data, pad_to) if pad_to else pad(meta, data, s.mtu)
        packet = header + cipher.encrypt(transport_nonce(iv, counter), plain, header)
        if to is None:
            if held.budget is not None:
                if len(packet) > held.budget:
                    return self._drop(DropReason.AMPLIFICATION)
                held.budget -= len(packet)
            to, source = held.endpoint, held.source
        held.times["sent"] = now
        if meta is IP_META:
            held.times["data_sent"] = now
        return self.send(packet, to, source)

    def receive(self, packet: bytes, source: Address, local: bytes | None, now: float) -> None:
        header = parse_header(packet)
        if isinstance(header, DropReason):
            return self._drop(header)
        held = self.by_index.get(header.index & ~15)
        if held is None:
            return self._drop(DropReason.UNKNOWN_INDEX)
        s, window = held.session, None
        if header.lane >= s.lanes:
            return self._drop(DropReason.WRONG_LANE)
        window = held.windows[header.lane]
        if now >= s.expires_at:
            return self._drop(DropReason.SESSION_EXPIRED)
        if not window.check(header.counter):
            return self._drop(DropReason.REPLAY)
        cipher, iv = held.receive[header.lane]
        try:
            plain = cipher.decrypt(transport_nonce(iv, header.counter), packet[HEADER_SIZE:], packet[:HEADER_SIZE])
        except InvalidTag:
            return self._drop(DropReason.AUTHENTICATION)
        newest = header.counter > window.highest
        window.accept(header.counter)
        held.times["received"] = now
        meta = parse_meta(plain)
        if not isinstance(meta, Meta):
            raise InvariantBroken("an authenticated packet of ours does not parse")
        if not held.spoke:
            held.spoke = True
            self.node.first_authenticated(s.slot)
        if s.slot in self.held and newest and source != held.endpoint:
            allowed = earned(1, len(packet))
            held.endpoint, held.source, held.budget = source, local, divide(allowed)[0]
            self.node.roamed(s.slot, source, local, allowed)
        data = plain[META_SIZE:]
        if meta.kind is Kind.IP:
            held.times["data_received"] = now
            self.node.delivered(s.peer_id, data)
        elif meta.kind is Kind.CONTROL and s.slot in self.held:
            self.node.control_frame(s.slot, data, source, local)
        return None

    def activity(self, slot: int) -> Activity:
        return Activity(**self.held[slot].times)

    def _drop(self, reason: DropReason) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1


class Upcalls:
    """What lanes tell; `simnet.Node` is one."""

    def want_session(self, peer_id: bytes) -> None: ...
    def first_authenticated(self, slot: int) -> None: ...
    def roamed(self, slot: int, source: Address, local: bytes | None, allowed: int) -> None: ...
    def control_frame(self, slot: int, body: bytes, source: Address, local: bytes | None) -> None: ...
    def delivered(self, peer_id: bytes, data: bytes) -> None: ...
    def pick_lane(self, lanes: int) -> int: ...
