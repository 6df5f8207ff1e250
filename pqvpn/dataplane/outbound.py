"""TUN to UDP: read frames, group single packets, seal, send (PROTOCOL section 5).

In packet order: `pump` reads a burst, or just one frame after a pause; `choosing` says which session takes a packet;
`_groups` puts single packets together and `_seal_group` seals them; `sending` hands one buffer of equal datagrams to
the kernel. The packet that comes alone goes by `lone`, super-packets by `cutting`. Owns the slots of single packets.
"""

import io
import os
from struct import Struct, unpack
from typing import Final

from pqvpn.dataplane.choosing import WAIT_NS, Choice
from pqvpn.dataplane.commands import SendFrame
from pqvpn.dataplane.counters import Total
from pqvpn.dataplane.cutting import Cutter
from pqvpn.dataplane.engine import MAX_BURST, WIRE_EXTRA, Bound, Places
from pqvpn.dataplane.inner import OK, check_meta, complete_checksum
from pqvpn.dataplane.ipfragments import fragments
from pqvpn.dataplane.lone import FEW, PAUSE_NS, LonePacket
from pqvpn.dataplane.routes import NO_PEER, NOT_IP
from pqvpn.dataplane.sending import Sender
from pqvpn.dataplane.sessions import Peer, Session, ancillary, socket_address
from pqvpn.dataplane.slots import FRAME, MAX_SEND, PACKET, PLAIN, ROOM, STRIDE, VNET, VNET_HEADER, VNET_SIZE, ZEROS
from pqvpn.dataplane.state import Lane
from pqvpn.drops import DropReason
from pqvpn.wire.transport import META, META_SIZE, PAD_TO

READS: Final = 64  # frames read before other work gets its turn
SPREAD: Final = 64  # single packets of sizes this far apart are filled up to one size and sent together
_NATIVE: Final = Struct("=I")
_TUN_READS: Final = int(Total.TUN_READS)
_U64_U64: Final = Struct(">QQ")
_LOW_BIT: Final = bytes(i & 1 for i in range(256))
_PLAIN_V4: Final = frozenset((0, *(_NATIVE.unpack(bytes((20, 0, o, 0)))[0] for o in (6, 16))))
_PLAIN_V6: Final = frozenset((0, *(_NATIVE.unpack(bytes((40, 0, o, 0)))[0] for o in (6, 16))))


class Outbound:
    """One lane's way out."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._vnet = lane.offloads.vnet
        self._choice, self._sender = Choice(lane), Sender(lane)
        self._cutter = Cutter(lane, self._choice, self._sender)
        self._slots = bytearray(STRIDE * (MAX_BURST + 1))
        self._wire = memoryview(bytearray((STRIDE + WIRE_EXTRA) * MAX_BURST))
        self._bound = Bound()
        self._places: dict[int, Places] = {}
        view = memoryview(self._slots)
        first, spill = VNET if self._vnet else PACKET, self._cutter.spill
        self._view = view
        self._reading = [[view[i * STRIDE + first : i * STRIDE + PACKET + ROOM], spill] for i in range(MAX_BURST)]
        self._alone = LonePacket(lane, self._sender, self._slots, view)
        self._read = io.FileIO(lane.tun, closefd=False).readinto  # None when there is nothing: an exception costs more
        self._whole = view[VNET : VNET + FRAME]
        self._last_ns, self._few = 0, True  # when `pump` was called last, and whether it read little then
        # one value of every slot, as columns
        self._flags, self._meta0 = view[VNET::STRIDE], view[PLAIN::STRIDE]
        self._byte0, self._byte1 = view[PACKET::STRIDE], view[PACKET + 1 :: STRIDE]
        words = view.cast("I")
        self._csums = words[(PACKET - 4) // 4 :: STRIDE // 4]
        self._targets = words[(PACKET + 16) // 4 :: STRIDE // 4]
        self._lengths: list[int] = []  # of the packets in the slots
        self._pieces: list[bytes] = []  # frames that a packet was cut to, for when the slots are empty again

    # -- reading

    def pump(self) -> None:
        """Read until the queue is empty or a burst is full, and send everything read.

        After a pause a frame probably comes alone and its sender waits: then just one is read. If there are more, the
        event loop calls again, and that is no pause.
        """
        now = self._lane.now_ns
        paused, self._last_ns = self._few and now - self._last_ns > PAUSE_NS, now
        if not paused or not self.one():
            self._drain()

    def one(self) -> bool:
        """Read at most one frame and send it. False: nothing was read, or there is probably more."""
        if self._cutter.expected is not None or not self._vnet:
            return False
        try:
            size = self._read(self._whole)
        except OSError:  # the interface is down or gone: nothing to read now
            return True
        if size is None:
            return True
        self._lane.count(_TUN_READS)
        if self._slots[VNET + 1] or size > VNET_SIZE + ROOM:
            self._large(size, self._view[VNET : VNET + size])
            return False
        if not self._alone.send(size - VNET_SIZE):
            self._lengths.append(size - VNET_SIZE)
            self._groups()
        return True

    def _drain(self) -> None:
        """Read until the queue is empty or `READS` is reached, and send everything read."""
        lengths, slots, tun, readv, cutter = self._lengths, self._slots, self._lane.tun, os.readv, self._cutter
        reads = 0
        try:
            while reads < READS:
                expected = cutter.expected
                if expected is not None:
                    size = readv(tun, expected.reading)
                    reads += 1
                    frame = cutter.single(size, expected)
                    if frame is None:
                        cutter.cut_expected(size, expected)
                    else:
                        self._take(frame)
                    continue
                place = len(lengths)
                size = readv(tun, self._reading[place])
                reads += 1
                if not self._vnet:
                    slots[place * STRIDE + VNET : place * STRIDE + PACKET] = ZEROS[VNET_SIZE]
                    size += VNET_SIZE
                if size > VNET_SIZE + ROOM or slots[place * STRIDE + VNET + 1]:
                    base = place * STRIDE + VNET
                    head = self._view[base : base + min(size, VNET_SIZE + ROOM)]
                    self._large(size, memoryview(b"".join((head, cutter.spill[: size - len(head)]))))
                else:
                    lengths.append(size - VNET_SIZE)
        except BlockingIOError:
            pass
        except OSError:  # the interface is down or gone: nothing to read now
            reads = READS + 1
        self._flush()
        self._few = reads <= FEW
        self._lane.count(_TUN_READS, reads)

    def _take(self, frame: memoryview | bytes) -> None:
        """Put a single packet that does not lie in the next slot there."""
        size = len(frame)
        if size > VNET_SIZE + ROOM:
            self._lane.drop(DropReason.TOO_BIG)
            return
        if len(self._lengths) == MAX_BURST:
            self._flush()
        base = len(self._lengths) * STRIDE + VNET
        self._slots[base : base + size] = frame
        self._lengths.append(size - VNET_SIZE)

    def _large(self, size: int, frame: memoryview) -> None:
        """A frame that fits no slot: a super-packet, or a packet that nobody takes."""
        if not frame[1]:
            self._lane.drop(DropReason.TOO_BIG)
            self._lane.refuse(bytes(frame[VNET_SIZE:]), ROOM)
            return
        self._flush()  # what was read before leaves before
        self._cutter.cut(size, frame)

    def abandon(self) -> None:
        """Forget a burst that an internal error interrupted."""
        self._lengths.clear()
        self._pieces.clear()
        self._bound.key = None
        self._cutter.abandon()

    def inject(self, frame: bytes, handed: bool) -> None:
        """Send a frame (virtio header first) that did not come from the TUN: it waited, or another lane gave it."""
        self._choice.handed = handed
        try:
            if len(frame) <= VNET_SIZE:
                self._lane.drop(DropReason.NOT_IP)
            elif frame[1]:
                self._cutter.cut(len(frame), memoryview(frame))
            else:
                self._take(frame)
                self._flush()
        finally:
            self._choice.handed = False

    def release(self, peer: Peer) -> None:
        """Send what waited for the peer's session, but nothing that its sender has given up by now."""
        waiting = list(peer.waiting)
        peer.waiting.clear()
        for since_ns, frame in waiting:
            if self._lane.now_ns - since_ns > WAIT_NS:
                self._lane.drop(DropReason.NO_SESSION)
            else:
                self.inject(frame, handed=False)

    # -- single packets

    def _flush(self) -> None:
        """Send the single packets in the slots: consecutive ones of one session and about one size go together."""
        lengths = self._lengths
        if len(lengths) == 1 and self._alone.send(lengths[0]):
            lengths.clear()
        elif lengths:
            self._groups()

    def _groups(self) -> None:
        """As `_flush`, for packets that are in the slots."""
        lengths = self._lengths
        total = len(lengths)
        byte0, byte1 = self._byte0[:total].tobytes(), self._byte1[:total].tobytes()
        targets = unpack(f">{total}I", self._targets[:total].tobytes())
        find4, lane = self._lane.routes.find4, self._lane
        session: Session | None = None
        last_target, number, limit = -1, NO_PEER, 0
        group: Session | None = None  # session of the group from `start` on
        start = low = high = ecn = 0
        for i in range(total):
            version, length = byte0[i] >> 4, lengths[i]
            if version == 4 and length >= 20:
                if targets[i] != last_target:
                    last_target = targets[i]
                    number = find4(last_target)
                    session = self._choice.session(number)
                    limit = 0 if session is None else self._choice.limit(number, session)
                bits = byte1[i] & 3
            elif version == 6 and length > 40:
                last_target = -1
                number = lane.routes.find6(*_U64_U64.unpack_from(self._slots, i * STRIDE + PACKET + 24))
                session = self._choice.session(number)
                limit = 0 if session is None else self._choice.limit6(number, session, length)
                bits = byte1[i] >> 4 & 3
            else:
                last_target, session, number = -1, None, NOT_IP
                bits = 0
            if session is None or length > limit:
                if group is not None:
                    self._seal_group(group, start, i, high, ecn)
                    group = None
                self._set_aside(i, number, session, limit)
                continue
            size = min((length + META_SIZE + PAD_TO - 1) & -PAD_TO, META_SIZE + limit)
            if group is session and bits == ecn:
                below, above = min(low, size), max(high, size)
                # never filled past what this packet may have, nor past what one send takes
                if (
                    above - below <= SPREAD
                    and above <= META_SIZE + limit
                    and (i + 1 - start) * (above + 32) <= MAX_SEND
                ):
                    low, high = below, above
                    continue
            if group is not None:
                self._seal_group(group, start, i, high, ecn)
            group, start, low, high, ecn = session, i, size, size, bits
        if group is not None:
            self._seal_group(group, start, total, high, ecn)
        lengths.clear()
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                self.inject(piece, handed=False)

    def _set_aside(self, i: int, number: int, session: Session | None, limit: int) -> None:
        """Deal with the packet in slot `i` that no session takes."""
        base = i * STRIDE
        end = base + PACKET + self._lengths[i]
        if number == NOT_IP:
            self._lane.drop(DropReason.NOT_IP)
        elif session is None:
            self._choice.elsewhere(number, bytes(self._view[base + VNET : end]))
        elif not self._fragmented(i, limit):
            self._lane.drop(DropReason.TOO_BIG)
            self._lane.refuse(bytes(self._view[base + PACKET : end]), limit)

    def _fragmented(self, i: int, limit: int) -> bool:
        """Cut the packet in slot `i` to pieces that fit, if its sender lets routers do so."""
        slots, at, length = self._slots, i * STRIDE + PACKET, self._lengths[i]
        if slots[at] >> 4 != 4 or slots[at + 6] & 0x40:
            return False
        flags, _, _, _, start, offset = VNET_HEADER.unpack_from(slots, i * STRIDE + VNET)
        if flags & 1:
            complete_checksum(slots, at, length, start, offset)
        pieces = fragments(bytes(self._view[at : at + length]), limit)
        self._pieces += [bytes(VNET_SIZE) + piece for piece in pieces]
        return bool(pieces)

    def _places_for(self, length: int) -> Places:
        places = self._places.get(length)
        if places is None:
            if len(self._places) >= 32:
                self._places.clear()
            places = Places(self._view, PLAIN, STRIDE, length, self._wire, self._bound)
            self._places[length] = places
        return places

    def _seal_group(self, session: Session, start: int, end: int, size: int, ecn: int) -> None:
        """Seal the packets in slots `start` to `end - 1` as plaintexts of `size` bytes each and send them."""
        slots, lengths, count, inner = self._slots, self._lengths, end - start, 0
        for i in range(start, end):
            length = lengths[i]
            inner += length
            pad = size - META_SIZE - length
            if pad:
                behind = i * STRIDE + PACKET + length
                slots[behind : behind + pad] = ZEROS[pad]
        flags = self._flags[start:end].tobytes()
        self._meta0[start:end] = flags.translate(_LOW_BIT)
        if 1 in flags:
            self._check_sums(start, end)
        self._seal_and_send(session, start, count, size, ecn, inner, True)

    def _check_sums(self, start: int, end: int) -> None:
        """Checksums left to the device that the peer would not take as such are finished here (tunnels in tunnels)."""
        heads = set(self._byte0[start:end].tobytes())
        sums = self._csums[start:end].tolist()
        if (heads == {0x45} and _PLAIN_V4.issuperset(sums)) or (heads == {0x60} and _PLAIN_V6.issuperset(sums)):
            return
        slots = self._slots
        for i in range(start, end):
            meta = i * STRIDE + PLAIN
            length = self._lengths[i]
            if slots[meta] & 1 and check_meta(slots, meta, length) != OK:
                _, _, _, at, offset = META.unpack_from(slots, meta)
                complete_checksum(slots, meta + META_SIZE, length, at, offset)
                META.pack_into(slots, meta, 0, 0, 0, 0, 0)

    def _seal_and_send(
        self, session: Session, at: int, count: int, size: int, ecn: int, inner: int, data: bool
    ) -> None:
        places = self._places_for(size)
        first = self._sender.counters(session, count)
        sealer = session.sealer
        if first < 0 or sealer is None:
            return
        sealer.seal_burst(places, at, session.index_out, False, first, count, size)
        wire = self._wire[at * places.size : (at + count) * places.size]
        send = self._sender.send_in_pieces if data and self._sender.exceeds(session, size) else self._sender.send
        if send(session, wire, count, places.size, ecn):
            session.sent(count, inner, self._lane.now_ns, data)

    # -- frames that control sends

    def send_frame(self, command: SendFrame) -> None:
        """Seal and send one frame of another kind. An unknown or expired session: nothing."""
        lane = self._lane
        session = lane.sessions.get(command.slot)
        if session is None or not session.carried or lane.now_ns >= session.expires_ns:
            lane.drop(DropReason.NO_SESSION)
            return
        body = len(command.body)
        size = min((body + META_SIZE + PAD_TO - 1) & -PAD_TO, META_SIZE + session.mtu)
        size = max(size, META_SIZE + body, META_SIZE + command.pad_to)
        if size > META_SIZE + ROOM:
            lane.drop(DropReason.TOO_BIG)
            return
        plain = META.pack(command.kind << 4, 0, 0, 0, 0) + command.body
        self._slots[PLAIN : PLAIN + size] = plain.ljust(size, b"\0")
        if command.to is None:
            self._seal_and_send(session, 0, 1, size, 0, 0, False)
        else:
            self._send_to(session, size, command)

    def _send_to(self, session: Session, size: int, command: SendFrame) -> None:
        """Seal the frame in slot 0 and send it to an address that is not the session's endpoint."""
        lane, to = self._lane, command.to
        first, sealer = self._sender.counters(session, 1), session.sealer
        if first < 0 or sealer is None or to is None:
            return
        places = self._places_for(size)
        sealer.seal_burst(places, 0, session.index_out, False, first, 1, size)
        options = ancillary(0, 0, command.source, len(to.ip) == 4, lane.ipv6)
        try:
            lane.udp.sendmsg((self._wire[: places.size],), options, 0, socket_address(to, lane.ipv6))
        except OSError:
            lane.drop(DropReason.UDP_SEND)
            return
        session.sent(1, 0, lane.now_ns, False)
