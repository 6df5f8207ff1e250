"""The closed list of reason codes: the same code in log, status, exit message and documentation.

Owns codes, what each means, who must act and how. Knows nothing of how a failure is raised or shown.
Exit codes follow sysexits.h: 78 and 77 say that a restart cannot help.
"""

import os
from enum import Enum, unique


class Action(Enum):
    """What the boundary that catches an error does."""

    RETRY = "retry"
    FALLBACK = "fallback"
    SHUTDOWN = "shutdown"
    DROP = "drop"


class Who(Enum):
    """Who must act for the failure to end."""

    OPERATOR = "operator"  # of this node
    PEER = "peer"  # the other node's operator
    HOST = "host"  # the machine or its kernel
    US = "developers"
    NOBODY = "nobody"  # it heals by itself


@unique
class Reason(Enum):
    """code, action, who acts, exit code, text, remedy. The runbook anchor is `docs/reasons.md#<code>`."""

    action: Action
    who: Who
    exit_code: int
    text: str
    remedy: str

    def __new__(cls, code: str, action: Action, who: Who, exit_code: int, text: str, remedy: str) -> "Reason":
        """Keep the code as the value and the rest as attributes."""
        member = object.__new__(cls)
        member._value_ = code
        member.action, member.who, member.exit_code, member.text, member.remedy = (
            action,
            who,
            exit_code,
            text,
            remedy,
        )
        return member

    @property
    def code(self) -> str:
        """The stable code, for example `config.unknown_key`."""
        return str(self.value)

    def __str__(self) -> str:
        return self.code

    # -- network -------------------------------------------------------------------------------------------------------
    NO_REPLY = (
        "network.no_reply", Action.RETRY, Who.PEER, os.EX_TEMPFAIL,
        "the peer does not answer the handshake",
        "check that the peer runs, that its endpoint is right and that UDP to it is not filtered",
    )  # fmt: skip
    NO_ENDPOINT = (
        "network.no_endpoint", Action.RETRY, Who.OPERATOR, os.EX_TEMPFAIL,
        "no address of the peer is known and it has not called yet",
        "add an endpoint for the peer, or wait for it to connect",
    )  # fmt: skip
    DNS_FAILED = (
        "network.dns_failed", Action.RETRY, Who.OPERATOR, os.EX_TEMPFAIL,
        "the peer's name does not resolve",
        "check the name and the resolver; the last known address stays in use and the look-up is repeated",
    )  # fmt: skip
    ADDRESS_IN_USE = (
        "network.address_in_use", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the UDP port is taken by another program",
        "choose another listen port or stop the program that holds it",
    )  # fmt: skip
    NO_ROUTE_OUT = (
        "network.no_route", Action.RETRY, Who.HOST, os.EX_TEMPFAIL,
        "the kernel has no route to the peer's address",
        "check the host's addresses and default route",
    )  # fmt: skip
    STALE = (
        "network.stale", Action.RETRY, Who.NOBODY, os.EX_TEMPFAIL,
        "packets were sent but nothing authenticated came back",
        "a new handshake is under way; check the path if this lasts",
    )  # fmt: skip
    # -- tun and host --------------------------------------------------------------------------------------------------
    NO_TUN = (
        "tun.unavailable", Action.SHUTDOWN, Who.HOST, os.EX_OSFILE,
        "/dev/net/tun is missing or cannot be opened",
        "load the module (modprobe tun) and make /dev/net/tun accessible (mode 0666 is Debian's default)",
    )  # fmt: skip
    NO_PERMISSION = (
        "host.no_permission", Action.SHUTDOWN, Who.OPERATOR, os.EX_NOPERM,
        "the kernel refuses: CAP_NET_ADMIN is missing",
        "run as root, or grant CAP_NET_ADMIN",
    )  # fmt: skip
    INTERFACE_EXISTS = (
        "tun.interface_exists", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "an interface of that name exists and is not ours",
        "choose another interface name or remove the existing one",
    )  # fmt: skip
    KERNEL_REFUSED = (
        "host.kernel_refused", Action.RETRY, Who.HOST, os.EX_OSERR,
        "the kernel refused an operation on interface, address or route",
        "read the detail; another program may manage the same interface or route",
    )  # fmt: skip
    ALREADY_RUNNING = (
        "node.already_running", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "a node with this configuration already runs",
        "stop it first: pqvpn down",
    )  # fmt: skip
    NOT_RUNNING = (
        "node.not_running", Action.SHUTDOWN, Who.OPERATOR, os.EX_UNAVAILABLE,
        "no node with this configuration runs",
        "start it: pqvpn up",
    )  # fmt: skip
    CHILD_DIED = (
        "node.child_died", Action.RETRY, Who.US, os.EX_SOFTWARE,
        "a process of the node ended unexpectedly and was replaced",
        "nothing now; if it repeats, report it with the log",
    )  # fmt: skip
    INTERNAL = (
        "node.internal", Action.RETRY, Who.US, os.EX_SOFTWARE,
        "an unexpected error; the part it happened in was abandoned",
        "report it with the log",
    )  # fmt: skip
    # -- crypto --------------------------------------------------------------------------------------------------------
    SELF_TEST_FAILED = (
        "crypto.self_test_failed", Action.FALLBACK, Who.HOST, os.EX_SOFTWARE,
        "a cryptographic primitive does not give its known answer",
        "reinstall the cryptography package; handshakes are refused until it passes",
    )  # fmt: skip
    SECURITY_DEGRADED = (
        "crypto.degraded", Action.FALLBACK, Who.OPERATOR, os.EX_SOFTWARE,
        "a peer runs in a degraded security mode that was allowed by configuration",
        "remove allow_degraded from the peer, or end the cause",
    )  # fmt: skip
    KEYS_EXPIRED = (
        "crypto.keys_expired", Action.RETRY, Who.PEER, os.EX_TEMPFAIL,
        "the session's keys expired and no new handshake completed; packets are discarded",
        "see why the handshake does not complete",
    )  # fmt: skip
    # -- handshake -----------------------------------------------------------------------------------------------------
    BAD_AUTH = (
        "handshake.bad_auth", Action.RETRY, Who.OPERATOR, os.EX_TEMPFAIL,
        "an answer came but did not authenticate",
        "compare peer IDs, psk and network_key on both sides",
    )  # fmt: skip
    POLICY_REFUSED = (
        "handshake.policy", Action.RETRY, Who.OPERATOR, os.EX_TEMPFAIL,
        "the two sides are configured for different security policies",
        "make allow_degraded equal on both sides",
    )  # fmt: skip
    # -- configuration -------------------------------------------------------------------------------------------------
    CONFIG_UNREADABLE = (
        "config.unreadable", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the configuration file cannot be read", "check the path and its permissions, or run: pqvpn init",
    )  # fmt: skip
    CONFIG_SYNTAX = (
        "config.syntax", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG, "the file is not valid TOML", "mend the line named",
    )  # fmt: skip
    CONFIG_UNKNOWN_KEY = (
        "config.unknown_key", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG, "no such setting", "use the name suggested, or remove it",
    )  # fmt: skip
    CONFIG_VALUE = (
        "config.value", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG, "the value is not acceptable", "give a value of the kind described",
    )  # fmt: skip
    CONFIG_MISSING = (
        "config.missing", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG, "a required setting is missing", "add it",
    )  # fmt: skip
