"""Degraded modes: one table of what fails, what is given up, what is kept, and how each mode ends.

Owns the table; the page docs/degradation.md is made of it. The modes themselves live where the failure is met (`where`).
Security is never among what is given up: the one exception is the mode that an operator arms by hand, for one peer, with an
end date.
"""

from enum import Enum, unique

from pqvpn.reasons import Reason

NEVER = (
    "no packet leaves in the clear or outside the tunnel, no counter is used twice, no session below the configured policy,"
    " no secret in any record"
)
"""What no mode gives up."""


@unique
class Mode(Enum):
    """name, what fails, what is given up, what is kept, reason, how it ends, module, test with the real fault."""

    fails: str
    given_up: str
    kept: str
    reason: Reason
    ends: str
    where: str
    proof: str

    def __new__(
        cls, name: str, fails: str, given_up: str, kept: str, reason: Reason, ends: str, where: str, proof: str
    ) -> "Mode":
        """Keep the name as the value and the rest as attributes."""
        member = object.__new__(cls)
        member._value_ = name
        member.fails, member.given_up, member.kept, member.reason = fails, given_up, kept, reason
        member.ends, member.where, member.proof = ends, where, proof
        return member

    OTHER_CIPHER = (
        "other-cipher", "AES-256-GCM does not give its known answer", "speed: ChaCha20-Poly1305 is agreed instead",
        "everything else, post-quantum security included", Reason.SELF_TEST_FAILED,
        "with the next start whose self-test passes", "crypto/selftest.py", "tests/netns/test_netns_failures_keys.py",
    )  # fmt: skip
    NO_HANDSHAKES = (
        "no-handshakes", "a primitive that handshakes need does not give its known answer",
        "new sessions: the tunnel fails closed when the present ones expire",
        "status, health, telemetry and diagnosis", Reason.SELF_TEST_FAILED,
        "with the next start whose self-test passes", "crypto/selftest.py", "tests/netns/test_netns_failures_keys.py",
    )  # fmt: skip
    AUTH_PLAINTEXT = (
        "auth-plaintext", "an operator armed it for a peer that allows it, on both sides, until a date",
        "secrecy of the payload with this peer", "handshake, authentication, replay and address checks",
        Reason.SECURITY_DEGRADED, "by `pqvpn peer degrade --off`, or with the date", "protocol/roster.py",
        "tests/netns/test_netns_degraded.py",
    )  # fmt: skip
    PLAIN_PATH = (
        "plain-path", "an offload of the kernel is missing, or refused while in use", "throughput",
        "every packet, byte for byte", Reason.KERNEL_REFUSED, "with the next start that finds the offload",
        "dataplane/sending.py", "tests/netns/test_netns_offloads.py",
    )  # fmt: skip
    LANES_ALONE = (
        "lanes-alone", "control died or hangs", "new handshakes and the control socket, for milliseconds or seconds",
        "traffic on the sessions there are, until their keys expire", Reason.CHILD_DIED,
        "by itself: control is replaced and takes the sessions over", "resilience/supervisor.py",
        "tests/netns/test_netns_failures_processes.py",
    )  # fmt: skip
    LAST_KNOWN_ADDRESS = (
        "last-known-address", "DNS does not answer", "changes of the peer's address",
        "the last addresses that were good, and every session", Reason.DNS_FAILED,
        "by itself: the look-up is repeated with backoff", "control/resolver.py",
        "tests/unit/test_control_resolver.py",
    )  # fmt: skip
    SPOOL_ONLY = (
        "spool-only", "the collector is down, slow or lies", "fresh records over there",
        "every record, on disk, sent when it is back", Reason.COLLECTOR_UNREACHABLE, "by itself, with backoff",
        "telemetry/export/drainer.py", "tests/unit/test_telemetry_export_drainer.py",
    )  # fmt: skip
    MEMORY_RING = (
        "memory-ring", "the disk is full or refuses", "records beyond a ring of 4 MiB, counted",
        "the tunnel, the latest records, health", Reason.DISK_FULL, "by itself: the disk is tried again",
        "telemetry/spool/keeper.py", "tests/netns/test_netns_observer.py",
    )  # fmt: skip
    NO_OBSERVER = (
        "no-observer", "the observer died or hangs", "records and health answers meanwhile; facts wait in the kernel",
        "the tunnel, handshakes, the control socket, lines on standard error", Reason.CHILD_DIED,
        "by itself: it is replaced and reads what waits", "telemetry/envelope.py", "tests/netns/test_netns_observer.py",
    )  # fmt: skip
    FEWER_LANES = (
        "fewer-lanes", "a lane's process ends again and again",
        "throughput: the process of another lane carries its packets as well",
        "every session and both directions; never the last lane: when all end, the tunnel is closed",
        Reason.FEWER_LANES, "by itself once the lane lives at one of its rare tries, or at once by `pqvpn reload`",
        "node/standins.py", "tests/netns/test_netns_fewer_lanes.py",
    )  # fmt: skip
    RARE_TRIES = (
        "rare-tries", "a process ends again and again", "what that process does, between rare tries",
        "all other processes", Reason.RESTART_LOOP, "by itself once it lives, or at once by `pqvpn reload`",
        "resilience/restarts.py", "tests/unit/test_resilience_supervisor.py",
    )  # fmt: skip
