"""All verdicts in one table: what is judged, how bad it is, how it is found, and which symptoms it explains.

Order is rank: on one subject, what stands above is nearer to the cause. To add a verdict: a reason in
`pqvpn/reasons.py`, a function in `noderules.py` or `peerrules.py` that yields what speaks for it, and a line here.
docs/diag.md tells what each means; tests/unit/test_diag_rules.py and tests/netns/test_netns_diag*.py produce each.
"""

from pqvpn.diag import noderules as node
from pqvpn.diag import peerrules as peer
from pqvpn.diag.knowledge import Knowledge
from pqvpn.diag.verdicts import Diagnosis, Rule, Severity, judge
from pqvpn.reasons import Reason

PROBLEM, WARNING, NOTE = Severity.PROBLEM, Severity.WARNING, Severity.NOTE

# What is seen when a handshake does not complete, whatever the cause.
SILENCE = frozenset({Reason.NO_REPLY, Reason.STALE, Reason.KEYS_EXPIRED, Reason.IDLE, Reason.BREAKER_OPEN})
MISMATCH = SILENCE | {Reason.BAD_AUTH, Reason.FRAGMENTS_LOST}
INTERFACE = frozenset({Reason.TUN_DOWN, Reason.ADDRESS_CONFLICT, Reason.TUN_STUCK})
RECORDS = frozenset({Reason.SPOOL_UNWRITABLE, Reason.STATE_UNWRITABLE, Reason.RECORDS_DROPPED, Reason.DISK_LOW})

RULES: tuple[Rule, ...] = (
    # code, severity, found by, is the cause of
    # -- the node: while it does not run or hangs, peers are only symptoms
    Rule(Reason.NOT_RUNNING, PROBLEM, node.stopped, hides_peers=True),
    Rule(Reason.KILLED, PROBLEM, node.killed, hides_peers=True),
    Rule(Reason.NO_PERMISSION, PROBLEM, node.forbidden),
    Rule(Reason.NOT_REPORTING, PROBLEM, node.not_reporting, hides_peers=True),
    Rule(Reason.SELF_TEST_FAILED, PROBLEM, node.self_tests, hides_peers=True),
    Rule(Reason.TUN_GONE, PROBLEM, node.tun_gone, explains=INTERFACE),
    Rule(Reason.ADDRESS_CONFLICT, PROBLEM, node.address_conflict, explains=INTERFACE),
    Rule(Reason.TUN_DOWN, PROBLEM, node.tun_down, explains=INTERFACE),
    Rule(Reason.CHILD_RESTARTING, PROBLEM, node.child_restarting, explains=frozenset({Reason.CHILD_DIED})),
    Rule(Reason.CONFIG_VALUE, WARNING, node.config_refused),
    Rule(Reason.OBSERVER_UNREACHABLE, WARNING, node.observer),
    Rule(Reason.DISK_FULL, WARNING, node.disk, explains=RECORDS),
    Rule(Reason.COLLECTOR_UNREACHABLE, WARNING, node.collector),
    Rule(Reason.ALLOWED_IPS, WARNING, node.no_route),
    Rule(Reason.INTERNAL, WARNING, node.health),
    # -- a peer that is not connected: what names the cause stands before what only says that nothing comes back
    Rule(Reason.DNS_FAILED, PROBLEM, peer=peer.dns, explains=SILENCE | {Reason.NO_ENDPOINT}),
    Rule(Reason.VERSION, PROBLEM, peer=peer.version, explains=MISMATCH),
    Rule(Reason.NETWORK_KEY, PROBLEM, explains=MISMATCH, peer=peer.refused(
        "mac1", "handshakes from {peer}'s address fail MAC1")),
    Rule(Reason.UNKNOWN_PEER, PROBLEM, explains=MISMATCH, peer=peer.refused(
        "unknown_peer", "handshakes from {peer}'s address carry an identity that is not configured here")),
    Rule(Reason.PSK, PROBLEM, explains=MISMATCH, peer=peer.refused(
        "bad_handshake", "handshakes that name {peer} as their sender do not open with the psk configured here", named=True)),
    Rule(Reason.POLICY_REFUSED, PROBLEM, peer=peer.policy, explains=MISMATCH),
    Rule(Reason.PORT_CLOSED, PROBLEM, peer=peer.icmp("port_unreachable"), explains=SILENCE | {Reason.FRAGMENTS_LOST}),
    Rule(Reason.UNREACHABLE, PROBLEM, explains=SILENCE, peer=peer.icmp("host_unreachable", "net_unreachable", "prohibited")),
    Rule(Reason.FRAGMENTS_LOST, PROBLEM, peer=peer.fragments, explains=SILENCE),
    Rule(Reason.BAD_AUTH, PROBLEM, peer=peer.bad_auth, explains=SILENCE),
    Rule(Reason.NO_ENDPOINT, NOTE, peer=peer.no_endpoint, explains=SILENCE),
    Rule(Reason.NO_REPLY, PROBLEM, peer=peer.no_reply, explains=SILENCE),
    Rule(Reason.STALE, PROBLEM, peer=peer.stale, explains=frozenset({Reason.KEYS_EXPIRED})),
    Rule(Reason.KEYS_EXPIRED, PROBLEM, peer=peer.keys_expired),
    # -- a peer that is connected, or could be
    Rule(Reason.ALLOWED_IPS, WARNING, peer=peer.allowed_ips),
    Rule(Reason.PATH_MTU, WARNING, peer=peer.path_mtu),
    Rule(Reason.SECURITY_DEGRADED, WARNING, peer=peer.degraded),
    Rule(Reason.IDLE, NOTE, peer=peer.idle),
    Rule(Reason.NO_REPLY, PROBLEM, peer=peer.other),
    # -- no faults
    Rule(Reason.NETWORK_KEY, NOTE, node.strangers),
    Rule(Reason.CLOCK_JUMPED, NOTE, node.clock),
)  # fmt: skip


def diagnose(known: Knowledge) -> Diagnosis:
    """Everything that is wrong, worst first."""
    return judge(known, RULES)


def diagnose_peer(known: Knowledge, name: str) -> Diagnosis:
    """What is wrong with one peer, also while the node's own trouble would hide it."""
    found = judge(known, tuple(rule for rule in RULES if rule.peer))
    verdicts, hidden = (tuple(v for v in group if v.subject == name) for group in (found.verdicts, found.hidden))
    return Diagnosis(known, verdicts, hidden)
