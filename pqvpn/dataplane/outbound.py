"""TUN to UDP: read frames, choose the session, cut super-packets, seal, send (PROTOCOL section 5).

In packet order: `pump` reads a burst; `_flush` groups single packets and `_cut` cuts a super-packet; `_seal_group`
and
`_seal_chunk` seal; `_send` hands one buffer of equal datagrams to the kernel. Owns the buffers of this direction.

A slot is where one packet lies: virtio header (10 bytes), then the IP packet. The meta (8 bytes) is written over the
end of the
virtio header, whose last four bytes, checksum start and offset, are the meta's last four as well. While a flow of
super-packets lasts, one readv scatters the payload of the next one into the slots of its segments, so that no byte is
moved before it is sealed.
"""

import errno
import os
from struct import Struct, unpack
from typing import Final

from pqvpn.dataplane.commands import SendFrame
from pqvpn.dataplane.counters import Total
from pqvpn.dataplane.engine import MAX_BURST, WIRE_EXTRA, Bound, Places
from pqvpn.dataplane.events import KeysWorn
from pqvpn.dataplane.inner import OK, check_meta, complete_checksum, ecn_of
from pqvpn.dataplane.ipfragments import fragments
from pqvpn.dataplane.routes import NO_PEER
from pqvpn.dataplane.segments import VNET as VNET_HEADER
from pqvpn.dataplane.segments import Shape, Template
from pqvpn.dataplane.sessions import QUEUE, Peer, Session, ancillary, socket_address
from pqvpn.dataplane.state import Lane
from pqvpn.drops import DropReason
from pqvpn.host.udp import allow_fragments
from pqvpn.wire.transport import GSO_UDP, HEADER, LANE_MASK, META, META_SIZE, PAD_TO, TYPE_TRANSPORT

READS: Final = 64  # frames read before other work gets its turn
SPREAD: Final = 64  # single packets of sizes this far apart are filled up to one size and sent together
VNET_SIZE: Final = 10
PACKET: Final = 16  # of a slot: where the IP packet begins
VNET: Final = PACKET - VNET_SIZE
PLAIN: Final = PACKET - META_SIZE
UDP_HEADER: Final = 8
TCP_HEADER_MOST: Final = 60
STRIDE: Final = 2112
ROOM: Final = STRIDE - PACKET - 16  # the largest single packet
IPV6_LEAST_MTU: Final = 1280
MAX_SEND: Final = 65479  # bytes in one UDP send, headers taken off
WAIT_NS: Final = 5_000_000_000  # a peer without session for so long is refused, and what waited so long is of no use


_NATIVE: Final = Struct("=I")
_HANDED_OVER: Final = int(Total.HANDED_OVER)
_TUN_READS: Final = int(Total.TUN_READS)
_UDP_SENDS: Final = int(Total.UDP_SENDS)
_U32: Final = Struct(">I")
_U64_U64: Final = Struct(">QQ")
_ZEROS: Final = [bytearray(n) for n in range(STRIDE)]
_LOW_BIT: Final = bytes(i & 1 for i in range(256))
_PLAIN_V4: Final = frozenset((0, *(_NATIVE.unpack(bytes((20, 0, o, 0)))[0] for o in (6, 16))))
_PLAIN_V6: Final = frozenset((0, *(_NATIVE.unpack(bytes((40, 0, o, 0)))[0] for o in (6, 16))))
_SOURCE_GONE: Final = frozenset((errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.ENODEV))


class Outbound:
    """One lane's way out."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._vnet = lane.offloads.vnet
        self._slots = bytearray(STRIDE * (MAX_BURST + 1))
        self._spill = memoryview(bytearray(65536 + 4096))
        self._wire = memoryview(bytearray((STRIDE + WIRE_EXTRA) * MAX_BURST))
        self._bound = Bound()
        self._places: dict[int, Places] = {}
        view = memoryview(self._slots)
        first = VNET if self._vnet else PACKET
        self._view = view
        self._reading = [[view[i * STRIDE + first : i * STRIDE + PACKET + ROOM], self._spill] for i in range(MAX_BURST)]
        # one value of every slot, as columns
        self._flags, self._meta0 = view[VNET::STRIDE], view[PLAIN::STRIDE]
        self._byte0, self._byte1 = view[PACKET::STRIDE], view[PACKET + 1 :: STRIDE]
        words = view.cast("I")
        self._csums = words[(PACKET - 4) // 4 :: STRIDE // 4]
        self._targets = words[(PACKET + 16) // 4 :: STRIDE // 4]
        self._lengths: list[int] = []  # of the packets in the slots
        self._pieces: list[bytes] = []  # frames that a packet was cut to, for when the slots are empty again
        # super-packets
        self._big = bytearray(PACKET + 65536 * 2)
        self._big_view = memoryview(self._big)
        self._run_wire = memoryview(bytearray(MAX_SEND))
        self._run_bound = Bound()
        self._shapes: dict[tuple[int, int, int, int], Shape] = {}
        self._expected: Shape | None = None  # what the next super-packet probably looks like
        self._clean: Shape | None = None  # whose padding in `_big` is zero
        self._quiet = False  # the last burst was no burst
        self._handed = False  # the packet came from another lane: it is not handed on again

    # -- reading

    def pump(self) -> None:
        """Read until the queue is empty or a burst is full, and send everything read."""
        lengths, slots, tun, readv = self._lengths, self._slots, self._lane.tun, os.readv
        reads = 0
        try:
            while reads < READS:
                expected = self._expected
                if expected is not None:
                    size = readv(tun, expected.reading)
                    reads += 1
                    self._expectation(size, expected)
                    continue
                place = len(lengths)
                size = readv(tun, self._reading[place])
                reads += 1
                if not self._vnet:
                    slots[place * STRIDE + VNET : place * STRIDE + PACKET] = _ZEROS[VNET_SIZE]
                    size += VNET_SIZE
                if size > VNET_SIZE + ROOM or slots[place * STRIDE + VNET + 1]:
                    self._super_read(place, size)
                else:
                    lengths.append(size - VNET_SIZE)
                    if reads == 1 and self._quiet:  # its sender probably waits: look for more afterwards
                        self._flush()
        except BlockingIOError:
            pass
        except OSError:  # the interface is down or gone: nothing to read now
            reads = READS + 1
        self._flush()
        self._quiet = reads <= 2
        self._lane.count(_TUN_READS, reads)

    def _expectation(self, size: int, expected: Shape) -> None:
        """A frame was read into the slots of an expected super-packet: use it there, or as the single packet it is."""
        big = self._big
        if big[VNET + 1]:
            self._flush()
            # headers longer than the expected first slot lie scattered: what stands behind it is not theirs
            _, gso, _, _, start, _ = VNET_HEADER.unpack_from(big, VNET)
            longest = VNET_SIZE + start + (UDP_HEADER if gso == GSO_UDP else TCP_HEADER_MOST)
            whole = min(longest, size) <= len(expected.reading[0])
            self._cut(size, None if whole else memoryview(expected.gather(size)))
            return
        self._expected = None
        if size > VNET_SIZE + ROOM:
            self._lane.drop(DropReason.TOO_BIG)
            return
        if len(self._lengths) == MAX_BURST:
            self._flush()
        base = len(self._lengths) * STRIDE + VNET
        if size <= len(expected.reading[0]):
            self._slots[base : base + size] = self._big_view[VNET : VNET + size]
        else:
            self._slots[base : base + size] = expected.gather(size)
        self._lengths.append(size - VNET_SIZE)

    def _super_read(self, place: int, size: int) -> None:
        """A frame that is no single packet was read into a slot and the spill."""
        base = place * STRIDE + VNET
        head = self._view[base : base + min(size, VNET_SIZE + ROOM)]
        frame = memoryview(b"".join((head, self._spill[: size - len(head)])))
        if not frame[1]:
            self._lane.drop(DropReason.TOO_BIG)
            self._too_big(bytes(frame[VNET_SIZE:]), ROOM)
            return
        self._flush()
        self._cut(size, frame)

    def abandon(self) -> None:
        """Forget a burst that an internal error interrupted."""
        self._lengths.clear()
        self._pieces.clear()
        self._expected = self._clean = None
        self._bound.key = self._run_bound.key = None

    def inject(self, frame: bytes, handed: bool) -> None:
        """Send a frame (virtio header first) that did not come from the TUN: it waited, or another lane gave it."""
        self._handed = handed
        try:
            if len(frame) <= VNET_SIZE:
                self._lane.drop(DropReason.NOT_IP)
            elif frame[1]:
                self._cut(len(frame), memoryview(frame))
            elif len(frame) > VNET_SIZE + ROOM:
                self._lane.drop(DropReason.TOO_BIG)
            else:
                self._slots[VNET : VNET + len(frame)] = frame
                self._lengths.append(len(frame) - VNET_SIZE)
                self._flush()
        finally:
            self._handed = False

    # -- choosing the session

    def _peer_of(self, buffer: bytearray, ip: int) -> int:
        if buffer[ip] >> 4 == 4:
            return self._lane.routes.find4(_U32.unpack_from(buffer, ip + 16)[0])
        return self._lane.routes.find6(*_U64_U64.unpack_from(buffer, ip + 24))

    def _session(self, number: int) -> Session | None:
        """The session that takes packets for a peer in this lane now."""
        peer = self._lane.peers.get(number)
        session = None if peer is None else peer.session
        if session is None or not session.carried or self._lane.now_ns >= session.expires_ns:
            return None
        return session

    def _elsewhere(self, number: int, frame: bytes) -> None:
        """A frame for which `_session` gave none: refuse it, hand it to its lane, or let it wait."""
        lane = self._lane
        if number == NO_PEER:
            lane.drop(DropReason.NO_ROUTE)
            lane.refuse(frame[VNET_SIZE:])
            return
        peer = lane.peer(number)
        session = peer.session
        if session is None:
            self._wait(number, peer, frame)
        elif lane.now_ns >= session.expires_ns:
            lane.drop(DropReason.KEYS_EXPIRED)
            lane.refuse(frame[VNET_SIZE:])
            lane.want(number)
        elif self._handed or not lane.crossover.hand_frame(lane.number % session.install.lanes, [frame]):
            lane.drop(DropReason.HANDOVER)
        else:
            lane.count(_HANDED_OVER)

    def _wait(self, number: int, peer: Peer, frame: bytes) -> None:
        """Queue for the first session; the oldest goes when the queue is full."""
        lane = self._lane
        lane.want(number)
        if peer.black_hole:
            lane.drop(DropReason.KEYS_EXPIRED)
            lane.refuse(frame[VNET_SIZE:])
            return
        if not peer.waiting:
            peer.waiting_since_ns = lane.now_ns
        peer.waiting.append((lane.now_ns, frame))
        if len(peer.waiting) > QUEUE:
            _, oldest = peer.waiting.popleft()
            lane.drop(DropReason.NO_SESSION)
            # early errors would end connections that a handshake on its way is about to serve
            if lane.now_ns - peer.waiting_since_ns > WAIT_NS:
                lane.refuse(oldest[VNET_SIZE:])

    def release(self, peer: Peer) -> None:
        """Send what waited for the peer's session, but nothing that its sender has given up by now."""
        waiting = list(peer.waiting)
        peer.waiting.clear()
        for since_ns, frame in waiting:
            if self._lane.now_ns - since_ns > WAIT_NS:
                self._lane.drop(DropReason.NO_SESSION)
            else:
                self.inject(frame, handed=False)

    def _too_big(self, packet: bytes, limit: int) -> None:
        self._lane.refuse(packet, limit)

    def _limit(self, number: int, session: Session) -> int:
        """The largest inner packet that may leave."""
        return min(session.mtu, self._lane.peers[number].path_mtu)

    def _limit6(self, number: int, session: Session, length: int) -> int:
        """As `_limit` for IPv6, whose hosts may send 1280 bytes on any path and hear of nothing less (RFC 8200 section 5).

        What fits the path in one piece, `length` bytes, is not filled up past it. Where all lanes share one socket, its
        options are not this one's to change.
        """
        limit = self._limit(number, session)
        if length <= limit or not self._lane.offloads.steering:
            return limit
        return max(limit, min(session.mtu, IPV6_LEAST_MTU))

    # -- single packets

    def _flush(self) -> None:
        """Send the single packets in the slots: consecutive ones of one session and about one size go together."""
        lengths = self._lengths
        total = len(lengths)
        if total < 2 and (not total or self._one()):
            return
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
                    session = self._session(number)
                    limit = 0 if session is None else self._limit(number, session)
                bits = byte1[i] & 3
            elif version == 6 and length > 40:
                last_target = -1
                number = lane.routes.find6(*_U64_U64.unpack_from(self._slots, i * STRIDE + PACKET + 24))
                session = self._session(number)
                limit = 0 if session is None else self._limit6(number, session, length)
                bits = byte1[i] >> 4 & 3
            else:
                last_target, session, number = -1, None, -2
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

    def _one(self) -> bool:
        """The packet that came alone: the same in fewer steps, since its sender waits. False: it is not that simple."""
        lane, slots, length = self._lane, self._slots, self._lengths[0]
        if slots[PACKET] >> 4 != 4 or length < 20:
            return False
        number = lane.routes.find4(_U32.unpack_from(slots, PACKET + 16)[0])
        session = self._session(number)
        if session is None or session.budget is not None or session.to is None or session.sealer is None:
            return False
        limit = min(session.mtu, lane.peers[number].path_mtu)
        if length > limit or (
            slots[VNET] & 1 and not (slots[PACKET] == 0x45 and _NATIVE.unpack_from(slots, PACKET - 4)[0] in _PLAIN_V4)
        ):
            return False
        counter = self._counters(session, 1)
        self._lengths.clear()
        if counter < 0:
            return True
        size = min((length + META_SIZE + PAD_TO - 1) & -PAD_TO, META_SIZE + limit)
        end = PACKET + length
        slots[end : PLAIN + size] = _ZEROS[PLAIN + size - end]
        slots[PLAIN] = slots[VNET] & 1
        index = session.index_out
        header = HEADER.pack(TYPE_TRANSPORT, index & LANE_MASK, 0, index, counter)
        sealed = session.sealer.seal_one(header, counter, self._view[PLAIN : PLAIN + size])
        ecn = slots[PACKET + 1] & 3
        wire = memoryview(header + sealed)
        if self._send(session, wire, 1, len(wire), ecn):
            session.sent(1, length, lane.now_ns, True)
        return True

    def _set_aside(self, i: int, number: int, session: Session | None, limit: int) -> None:
        """Deal with the packet in slot `i` that no session takes."""
        base = i * STRIDE
        end = base + PACKET + self._lengths[i]
        if number < NO_PEER:
            self._lane.drop(DropReason.NOT_IP)
        elif session is None:
            self._elsewhere(number, bytes(self._view[base + VNET : end]))
        elif not self._fragmented(i, limit):
            self._lane.drop(DropReason.TOO_BIG)
            self._too_big(bytes(self._view[base + PACKET : end]), limit)

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
                slots[behind : behind + pad] = _ZEROS[pad]
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
        first = self._counters(session, count)
        sealer = session.sealer
        if first < 0 or sealer is None:
            return
        sealer.seal_burst(places, at, session.index_out, False, first, count, size)
        wire = self._wire[at * places.size : (at + count) * places.size]
        send = self._send_in_pieces if data and self._exceeds(session, size) else self._send
        if send(session, wire, count, places.size, ecn):
            session.sent(count, inner, self._lane.now_ns, data)

    def _counters(self, session: Session, count: int) -> int:
        """The first of `count` reserved counters, -1 when the packets must be dropped."""
        first = session.reserve(count)
        if first < 0:
            self._lane.drop(DropReason.SEND_COUNTER_LIMIT, count)
            if not session.worn:
                session.worn = True
                self._lane.tell(KeysWorn(session.slot))
        elif first >= session.worn_limit and not session.worn:
            session.worn = True
            self._lane.tell(KeysWorn(session.slot))
        return first

    # -- super-packets

    def _cut(self, size: int, frame: memoryview | None) -> None:
        """Cut a super-packet of `size` bytes, virtio header included, into runs.

        It lies in `frame`, or (None) in the slots of the expected shape.
        """
        big, lane = self._big, self._lane
        if frame is not None:
            head = min(size, 512)
            big[VNET : VNET + head] = frame[:head]
            self._clean = None  # small slots' padding was written over
        template = Template.parse(big, VNET, size)
        if template is None:
            lane.drop(DropReason.NOT_IP)
            return
        number = self._peer_of(big, PACKET)
        session = self._session(number)
        if session is None:
            self._elsewhere(number, bytes(frame) if frame is not None else self._gather(size))
            return
        longest = template.header + template.segment
        limit = self._limit(number, session) if big[PACKET] >> 4 == 4 else self._limit6(number, session, longest)
        if longest > limit:
            lane.drop(DropReason.TOO_BIG, template.count)
            self._too_big(
                bytes(frame[VNET_SIZE:1300]) if frame is not None else self._gather(size)[VNET_SIZE:1300], limit
            )
            return
        shape = self._shape(template, limit)
        if frame is None and shape is not self._expected:
            frame = memoryview(self._gather(size))
        if self._clean is not shape:
            shape.clear_padding()
            self._clean = shape
        self._expected = shape if lane.offloads.vnet else None
        self._runs(session, template, shape, frame, limit)

    def _gather(self, size: int) -> bytes:
        """The frame in the slots of the expected shape as one piece."""
        return b"" if self._expected is None else self._expected.gather(size)

    def _shape(self, template: Template, limit: int) -> Shape:
        plain = META_SIZE + template.header + template.segment
        length = min((plain + PAD_TO - 1) & -PAD_TO, META_SIZE + limit)
        key = (template.header, template.segment, length, template.transport)
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) >= 16:
                self._shapes.clear()
            shape = Shape(*key, self._big, self._big_view, self._run_wire, self._run_bound, self._spill)
            self._shapes[key] = shape
        return shape

    def _runs(self, session: Session, template: Template, shape: Shape, frame: memoryview | None, limit: int) -> None:
        """Fill the slots run by run, seal and send."""
        done = 0
        ecn = ecn_of(self._big, PACKET)
        source, shift = (frame, VNET_SIZE + template.header) if frame is not None else (None, 0)
        while done < template.count:
            count = min(shape.count, template.count - done)
            if source is not None:
                shape.fill(source, shift + done * template.segment, count)
            else:  # the first run was read in place, what did not fit lies in the spill
                source, shift = self._spill, -shape.count * template.segment
            last = template.write(shape, done, count, limit)
            self._seal_run(session, shape, count, last, ecn, template.inner_bytes(done, count))
            done += count

    def _seal_run(self, session: Session, shape: Shape, count: int, last: int, ecn: int, inner: int) -> None:
        first = self._counters(session, count)
        sealer = session.sealer
        if first < 0 or sealer is None:
            return
        places = shape.places
        sealer.seal_burst(places, 0, session.index_out, True, first, count, last)
        wire = self._run_wire[: (count - 1) * places.size + last + WIRE_EXTRA]
        send = self._send_in_pieces if self._exceeds(session, places.length) else self._send
        if send(session, wire, count, places.size, ecn):
            session.sent(count, inner, self._lane.now_ns, True)

    # -- sending

    def _exceeds(self, session: Session, size: int) -> bool:
        """Whether a plaintext of `size` bytes does not fit the path in one piece: IPv6 of up to 1280 bytes on a narrow one."""
        return size - META_SIZE > self._lane.peers[session.install.peer].path_mtu

    def _send_in_pieces(self, session: Session, wire: memoryview, count: int, size: int, ecn: int) -> bool:
        """As `_send`, for datagrams that have to be fragmented on the way (RFC 2473 section 7.1): one by one, slowly."""
        lane = self._lane
        gso, lane.gso = lane.gso, False  # a device does not fragment what it cuts
        allow_fragments(lane.udp, lane.ipv6, True)
        try:
            return self._send(session, wire, count, size, ecn)
        finally:
            allow_fragments(lane.udp, lane.ipv6, False)
            lane.gso = gso

    def _send(self, session: Session, wire: memoryview, count: int, size: int, ecn: int) -> bool:
        """Give `count` datagrams of `size` bytes (the last may be shorter) to the kernel; False when it took none."""
        lane, to = self._lane, session.to
        if to is None:
            lane.drop(DropReason.NO_ENDPOINT, count)
            return False
        if session.budget is not None:
            if session.budget < len(wire):
                lane.drop(DropReason.AMPLIFICATION, count)
                return False
            session.budget -= len(wire)
        if count > 1 and not lane.gso:
            return self._send_each(session, wire, size, ecn)
        lane.count(_UDP_SENDS)
        try:
            lane.udp.sendmsg((wire,), session.ancillary(size if count > 1 else 0, ecn), 0, to)
        except OSError as e:
            return self._send_again(e.errno, session, wire, count, size, ecn)
        return True

    def _send_again(
        self, error: int | None, session: Session, wire: memoryview, count: int, size: int, ecn: int
    ) -> bool:
        """After a refusal: without UDP_SEGMENT when the device cannot, from another source when ours is gone."""
        if error == errno.EIO and count > 1:
            self._lane.gso = False
            return self._send_each(session, wire, size, ecn)
        if error in _SOURCE_GONE and session.source is not None:
            session.source = None
            session.ancillaries.clear()
            return self._send(session, wire, count, size, ecn)
        self._lane.drop(DropReason.UDP_SEND, count)
        return False

    def _send_each(self, session: Session, wire: memoryview, size: int, ecn: int) -> bool:
        lane, to, some = self._lane, session.to, False
        options = session.ancillary(0, ecn)
        for at in range(0, len(wire), size):
            lane.count(_UDP_SENDS)
            try:
                lane.udp.sendmsg((wire[at : at + size],), options, 0, to)
                some = True
            except OSError:
                lane.drop(DropReason.UDP_SEND)
        return some

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
        first, sealer = self._counters(session, 1), session.sealer
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
