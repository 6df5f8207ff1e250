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

    # -- network ---------------------------------------------------------------------------------------------
    NO_REPLY = (
        "network.no_reply", Action.RETRY, Who.PEER, os.EX_TEMPFAIL,
        "the peer does not answer the handshake",
        "check that the peer runs, its endpoint and UDP filters; then compare cards, psk, network_key and"
        " allow_degraded: a peer is silent about what does not fit (status --drops there tells)",
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
    ONE_WAY = (
        "network.one_way", Action.RETRY, Who.HOST, os.EX_TEMPFAIL,
        "the peer's packets arrive, but it answers no probe on the path in use: ours seem to be lost",
        "check packet filters and NAT on the way to the peer's endpoint; pqvpn peer reconnect looks for another path",
    )  # fmt: skip
    SEND_REFUSED = (
        "network.send_refused", Action.RETRY, Who.HOST, os.EX_OSERR,
        "the kernel refuses the datagrams of the tunnel",
        "check the host's addresses, routes and outgoing packet filters; status --drops counts them as udp_send",
    )  # fmt: skip
    SOCKET_LOST = (
        "network.socket_lost", Action.RETRY, Who.NOBODY, os.EX_OSERR,
        "a UDP socket of the node was shut down or closed",
        "nothing: it is opened anew unless mend under [health] is false; find out who did it if it comes again",
    )  # fmt: skip
    IDLE = (
        "network.idle", Action.RETRY, Who.NOBODY, os.EX_TEMPFAIL,
        "no session is needed: nothing was sent to the peer lately",
        "send something; the handshake begins with the first packet",
    )  # fmt: skip
    PORT_CLOSED = (
        "network.port_closed", Action.RETRY, Who.PEER, os.EX_TEMPFAIL,
        "the peer's machine answers, but nothing listens on its UDP port",
        "start the peer's node (pqvpn up there), or correct the port of its endpoint here",
    )  # fmt: skip
    UNREACHABLE = (
        "network.unreachable", Action.RETRY, Who.PEER, os.EX_TEMPFAIL,
        "the network says that the peer's address cannot be reached",
        "check that the peer's machine is on and its endpoint is right, then routes and firewalls on the way",
    )  # fmt: skip
    FRAGMENTS_LOST = (
        "network.fragments_lost", Action.RETRY, Who.OPERATOR, os.EX_TEMPFAIL,
        "only a part of each handshake message arrives",
        "look for a firewall or NAT on the way that drops larger or rapid UDP datagrams (1072 bytes, two or three in a row)",
    )  # fmt: skip
    PATH_MTU = (
        "network.path_mtu", Action.FALLBACK, Who.OPERATOR, os.EX_TEMPFAIL,
        "the path to the peer carries only smaller packets than the interface allows",
        "nothing must be done: packets are cut or refused to fit; set mtu under [node] to the size found to spare the search",
    )  # fmt: skip
    # -- tun and host ----------------------------------------------------------------------------------------
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
        "read the detail; another program may manage the same interface, address or route",
    )  # fmt: skip
    KERNEL_SILENT = (
        "host.kernel_silent", Action.RETRY, Who.HOST, os.EX_OSERR,
        "the kernel does not answer about interface, address or route",
        "nothing at first: it is asked again; if it lasts, see what keeps rtnetlink busy on this machine (ip link hangs, too)",
    )  # fmt: skip
    TUN_GONE = (
        "tun.gone", Action.RETRY, Who.OPERATOR, os.EX_OSERR,
        "the tunnel's interface does not exist any more: something deleted it",
        "restart the node: pqvpn down, then pqvpn up; find out what removes interfaces on this machine",
    )  # fmt: skip
    TUN_DOWN = (
        "tun.down", Action.RETRY, Who.OPERATOR, os.EX_OSERR,
        "the tunnel's interface is switched off, or addresses or routes are missing from it",
        "restart the node: pqvpn down, then pqvpn up; keep other programs from managing its interface",
    )  # fmt: skip
    ADDRESS_CONFLICT = (
        "tun.address_conflict", Action.RETRY, Who.OPERATOR, os.EX_OSERR,
        "another interface of this machine has the tunnel's address or routes its networks elsewhere",
        "give the tunnel addresses of its own, or remove them from the other interface",
    )  # fmt: skip
    TUN_STUCK = (
        "tun.stuck", Action.RETRY, Who.US, os.EX_SOFTWARE,
        "packets for the tunnel are not taken out of its interface: the lanes hang or are stopped",
        "restart the node (pqvpn down, then pqvpn up) and report it with: pqvpn diag bundle",
    )  # fmt: skip
    CLOCK_JUMPED = (
        "host.clock_jumped", Action.FALLBACK, Who.NOBODY, os.EX_TEMPFAIL,
        "the wall clock jumped; no key, session or handshake depends on it, only the times of records",
        "look for the cause of connection trouble elsewhere; for right times in records, see to time synchronisation",
    )  # fmt: skip
    DISK_LOW = (
        "host.disk_low", Action.FALLBACK, Who.HOST, os.EX_IOERR,
        "the file system of the state folder is nearly full",
        "free space there, or move it with state_dir under [node]; the tunnel itself does not need it",
    )  # fmt: skip
    STATE_UNWRITABLE = (
        "host.state_unwritable", Action.FALLBACK, Who.HOST, os.EX_IOERR,
        "the state folder cannot be written; records are held in memory, the oldest are lost",
        "check the folder named: its owner, its permissions, a full, read-only or failing disk",
    )  # fmt: skip
    DESCRIPTORS = (
        "host.descriptors", Action.FALLBACK, Who.HOST, os.EX_OSERR,
        "a process of the node has nearly all the descriptors that it may have",
        "raise the limit (LimitNOFILE= of the unit, ulimit -n); if the number only grows, report it",
    )  # fmt: skip
    MEMORY = (
        "host.memory", Action.FALLBACK, Who.US, os.EX_OSERR,
        "a process of the node takes far more memory than it should",
        "restart the node when convenient, and report it with: pqvpn diag bundle",
    )  # fmt: skip
    STARVED = (
        "host.starved", Action.FALLBACK, Who.HOST, os.EX_TEMPFAIL,
        "an event loop gets its turn much too late: the machine has no processor time left for the node",
        "see what takes the processor (top), or the quota of the node's cgroup; packets and handshakes are slow meanwhile",
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
    CHILD_HUNG = (
        "node.child_hung", Action.RETRY, Who.US, os.EX_SOFTWARE,
        "a process of the node made no progress and was replaced",
        "nothing now; the stacks it left are in its crash report: pqvpn diag crashes",
    )  # fmt: skip
    OUT_OF_MEMORY = (
        "host.out_of_memory", Action.RETRY, Who.HOST, os.EX_OSERR,
        "a process of the node ran out of memory: it gave up what it did, or the kernel killed it and it was replaced",
        "see what eats the memory; a limit on the node's cgroup below 128 MiB is too low",
    )  # fmt: skip
    RESTART_LOOP = (
        "node.restart_loop", Action.RETRY, Who.US, os.EX_SOFTWARE,
        "a process of the node ends again and again; it is tried rarely now",
        "read why it ends: pqvpn diag crashes; when the cause is gone: pqvpn reload tries at once",
    )  # fmt: skip
    FEWER_LANES = (
        "node.fewer_lanes", Action.FALLBACK, Who.US, os.EX_SOFTWARE,
        "a lane ends again and again; the process of another lane carries its packets, with less throughput",
        "read why it ends: pqvpn diag crashes; when the cause is gone: pqvpn reload tries at once",
    )  # fmt: skip
    NO_LANES = (
        "node.no_lanes", Action.RETRY, Who.US, os.EX_SOFTWARE,
        "every lane ends again and again: the tunnel is closed, nothing passes and nothing leaks until one lives",
        "read why they end: pqvpn diag crashes; when the cause is gone: pqvpn reload tries at once",
    )  # fmt: skip
    UPGRADE_REFUSED = (
        "node.upgrade_refused", Action.DROP, Who.OPERATOR, os.EX_SOFTWARE,
        "the new version is not fit to run this node; nothing was changed",
        "read the detail; try the new version's own: pqvpn check",
    )  # fmt: skip
    UPGRADE_ROLLED_BACK = (
        "node.upgrade_rolled_back", Action.FALLBACK, Who.US, os.EX_SOFTWARE,
        "the new version failed on trial; the former one runs again, and sessions went on",
        "read the detail, and report it with: pqvpn diag bundle",
    )  # fmt: skip
    CHILD_DIED = (
        "node.child_died", Action.RETRY, Who.US, os.EX_SOFTWARE,
        "a process of the node ended unexpectedly and was replaced",
        "nothing now; where it happened: pqvpn diag crashes; if it repeats, report that",
    )  # fmt: skip
    CHILD_RESTARTING = (
        "node.child_restarting", Action.RETRY, Who.US, os.EX_SOFTWARE,
        "a process of the node ends again and again",
        "where it happens: pqvpn diag crash last; free memory if the kernel killed it; else report it with: pqvpn diag bundle",
    )  # fmt: skip
    NO_PROGRESS = (
        "node.no_progress", Action.RETRY, Who.US, os.EX_SOFTWARE,
        "a process of the node makes no progress: it hangs, is stopped, or gets no processor time",
        "the supervisor replaces it after hang_after under [restart]; where it is the supervisor itself: restart the node"
        " (pqvpn down, then pqvpn up) and report it with: pqvpn diag bundle",
    )  # fmt: skip
    NOT_REPORTING = (
        "node.not_reporting", Action.RETRY, Who.US, os.EX_SOFTWARE,
        "the node runs, but its control process does not answer: it hangs or is stopped",
        "packets go on until the keys expire; restart the node (pqvpn down, then pqvpn up) and report it with: pqvpn diag bundle",
    )  # fmt: skip
    KILLED = (
        "node.killed", Action.RETRY, Who.OPERATOR, os.EX_SOFTWARE,
        "the node does not run, and it did not end on purpose: it was killed, or the machine went down",
        "start it: pqvpn up; look for the killer in the kernel's log (dmesg: out of memory)",
    )  # fmt: skip
    REQUEST_REFUSED = (
        "node.request_refused",
        Action.DROP,
        Who.OPERATOR,
        os.EX_USAGE,
        "the node cannot do what was asked",
        "read the detail",
    )
    BREAKER_OPEN = (
        "resilience.breaker_open", Action.FALLBACK, Who.NOBODY, os.EX_TEMPFAIL,
        "too many failures in a row: the operation is not tried for a while",
        "see why it fails; it is tried again by itself, or at once: pqvpn breaker reset NAME",
    )  # fmt: skip
    BREAKER_HELD = (
        "resilience.breaker_held", Action.FALLBACK, Who.OPERATOR, os.EX_TEMPFAIL,
        "an operator holds a circuit breaker: what it guards is refused, or tried whatever comes of it",
        "when the reason for it is gone: pqvpn breaker reset NAME",
    )  # fmt: skip
    INTERNAL = (
        "node.internal", Action.RETRY, Who.US, os.EX_SOFTWARE,
        "an unexpected error; the part it happened in was abandoned",
        "where it happened: pqvpn diag crash last; report that, or: pqvpn diag bundle",
    )  # fmt: skip
    # -- crypto ----------------------------------------------------------------------------------------------
    SELF_TEST_FAILED = (
        "crypto.self_test_failed", Action.FALLBACK, Who.HOST, os.EX_SOFTWARE,
        "a cryptographic primitive does not give its known answer",
        "reinstall the cryptography package; handshakes are refused until it passes",
    )  # fmt: skip
    DEGRADE_REFUSED = (
        "crypto.degrade_refused", Action.DROP, Who.OPERATOR, os.EX_NOPERM,
        "the degraded mode is not allowed for this peer",
        "give the peer allow_degraded and degraded_until in the configuration, and reload",
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
    # -- handshake -------------------------------------------------------------------------------------------
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
    UNKNOWN_PEER = (
        "handshake.unknown_peer", Action.RETRY, Who.OPERATOR, os.EX_TEMPFAIL,
        "who calls from the peer's address has another identity than the card configured here",
        "give this node the peer's present card: pqvpn card there, then pqvpn peer remove and add here, and pqvpn reload",
    )  # fmt: skip
    NETWORK_KEY = (
        "handshake.network_key", Action.RETRY, Who.OPERATOR, os.EX_TEMPFAIL,
        "the peer calls with another network key, or with an old card of this node",
        "make network_key_file equal on both sides; if it is, give the peer this node's present card: pqvpn card",
    )  # fmt: skip
    PSK = (
        "handshake.psk", Action.RETRY, Who.OPERATOR, os.EX_TEMPFAIL,
        "the two sides have different pre-shared keys",
        "copy one psk_file to both sides, or remove the setting on both, and reload",
    )  # fmt: skip
    VERSION = (
        "handshake.version", Action.RETRY, Who.OPERATOR, os.EX_TEMPFAIL,
        "the peer speaks another version of the protocol",
        "upgrade the older side; pqvpn version tells",
    )  # fmt: skip
    # -- session ---------------------------------------------------------------------------------------------
    ALLOWED_IPS = (
        "session.allowed_ips", Action.DROP, Who.OPERATOR, os.EX_CONFIG,
        "packets are dropped because allowed_ips of the two sides do not agree",
        "make allowed_ips of the peer hold every inner address that it sends from, on both sides, and reload",
    )  # fmt: skip
    # -- configuration ---------------------------------------------------------------------------------------
    CONFIG_UNREADABLE = (
        "config.unreadable", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the configuration file cannot be read", "check the path and its permissions, or run: pqvpn init",
    )  # fmt: skip
    CONFIG_SYNTAX = (
        "config.syntax", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the file is not valid TOML", "mend the line named",
    )  # fmt: skip
    CONFIG_UNKNOWN_KEY = (
        "config.unknown_key", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "no such setting", "use the name suggested, or remove it",
    )  # fmt: skip
    CONFIG_VALUE = (
        "config.value", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the value is not acceptable", "give a value of the kind described",
    )  # fmt: skip
    CONFIG_MISSING = (
        "config.missing", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "a required setting is missing", "add it",
    )  # fmt: skip
    CONFIG_MTU = (
        "config.mtu", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the MTU is outside 1280..2040",
        'give 1280 to 2040, or "auto"',
    )  # fmt: skip
    CONFIG_KEEPALIVE = (
        "config.keepalive", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the keepalive interval is out of range",
        'give "1s" to "1h"; "25s" suits most NATs',
    )  # fmt: skip
    CONFIG_TIMER = (
        "config.timer", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "a timer is out of range or does not fit the others",
        "give a value in the range named, or remove the timer to use its default",
    )  # fmt: skip
    CONFIG_DUPLICATE_ADDRESS = (
        "config.duplicate_address", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "an interface address is given twice",
        "remove one of the two",
    )  # fmt: skip
    CONFIG_ALLOWED_OVERLAP = (
        "config.allowed_ips_overlap", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "two peers claim the same inner addresses",
        "give each address to one peer only",
    )  # fmt: skip
    CONFIG_ALLOWED_OWN = (
        "config.allowed_ip_is_own", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "a peer claims an address of this node's interface",
        "remove it from the peer's allowed_ips",
    )  # fmt: skip
    CONFIG_ENDPOINT_OWN = (
        "config.endpoint_is_own", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the peer's endpoint is this node's own address",
        "give the address at which the other machine is reached",
    )  # fmt: skip
    CONFIG_ENDPOINT_INSIDE = (
        "config.endpoint_inside_tunnel", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the peer's endpoint would be reached through its own tunnel",
        "give an address outside of the networks that are routed into the tunnel, or take the endpoint out of them",
    )  # fmt: skip
    CONFIG_PEER_SELF = (
        "config.peer_is_self", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the peer's card is this node's own",
        "ask the peer for its card: pqvpn card, run on the other machine",
    )  # fmt: skip
    CONFIG_PEER_DUPLICATE = (
        "config.duplicate_peer", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "one identity is configured under two names",
        "remove one of the two peers",
    )  # fmt: skip
    CONFIG_CARD_ID = (
        "config.card_id_mismatch", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the card does not hash to the configured id",
        "do not connect: ask the peer again, over a way you trust, for its card and id",
    )  # fmt: skip
    CONFIG_KEY_ZERO = (
        "config.key_is_zero", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the key is all zeros, which means none",
        "make a random one: openssl rand -base64 32, or remove the setting",
    )  # fmt: skip
    CONFIG_FILE = (
        "config.file", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "a file named in the configuration cannot be used",
        "check the path, the file and its format",
    )  # fmt: skip
    CONFIG_KEY_MODE = (
        "config.key_mode", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "a key file or its folder is open to others",
        "tighten it with the command named",
    )  # fmt: skip
    CONFIG_DEGRADED_UNTIL = (
        "config.degraded_until", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "allow_degraded needs an end date that lies ahead",
        "give degraded_until = YYYY-MM-DD with a date to come, or remove allow_degraded",
    )  # fmt: skip
    CONFIG_TELEMETRY_PLAIN = (
        "config.telemetry_plain", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "telemetry would leave this host unencrypted",
        "use https://, or say insecure = true when the network between is trusted",
    )  # fmt: skip
    CONFIG_DSN = (
        "config.dsn", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the file does not hold the DSN of a crash server",
        "copy the DSN from the project's settings on the server into the file, as its only line",
    )  # fmt: skip
    CONFIG_HEALTH_OPEN = (
        "config.health_open", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "health and metrics would be open to everybody",
        "listen on 127.0.0.1, or give health.token_file: openssl rand -base64 32",
    )  # fmt: skip
    CONFIG_EXISTS = (
        "config.exists", Action.SHUTDOWN, Who.OPERATOR, os.EX_CANTCREAT,
        "an identity or configuration exists there already and is never overwritten",
        "use it, or choose another place with --config",
    )  # fmt: skip
    CONFIG_NOT_WRITTEN = (
        "config.not_written", Action.SHUTDOWN, Who.OPERATOR, os.EX_CANTCREAT,
        "a file could not be written; nothing was changed",
        "check the folder's permissions and free space",
    )  # fmt: skip
    CONFIG_NO_SUCH_PEER = (
        "config.no_such_peer", Action.SHUTDOWN, Who.OPERATOR, os.EX_USAGE,
        "no peer of that name is configured",
        "see the names: pqvpn peer list",
    )  # fmt: skip
    CONFIG_PEER_EXISTS = (
        "config.peer_exists", Action.SHUTDOWN, Who.OPERATOR, os.EX_USAGE,
        "a peer of that name is configured already",
        "choose another name, or remove that peer first: pqvpn peer remove NAME",
    )  # fmt: skip
    # -- telemetry -------------------------------------------------------------------------------------------
    COLLECTOR_UNREACHABLE = (
        "telemetry.collector_unreachable", Action.RETRY, Who.OPERATOR, os.EX_TEMPFAIL,
        "the telemetry collector does not answer; records are kept on disk and sent later",
        "check telemetry.endpoint and that the collector runs; nothing is lost while the spool has room",
    )  # fmt: skip
    COLLECTOR_REFUSED = (
        "telemetry.collector_refused", Action.RETRY, Who.OPERATOR, os.EX_NOPERM,
        "the telemetry collector refuses what it is sent",
        "check the token in telemetry.headers_file and the path of telemetry.endpoint; read the detail",
    )  # fmt: skip
    COLLECTOR_TLS = (
        "telemetry.collector_tls", Action.RETRY, Who.OPERATOR, os.EX_CONFIG,
        "the telemetry collector's certificate does not verify, or it does not accept ours",
        "check telemetry.ca_file, certificate_file and key_file, and the name in telemetry.endpoint",
    )  # fmt: skip
    COLLECTOR_ANSWER = (
        "telemetry.collector_answer", Action.RETRY, Who.OPERATOR, os.EX_PROTOCOL,
        "what answers at the telemetry endpoint does not speak OTLP",
        "check telemetry.endpoint and telemetry.protocol: gRPC is usually port 4317, HTTP 4318",
    )  # fmt: skip
    CRASH_SERVER_UNREACHABLE = (
        "crash.server_unreachable", Action.RETRY, Who.OPERATOR, os.EX_TEMPFAIL,
        "the crash server does not answer; reports are kept on disk and sent later",
        "check that the server of crash_reports.dsn_file runs; see what waits with: pqvpn diag crashes",
    )  # fmt: skip
    CRASH_SERVER_BUSY = (
        "crash.server_busy", Action.RETRY, Who.OPERATOR, os.EX_TEMPFAIL,
        "the crash server takes no reports for now: a quota or a rate limit; they are sent later",
        "raise the project's quota on the server, or wait",
    )  # fmt: skip
    CRASH_SERVER_REFUSED = (
        "crash.server_refused", Action.RETRY, Who.OPERATOR, os.EX_NOPERM,
        "the crash server refuses reports",
        "check that the DSN in crash_reports.dsn_file is the one of a project that exists; read the detail",
    )  # fmt: skip
    CRASH_SERVER_TLS = (
        "crash.server_tls", Action.RETRY, Who.OPERATOR, os.EX_CONFIG,
        "the crash server's certificate does not verify",
        "check crash_reports.ca_file and the name in the DSN",
    )  # fmt: skip
    CRASH_SERVER_ANSWER = (
        "crash.server_answer", Action.RETRY, Who.OPERATOR, os.EX_PROTOCOL,
        "what answers at the DSN's address does not take crash reports",
        "something else answers there, a proxy or a portal for instance: check the address in crash_reports.dsn_file",
    )  # fmt: skip
    DISK_FULL = (
        "telemetry.disk_full", Action.FALLBACK, Who.HOST, os.EX_IOERR,
        "the disk of the spool is full; the latest records are held in memory",
        "free space on the file system of the state folder, or lower telemetry.spool_size",
    )  # fmt: skip
    SPOOL_UNWRITABLE = (
        "telemetry.spool_unwritable", Action.FALLBACK, Who.HOST, os.EX_IOERR,
        "the spool cannot be written; the latest records are held in memory",
        "check the state folder: its owner, its permissions, a read-only or failing disk",
    )  # fmt: skip
    SPOOL_DAMAGED = (
        "telemetry.spool_damaged", Action.DROP, Who.HOST, os.EX_DATAERR,
        "parts of the spool are damaged and were passed over",
        "check the disk; what is readable stays in use",
    )  # fmt: skip
    SPOOL_IN_USE = (
        "telemetry.spool_in_use", Action.FALLBACK, Who.OPERATOR, os.EX_UNAVAILABLE,
        "another process writes this spool",
        "give each node a state folder of its own, or end the other process",
    )  # fmt: skip
    TELEMETRY_ENVIRONMENT = (
        "telemetry.env_refused", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "an environment variable asks for telemetry that cannot be given",
        "unset the variable named, or correct it; settings belong into [telemetry]",
    )  # fmt: skip
    RECORDS_DROPPED = (
        "telemetry.records_dropped", Action.DROP, Who.OPERATOR, os.EX_TEMPFAIL,
        "telemetry records were lost",
        "read the cause; raise telemetry.spool_size or spool_age when outages of the collector last longer",
    )  # fmt: skip
    FACTS_LOST = (
        "telemetry.facts_lost", Action.DROP, Who.NOBODY, os.EX_TEMPFAIL,
        "the observer did not keep up, or stood still: what happened meanwhile is not recorded",
        "see whether this machine has processor time left; the tunnel itself is not affected",
    )  # fmt: skip
    # -- command line ----------------------------------------------------------------------------------------
    USAGE = (
        "cli.usage", Action.SHUTDOWN, Who.OPERATOR, os.EX_USAGE,
        "the command line is not understood",
        "see the command's --help",
    )  # fmt: skip
    CONTROL_UNREACHABLE = (
        "cli.control_unreachable", Action.SHUTDOWN, Who.OPERATOR, os.EX_UNAVAILABLE,
        "the node runs but its control socket does not answer",
        "wait a moment and repeat; if it lasts, read the node's log",
    )  # fmt: skip
    BUNDLE_UNREADABLE = (
        "cli.bundle_unreadable", Action.SHUTDOWN, Who.OPERATOR, os.EX_DATAERR,
        "the file is not a bundle that can be read",
        "give a file that pqvpn diag bundle made; copy it again if it was cut off",
    )  # fmt: skip
    OBSERVER_UNREACHABLE = (
        "cli.observer_unreachable", Action.SHUTDOWN, Who.OPERATOR, os.EX_UNAVAILABLE,
        "the node runs, but its observer does not answer",
        "wait a moment and repeat; the tunnel does not need it: pqvpn status asks the node itself",
    )  # fmt: skip
    TELEMETRY_OFF = (
        "cli.telemetry_off", Action.SHUTDOWN, Who.OPERATOR, os.EX_UNAVAILABLE,
        "telemetry is off in the configuration, and with it the health endpoint",
        "set enabled = true under [telemetry] and restart the node, or ask: pqvpn status",
    )  # fmt: skip
    START_TIMEOUT = (
        "cli.start_timeout", Action.SHUTDOWN, Who.OPERATOR, os.EX_TEMPFAIL,
        "the node did not report that it runs in time",
        "read its log; it may still be starting: pqvpn status",
    )  # fmt: skip
    STOP_TIMEOUT = (
        "cli.stop_timeout", Action.SHUTDOWN, Who.OPERATOR, os.EX_TEMPFAIL,
        "the node did not end in time",
        "repeat: pqvpn down; if it lasts, read its log",
    )  # fmt: skip
    # -- identity ------------------------------------------------------------------------------------------------------
    CARD_MALFORMED = (
        "identity.card_malformed", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "what was given is not a valid card",
        "ask the peer for it again: pqvpn card --line, and copy it whole",
    )  # fmt: skip
    ID_MALFORMED = (
        "identity.id_malformed", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "what was given is not a valid peer ID",
        "copy all of its 64 characters; it begins with pqvpn1",
    )  # fmt: skip
    KEY_MALFORMED = (
        "identity.key_malformed", Action.SHUTDOWN, Who.OPERATOR, os.EX_CONFIG,
        "the private key file is damaged or is not one",
        "restore it from a backup, or make a new identity elsewhere and give its card to every peer",
    )  # fmt: skip
