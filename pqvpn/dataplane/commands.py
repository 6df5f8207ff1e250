"""Commands: everything control can tell a lane, as frozen types.

Owns the records and their encoding (one msgpack message in one SOCK_SEQPACKET datagram). Knows nothing of what a lane
does with them. A lane applies commands in the order they were sent and answers nothing but what `events` holds.
Times are seconds of CLOCK_BOOTTIME, sizes are bytes.
"""

from typing import Final

import msgspec

from pqvpn.wire.address import Address

MAX_MESSAGE: Final = 1 << 17  # the longest message that either side reads
NO_SLOT: Final = -1


class _Command(msgspec.Struct, frozen=True, tag=True, array_like=True):
    pass


class Prefix(msgspec.Struct, frozen=True, array_like=True):
    """One allowed network: `ip` of 4 or 16 bytes, network byte order, host bits zero; `length` in bits."""

    ip: bytes
    length: int


class PeerRoutes(msgspec.Struct, frozen=True, array_like=True):
    """The networks behind one peer: destinations sent to it and the only sources taken from it."""

    peer: int
    prefixes: tuple[Prefix, ...]


class SetRoutes(_Command, frozen=True):
    """The complete table of allowed IPs; replaces the one before at once."""

    peers: tuple[PeerRoutes, ...]


class InstallSession(_Command, frozen=True):
    """Keys and everything else that this lane needs for one session.

    Sent to every lane. `lanes` is what the session agreed on: lane l < lanes gets its own keys, indices and
    counters; a
    lane outside gets empty keys and hands packets of the session to lane `l % lanes` over the crossover.
    Installing does not start sending (`SelectSession` does). Installing a session that the lane already holds (same
    `slot` and `session_id`) never lowers a counter.
    """

    slot: int  # 0..1023
    peer: int
    index_in: int  # u32, lane bits included: packets to us carry it
    index_out: int  # u32, lane bits included: packets to the peer carry it
    lanes: int  # 1..16
    aead: int  # 1 AES-256-GCM, 2 ChaCha20-Poly1305 (the bit of `params.aead`)
    policy: int  # 0 full, 1 auth-plaintext
    mtu: int  # largest inner packet either side may send, 576..2040
    recv_key: bytes  # 32, or empty
    recv_iv: bytes  # 12, or empty
    send_key: bytes  # 32, or empty
    send_iv: bytes  # 12, or empty
    send_counter: int  # the first counter this lane may send with
    receive_from: int  # counters below are refused (0 for a new session)
    endpoint: Address | None
    source: bytes | None  # our IP to send from (4 or 16), None: the kernel chooses
    expires_at: float  # neither sends nor receives from then on
    session_id: bytes  # 16
    peer_id: bytes  # 32, for reports only
    initiator: bool  # we opened this session
    budget: int | None = None  # bytes that may go to `endpoint` before it is validated; None: no limit

    def __repr__(self) -> str:
        """Without keys."""
        return f"InstallSession(slot={self.slot}, peer={self.peer}, session_id={self.session_id.hex()})"


class SelectSession(_Command, frozen=True):
    """The session on which packets for `peer` leave from now on; `NO_SLOT`: none, packets wait or are refused.

    `black_hole` with `NO_SLOT`: refuse at once with ICMP instead of queueing (no handshake is going to help).
    """

    peer: int
    slot: int
    black_hole: bool = False


class SetEndpoint(_Command, frozen=True):
    """Move the session's endpoint; `budget` bytes may go there before it is validated, None: no limit."""

    slot: int
    endpoint: Address
    source: bytes | None
    budget: int | None = None


class EraseSession(_Command, frozen=True):
    """Forget keys and state of one session; unknown slots are ignored."""

    slot: int


class SendFrame(_Command, frozen=True):
    """Seal and send one frame that is not an IP packet: kind 1 (control) or 3 (keepalive, padding).

    `body` is what follows the meta; the plaintext's data is filled with zeros to `pad_to` bytes when that is more.
    `to` overrides the endpoint (path challenges); otherwise the frame goes to the session's endpoint and is charged
    to its budget.
    """

    slot: int
    kind: int
    body: bytes
    pad_to: int = 0
    to: Address | None = None
    source: bytes | None = None


class SetPathMtu(_Command, frozen=True):
    """Largest inner packet that fits the path to this peer now; larger ones get ICMP "too big"."""

    peer: int
    mtu: int


class Report(_Command, frozen=True):
    """Tell which sessions are held (answered by `events.Holding`)."""


class Begin(_Command, frozen=True):
    """Everything that a lane must hold has been said: one that `Start.waits` reads packets from now on."""


class Stop(_Command, frozen=True):
    """Erase everything and end with exit code 0."""


Command = (
    SetRoutes
    | InstallSession
    | SelectSession
    | SetEndpoint
    | EraseSession
    | SendFrame
    | SetPathMtu
    | Report
    | Begin
    | Stop
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)


def encode(command: Command) -> bytes:
    """One message. Raises ValueError when it would be longer than `MAX_MESSAGE`."""
    message = _encoder.encode(command)
    if len(message) > MAX_MESSAGE:
        raise ValueError(f"command of {len(message)} bytes")
    return message


def decode(message: bytes | bytearray | memoryview) -> Command:
    """The command in one message. Raises ValueError when it is not one (msgspec's errors, or text that is not UTF-8)."""
    return _decoder.decode(message)
