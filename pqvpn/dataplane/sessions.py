"""What a lane keeps about sessions and peers.

Owns keys in use, counters, replay windows, endpoints and the packets that wait for a session. Moves no packet itself.
Counters that must survive the process lie in shared memory (`counters`): a send counter is used only after it was
reserved there, and the highest one received is published before anything opened with it goes on.
"""

import socket
from collections import deque
from struct import pack
from typing import Final

import msgspec

from pqvpn.crypto.aead import Aead
from pqvpn.crypto.secret import Secret
from pqvpn.dataplane.commands import InstallSession
from pqvpn.dataplane.counters import Field, slot_base, tag_of
from pqvpn.dataplane.engine import Opener, Sealer, opener, sealer
from pqvpn.protocol.replay import ReplayWindow
from pqvpn.wire.address import Address, fold
from pqvpn.wire.transport import HEADER, LANE_MASK, TYPE_TRANSPORT

RESERVE: Final = 1024  # send counters reserved at once
QUEUE: Final = 16  # packets that wait for a peer's first session
NO_LIMIT: Final = 1 << 62

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
Ancillary = list[tuple[int, int, bytes]]

_SOL_UDP: Final = 17
_UDP_SEGMENT: Final = 103
# an enumeration's members cost a look-up each time
_LAST_RECEIVED_DATA: Final = int(Field.LAST_RECEIVED_DATA)
_LAST_SENT_ANY: Final = int(Field.LAST_SENT_ANY)
_LAST_SENT_DATA: Final = int(Field.LAST_SENT_DATA)
_RX_BYTES: Final = int(Field.RX_BYTES)
_RX_PACKETS: Final = int(Field.RX_PACKETS)
_SEND_COUNTER: Final = int(Field.SEND_COUNTER)
_TX_BYTES: Final = int(Field.TX_BYTES)
_TX_PACKETS: Final = int(Field.TX_PACKETS)
_MAPPED: Final = bytes(10) + b"\xff\xff"


def socket_address(address: Address, ipv6: bool) -> SocketAddress:
    """As `recvmsg` of our socket spells it, so that the two compare equal."""
    if not ipv6:
        return (socket.inet_ntop(socket.AF_INET, address.ip), address.port)
    ip = address.ip if len(address.ip) == 16 else _MAPPED + address.ip
    return (socket.inet_ntop(socket.AF_INET6, ip), address.port, 0, 0)


def local_ip(pktinfo: bytes) -> bytes | None:
    """Our IP from the data of IP_PKTINFO (12 bytes) or IPV6_PKTINFO (20)."""
    if len(pktinfo) == 20:
        return fold(pktinfo[:16])
    return pktinfo[8:12] if len(pktinfo) == 12 else None


class Session:
    """One session in this lane. Attributes are public to the lane's own modules and to nobody else."""

    __slots__ = (
        "ancillaries", "base", "budget", "carried", "endpoint", "expires_ns", "head", "index_in", "index_out",
        "install", "ipv6", "mtu", "opener", "peer", "receive_keys", "replay", "reserved", "rx_bytes", "rx_packets",
        "sealer", "seen", "send_counter", "send_keys", "slot", "source", "stop", "to", "tx_bytes", "tx_packets",
        "words", "worn", "worn_limit",
    )  # fmt: skip

    def __init__(self, command: InstallSession, lane: int, words: memoryview, ipv6: bool) -> None:
        """Raises ValueError when keys, cipher or sizes are not what they must be."""
        aead = Aead(command.aead)
        self.slot, self.peer, self.mtu, self.ipv6 = command.slot, command.peer, command.mtu, ipv6
        self.index_in, self.index_out = command.index_in, command.index_out
        # a datagram's header up to its counter; the segment number is for runs
        self.head = HEADER.pack(TYPE_TRANSPORT, self.index_out & LANE_MASK, 0, self.index_out, 0)[:8]
        self.carried = lane < command.lanes  # by this lane; else it hands packets over
        self.sealer: Sealer | None = None
        self.opener: Opener | None = None
        if self.carried:
            self.sealer = sealer(aead, command.policy, Secret(command.send_key), command.send_iv)
            self.opener = opener(aead, command.policy, Secret(command.recv_key), command.recv_iv)
        self.stop, self.worn_limit = aead.stop_limit, aead.rekey_limit
        self.expires_ns = int(command.expires_at * 1e9)
        self.replay = ReplayWindow()
        self.words, self.base = words, slot_base(lane, command.slot)
        self.rx_packets = self.rx_bytes = self.tx_packets = self.tx_bytes = 0
        self.seen = self.worn = False
        self._resume(command)
        self.budget: int | None = None
        self.ancillaries: dict[int, Ancillary] = {}
        self.endpoint: Address | None = None
        self.source: bytes | None = None
        self.to: SocketAddress | None = None
        if command.endpoint is not None:
            self.move(command.endpoint, command.source, command.budget)
        # what may be told about the session later; its keys to a restarted control only
        self.install = _without_keys(command)
        self.receive_keys = Secret(command.recv_key + command.recv_iv)
        self.send_keys = Secret(command.send_key + command.send_iv)

    def _resume(self, command: InstallSession) -> None:
        """Start above everything that this lane, or the one it replaces, may have used or seen (never below)."""
        words, base = self.words, self.base
        send, receive = command.send_counter, command.receive_from
        tag = tag_of(command.session_id)
        if words[base + Field.TAG] == tag:
            send = max(send, words[base + Field.SEND_RESERVED])
            receive = max(receive, words[base + Field.RECEIVE_FROM])
            self.rx_packets, self.rx_bytes = words[base + Field.RX_PACKETS], words[base + Field.RX_BYTES]
            self.tx_packets, self.tx_bytes = words[base + Field.TX_PACKETS], words[base + Field.TX_BYTES]
        else:
            words[base + Field.TAG] = 0
            for field in range(Field.RX_PACKETS, Field.ARRIVED + 1):
                words[base + field] = 0
        self.send_counter = self.reserved = send
        words[base + Field.SEND_RESERVED] = words[base + Field.SEND_COUNTER] = send
        words[base + Field.RECEIVE_FROM] = receive
        words[base + Field.TAG] = tag
        if receive:
            self.replay.start_above(receive - 1)
            self.seen = True

    def reserve(self, count: int) -> int:
        """The first of `count` fresh counters, already reserved in shared memory; -1 at the hard stop."""
        first = self.send_counter
        end = first + count
        if end > self.reserved:
            if end > self.stop:
                return -1
            self.reserved = min(end + RESERVE, self.stop)
            self.words[self.base + Field.SEND_RESERVED] = self.reserved
        self.send_counter = end
        return first

    def move(self, endpoint: Address, source: bytes | None, budget: int | None) -> None:
        """Send to `endpoint` from now on."""
        self.endpoint, self.source, self.budget = endpoint, source, budget
        self.to = socket_address(endpoint, self.ipv6)
        self.ancillaries.clear()

    def move_as_told(self, endpoint: Address, source: bytes | None, budget: int | None) -> None:
        """As `move`, by control. A lane that went there by itself has its budget already, and perhaps spent it."""
        if budget is not None and self.budget is not None and endpoint == self.endpoint:
            budget = self.budget
        self.move(endpoint, source, budget)

    def ancillary(self, segment: int, ecn: int) -> Ancillary:
        """Control messages for datagrams of `segment` bytes (0: just one) with these ECN bits; kept for the next time."""
        key = segment << 2 | ecn
        found = self.ancillaries.get(key)
        if found is None:
            v4 = self.endpoint is not None and len(self.endpoint.ip) == 4
            found = self.ancillaries[key] = ancillary(segment, ecn, self.source, v4, self.ipv6)
        return found

    def sent(self, packets: int, size: int, now_ns: int, data: bool) -> None:
        """Count packets that left."""
        words, base = self.words, self.base
        words[base + _LAST_SENT_ANY] = now_ns
        words[base + _SEND_COUNTER] = self.send_counter
        if data:
            words[base + _LAST_SENT_DATA] = now_ns
            self.tx_packets += packets
            self.tx_bytes += size
            words[base + _TX_PACKETS] = self.tx_packets
            words[base + _TX_BYTES] = self.tx_bytes

    def received(self, packets: int, size: int, now_ns: int) -> None:
        """Count packets of kind 0 that were written to the TUN."""
        words, base = self.words, self.base
        self.rx_packets += packets
        self.rx_bytes += size
        words[base + _LAST_RECEIVED_DATA] = now_ns
        words[base + _RX_PACKETS] = self.rx_packets
        words[base + _RX_BYTES] = self.rx_bytes


def ancillary(segment: int, ecn: int, source: bytes | None, v4: bool, ipv6: bool) -> Ancillary:
    """Control messages for one send: UDP_SEGMENT, ECN, source address; each only when it is needed.

    `v4`: the destination is IPv4; `ipv6`: the socket is AF_INET6.
    """
    found: Ancillary = []
    if segment:
        found.append((_SOL_UDP, _UDP_SEGMENT, pack("=H", segment)))
    if ecn:
        level, kind = (socket.IPPROTO_IP, socket.IP_TOS) if v4 else (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
        found.append((level, kind, pack("=i", ecn)))
    if source is not None and (len(source) == 4) == v4:
        if ipv6:
            ip = _MAPPED + source if v4 else source
            found.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, ip + bytes(4)))
        else:
            found.append((socket.IPPROTO_IP, 8, bytes(4) + source + bytes(4)))  # IP_PKTINFO
    return found


def _without_keys(command: InstallSession) -> InstallSession:
    return msgspec.structs.replace(command, send_key=b"", send_iv=b"", recv_key=b"", recv_iv=b"")


class Peer:
    """One configured peer: the session for sending, the path's MTU, the packets that wait."""

    __slots__ = ("black_hole", "path_mtu", "session", "waiting", "waiting_since_ns", "wanted_ns")

    def __init__(self) -> None:
        self.session: Session | None = None
        self.black_hole = False
        self.path_mtu = NO_LIMIT
        self.waiting: deque[tuple[int, bytes]] = deque()  # since when (ns), frame with virtio header
        self.waiting_since_ns = 0
        self.wanted_ns = 0
