"""Super-packets from the TUN: cut into runs, sealed and sent.

While a flow of super-packets lasts, one readv scatters the payload of the next one into the slots of its segments
(`expected.reading`), so that no byte is moved before it is sealed. Owns those slots; `segments` says how they lie.
"""

from typing import Final

from pqvpn.dataplane.choosing import Choice
from pqvpn.dataplane.engine import WIRE_EXTRA, Bound
from pqvpn.dataplane.inner import ecn_of
from pqvpn.dataplane.segments import Shape, Template
from pqvpn.dataplane.sending import Sender
from pqvpn.dataplane.sessions import Session
from pqvpn.dataplane.slots import MAX_SEND, PACKET, SPILL, VNET, VNET_HEADER, VNET_SIZE
from pqvpn.dataplane.state import Lane
from pqvpn.drops import DropReason
from pqvpn.wire.transport import GSO_UDP, META_SIZE, PAD_TO

_UDP_HEADER: Final = 8
_TCP_HEADER_MOST: Final = 60
_SHAPES_KEPT: Final = 16


class Cutter:
    """One lane's super-packets."""

    def __init__(self, lane: Lane, choice: Choice, sender: Sender) -> None:
        self._lane, self._choice, self._sender = lane, choice, sender
        self._big = bytearray(PACKET + 65536 * 2)
        self._big_view = memoryview(self._big)
        self.spill = memoryview(bytearray(SPILL))
        self._wire = memoryview(bytearray(MAX_SEND))
        self._bound = Bound()
        self._shapes: dict[tuple[int, int, int, int], Shape] = {}
        self.expected: Shape | None = None  # what the next super-packet probably looks like
        self._clean: Shape | None = None  # whose padding in `_big` is zero

    def abandon(self) -> None:
        """Forget what an internal error interrupted."""
        self.expected = self._clean = None
        self._bound.key = None

    def single(self, size: int, expected: Shape) -> memoryview | None:
        """A frame was read into the slots of an expected super-packet: the frame if it is a single packet, which ends
        the expectation; None: it is a super-packet, for `cut_expected`.
        """
        if self._big[VNET + 1]:
            return None
        self.expected = None
        return (
            self._big_view[VNET : VNET + size]
            if size <= len(expected.reading[0])
            else memoryview(expected.gather(size))
        )

    def cut_expected(self, size: int, expected: Shape) -> None:
        """Cut the super-packet that was read into the slots of an expected one."""
        # headers longer than the expected first slot lie scattered: what stands behind it is not theirs
        _, gso, _, _, start, _ = VNET_HEADER.unpack_from(self._big, VNET)
        longest = VNET_SIZE + start + (_UDP_HEADER if gso == GSO_UDP else _TCP_HEADER_MOST)
        whole = min(longest, size) <= len(expected.reading[0])
        self.cut(size, None if whole else memoryview(expected.gather(size)))

    def cut(self, size: int, frame: memoryview | None) -> None:
        """Cut a super-packet of `size` bytes, virtio header included, into runs.

        It lies in `frame`, or (None) in the slots of the expected shape.
        """
        big, lane, choice = self._big, self._lane, self._choice
        if frame is not None:
            head = min(size, 512)
            big[VNET : VNET + head] = frame[:head]
            self._clean = None  # small slots' padding was written over
        template = Template.parse(big, VNET, size)
        if template is None:
            lane.drop(DropReason.NOT_IP)
            return
        number = choice.peer_of(big, PACKET)
        session = choice.session(number)
        if session is None:
            choice.elsewhere(number, bytes(frame) if frame is not None else self._gather(size))
            return
        longest = template.header + template.segment
        limit = choice.limit(number, session) if big[PACKET] >> 4 == 4 else choice.limit6(number, session, longest)
        if longest > limit:
            lane.drop(DropReason.TOO_BIG, template.count)
            lane.refuse(
                bytes(frame[VNET_SIZE:1300]) if frame is not None else self._gather(size)[VNET_SIZE:1300], limit
            )
            return
        shape = self._shape(template, limit)
        if frame is None and shape is not self.expected:
            frame = memoryview(self._gather(size))
        if self._clean is not shape:
            shape.clear_padding()
            self._clean = shape
        self.expected = shape if lane.offloads.vnet else None
        self._runs(session, template, shape, frame, limit)

    def _gather(self, size: int) -> bytes:
        """The frame in the slots of the expected shape as one piece."""
        return b"" if self.expected is None else self.expected.gather(size)

    def _shape(self, template: Template, limit: int) -> Shape:
        plain = META_SIZE + template.header + template.segment
        length = min((plain + PAD_TO - 1) & -PAD_TO, META_SIZE + limit)
        key = (template.header, template.segment, length, template.transport)
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) >= _SHAPES_KEPT:
                self._shapes.clear()
            shape = Shape(*key, self._big, self._big_view, self._wire, self._bound, self.spill)
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
                source, shift = self.spill, -shape.count * template.segment
            last = template.write(shape, done, count, limit)
            self._seal_run(session, shape, count, last, ecn, template.inner_bytes(done, count))
            done += count

    def _seal_run(self, session: Session, shape: Shape, count: int, last: int, ecn: int, inner: int) -> None:
        first = self._sender.counters(session, count)
        sealer = session.sealer
        if first < 0 or sealer is None:
            return
        places = shape.places
        sealer.seal_burst(places, 0, session.index_out, True, first, count, last)
        wire = self._wire[: (count - 1) * places.size + last + WIRE_EXTRA]
        send = self._sender.send_in_pieces if self._sender.exceeds(session, places.length) else self._sender.send
        if send(session, wire, count, places.size, ecn):
            session.sent(count, inner, self._lane.now_ns, True)
