"""What the core asks its driver to do: a closed set of frozen records, and the words they are made of.

Owns the vocabulary between the pure core and the control process. Knows nothing of how an effect is carried
out. Times are seconds of CLOCK_BOOTTIME, sizes are bytes. A slot (0..1023) names a session between core,
control and lanes.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from pqvpn.crypto.secret import Secret
from pqvpn.facts import Fact
from pqvpn.wire.address import Address

SLOTS = 1024  # slots are 0..SLOTS-1

KIND_CONTROL = 1  # SendFrame.kind: an operation and its body (PROTOCOL section 5)
KIND_KEEPALIVE = 3  # SendFrame.kind: no body


class Role(IntEnum):
    """Which side of the handshake this node was; the value is the direction d in which it sends (PROTOCOL
    section 2).
    """

    INITIATOR = 0
    RESPONDER = 1


class Why(StrEnum):
    """Why a session's keys were erased; the words of the fact `session.ended`."""

    EXPIRED = "expired"  # past reject_after
    REPLACED = "replaced"  # a newer session took over, its grace is past
    CLOSED = "closed"  # the peer closed it, or we did at shutdown
    REMOVED = "removed"  # its peer is no longer configured, or its keys or policy changed
    LOST = "lost"  # the new session was never confirmed


class Trigger(StrEnum):
    """Why an attempt to connect begins; the words of the fact `handshake.started`."""

    TRAFFIC = "traffic"  # a packet waits
    START = "start"  # the node started, or the peer was added
    REKEY = "rekey"  # the session is old or worn
    SILENCE = "silence"  # data was sent and nothing came back
    KEEPALIVE = "keepalive"  # the configuration wants a session at all times
    OPERATOR = "operator"
    LOST = "lost"  # a lane was replaced and the session's keys are nowhere


@dataclass(frozen=True, slots=True)
class Session:
    """Everything about an agreed session except its keys. Also what a lane reports when control was
    restarted.
    """

    slot: int
    peer_id: bytes  # 32
    session_id: bytes  # 16, the same on both ends; shown as 32 hex digits
    role: Role
    aead: int  # 1 AES-256-GCM, 2 ChaCha20-Poly1305 (the bit of PROTOCOL section 2)
    policy: int  # 0 full, 1 auth-plaintext
    lanes: int  # 1..16
    mtu: int  # largest inner packet both ends agreed on, 576..2040
    index_in: int  # ours: lane l receives at index_in | l
    index_out: int  # the peer's: lane l sends to index_out | l
    endpoint: Address
    source: bytes | None  # our address to send from, 4 or 16 bytes; None: the kernel chooses
    derived_at: float
    expires_at: float  # neither sends nor receives from then on
    trace_id: bytes = b""  # of the attempt: 16 at the initiator; at the responder when it was told and adopts it


@dataclass(frozen=True, slots=True)
class Activity:
    """What the lanes' shared counters say of one session: when each thing last happened (`now` units; 0.0:
    never).

    `received` and `sent` count every authenticated packet of any kind; the data ones only kinds 0 and 2.
    """

    received: float = 0.0
    data_received: float = 0.0
    sent: float = 0.0
    data_sent: float = 0.0


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send one handshake datagram from control's socket. `source`: our address, None: the kernel chooses.

    `peer` and `attempt` (hex) name whom we call; an answer to a stranger has neither.
    """

    datagram: bytes
    to: Address
    source: bytes | None = None
    peer: str = ""
    attempt: str = ""


@dataclass(frozen=True, slots=True)
class Install:
    """Give a session to the lanes. `receive` and `send`: per lane key 32 || iv 12, in lane order. It does not
    send yet.
    """

    session: Session
    receive: tuple[Secret, ...]
    send: tuple[Secret, ...]


@dataclass(frozen=True, slots=True)
class SelectForSending:
    """Send the peer's packets on this session from now on; None: on none (queue, then drop).

    `refuse`, with None: the peer does not answer, so that packets for it are not worth queueing (PROTOCOL section 8: a
    black hole with ICMP errors). They still ask for a handshake.
    """

    peer_id: bytes
    slot: int | None
    refuse: bool = False


@dataclass(frozen=True, slots=True)
class Erase:
    """Forget a session and its keys. The slot may be used again at once."""

    slot: int
    why: Why


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Seal one packet on a session.

    `kind` is KIND_CONTROL or KIND_KEEPALIVE, `body` what follows the meta. `pad_to` > 0: fill with zeros until
    exactly
    `pad_to` bytes follow the meta (path MTU probes only), else the ordinary padding. `to` None: the session's
    endpoint,
    else this address (path challenges and responses), from our address `source`.
    """

    slot: int
    kind: int
    body: bytes
    pad_to: int = 0
    to: Address | None = None
    source: bytes | None = None


@dataclass(frozen=True, slots=True)
class MoveEndpoint:
    """Send the session's packets to another address.

    `budget`: bytes that may go there in all, whatever the number of lanes, until it is lifted; None: no limit.
    """

    slot: int
    to: Address
    source: bytes | None
    budget: int | None


@dataclass(frozen=True, slots=True)
class SetPathMtu:
    """Largest inner packet that the way to this peer carries; what is larger gets an ICMP "too big"."""

    peer_id: bytes
    mtu: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Publish a fact."""

    fact: Fact


@dataclass(frozen=True, slots=True)
class PathSurvey:
    """What `survey.py` found. `source`: our own address; `sent`: challenges; `rtts`: seconds, of those answered.

    Sizes are inner packets: `top` the session's, `size` the largest that the path carries, None when the search came to no
    end; `largest`: that was acknowledged, 0: none was. `finished`: not cut short by its time or the session's end.
    """

    endpoint: Address | None = None
    source: bytes | None = None
    top: int = 0
    sent: int = 0
    rtts: tuple[float, ...] = ()
    size: int | None = None
    largest: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A survey that was asked for is over; `found` None: there is no session to look on."""

    peer_id: bytes
    found: PathSurvey | None


@dataclass(frozen=True, slots=True)
class Failed:
    """An unexpected error in what was due for one peer. What was held with it is gone; the others are not touched."""

    peer_id: bytes
    error: Exception


Effect = (
    Transmit | Install | SelectForSending | Erase | SendFrame | MoveEndpoint | SetPathMtu | Tell | Surveyed | Failed
)
