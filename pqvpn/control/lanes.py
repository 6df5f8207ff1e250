"""Control's side of the data plane: what every lane must hold, and the links over which it is told.

Owns the numbers of peers, the book of installed sessions with their keys (so that a replaced lane gets them again, past the
counters that its predecessor reserved) and the queue to each lane. Knows nothing of why a session is installed or erased.
"""

import asyncio
import ipaddress
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from pqvpn.crypto.secret import Secret
from pqvpn.dataplane import commands, events
from pqvpn.dataplane.counters import Counters
from pqvpn.protocol import effects
from pqvpn.protocol.effects import Role, Session

_QUEUE = 8192
"""Commands that wait for one lane; a lane that does not read so many is brought up to date from the book later."""
_LANE_BITS = 0x0F

EventHook = Callable[[int, events.Event], None]


@dataclass(slots=True)
class Entry:
    """One session as installed. `receive`, `send`: key || iv of each lane that has its own; after control's restart
    they are what the lanes told."""

    session: Session
    peer: int
    receive: dict[int, Secret] = field(default_factory=dict)
    send: dict[int, Secret] = field(default_factory=dict)
    budget: int | None = None

    def serves(self, lane: int) -> bool:
        """Whether a replaced lane can be given this session: its keys are known, or it needs none."""
        return lane >= self.session.lanes or (lane in self.receive and lane in self.send)


class _Link:
    """One lane's socket with its queue."""

    def __init__(self, lane: int, end: socket.socket, on_message: Callable[[int, bytes], None]) -> None:
        self.lane = lane
        self.end = end
        self.overflowed = False
        self._on_message = on_message
        self._queue: deque[bytes] = deque()
        end.setblocking(False)
        asyncio.get_running_loop().add_reader(end, self._readable)

    def send(self, command: commands.Command) -> None:
        if len(self._queue) >= _QUEUE:
            self._queue.clear()
            self.overflowed = True
        self._queue.append(commands.encode(command))
        if len(self._queue) == 1:
            self._flush()

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.end)
        loop.remove_writer(self.end)
        self.end.close()

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            try:
                self.end.send(self._queue[0])
            except BlockingIOError:
                loop.add_writer(self.end, self._flush)
                return
            except OSError:  # the lane died; its successor is told everything anew
                self._queue.clear()
                break
            self._queue.popleft()
        loop.remove_writer(self.end)

    def _readable(self) -> None:
        for _ in range(64):
            try:
                message = self.end.recv(commands.MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                asyncio.get_running_loop().remove_reader(self.end)
                return
            self._on_message(self.lane, message)


class Lanes:
    """All lanes. `on_event` is called with each event that is not answered here."""

    def __init__(self, ends: Iterable[socket.socket], counters: Counters, on_event: EventHook) -> None:
        self._counters = counters
        self._on_event = on_event
        self._book: dict[int, Entry] = {}
        self._selected: dict[int, int] = {}
        self._refused: set[int] = set()
        self._path_mtu: dict[int, int] = {}
        self._numbers: dict[bytes, int] = {}
        self._next_number = 0  # none is used twice: a lane must not take a new peer for one that was removed
        self._routes = commands.SetRoutes(())
        self._links = {lane: _Link(lane, end, self._message) for lane, end in enumerate(ends)}
        self.offloads: dict[int, events.Offloads] = {}

    # -- what is held ------------------------------------------------------------------------------------------------

    @property
    def book(self) -> dict[int, Entry]:
        """Installed sessions by slot."""
        return self._book

    def peer_id(self, number: int) -> bytes | None:
        """The peer with this number, if it is configured."""
        return next((peer for peer, n in self._numbers.items() if n == number), None)

    def selected(self) -> tuple[int, ...]:
        """Slots of the sessions on which packets leave."""
        return tuple(self._selected.values())

    def session_id(self, slot: int) -> bytes | None:
        """The ID of the session in a slot."""
        entry = self._book.get(slot)
        return entry.session.session_id if entry else None

    # -- configuration -----------------------------------------------------------------------------------------------

    def configure(self, allowed: dict[bytes, tuple[str, ...]]) -> None:
        """Set the complete table of allowed IPs (CIDR) by peer ID."""
        for peer in [p for p in self._numbers if p not in allowed]:
            number = self._numbers.pop(peer)
            self._path_mtu.pop(number, None)
            self._selected.pop(number, None)
            self._refused.discard(number)
        for peer in allowed:
            self._number(peer)
        self._routes = commands.SetRoutes(
            tuple(commands.PeerRoutes(self._numbers[peer], _prefixes(networks)) for peer, networks in allowed.items())
        )
        self._tell(self._routes)

    def learn_numbers(self, held: Iterable[events.Held]) -> None:
        """Keep the numbers that peers had before control's restart; to be called before `configure`."""
        for one in held:
            self._numbers.setdefault(one.peer_id, one.peer)
            self._next_number = max(self._next_number, one.peer + 1)

    def adopt(self, lane: int, held: Iterable[events.Held]) -> list[Session]:
        """Take over what a lane reports after control's restart; returns the sessions that were not known yet.

        A session of a peer that is not configured any more, or that has another number by now, is erased.
        """
        found = []
        for one in held:
            session = _session_of(one)
            if session is None or self._numbers.get(one.peer_id) != one.peer:
                self._links[lane].send(commands.EraseSession(one.slot))
                continue
            known = self._book.get(one.slot)
            if known is not None:
                if known.session.session_id == session.session_id:
                    _learn_keys(known, lane, one)
                continue
            self._book[one.slot] = Entry(session, one.peer)
            _learn_keys(self._book[one.slot], lane, one)
            if one.selected:
                self._selected[one.peer] = one.slot
            found.append(session)
        return found

    # -- effects -----------------------------------------------------------------------------------------------------

    def install(self, effect: effects.Install) -> None:
        """Give a session to every lane."""
        receive, send = dict(enumerate(effect.receive)), dict(enumerate(effect.send))
        entry = Entry(effect.session, self._number(effect.session.peer_id), receive, send)
        self._book[effect.session.slot] = entry
        for lane, link in self._links.items():
            link.send(self._install_command(entry, lane, resume=False))

    def select(self, effect: effects.SelectForSending) -> None:
        """Choose the session on which the peer's packets leave."""
        peer = self._numbers.get(effect.peer_id)
        if peer is None:  # just removed: the lanes forgot it with its routes
            return
        self._refused.discard(peer)
        if effect.slot is None:
            self._selected.pop(peer, None)
            if effect.refuse:
                self._refused.add(peer)
        else:
            self._selected[peer] = effect.slot
        slot = commands.NO_SLOT if effect.slot is None else effect.slot
        self._tell(commands.SelectSession(peer, slot, effect.refuse))

    def erase(self, slot: int) -> None:
        """Forget a session everywhere."""
        entry = self._book.pop(slot, None)
        if entry and self._selected.get(entry.peer) == slot:
            del self._selected[entry.peer]
        self._tell(commands.EraseSession(slot))

    def move(self, effect: effects.MoveEndpoint) -> None:
        """Move a session's endpoint."""
        entry = self._book.get(effect.slot)
        if entry is None:
            return
        # the lanes share what may go to an address that is not validated yet
        entry.budget = None if effect.budget is None else effect.budget // entry.session.lanes
        entry.session = replace(entry.session, endpoint=effect.to, source=effect.source)
        self._tell(commands.SetEndpoint(effect.slot, effect.to, effect.source, entry.budget))

    def send_frame(self, effect: effects.SendFrame) -> None:
        """Have lane 0, which every session has, seal one frame."""
        self._links[0].send(
            commands.SendFrame(effect.slot, effect.kind, effect.body, effect.pad_to, effect.to, effect.source)
        )

    def set_path_mtu(self, effect: effects.SetPathMtu) -> None:
        """Set the largest inner packet for a peer."""
        peer = self._numbers.get(effect.peer_id)
        if peer is None:
            return
        self._path_mtu[peer] = effect.mtu
        self._tell(commands.SetPathMtu(peer, effect.mtu))

    # -- lanes -------------------------------------------------------------------------------------------------------

    def ask_for_report(self) -> None:
        """Have every lane tell what it holds."""
        self._tell(commands.Report())

    def replace(self, lane: int, end: socket.socket) -> list[Entry]:
        """Speak to a lane's successor from now on; returns the sessions that it cannot be given (its keys are not here)."""
        self._links[lane].close()
        self._links[lane] = _Link(lane, end, self._message)
        return [e for e in self._book.values() if not e.serves(lane)]

    def bring_up_to_date(self, lane: int) -> None:
        """Tell one lane everything that it must hold."""
        link = self._links[lane]
        link.overflowed = False
        link.send(self._routes)
        for peer, mtu in self._path_mtu.items():
            link.send(commands.SetPathMtu(peer, mtu))
        for entry in self._book.values():
            if entry.serves(lane):
                link.send(self._install_command(entry, lane, resume=True))
        for peer, slot in self._selected.items():
            link.send(commands.SelectSession(peer, slot))
        for peer in self._refused:
            link.send(commands.SelectSession(peer, commands.NO_SLOT, black_hole=True))
        link.send(commands.Begin())

    def close(self) -> None:
        """Close the links; the lanes go on."""
        for link in self._links.values():
            link.close()

    def _message(self, lane: int, message: bytes) -> None:
        event = _decoded(message)
        if event is None:
            return
        if isinstance(event, events.LaneReady):
            self.offloads[lane] = event.offloads
            self.bring_up_to_date(lane)
        elif self._links[lane].overflowed:
            self.bring_up_to_date(lane)
        self._on_event(lane, event)

    def _tell(self, command: commands.Command) -> None:
        for link in self._links.values():
            link.send(command)

    def _number(self, peer_id: bytes) -> int:
        if peer_id not in self._numbers:
            self._numbers[peer_id] = self._next_number
            self._next_number += 1
        return self._numbers[peer_id]

    def _install_command(self, entry: Entry, lane: int, *, resume: bool) -> commands.InstallSession:
        session = entry.session
        session_id = session.session_id
        mine = lane < session.lanes
        send_counter, receive_from = (
            self._counters.resume_at(lane, session.slot, session_id) if resume and mine else (0, 0)
        )
        receive = entry.receive[lane].expose() if mine else b""
        send = entry.send[lane].expose() if mine else b""
        return commands.InstallSession(
            slot=session.slot,
            peer=entry.peer,
            index_in=session.index_in | (lane if mine else 0),
            index_out=session.index_out | (lane if mine else 0),
            lanes=session.lanes,
            aead=session.aead,
            policy=session.policy,
            mtu=session.mtu,
            recv_key=receive[:32],
            recv_iv=receive[32:],
            send_key=send[:32],
            send_iv=send[32:],
            send_counter=send_counter,
            receive_from=receive_from,
            endpoint=session.endpoint,
            source=session.source,
            expires_at=session.expires_at,
            session_id=session_id,
            peer_id=session.peer_id,
            initiator=session.role is Role.INITIATOR,
            budget=entry.budget,
        )


def _decoded(message: bytes) -> events.Event | None:
    try:
        return events.decode(message)
    except ValueError:  # only a lane gone wrong sends such; its death is the supervisor's affair
        return None


def _learn_keys(entry: Entry, lane: int, held: events.Held) -> None:
    if held.receive and held.send and lane < entry.session.lanes:
        entry.receive[lane], entry.send[lane] = Secret(held.receive), Secret(held.send)


def _prefixes(networks: Iterable[str]) -> tuple[commands.Prefix, ...]:
    parsed = (ipaddress.ip_network(n) for n in networks)
    return tuple(commands.Prefix(n.network_address.packed, n.prefixlen) for n in parsed)


def _session_of(held: events.Held) -> Session | None:
    if held.endpoint is None:
        return None
    return Session(
        slot=held.slot,
        peer_id=held.peer_id,
        session_id=held.session_id,
        role=Role.INITIATOR if held.initiator else Role.RESPONDER,
        aead=held.aead,
        policy=held.policy,
        lanes=held.lanes,
        mtu=held.mtu,
        index_in=held.index_in & ~_LANE_BITS,
        index_out=held.index_out & ~_LANE_BITS,
        endpoint=held.endpoint,
        source=held.source,
        derived_at=0.0,
        expires_at=held.expires_at,
    )
