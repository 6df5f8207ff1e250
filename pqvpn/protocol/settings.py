"""What the core is configured with: node, peers, timers. All frozen; a change of configuration is a new
value.

Owns the defaults of every time constant of PROTOCOL. Knows nothing of files, names to resolve or dates.
Times are seconds of CLOCK_BOOTTIME, sizes are bytes.
"""

from dataclasses import dataclass, field

from pqvpn.crypto.secret import Secret
from pqvpn.wire.address import Address

AES_256_GCM = 1  # aead bits, PROTOCOL section 2
CHACHA20_POLY1305 = 2

POLICY_FULL = 0
POLICY_AUTH_PLAINTEXT = 1


@dataclass(frozen=True, slots=True)
class Timers:
    """Every time constant of PROTOCOL sections 2 to 5, in seconds, so that configuration and tests can
    shorten them.
    """

    # handshake, rule 3
    m1_schedule: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    m1_fresh_after: float = 5.0  # then a fresh M1 replaces it
    m1_fresh_jitter: float = 0.333
    attempt_gives_up: float = 90.0
    m3_schedule: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
    m3_gives_up: float = 5.0
    m3_repeat_ack: float = 0.25  # at most one keepalive per so long for a repeated M3
    # responder, sections 2 to 4
    biscuit_key_rotates: float = 120.0
    biscuit_age: float = 30.0
    cookie_secret_rotates: float = 120.0
    cookie_kept: float = 120.0  # by the initiator, per responder address
    cookie_mode_holds: float = 1.0
    epk_seen: float = 120.0
    reassembly: float = 3.0
    # session, section 5 and rule 5
    rekey_after: float = 120.0  # by the side that was responder
    rekey_initiator_after: float = 130.0  # by the initiator, if none has begun
    rekey_jitter: float = 5.0
    reject_after: float = 180.0
    replaced_receives: float = 30.0
    keepalive: float = 10.0
    dead: float = 15.0
    # paths
    path_validation: float = 3.0
    rtt_interval: float = 5.0  # PATH_CHALLENGE on the selected path while data moves
    mtu_probe_timeout: float = 1.0  # upper limit; shorter once the round trip is known
    mtu_confirm_interval: float = 5.0  # the size in use is probed again while data moves (black hole detection)
    mtu_raise_interval: float = 600.0  # a larger size is tried again
    degraded_warning: float = 60.0


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """This node. `seed` is its X-Wing seed (32), `peer_id` its own ID, `mtu` the TUN interface's.

    `aeads`: bits of the ciphers that passed their self-test, 0 to refuse all handshakes; `prefer_chacha` on
    machines without AES instructions. `handshakes` False: a primitive of the handshake failed its
    known-answer test (section 8). `sample`: the share of our handshakes that is traced, 0 to 1.
    """

    peer_id: bytes
    seed: Secret
    network_key: Secret | None = None
    lanes: int = 1
    mtu: int = 1432
    aeads: int = AES_256_GCM | CHACHA20_POLY1305
    prefer_chacha: bool = False
    handshakes: bool = True
    boot_id: bytes = bytes(8)
    sample: float = 1.0
    timers: Timers = field(default_factory=Timers)


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """One configured peer. `public_key` is the X-Wing key of its card (1216).

    `endpoints`: literal addresses, best first; `Core.set_endpoints` replaces them when a name resolves.
    `keepalive`: seconds between persistent keepalives, None: off; it also keeps the session alive without
    traffic. `allow_degraded`: auth-plaintext may be armed for this peer, until `degraded_until` (`now` units,
    None: no end was given).
    """

    peer_id: bytes
    name: str
    public_key: bytes
    psk: Secret | None = None
    endpoints: tuple[Address, ...] = ()
    keepalive: float | None = None
    trace: bool = False
    allow_degraded: bool = False
    degraded_until: float | None = None
