"""Verdicts: for each a hand-made case in which it must come first, and what it explains must not be told beside it."""

import dataclasses

import pytest
from diag_cases import NOW, SESSION, event, item, knowledge, lost, peer

from pqvpn.diag.knowledge import Knowledge
from pqvpn.diag.report import document
from pqvpn.diag.rules import RULES, diagnose
from pqvpn.diag.verdicts import EVIDENCE_MOST, About, Severity
from pqvpn.reasons import Reason

SILENT = peer(state="connecting", reason=Reason.NO_REPLY)
DOWN = {"running": False, "answers": False, "source": "recorded", "at": NOW - 500}


def seen(drop: str, ago: float = 3, count: int = 6, **more: object) -> object:
    return event(
        ago, "handshake.refused", "beta", "warning", drop=drop, count=count, endpoint="192.0.2.2:51820", **more
    )


def icmp(kind: str) -> object:
    return event(4, "network.icmp", "beta", "warning", kind=kind, count=3, endpoint="192.0.2.2:51820")


CASES: dict[str, tuple[Reason, Knowledge, str]] = {
    "no reply": (Reason.NO_REPLY, knowledge(*lost(), peers=(SILENT,)), "2 handshakes begun without success"),
    "stale": (Reason.STALE, knowledge(*lost(), peers=(peer(state="stale", reason=Reason.STALE),)), "37 m ago"),
    "port closed": (
        Reason.PORT_CLOSED,
        knowledge(*lost(icmp("port_unreachable")), peers=(SILENT,)),
        "ICMP, not authenticated",
    ),
    "host unreachable": (
        Reason.UNREACHABLE,
        knowledge(*lost(icmp("host_unreachable")), peers=(SILENT,)),
        "host unreachable",
    ),
    "wrong card": (
        Reason.UNKNOWN_PEER,
        knowledge(*lost(seen("unknown_peer")), peers=(SILENT,)),
        "6 in the last minute",
    ),
    "wrong network key": (
        Reason.NETWORK_KEY,
        knowledge(*lost(seen("mac1"), seen("mac1", 13)), peers=(SILENT,)),
        "12 in the last",
    ),
    "wrong psk": (
        Reason.PSK,
        knowledge(*lost(seen("bad_handshake", named=True)), peers=(SILENT,)),
        "name beta as their sender",
    ),
    "version": (Reason.VERSION, knowledge(*lost(seen("version")), peers=(SILENT,)), "another version"),
    "policy": (Reason.POLICY_REFUSED, knowledge(*lost(seen("policy_mismatch")), peers=(SILENT,)), "policy"),
    "not authenticated": (Reason.BAD_AUTH, knowledge(*lost(seen("decapsulation")), peers=(SILENT,)), "decapsulation"),
    "fragments": (
        Reason.FRAGMENTS_LOST,
        knowledge(
            *lost(event(5, "handshake.fragments_lost", message="m2", have=1, want=2, endpoint="e")), peers=(SILENT,)
        ),
        "only 1 of 2 datagrams",
    ),
    "called by an idle peer's address": (
        Reason.NETWORK_KEY,
        knowledge(seen("mac1"), peers=(peer(state="down", reason=Reason.IDLE),)),
        "MAC1",
    ),
    "dns": (
        Reason.DNS_FAILED,
        knowledge(
            event(
                60,
                "resolver.failed",
                reason="network.dns_failed",
                host="beta.example",
                detail="Name or service not known",
            ),
            peers=(peer(state="down", reason=Reason.NO_ENDPOINT, endpoint=None, last_received_seconds=None),),
        ),
        "beta.example: Name or service not known",
    ),
    "no endpoint": (
        Reason.NO_ENDPOINT,
        knowledge(
            peers=(peer(state="down", reason=Reason.NO_ENDPOINT, endpoint=None),),
            rising={"no_session": 9.0, "mac1": 4.0},
        ),
        "4 handshake datagrams from unknown addresses failed MAC1",
    ),
    "keys expired": (
        Reason.KEYS_EXPIRED,
        knowledge(
            *lost(event(30, "session.ended", session_id=SESSION, why="expired")),
            peers=(peer(state="connecting", reason=Reason.KEYS_EXPIRED),),
            rising={"keys_expired": 40.0},
        ),
        "40 packets were discarded",
    ),
    "path mtu": (
        Reason.PATH_MTU,
        knowledge(
            event(50, "path.mtu", session_id=SESSION, before=1432, after=1280, largest=1432),
            peers=(peer(path_mtu=1280),),
        ),
        "1280 do",
    ),
    "allowed ips": (
        Reason.ALLOWED_IPS,
        knowledge(event(5, "inner.refused", session_id=SESSION, drop="source_not_allowed", count=7), peers=(peer(),)),
        "10.7.0.2/32",
    ),
    "no route": (Reason.ALLOWED_IPS, knowledge(peers=(peer(),), rising={"no_route": 12.0}), "12 packets"),
    "degraded": (
        Reason.SECURITY_DEGRADED,
        knowledge(peers=(peer(security="auth-plaintext"),)),
        "can be read by anybody",
    ),
    "idle": (Reason.IDLE, knowledge(peers=(peer(state="down", reason=Reason.IDLE),)), ""),
    "other reason": (
        Reason.BREAKER_OPEN,
        knowledge(*lost(), peers=(peer(state="down", reason=Reason.BREAKER_OPEN),)),
        "handshake",
    ),
    "tun gone": (
        Reason.TUN_GONE,
        knowledge(
            peers=(peer(),),
            interface={"interface": "pqvpn0", "exists": False},
            health=(item("tun.interface", Reason.TUN_GONE),),
        ),
        "no interface pqvpn0",
    ),
    "tun down": (Reason.TUN_DOWN, knowledge(interface={"interface": "pqvpn0", "exists": True, "up": False}), "is down"),
    "address missing": (
        Reason.TUN_DOWN,
        knowledge(interface={"exists": True, "up": True, "missing": ["10.7.0.1/24"]}),
        "10.7.0.1/24",
    ),
    "address conflict": (
        Reason.ADDRESS_CONFLICT,
        knowledge(interface={"exists": True, "up": True, "missing": ["10.7.0.1/24"], "conflict": "eth1 has 10.7.0.1"}),
        "eth1 has 10.7.0.1",
    ),
    "child restarting": (
        Reason.CHILD_RESTARTING,
        knowledge(
            *(event(n * 20, "process.ended", "", "error", process="lane-0", status="SIGSEGV") for n in (1, 2, 3))
        ),
        "lane-0 ended 3 times",
    ),
    "child died once": (
        Reason.CHILD_DIED,
        knowledge(event(20, "process.ended", "", "error", process="control", status="exit 1")),
        "once",
    ),
    "control hangs": (
        Reason.NOT_REPORTING,
        knowledge(
            *lost(),
            peers=(SILENT,),
            answers=False,
            source="recorded",
            at=NOW - 8,
            health=(item("node.control", Reason.NOT_REPORTING),),
        ),
        "did not answer within 1 s",
    ),
    "self-test": (
        Reason.SELF_TEST_FAILED,
        knowledge(
            peers=(peer(state="down", reason=Reason.SELF_TEST_FAILED),),
            status={
                "node": {"name": "alpha", "self_tests": {"passed": False, "failed": ["ML-KEM-768"]}},
                "peers": [SILENT],
            },
        ),
        "ML-KEM-768",
    ),
    "disk full": (
        Reason.DISK_FULL,
        knowledge(health=(item("telemetry.records", Reason.DISK_FULL), item("host.disk", Reason.STATE_UNWRITABLE))),
        "it says so",
    ),
    "collector down": (
        Reason.COLLECTOR_UNREACHABLE,
        knowledge(health=(item("telemetry.collector", Reason.COLLECTOR_UNREACHABLE, "warning"),)),
        "it says",
    ),
    "not allowed to ask": (
        Reason.NO_PERMISSION,
        Knowledge(NOW, NOW, running=None, notes=("the control socket is not open to this user",)),
        "may not ask the node the control socket is not open",
    ),
    "observer silent": (
        Reason.OBSERVER_UNREACHABLE,
        knowledge(
            written=NOW - 90,
            status={"node": {"uptime_seconds": 7200}, "processes": [{"component": "observer"}], "peers": [peer()]},
        ),
        "its last word is of 1 m 30 s ago",
    ),
    "another health item": (
        Reason.DESCRIPTORS,
        knowledge(health=(item("host.descriptors", Reason.DESCRIPTORS),)),
        "it says so",
    ),
    "reload refused": (
        Reason.CONFIG_SYNTAX,
        knowledge(event(9, "config.refused", "", "warning", reason="config.syntax", errors=2)),
        "2 errors",
    ),
    "clock": (
        Reason.CLOCK_JUMPED,
        knowledge(event(90, "clock.jumped", "", "warning", seconds=-7200.0), peers=(peer(),)),
        "back by 2 h",
    ),
    "strangers": (Reason.NETWORK_KEY, knowledge(peers=(peer(),), rising={"mac1": 12.0}), "no peer's"),
    "stopped": (
        Reason.NOT_RUNNING,
        knowledge(
            *lost(event(3600, "node.started", ""), event(505, "node.stopped", "", cause="request")),
            peers=(SILENT,),
            **DOWN,
        ),
        "stopped by request (pqvpn down) after 51 m 35 s",
    ),
    "stopped, without records": (
        Reason.NOT_RUNNING,
        knowledge(peers=(SILENT,), stopped="SIGTERM", **DOWN),
        "stopped by SIGTERM",
    ),
    "never ran": (Reason.NOT_RUNNING, Knowledge(NOW, NOW, running=False), "it never ran"),
    "cannot start": (
        Reason.NOT_RUNNING,
        Knowledge(NOW, NOW, running=False, configuration_errors=("pqvpn.toml:3: bad [config.syntax]",)),
        "1 error",
    ),
    "killed": (
        Reason.KILLED,
        knowledge(
            event(3600, "node.started", ""),
            event(501, "crash", "", "error", kind="signal", process="supervisor", error="SIGSEGV"),
            peers=(SILENT,),
            **DOWN,
        ),
        "supervisor ended: SIGSEGV",
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_cause_comes_first(case: str) -> None:
    reason, known, evidence = CASES[case]
    first = diagnose(known).verdicts[0]
    assert first.reason is reason
    assert len(first.evidence) <= EVIDENCE_MOST
    assert evidence in " ".join((first.text, *first.evidence))
    assert first.remedy


def test_every_rule_has_a_case() -> None:
    assert {rule.reason for rule in RULES} - {reason for reason, _, _ in CASES.values()} <= {
        Reason.CONFIG_VALUE,
        Reason.INTERNAL,
    }


@pytest.mark.parametrize(
    "case", [c for c, (r, k, _) in CASES.items() if SILENT in k.status.get("peers", ()) and r is not Reason.NO_REPLY]
)
def test_a_cause_hides_that_nobody_answers(case: str) -> None:
    found = diagnose(CASES[case][1])
    assert Reason.NO_REPLY not in [verdict.reason for verdict in found.verdicts]
    assert Reason.NO_REPLY in [verdict.reason for verdict in found.hidden]
    assert any("network.no_reply" in symptom for symptom in found.verdicts[0].symptoms)


def test_since_is_when_the_peer_was_last_up() -> None:
    assert diagnose(CASES["port closed"][1]).verdicts[0].since == NOW - 2210


def test_evidence_of_an_earlier_cause_does_not_count() -> None:
    """The network key was mended ten minutes ago; the psk is what is wrong now."""
    known = knowledge(*lost(seen("mac1", 600), seen("bad_handshake", 5, named=True)), peers=(SILENT,))
    assert [v.reason for v in diagnose(known).verdicts] == [Reason.PSK]


def test_anybody_can_send_garbage_from_a_peers_address() -> None:
    """A peer that is connected is not wrongly configured, whatever comes from its address."""
    known = knowledge(
        *(seen(drop) for drop in ("mac1", "unknown_peer", "version")), icmp("port_unreachable"), peers=(peer(),)
    )
    assert diagnose(known).verdicts == ()


def test_worst_first() -> None:
    known = knowledge(
        *lost(), event(5, "inner.refused", "gamma", session_id=SESSION, drop="source_not_allowed", count=7),
        peers=(peer("gamma"), SILENT, peer("delta", "down", Reason.IDLE)),
        health=(item("telemetry.collector", Reason.COLLECTOR_UNREACHABLE, "warning"),),
        interface={"interface": "pqvpn0", "exists": False},
    )  # fmt: skip
    found = diagnose(known).verdicts
    assert [(v.about, v.reason) for v in found] == [
        (About.NODE, Reason.TUN_GONE),
        (About.PEER, Reason.NO_REPLY),
        (About.NODE, Reason.COLLECTOR_UNREACHABLE),
        (About.PEER, Reason.ALLOWED_IPS),
        (About.PEER, Reason.IDLE),
    ]


def test_notes_are_no_faults() -> None:
    for case in ("idle", "clock", "strangers"):
        assert diagnose(CASES[case][1]).healthy
    waiting = knowledge(peers=(peer(state="down", reason=Reason.NO_ENDPOINT, endpoint=None),))
    assert diagnose(waiting).healthy
    assert [v.severity for v in diagnose(waiting).verdicts] == [Severity.NOTE]


def test_what_is_not_known_is_not_healthy() -> None:
    nothing = diagnose(Knowledge(NOW, NOW, bundle="b.tar.gz"))
    assert nothing.verdicts == ()
    assert not nothing.healthy


def test_a_healthy_node_has_no_verdict() -> None:
    assert diagnose(knowledge(peers=(peer(), peer("gamma")))).verdicts == ()


def test_a_health_item_says_nothing_twice() -> None:
    both = (item("peer", Reason.NO_REPLY, key="beta"), item("host.clock", Reason.CLOCK_JUMPED, "warning"))
    assert [v.reason for v in diagnose(knowledge(*lost(), peers=(SILENT,), health=both)).verdicts] == [Reason.NO_REPLY]


def test_what_is_suppressed_by_health_stays_so() -> None:
    hidden = item("tun.addresses", Reason.TUN_STUCK, suppressed_by="tun.interface")
    assert diagnose(knowledge(health=(hidden,))).verdicts == ()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nonsense_in_the_store_is_no_reason_to_fail(case: str) -> None:
    """Whatever stands where something else should: no exception, and still a document."""
    known = CASES[case][1]
    for wrong in ("x", 3, None, [], {}, [3], {"a": 1}):
        broken = dataclasses.replace(
            known,
            status={**known.status, "node": wrong, "processes": wrong},
            interface={**known.interface, "missing": wrong, "up": wrong, "exists": wrong, "conflict": wrong},
            health=tuple({**each, "since": wrong, "evidence": wrong, "code": wrong} for each in known.health),
            events=tuple(dataclasses.replace(e, fields=dict.fromkeys(e.fields, wrong)) for e in known.events),
        )
        document(diagnose(broken))
        peers = [dict.fromkeys(each, wrong) | {"name": each["name"]} for each in known.status.get("peers", ())]
        document(diagnose(dataclasses.replace(known, status={**known.status, "peers": peers})))
        document(diagnose(dataclasses.replace(known, status={**known.status, "peers": wrong})))
