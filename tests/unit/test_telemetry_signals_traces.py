"""Attempts as trees: ids, parents, times, failures, bounds; and the short traces of everything else."""

import dataclasses
import itertools
import random
from typing import Any

import pytest
from signals_rig import ENDPOINT, SECOND, SESSION, TRACE, Node, attributes, example

from pqvpn import facts
from pqvpn.facts import FACTS
from pqvpn.protocol.sampling import sampled
from pqvpn.reasons import Reason
from pqvpn.telemetry import names
from pqvpn.telemetry.context import root_span_id

OTHER_ENDPOINT = "[2001:db8::9]:51820"
ERROR = 2
CLIENT, SERVER, INTERNAL = 3, 2, 1


class Tree:
    """The spans of one trace by name."""

    def __init__(self, spans: list[Any], trace_id: str = TRACE) -> None:
        self.spans = sorted((s for s in spans if s.trace_id.hex() == trace_id), key=lambda s: s.start_time_unix_nano)

    def __getitem__(self, name: str) -> Any:
        (found,) = self.all(name)
        return found

    def all(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def names(self) -> list[str]:
        return sorted(span.name for span in self.spans)

    def shape(self) -> dict[str, str]:
        """Name of the parent by name; empty: none of this trace."""
        by_id = {span.span_id: span.name for span in self.spans}
        return {span.name: by_id.get(span.parent_span_id, "") for span in self.spans}


def seconds(span: Any) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / SECOND


def events(span: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, attributes(event)) for event in span.events]


def started(trigger: str = "traffic", attempt: str = TRACE, peer: str = "beta") -> facts.HandshakeStarted:
    return facts.HandshakeStarted(peer, ENDPOINT, attempt, trigger)


def sent(message: str, number: int = 1, endpoint: str = ENDPOINT, *, cookie: bool = False) -> facts.HandshakeSent:
    return facts.HandshakeSent("beta", TRACE, message, endpoint, number, cookie)


def verified(session: str = SESSION) -> facts.AnswerVerified:
    return facts.AnswerVerified("beta", TRACE, session, ENDPOINT, True)


def completed(role: str = "initiator", attempt: str = TRACE, session: str = SESSION) -> facts.HandshakeCompleted:
    return facts.HandshakeCompleted("beta", session, role, "X-Wing", ENDPOINT, 0.5, attempt)


def connect(node: Node, trigger: str = "traffic") -> None:
    """A whole attempt with everything: two addresses, a cookie, repetitions. It takes 2.9 s."""
    node.tell(facts.Resolved("beta", "beta.example.net", 2, 0.2))
    node.tell(started(trigger), after=0.1)
    node.tell(sent("m1"))
    node.tell(sent("m1", 2), after=0.5)
    node.tell(sent("m1", endpoint=OTHER_ENDPOINT), after=1.0)
    node.tell(facts.CookieReceived("beta", TRACE, OTHER_ENDPOINT), after=0.2)
    node.tell(sent("m1", 2, OTHER_ENDPOINT, cookie=True))
    node.tell(verified(), after=0.3, worked=0.002)
    node.tell(sent("m3"), after=0.1)
    node.tell(sent("m3", 2), after=0.4)
    node.tell(completed(), after=0.1)
    node.tell(facts.PathValidated("beta", SESSION, ENDPOINT, 0.05), after=0.4)


def test_the_tree_of_the_initiator() -> None:
    node = Node()
    connect(node)
    tree = Tree(node.spans())
    root = tree[names.CONNECT]
    assert root.span_id.hex() == root_span_id(TRACE)
    assert not root.parent_span_id
    assert root.kind == CLIENT
    assert tree.shape() == {
        names.CONNECT: "", names.RESOLVE: names.CONNECT, names.M1: names.CONNECT, names.COOKIE_ROUND: names.M1,
        names.M2: names.M1, names.VERIFY: names.M2,
        names.M3: names.CONNECT, names.FIRST_DATA: names.CONNECT, names.PATH_VALIDATE: names.CONNECT,
    }  # fmt: skip
    first, second = tree.all(names.M1)
    assert tree[names.M2].parent_span_id == tree[names.COOKIE_ROUND].parent_span_id == second.span_id
    # durations: each step alone, and together the whole; between look-up and attempt passed 0.1 s
    lasted = {name: seconds(tree[name]) for name in tree.names() if name != names.M1}
    assert lasted == pytest.approx(
        {names.CONNECT: 2.9, names.RESOLVE: 0.2, names.COOKIE_ROUND: 0.2, names.M2: 0.3, names.VERIFY: 0.002, names.M3: 0.1,
         names.FIRST_DATA: 0.5, names.PATH_VALIDATE: 0.05}
    )  # fmt: skip
    assert seconds(first) == pytest.approx(1.5)
    assert seconds(second) == pytest.approx(lasted[names.COOKIE_ROUND] + lasted[names.M2])
    assert tree[names.PATH_VALIDATE].end_time_unix_nano == node.time
    children = [s for s in tree.spans if s.parent_span_id == root.span_id and s.name != names.PATH_VALIDATE]
    assert sum(map(seconds, children)) + 0.1 == pytest.approx(seconds(root))
    for before, after in itertools.pairwise(children[1:]):
        assert before.end_time_unix_nano == after.start_time_unix_nano


def test_what_stands_on_the_spans_of_an_attempt() -> None:
    node = Node()
    connect(node)
    tree = Tree(node.spans())
    root = attributes(tree[names.CONNECT])
    assert root[names.SESSION_ID] == SESSION
    assert (root[names.TRIGGER], root[names.ROLE], root[names.OUTCOME]) == ("traffic", "initiator", "completed")
    assert (root[names.SUITE], root[names.SHARED]) == ("X-Wing", True)
    assert tree[names.CONNECT].status.code == 0
    for span in tree.spans:
        found = attributes(span)
        assert found[names.PEER] == "beta"
        assert found[names.COMPONENT] in ("handshake", "resolver", "path")
        if span.name in (names.M2, names.M3, names.FIRST_DATA, names.PATH_VALIDATE):
            assert found[names.SESSION_ID] == SESSION
    first, second = map(attributes, tree.all(names.M1))
    assert (first[names.NETWORK_PEER_ADDRESS], first[names.NETWORK_PEER_PORT]) == ("192.0.2.7", 51820)
    assert (first[names.NETWORK_TYPE], second[names.NETWORK_TYPE]) == ("ipv4", "ipv6")
    assert second[names.NETWORK_PEER_ADDRESS] == "2001:db8::9"
    assert (first[names.OUTCOME], second[names.OUTCOME]) == ("unanswered", "answered")
    assert (first[names.NUMBER], second[names.NUMBER]) == (1, 2)
    assert events(tree.all(names.M1)[0]) == [(names.SENT, {names.NUMBER: 2, names.COOKIE: False})]
    assert events(tree.all(names.M1)[1]) == [(names.SENT, {names.NUMBER: 2, names.COOKIE: True})]
    assert events(tree[names.FIRST_DATA]) == [(names.SENT, {names.NUMBER: 2, names.COOKIE: False})]
    assert events(tree[names.CONNECT]) == [(names.AGREED, {names.SESSION_ID: SESSION, names.ROLE: "initiator"})]
    assert attributes(tree[names.PATH_VALIDATE])[names.RTT] == 0.05
    assert attributes(tree[names.RESOLVE])[names.SERVER_ADDRESS] == "beta.example.net"


def test_both_ends_make_one_trace() -> None:
    initiator, responder = Node(), Node()
    connect(initiator)
    told = dataclasses.replace(completed("responder"), asked=0.25, answered=0.2)
    responder.tell(told, worked=0.003)
    responder.tell(facts.PathValidated("alpha", SESSION, ENDPOINT, 0.05), after=0.1)
    tree = Tree(initiator.spans() + responder.spans())
    accept = tree[names.ACCEPT]
    assert accept.kind == SERVER
    assert accept.parent_span_id == tree[names.CONNECT].span_id
    assert accept.span_id != tree[names.CONNECT].span_id
    below = [span for span in tree.spans if span.parent_span_id == accept.span_id]
    assert [span.name for span in below] == [names.M1, names.M2, names.M3, names.PATH_VALIDATE]
    assert [seconds(span) for span in below[:3]] == pytest.approx([0.05, 0.2, 0.003])
    assert [attributes(span)[names.OUTCOME] for span in below[:3]] == ["answered", "verified", "completed"]
    for before, after in itertools.pairwise(below[:3]):
        assert before.end_time_unix_nano == after.start_time_unix_nano
    assert accept.start_time_unix_nano == below[0].start_time_unix_nano
    assert accept.end_time_unix_nano == below[2].end_time_unix_nano
    assert attributes(accept)[names.SESSION_ID] == attributes(tree[names.CONNECT])[names.SESSION_ID]


def test_a_responder_that_was_not_told_has_a_trace_of_its_own() -> None:
    node = Node()
    node.tell(completed("responder", attempt=""))
    span, step = sorted(node.spans(), key=lambda each: each.name)
    assert (span.name, step.name) == (names.ACCEPT, names.M3)  # when its M1 came is not known
    assert len(span.trace_id) == 16
    assert not span.parent_span_id
    assert step.parent_span_id == span.span_id
    assert seconds(span) == seconds(step)
    assert attributes(span)[names.SESSION_ID] == SESSION


def test_a_rekey_is_linked_to_the_session_before() -> None:
    node = Node()
    connect(node)
    again, session = "0b" * 16, "6f" * 16
    node.tell(started("rekey", again), after=100)
    node.tell(facts.HandshakeSent("beta", again, "m1", ENDPOINT, 1))
    node.tell(facts.AnswerVerified("beta", again, session, ENDPOINT), after=0.1)
    node.tell(facts.HandshakeSent("beta", again, "m3", ENDPOINT, 1))
    node.tell(completed(attempt=again, session=session), after=0.1)
    spans = node.spans()
    root = Tree(spans, again)[names.REKEY]
    assert attributes(root)[names.SESSION_PREVIOUS_ID] == SESSION
    (link,) = root.links
    assert (link.trace_id.hex(), link.span_id.hex()) == (TRACE, root_span_id(TRACE))
    assert seconds(root) == pytest.approx(0.2)


def test_a_failure_stands_at_the_span_where_it_happened() -> None:
    node = Node(sample=0.0)
    node.tell(started())
    node.tell(sent("m1"))
    node.tell(facts.AnswerRefused("beta", TRACE, "bad_handshake", ENDPOINT), after=1)
    node.tell(facts.IcmpReceived("beta", "port_unreachable", ENDPOINT, 2), after=1)
    node.tell(facts.HandshakeRefused("beta", "mac1", ENDPOINT), after=1)
    node.tell(facts.FragmentsLost("beta", "m2", 1, 3, ENDPOINT, TRACE), after=1)
    node.tell(sent("m1", endpoint=OTHER_ENDPOINT), after=1)
    drops = ("bad_handshake", "policy_mismatch")
    node.tell(facts.HandshakeFailed("beta", Reason.BAD_AUTH, ENDPOINT, "", TRACE, 10.0, drops), after=5)
    tree = Tree(node.spans())
    first, last = tree.all(names.M1)
    root = tree[names.CONNECT]
    assert (first.status.code, last.status.code, root.status.code) == (0, ERROR, ERROR)
    for span in (last, root):
        assert span.status.message == "handshake.bad_auth"
        assert attributes(span)[names.ERROR_TYPE] == attributes(span)[names.REASON] == "handshake.bad_auth"
        assert attributes(span)[names.OUTCOME] == "failed"
    told = [
        (name, found.get(names.DROP) or found.get(names.KIND) or found[names.HAVE]) for name, found in events(first)
    ]
    assert told == [
        (names.DROPPED, "bad_handshake"),
        (names.ICMP, "port_unreachable"),
        (names.REFUSED, "mac1"),
        (names.FRAGMENTS, 1),
    ]
    assert events(last) == [(names.DROPPED, {names.DROP: "policy_mismatch"})]
    assert attributes(root)[names.DROPS] == list(drops)
    assert seconds(root) == pytest.approx(10)


def refused(drop: str, reason: Reason | None) -> facts.AnswerRefused:
    return facts.AnswerRefused("beta", TRACE, drop, ENDPOINT, reason)


def test_a_failed_verification_has_one_span_and_strangers_have_none() -> None:
    node = Node()
    node.tell(started())
    node.tell(sent("m1"))
    node.tell(refused("mac1", None), after=0.1)
    node.tell(refused("decapsulation", Reason.BAD_AUTH), after=0.1, worked=0.003)
    node.tell(sent("m1", endpoint=OTHER_ENDPOINT), after=1)
    for _ in range(100):
        node.tell(refused("mac1", None), after=0.01)
        node.tell(refused("bad_handshake", Reason.BAD_AUTH), worked=0.003)
    node.tell(facts.HandshakeFailed("beta", Reason.BAD_AUTH, ENDPOINT, "", TRACE, 10.0), after=5)
    tree = Tree(node.spans())
    first, _ = tree.all(names.M1)
    verify, m2 = tree[names.VERIFY], tree[names.M2]
    assert (verify.parent_span_id, m2.parent_span_id) == (m2.span_id, first.span_id)
    assert (seconds(verify), seconds(m2)) == pytest.approx((0.003, 0.2))
    for span in (verify, m2):
        assert (span.status.code, span.status.message) == (ERROR, "handshake.bad_auth")
        found = attributes(span)
        assert found[names.ERROR_TYPE] == found[names.REASON] == "handshake.bad_auth"
        assert (found[names.DROP], found[names.OUTCOME]) == ("decapsulation", "refused")
    assert [found[names.DROP] for _, found in events(first)] == ["mac1", "decapsulation"]
    assert first.status.code == 0


def test_an_attempt_that_works_after_a_forged_answer_has_both_verifications() -> None:
    node = Node()
    node.tell(started())
    node.tell(sent("m1"))
    node.tell(refused("bad_handshake", Reason.BAD_AUTH), after=0.1)
    node.tell(verified(), after=0.1, worked=0.002)
    node.tell(sent("m3"))
    node.tell(completed(), after=0.1)
    tree = Tree(node.spans())
    assert [(each.status.code, attributes(each)[names.OUTCOME]) for each in tree.all(names.VERIFY)] == [
        (ERROR, "refused"),
        (0, "verified"),
    ]
    assert names.DROP not in attributes(tree.all(names.VERIFY)[1])
    assert tree[names.CONNECT].status.code == 0


def test_an_abandoned_attempt_is_no_failure() -> None:
    node = Node()
    node.tell(started())
    node.tell(sent("m1"))
    node.tell(facts.HandshakeAbandoned("beta", TRACE, "peer_was_quicker"), after=1)
    tree = Tree(node.spans())
    assert tree.names() == [names.CONNECT, names.M1]
    assert [span.status.code for span in tree.spans] == [0, 0]
    assert attributes(tree[names.CONNECT])[names.WHY] == "peer_was_quicker"
    # what comes late makes no second tree
    node.tell(completed())
    node.tell(sent("m1", 3))
    assert len(node.flush(after=200).sink.spans()) == 2


def test_an_unconfirmed_session_begins_again_in_the_same_attempt() -> None:
    node = Node()
    node.tell(started())
    for session in (SESSION, "6f" * 16):
        node.tell(sent("m1"), after=1)
        node.tell(verified(session), after=1)
        node.tell(sent("m3"), after=1)
    node.tell(completed(session="6f" * 16), after=1)
    tree = Tree(node.spans())
    assert [attributes(span)[names.OUTCOME] for span in tree.all(names.FIRST_DATA)] == ["unanswered", "completed"]
    assert attributes(tree[names.CONNECT])[names.SESSION_ID] == "6f" * 16


@pytest.mark.parametrize("attempt", [f"{n:016x}{n * 0x1FFF_FFFF_FFFF_FFF:016x}" for n in range(1, 100, 7)])
def test_the_share_is_decided_by_the_trace_id(attempt: str) -> None:
    node = Node(sample=0.3)
    node.tell(started(attempt=attempt))
    node.tell(completed(attempt=attempt))
    assert bool(node.spans()) is sampled(bytes.fromhex(attempt), 0.3)
    # the responder does as the initiator decided, who tells it only then
    other = Node(sample=0.0)
    other.tell(completed("responder", attempt))
    assert {span.name for span in other.spans()} == {names.ACCEPT, names.M3}


def test_what_control_forgot_is_ended() -> None:
    node = Node()
    node.tell(started())
    node.tell(sent("m1"))
    node.tell(facts.ChildEnded("lane-0", 8, "SIGSEGV", Reason.CHILD_DIED), after=1)
    assert node.spans() == []
    node.tell(facts.ChildEnded("control", 7, "exit 1", Reason.CHILD_DIED), after=1)
    tree = Tree(node.spans())
    assert [span.status.message for span in tree.spans] == ["node.child_died"] * 2
    assert attributes(tree[names.CONNECT])[names.OUTCOME] == "lost"
    assert seconds(tree[names.CONNECT]) == pytest.approx(2)


def test_no_span_lasts_for_hours() -> None:
    node = Node()
    node.tell(started())
    node.tell(sent("m1"), after=1)
    assert node.flush(after=100).sink.spans() == []
    tree = Tree(node.flush(after=3600).sink.spans())
    assert tree[names.CONNECT].status.message == "node.child_died"
    assert seconds(tree[names.CONNECT]) == pytest.approx(1)


def test_a_new_attempt_to_a_peer_ends_the_former() -> None:
    node = Node()
    node.tell(started())
    node.tell(started(attempt="0c" * 16), after=1)
    (span,) = node.spans()
    assert span.trace_id.hex() == TRACE
    assert attributes(span)[names.OUTCOME] == "lost"


def test_an_attempt_whose_beginning_was_not_seen() -> None:
    node = Node()
    node.tell(verified())
    node.tell(sent("m3"))
    node.tell(completed(), after=1)
    node.tell(facts.PathValidated("beta", SESSION, ENDPOINT, 0.05))
    node.tell(facts.HandshakeFailed("gamma", Reason.NO_REPLY, ENDPOINT, "", "0d" * 16, 90.0))
    spans = node.spans()
    assert attributes(Tree(spans)[names.CONNECT])[names.PARTIAL] is True
    failed = Tree(spans, "0d" * 16)[names.CONNECT]
    assert seconds(failed) == pytest.approx(90)
    assert failed.status.message == "network.no_reply"


def test_open_attempts_are_bounded_in_a_storm() -> None:
    node = Node(kinds=frozenset({"traces"}), sample=0.1)
    for n in range(1, 10_001):
        attempt = f"{n:032x}"
        node.tell(started(attempt=attempt, peer=f"stranger-{n}"))
        node.tell(facts.HandshakeSent(f"stranger-{n}", attempt, "m1", ENDPOINT, 1))
        node.tell(facts.Resolved(f"stranger-{n}", "host", 1, 0.1))
        node.tell(facts.Roamed("beta", attempt, ENDPOINT, False))
        node.tell(facts.HandshakeCompleted("x", attempt, "responder", "S", ENDPOINT))
        if n % 1000 == 0:
            node.signals.flush()
    tracker = node.signals._traces
    assert len(tracker) <= 64 + 512
    assert (
        max(len(known) for known in (tracker._ended, tracker._looked_up, tracker._sessions, tracker._previous)) <= 1024
    )
    assert len(tracker._of_peer) <= 64
    assert node.signals.lost["attempts"] == 10_000 - 64
    node.tell(started())
    for n in range(10_000):
        node.tell(sent("m1", n % 3 + 1))
        node.tell(facts.IcmpReceived("beta", "prohibited", ENDPOINT))
    node.tell(facts.HandshakeFailed("beta", Reason.NO_REPLY, ENDPOINT, "", TRACE))
    tree = Tree(node.spans())
    assert len(tree.spans) <= 65
    assert max(len(span.events) for span in tree.spans) <= 64


def test_close_writes_what_is_open() -> None:
    node = Node(sample=0.0)
    node.tell(started())
    node.tell(sent("m1"))
    node.tell(facts.Roamed("beta", SESSION, ENDPOINT, False))
    node.signals.close()
    assert sorted(span.name for span in node.sink.spans()) == [names.CONNECT, names.M1, names.ROAM]


# -- short traces ----------------------------------------------------------------------------------------------------


def test_the_start_of_a_node() -> None:
    node = Node()
    node.tell(facts.NodeStarted("pqvpn0", 51820, 0.8, {"check": 0.1, "tun": 0.2, "control": 0.5}), process="supervisor")
    spans = node.spans()
    (root,) = [span for span in spans if span.name == names.NODE_START]
    parts = [span for span in spans if span.name == names.NODE_PART]
    assert seconds(root) == pytest.approx(0.8)
    assert [attributes(part)[names.PART] for part in parts] == ["check", "tun", "control"]
    assert [seconds(part) for part in parts] == pytest.approx([0.1, 0.2, 0.5])
    assert parts[0].start_time_unix_nano == root.start_time_unix_nano
    assert parts[-1].end_time_unix_nano == pytest.approx(root.end_time_unix_nano, abs=10)
    assert {part.parent_span_id for part in parts} == {root.span_id}
    assert attributes(root)[names.NETWORK_INTERFACE] == "pqvpn0"
    assert attributes(root)[names.PROCESS] == "supervisor"


def test_a_move_lasts_until_its_path_is_validated() -> None:
    node = Node()
    connect(node)
    node.tell(facts.Roamed("beta", SESSION, OTHER_ENDPOINT, False), after=10)
    node.tell(facts.Roamed("beta", SESSION, OTHER_ENDPOINT, True), after=0.3)
    node.tell(facts.Roamed("beta", SESSION, ENDPOINT, False), after=10)
    done, given_up = [span for span in node.flush(after=40).sink.spans() if span.name == names.ROAM]
    assert seconds(done) == pytest.approx(0.3)
    assert (done.status.code, given_up.status.code) == (0, ERROR)
    assert seconds(given_up) == pytest.approx(30)
    assert done.links[0].trace_id.hex() == TRACE


def test_the_restart_of_a_process() -> None:
    node = Node()
    node.tell(facts.ChildStarted("lane-0", 7, 0), process="supervisor")
    node.tell(facts.ChildEnded("lane-0", 7, "SIGSEGV", Reason.CHILD_DIED), after=5, process="supervisor")
    node.tell(facts.ChildStarted("lane-0", 9, 1), after=0.2, process="supervisor")
    (span,) = node.spans()
    assert span.name == names.CHILD_RESTART
    assert seconds(span) == pytest.approx(0.2)
    assert span.status.message == "node.child_died"
    found = attributes(span)
    assert (found[names.PROCESS_PID], found[names.RESTARTS], found[names.STATUS]) == (9, 1, "SIGSEGV")
    assert found[names.PROCESS] == "lane-0"


def test_a_crash_hangs_below_its_attempt() -> None:
    node = Node(sample=0.0)
    node.tell(started())
    node.tell(
        facts.Crashed(
            "exception",
            "control",
            Reason.INTERNAL,
            "ValueError",
            frames=("pqvpn/a.py:3 in f",),
            attempt=TRACE,
            peer="beta",
        )
    )
    node.tell(completed())
    tree = Tree(node.spans())
    assert tree.shape()[names.CRASH] == names.CONNECT
    found = attributes(tree[names.CRASH])
    assert (found[names.ERROR_TYPE], found[names.EXCEPTION_TYPE]) == ("ValueError", "ValueError")
    assert found[names.EXCEPTION_STACKTRACE] == "a.py:3:f"
    assert tree[names.CRASH].status.message == "node.internal"


def test_other_transitions() -> None:
    node = Node()
    connect(node)
    node.tell(facts.PathMtuChanged("beta", SESSION, 1280, 1432, 1432))
    node.tell(facts.HealthChanged("tun", "failing", "ok", Reason.NO_TUN))
    node.tell(facts.HealthChanged("tun", "ok", "failing"))
    node.tell(facts.ConfigurationRefused(Reason.CONFIG_SYNTAX, 1))
    node.tell(facts.ConfigurationApplied("peer beta", seconds=0.4))
    node.tell(facts.NodeStopped("signal", 0.7))
    node.tell(facts.ResolveFailed("beta", Reason.DNS_FAILED, "no answer", 5.0))
    spans = [span for span in node.spans() if span.trace_id.hex() != TRACE]
    assert [(span.name, span.status.message, round(seconds(span), 3)) for span in spans] == [
        (names.PATH_CHANGE, "", 0),
        (names.HEALTH, "tun.unavailable", 0),
        (names.HEALTH, "", 0),
        (names.CONFIG_RELOAD, "config.syntax", 0),
        (names.CONFIG_RELOAD, "", 0.4),
        (names.NODE_STOP, "", 0.7),
        (names.RESOLVE, "network.dns_failed", 5),
    ]
    found = attributes(spans[0])
    assert (found[names.MTU_BEFORE], found[names.MTU_AFTER]) == (1280, 1432)
    assert spans[0].links[0].span_id.hex() == root_span_id(TRACE)


def test_all_spans_and_events_are_made_and_no_others() -> None:
    node = Node()
    connect(node)
    node.tell(started("rekey", "0e" * 16))
    for kind in FACTS.values():
        fact = example(kind)
        if not isinstance(fact, facts.HandshakeFailed | facts.HandshakeAbandoned | facts.HandshakeCompleted):
            node.tell(fact)
    node.tell(completed("responder", "0f" * 16))
    for fact in (
        facts.BreakerChanged("handshake", "beta", "open", "closed", "rate", Reason.BREAKER_OPEN, "beta"),
        facts.Problem(Reason.INTERNAL, "core", "", "beta"), facts.IcmpReceived("beta", "x", ENDPOINT),
        facts.FragmentsLost("beta", "m1", 1, 2, ENDPOINT), facts.HandshakeRefused("beta", "mac1", ENDPOINT),
        facts.RetryWaiting("resolve", "beta", 1, 0.1, peer="beta"),
        facts.AnswerRefused("beta", "0e" * 16, "mac1", ENDPOINT),
    ):  # fmt: skip
        node.tell(fact)
    node.signals.close()
    spans = node.sink.spans()
    assert {span.name for span in spans} == {span.name for span in names.SPANS}
    assert {event.name for span in spans for event in span.events} == {event.name for event in names.EVENTS}
    used = {key for record in (*spans, *node.sink.logs()) for key in attributes(record)}
    used |= {key for span in spans for event in span.events for key in attributes(event)}
    assert used <= names.ATTRIBUTES


@pytest.mark.parametrize("seed", range(8))
def test_facts_in_any_order_make_whole_trees(seed: int) -> None:
    source = random.Random(seed)
    node = Node(kinds=frozenset({"traces"}))
    attempts = [f"{n:032x}" for n in range(1, 9)]
    for _ in range(1500):
        fact = example(source.choice(list(FACTS.values())))
        given: dict[str, Any] = {}
        for name, choices in (("attempt", attempts), ("session_id", attempts), ("peer", ["beta", "gamma", "x"])):
            if hasattr(fact, name):
                given[name] = source.choice(choices)
        if isinstance(fact, facts.HandshakeSent):
            given |= {"message": source.choice(["m1", "m3"]), "number": source.randint(1, 3)}
        if isinstance(fact, facts.HandshakeCompleted):
            given |= {"role": source.choice(["initiator", "responder"])}
        node.tell(dataclasses.replace(fact, **given), after=source.choice([0.0, 0.01, 3.0, -0.5]))
        if source.random() < 0.02:
            node.flush(after=source.choice([0.0, 40.0, 500.0]))
    node.signals.close()
    assert node.signals.lost == dict.fromkeys(node.signals.lost, 0)
    spans = node.sink.spans()
    ids = {(span.trace_id, span.span_id) for span in spans}
    roots = {(bytes.fromhex(attempt), bytes.fromhex(root_span_id(attempt))) for attempt in attempts}
    assert len(ids) == len(spans) > 500
    for span in spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        assert not span.parent_span_id or (span.trace_id, span.parent_span_id) in ids | roots
        assert seconds(span) <= 3600
