"""Events: everything a lane tells control, as frozen types.

Owns the records and their encoding (one msgpack message in one SOCK_SEQPACKET datagram). A lane never waits for
control:
when control does not read, events are dropped and counted, so control must treat them as hints that it can get again
(`Activity` in shared memory, `commands.Report`) and not as a log.
"""

from typing import Any

import msgspec

from pqvpn.wire.address import Address


class _Event(msgspec.Struct, frozen=True, tag=True, array_like=True):
    pass


class Offloads(msgspec.Struct, frozen=True, array_like=True):
    """What kernel and settings allow; each can be off alone."""

    vnet: bool = True  # TUN frames carry a virtio header
    tun_tso: bool = True  # TUN gives and takes TCP super-packets
    tun_uso: bool = True  # TUN gives and takes UDP super-packets
    udp_gso: bool = True  # UDP_SEGMENT
    udp_gro: bool = True  # UDP_GRO
    steering: bool = True  # the kernel chooses the socket by type and lane


class LaneReady(_Event, frozen=True):
    """The lane runs and holds nothing: control sends routes, then sessions. Also after a restart."""

    lane: int
    offloads: Offloads


class FirstAuthenticated(_Event, frozen=True):
    """The first packet authenticated on this session in this lane."""

    slot: int


class Roamed(_Event, frozen=True):
    """The highest counter came from another address; the lane already sends there, within its part of the `allowed` bytes.

    See `protocol.unvalidated`: three times what came from there, less answers.
    """

    slot: int
    source: Address
    local: bytes | None  # our IP that got it
    allowed: int  # bytes


class ControlFrame(_Event, frozen=True):
    """An authenticated kind 1 frame. `body` is op and rest, with padding as received; at least 1 byte."""

    slot: int
    body: bytes
    source: Address
    local: bytes | None


class WantSession(_Event, frozen=True):
    """A packet waits for a peer without a usable session (at most once a second and peer)."""

    peer: int


class KeysWorn(_Event, frozen=True):
    """A send counter passed the rekey limit of its cipher (once a session)."""

    slot: int


class StrayDatagram(_Event, frozen=True):
    """A datagram of type 1 or 3 that the kernel gave to a lane's socket."""

    datagram: bytes
    source: Address
    local: bytes | None


class Held(msgspec.Struct, frozen=True, array_like=True):
    """One session that a lane holds, with this lane's keys: a control that was restarted knows nothing else of them."""

    slot: int
    peer: int
    index_in: int
    index_out: int
    lanes: int
    aead: int
    policy: int
    mtu: int
    endpoint: Address | None
    source: bytes | None
    expires_at: float
    session_id: bytes
    peer_id: bytes
    initiator: bool
    selected: bool  # packets for the peer leave on it
    receive: bytes = b""  # key 32 || iv 12, empty: the lane has none of its own
    send: bytes = b""

    def __repr__(self) -> str:
        """Only the slot: it carries keys."""
        return f"Held({self.slot})"


class Holding(_Event, frozen=True):
    """Answer to `commands.Report`."""

    lane: int
    sessions: tuple[Held, ...]


class LaneFault(_Event, frozen=True):
    """An internal error was caught at the lane's boundary; its burst was abandoned. At most one event a second.

    `where` is exception type, file and line, never packet contents; `count` counts from the lane's start. `crash` holds
    the fields of a `Crashed` fact, with few frames; plain, since a lane has no other use for facts.
    """

    lane: int
    where: str
    count: int
    crash: dict[str, Any] | None = None


class InnerRefused(_Event, frozen=True):
    """Packets that an authenticated peer sent were dropped. At most one event a second for each slot and drop.

    `count` since the last one; `drop` is a `DropReason`: SOURCE_NOT_ALLOWED, BAD_META or BAD_LENGTH.
    """

    slot: int
    drop: int
    count: int


Event = (
    LaneReady
    | FirstAuthenticated
    | Roamed
    | ControlFrame
    | WantSession
    | KeysWorn
    | StrayDatagram
    | Holding
    | LaneFault
    | InnerRefused
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode(event: Event) -> bytes:
    """One message."""
    return _encoder.encode(event)


def decode(message: bytes | bytearray | memoryview) -> Event:
    """The event in one message. Raises ValueError when it is not one (msgspec's errors, or text that is not UTF-8)."""
    return _decoder.decode(message)
