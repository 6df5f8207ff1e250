"""A peer made by hand: real identity, real handshake by the pure core, and packets sealed with the real keys that say anything.

Owns one UDP socket in a namespace. Checks nothing of what it sends: that is its use.
"""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence

from netparty import OUTER4

from lab import Namespace
from lab.nodes import Node
from pqvpn.config.load import load
from pqvpn.crypto.aead import ALL_AEADS, Aead, transport_nonce
from pqvpn.crypto.secret import Secret
from pqvpn.host.clock import now
from pqvpn.protocol.core import Core
from pqvpn.protocol.effects import Effect, Install, SendFrame, Transmit
from pqvpn.protocol.settings import NodeSettings, PeerSettings
from pqvpn.wire.address import Address
from pqvpn.wire.transport import RUN, TYPE_TRANSPORT

HEADER = struct.Struct("<BBHIQ")
META = struct.Struct("<BBHHH")


class HandmadePeer:
    """Speaks from the configuration of `disguise`, a node that was set up but does not run, to its only peer."""

    def __init__(self, namespace: Namespace, disguise: Node, aeads: int = ALL_AEADS) -> None:
        config = load(disguise.config)
        self.socket = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("0.0.0.0", disguise.listen))
        self.socket.settimeout(5)
        self.to = (OUTER4[1], 51820)
        settings = NodeSettings(config.card.peer_id, config.identity.seed, aeads=aeads, mtu=1432)
        self._core = Core(settings, os.urandom, now())
        (peer,) = config.peers
        other = PeerSettings(
            peer.id, peer.name, peer.card.public_key.raw, endpoints=(Address.parse(f"{self.to[0]}:{self.to[1]}"),)
        )
        self._peer_id = peer.id
        self._installed: Install | None = None
        self._apply(self._core.set_peers((other,), now()))
        self.counter = 0

    @property
    def session(self) -> Install:
        assert self._installed, "no handshake yet"
        return self._installed

    def connect(self) -> None:
        """The handshake, until the other side has acknowledged M3."""
        self._apply(self._core.want_session(self._peer_id, now()))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            datagram, _ = self.socket.recvfrom(65536)
            if datagram[0] == TYPE_TRANSPORT:
                return
            self._apply(self._core.receive(datagram, Address.parse(f"{self.to[0]}:{self.to[1]}"), None, now()))
        raise AssertionError("no handshake")

    def answer(self, until: Callable[[], bool]) -> None:
        """Take what comes, as a node that is called does."""
        while not until():
            with contextlib.suppress(TimeoutError):
                datagram, (host, port) = self.socket.recvfrom(65536)
                if datagram[0] != TYPE_TRANSPORT:
                    self._apply(self._core.receive(datagram, Address.parse(f"{host}:{port}"), None, now()))

    def _apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Transmit(datagram, to, _):
                    self.socket.sendto(datagram, (to.host(), to.port))
                case Install():
                    self._installed = effect
                case SendFrame(_, kind, body):
                    self.send(META.pack(kind << 4, 0, 0, 0, 0) + body)

    def seal(self, plaintext: bytes, *, flags: int = 0, segment: int = 0, index: int = 0, counter: int = -1) -> bytes:
        """A datagram of lane 0 with `plaintext` (meta and data); `index` is added to the receiver's."""
        if counter < 0:
            counter, self.counter = self.counter, self.counter + 1
        key = self.session.send[0].expose()
        header = HEADER.pack(TYPE_TRANSPORT, flags, segment, self.session.session.index_out + index, counter)
        cipher = Aead(self.session.session.aead).cipher(Secret(key[:32]))
        return header + cipher.encrypt(transport_nonce(key[32:], counter), plaintext, header)

    def send(self, plaintext: bytes, **how: int) -> None:
        self.socket.sendto(self.seal(plaintext, **how), self.to)

    def send_run(self, plaintexts: Sequence[bytes]) -> None:
        """Packets of one size as a run, in one send, so that the other side gets them joined."""
        datagrams = [self.seal(each, flags=RUN, segment=i) for i, each in enumerate(plaintexts)]
        segment = [(socket.SOL_UDP, 103, struct.pack("=H", len(datagrams[0])))]
        self.socket.sendmsg(datagrams, segment, 0, self.to)

    def open(self, datagram: bytes) -> bytes:
        """The plaintext of a datagram of lane 0 from the other side. Raises InvalidTag."""
        key = self.session.receive[0].expose()
        cipher = Aead(self.session.session.aead).cipher(Secret(key[:32]))
        counter = HEADER.unpack_from(datagram)[4]
        return cipher.decrypt(transport_nonce(key[32:], counter), datagram[16:], datagram[:16])

    def close(self) -> None:
        self.socket.close()


def meta(first: int = 0, gso: int = 0, header: int = 0, start: int = 0, offset: int = 0) -> bytes:
    """Meta of any content."""
    return META.pack(first, gso, header, start, offset)


def udp4(
    source: str,
    target: str,
    payload: bytes,
    *,
    length: int = -1,
    version: int = 0x45,
    fragment: int = 0x4000,
    protocol: int = 17,
) -> bytes:
    """An IPv4 packet with UDP inside, without UDP checksum; `length` is the total length told."""
    total = 28 + len(payload)
    head = struct.pack("!BBHHHBBH4s4s", version, 0, total if length < 0 else length, 1, fragment, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(target))  # fmt: skip
    words = sum(struct.unpack("!10H", head))
    words = (words & 0xFFFF) + (words >> 16)
    words = (words & 0xFFFF) + (words >> 16)
    head = head[:10] + struct.pack("!H", ~words & 0xFFFF) + head[12:]
    return head + struct.pack("!HHHH", 9, 5700, 8 + len(payload), 0) + payload


def udp6(source: str, target: str, payload: bytes, *, length: int = -1) -> bytes:
    """An IPv6 packet with UDP inside, its checksum wrong; `length` is the payload length told."""
    size = 8 + len(payload)
    head = struct.pack("!IHBB", 6 << 28, size if length < 0 else length, 17, 64)
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    return head + ends + struct.pack("!HHHH", 9, 5700, size, 1) + payload
