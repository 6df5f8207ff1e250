"""Breakers and retries as signals: an event on the attempt they are about or a trace of their own, a metric, a log line."""

from signals_rig import TRACE, Node, attributes
from test_telemetry_signals_traces import Tree, completed, events, sent, started, verified

from pqvpn import facts
from pqvpn.reasons import Reason
from pqvpn.telemetry import names

ROOM = facts.RetryWaiting("dns", "beta.example.net", 1, 0.5, Reason.DNS_FAILED, "beta")


def changed(state: str, before: str, cause: str, attempt: str = TRACE, **more: str) -> facts.BreakerChanged:
    found = {"breaker": "peer", "key": "beta", "peer": "beta"} | more
    reason = Reason.NO_REPLY if state == "open" else None
    return facts.BreakerChanged(state=state, before=before, cause=cause, reason=reason, attempt=attempt, **found)


def test_what_happens_in_an_attempt_is_an_event_on_its_spans() -> None:
    node = Node()
    node.tell(started())
    node.tell(changed("half_open", "open", "waited"))
    node.tell(sent("m1"))
    node.tell(changed("open", "closed", "consecutive", breaker="path", key="beta/192.0.2.7:1"))
    node.tell(verified())
    node.tell(sent("m3"))
    node.tell(changed("closed", "half_open", "probes_passed"))
    node.tell(facts.RetryEnded("peer", "beta", 3, "recovered", None, "beta", TRACE))
    node.tell(completed())
    tree = Tree(node.spans())
    assert (names.BREAKER_CHANGED, "half_open") in [(n, a.get(names.STATE)) for n, a in events(tree[names.CONNECT])]
    (event,) = events(tree[names.M1])
    assert (event[0], event[1][names.BREAKER], event[1][names.STATE]) == (names.BREAKER_CHANGED, "path", "open")
    assert [name for name, _ in events(tree[names.FIRST_DATA])] == [names.BREAKER_CHANGED, names.RETRY]
    assert {span.name for span in node.sink.spans()} & {names.BREAKER_CHANGE, names.RETRIES} == set()


def test_the_failure_that_opens_a_breaker_stands_on_the_attempt_that_failed() -> None:
    node = Node()
    node.tell(started())
    node.tell(sent("m1"))
    node.tell(changed("open", "closed", "consecutive"), after=90.0)
    node.tell(facts.RetryWaiting("peer", "beta", 3, 5.0, Reason.NO_REPLY, "beta", TRACE))
    node.tell(facts.HandshakeFailed("beta", Reason.NO_REPLY, attempt=TRACE, seconds=90.0))
    tree = Tree(node.spans())
    (opened, waits) = events(tree[names.M1])
    assert (opened[0], opened[1][names.REASON]) == (names.BREAKER_CHANGED, "network.no_reply")
    assert (waits[0], waits[1][names.SECONDS], waits[1][names.NUMBER]) == (names.RETRY, 5.0, 3)


def test_a_series_of_tries_is_one_trace_with_its_waits_and_its_breaker() -> None:
    node = Node()
    for number in range(1, 4):
        node.tell(facts.RetryWaiting("dns", "h", number, 0.5, Reason.DNS_FAILED), after=1.0)
    node.tell(changed("open", "closed", "consecutive", "", breaker="dns", key="h", peer=""), after=1.0)
    node.tell(facts.RetryEnded("dns", "h", 3, "recovered"), after=6.0)
    (span,) = node.spans()
    assert span.name == names.RETRIES
    assert [name for name, _ in events(span)] == [names.RETRY] * 3 + [names.BREAKER_CHANGED, names.RETRY]
    found = attributes(span)
    assert (found[names.OUTCOME], found[names.OPERATION], span.status.message) == (
        "recovered", "dns", "network.dns_failed",
    )  # fmt: skip


def test_a_series_without_end_is_bounded() -> None:
    node = Node()
    for number in range(1000):
        node.tell(facts.RetryWaiting("otlp", "", number, 60.0, Reason.NO_REPLY), after=60.0)
        node.flush()
    spans = node.spans()
    assert 10 < len(spans) < 30  # one an hour
    assert max(len(span.events) for span in spans) <= 33


def test_what_belongs_to_no_attempt_is_a_trace_of_its_own() -> None:
    node = Node()
    node.tell(changed("open", "closed", "held_open", "", breaker="netlink", key="", peer=""))
    (span,) = node.spans()
    assert span.name == names.BREAKER_CHANGE
    assert [name for name, _ in events(span)] == [names.BREAKER_CHANGED]


def test_metrics_count_and_lines_say_it() -> None:
    node = Node()
    node.tell(changed("open", "closed", "consecutive", ""))
    node.tell(changed("open", "closed", "rate", "", breaker="dns", key="a", peer=""))
    node.tell(changed("open", "closed", "rate", "", breaker="dns", key="b", peer=""))
    node.tell(changed("closed", "half_open", "probes_passed", "", breaker="dns", key="b", peer=""))
    node.tell(changed("open", "closed", "rate", "", breaker="forged", key="x", peer=""))
    node.tell(ROOM)
    node.tell(facts.RetryEnded("dns", "beta.example.net", 1, "recovered", None, "beta"))
    node.signals.collect()
    assert node.points(names.BREAKER_CHANGES)["peer", "open", "consecutive"] == 1
    assert node.points(names.BREAKER_CHANGES)["dns", "closed", "probes_passed"] == 1
    assert node.points(names.BREAKERS_OPEN)[("peer",)] == 1
    assert node.points(names.BREAKERS_OPEN)[("dns",)] == 1
    assert ("forged",) not in node.points(names.BREAKERS_OPEN)
    assert node.points(names.RETRY_COUNT)["dns", "waiting", "network.dns_failed"] == 1
    assert node.points(names.RETRY_COUNT)["dns", "recovered", ""] == 1
    lines = [record.body.string_value for record in node.flush().sink.logs()]
    assert lines[0] == "breaker peer beta is open, was closed: consecutive"
    assert any(line.startswith("dns") and "is tried again in 0.5 s" in line for line in lines)
