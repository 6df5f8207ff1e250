"""The packet that comes alone, in both directions: the same steps as in a burst, but as few as possible.

Its sender waits, and the code that handles it is cold: what it costs is how much code and memory it touches, not how
often a step is repeated. So each direction is one function without calls into the burst machinery, with everything it
can have bound before; whatever is not simple it leaves to the general way, untouched. Every check of the general way
is made here as well.
"""

import os
from struct import Struct
from typing import Final, Protocol

from pqvpn.dataplane.counters import Total
from pqvpn.dataplane.delivering import BASE, FRONT, NO_OFFLOAD, PARTIAL, Delivery
from pqvpn.dataplane.joining import Columns
from pqvpn.dataplane.routes import NO_PEER
from pqvpn.dataplane.sending import Sender
from pqvpn.dataplane.sessions import Session, SocketAddress
from pqvpn.dataplane.slots import PACKET, PLAIN, VNET, ZEROS
from pqvpn.dataplane.state import Lane
from pqvpn.drops import DropReason
from pqvpn.wire.transport import MAX_DATA, META_SIZE, OVERHEAD, PAD_TO, TYPE_TRANSPORT

# What comes after a pause of this length probably comes alone. Question and answer are further apart than that even on
# the shortest path; in a flood one such turn is much shorter, so that the next one reads everything.
PAUSE_NS: Final = 100_000
FEW: Final = 2  # only if no more than this came last: under load a burst alone takes longer than the pause
_UDP_SENDS: Final = int(Total.UDP_SENDS)
_TUN_WRITES: Final = int(Total.TUN_WRITES)
_SINGLE: Final = Struct(">BB4xIBB14xI")  # virtio header: flags, kind, checksum's places; IPv4: version, tos, target
_SUMS: Final = frozenset((0, *(int.from_bytes(bytes((20, 0, o, 0)), "big") for o in (6, 16))))  # TCP, UDP
_HEAD: Final = Struct("<IIQ")  # type, flags and segment; index; counter


class Way(Protocol):
    """What the general way in does for a datagram that comes alone as well."""

    def columns_for(self, each: int) -> Columns:
        """Where a datagram of that size lies, and what is opened of it."""

    def authentic(
        self, session: Session, newest: bool, count: int, size: int, source: SocketAddress, pktinfo: bytes
    ) -> None:
        """Publish what is known since it authenticated, and roam."""


class LonePacket:
    """From the inside: the packet in slot 0."""

    def __init__(self, lane: Lane, sender: Sender, slots: bytearray, view: memoryview) -> None:
        self._lane, self._sender, self._slots, self._view = lane, sender, slots, view
        self._sendto, self._sendmsg = lane.udp.sendto, lane.udp.sendmsg

    def send(self, length: int) -> bool:
        """Seal and send the packet of `length` bytes. False: it is not that simple; nothing has changed."""
        lane, slots = self._lane, self._slots
        flags, _, sums, first, tos, target = _SINGLE.unpack_from(slots, VNET)
        if first >> 4 != 4 or length < 20:
            return False
        peer = lane.peers.get(lane.routes.known4.get(target, NO_PEER))
        if peer is None:
            return False
        session = peer.session
        if session is None or session.budget is not None:
            return False
        to = session.to
        if to is None:
            return False
        sealer, limit, counter = session.sealer, session.mtu, session.send_counter
        if peer.path_mtu < limit:
            limit = peer.path_mtu
        if sealer is None or lane.now_ns >= session.expires_ns or length > limit:
            return False
        if flags & 1 and (first != 0x45 or sums not in _SUMS):
            return False
        if counter >= session.reserved or counter >= session.worn_limit:
            counter = self._sender.counters(session, 1)
            if counter < 0:
                return True
        else:
            session.send_counter = counter + 1
        size, end = (length + META_SIZE + PAD_TO - 1) & -PAD_TO, PACKET + length
        if size > META_SIZE + limit:
            size = META_SIZE + limit
        pad = PLAIN + size - end
        if pad:
            slots[end : end + pad] = ZEROS[pad]
        slots[PLAIN] = flags & 1
        header = session.head + counter.to_bytes(8, "little")
        wire = header + sealer.seal_one(header, counter, self._view[PLAIN : PLAIN + size])
        options = session.ancillaries.get(tos & 3)
        if options is None:
            options = session.ancillary(0, tos & 3)
        try:
            if options:
                self._sendmsg((wire,), options, 0, to)
            else:
                self._sendto(wire, to)
        except OSError as e:
            if not self._sender.send_again(e.errno, session, memoryview(wire), 1, len(wire), tos & 3):
                return True
        session.sent(1, length, lane.now_ns, True)
        lane.count(_UDP_SENDS)
        return True


class LoneDatagram:
    """From the outside: the datagram at the front of `wire`."""

    def __init__(
        self, lane: Lane, wire: bytearray, plain: bytearray, view: memoryview, way: Way, delivery: Delivery
    ) -> None:
        self._lane, self._wire, self._plain, self._view = lane, wire, plain, view
        self._columns_for, self._authentic, self._delivery = way.columns_for, way.authentic, delivery
        self._vnet = lane.offloads.vnet
        self._word = TYPE_TRANSPORT | lane.number << 8

    def take(self, size: int, tos: int, source: SocketAddress, pktinfo: bytes) -> bool:
        """Open, check and write the datagram of `size` bytes. False: it is not that simple; nothing has changed."""
        lane, plain = self._lane, self._plain
        word, index, counter = _HEAD.unpack_from(self._wire)
        session = lane.by_index.get(index)
        if word != self._word or session is None or not OVERHEAD <= size <= OVERHEAD + MAX_DATA:
            return False
        opener, replay, now = session.opener, session.replay, lane.now_ns
        if opener is None or now >= session.expires_ns or counter >= session.stop:
            return False
        newest = counter > replay.highest
        if not newest and not replay.check(counter):
            return False
        places = self._columns_for(size).places
        if not opener.open_one(counter, places.heads[0], places.bodies[0], places.plains[0]):
            lane.drop(DropReason.AUTHENTICATION)
            return True
        replay.accept(counter)
        self._authentic(session, newest, 1, size, source, pktinfo)
        data = size - OVERHEAD
        meta, version, length, _, _, source4 = FRONT.unpack_from(plain, BASE)
        if (
            meta
            or version != 0x45
            or not 20 <= length <= data <= session.mtu
            or lane.routes.known4.get(source4) != session.peer
            or tos & 3
        ):
            length = self._delivery.checked(session, BASE, data, tos & 3, source, pktinfo)
            if not length:
                return True
        try:
            if self._vnet:
                plain[BASE - 2 : BASE + 4] = PARTIAL if plain[BASE] else NO_OFFLOAD
                os.write(lane.tun, self._view[BASE - 2 : BASE + META_SIZE + length])
            else:
                self._delivery.write_bare(BASE, BASE + META_SIZE, length)
        except OSError:
            lane.drop(DropReason.TUN_WRITE)
            return True
        session.received(1, length, now)
        lane.count(_TUN_WRITES)
        return True
