"""From facts to signals: which come out, decoded from what the sink got."""

import itertools
import os
import time
from collections.abc import Iterable
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from signals_rig import ENDPOINT, SESSION, STATUS, TRACE, Node, Sink, attributes, example

from pqvpn import facts
from pqvpn.facts import FACTS, Fact
from pqvpn.reasons import Reason
from pqvpn.telemetry import names
from pqvpn.telemetry.context import root_span_id
from pqvpn.telemetry.redaction import Policy, Redactor
from pqvpn.telemetry.signals import Readings, Settings, Signals, Usage, usage

ROOTS = {
    "node.started": {names.NODE_START, names.NODE_PART},
    "node.stopped": {names.NODE_STOP},
    "config.loaded": {names.CONFIG_LOAD},
    "config.applied": {names.CONFIG_RELOAD},
    "config.refused": {names.CONFIG_RELOAD},
    "path.roamed": {names.ROAM},
    "path.mtu": {names.PATH_CHANGE},
    "health.changed": {names.HEALTH},
    "process.ended": {names.CHILD_RESTART},
    "crash": {names.CRASH},
    "breaker.changed": {names.BREAKER_CHANGE},
    "retry.waiting": {names.RETRIES},
    "retry.ended": {names.RETRIES},
    "resolver.failed": {names.RESOLVE},
    "handshake.started": {names.CONNECT},
    "handshake.sent": {names.CONNECT, names.M1},
    "handshake.cookie": {names.CONNECT, names.M1, names.COOKIE_ROUND},
    "handshake.answered": {names.CONNECT, names.M1, names.M2, names.VERIFY, names.M3},
    "handshake.answer_refused": {names.CONNECT, names.M1, names.M2, names.VERIFY},
    "handshake.failed": {names.CONNECT},
    "handshake.completed": {names.ACCEPT, names.M1, names.M2, names.M3},
}
"""The spans that a fact makes if nothing comes after it."""


@pytest.mark.parametrize("event", sorted(FACTS))
def test_what_each_fact_becomes(event: str) -> None:
    node = Node()
    fact = example(FACTS[event])
    node.tell(fact)
    node.signals.close()
    spans, logs = node.sink.spans(), node.sink.logs()
    assert node.signals.lost == dict.fromkeys(node.signals.lost, 0)
    assert {span.name for span in spans} == ROOTS.get(event, set())
    assert len(logs) == int(fact.told)
    for record in (*spans, *logs):
        found = attributes(record)
        assert set(found) <= names.ATTRIBUTES
        assert "<redacted>" not in str(found), found
        assert found[names.COMPONENT]
        assert found[names.PROCESS]
    for record in logs:
        assert record.event_name == event
        assert record.body.string_value
        assert record.severity_text == (fact.severity if isinstance(fact, facts.LogLine) else fact.level).upper()
        found = attributes(record)
        for field in fact.fields():
            if field not in ("text", "severity"):
                assert (names.FIELDS_OF_EVENT.get((event, field)) or names.FIELDS[field]) in found


def test_a_log_record_belongs_to_its_attempt() -> None:
    node = Node()
    node.tell(example(facts.HandshakeStarted))
    node.tell(example(facts.NodeStopped))
    first, second = node.flush().sink.logs()
    assert (first.trace_id.hex(), first.span_id.hex()) == (TRACE, root_span_id(TRACE))
    assert attributes(first)[names.ATTEMPT] == TRACE
    assert not second.trace_id
    assert not second.span_id
    assert first.time_unix_nano == node.time
    assert first.body.string_value == f"calling beta at {ENDPOINT}"


def test_the_frames_of_an_exception_pass_the_redactor() -> None:
    node = Node()
    fact = facts.LogLine("went wrong", "error", "pqvpn.x", "b.py:6", "ValueError", "a.py:3 run; b.py:6 <module>")
    node.tell(fact)
    (record,) = node.flush().sink.logs()
    found = attributes(record)
    assert found[names.EXCEPTION_TYPE] == "ValueError"
    assert found[names.EXCEPTION_STACKTRACE] == "a.py:3:run\nb.py:6:<module>"
    assert record.body.string_value == "went wrong"


def test_log_records_that_are_not_wanted_are_not_made() -> None:
    sink = Sink()
    asked: list[tuple[str, str, float]] = []

    def wanted(area: str, level: str, now: float) -> bool:
        asked.append((area, level, now))
        return level == "error"

    signals = Signals(Settings("1", "n"), Redactor(Policy()), sink, wanted)
    node = Node()
    node.signals, node.sink = signals, sink
    node.tell(example(facts.HandshakeStarted))
    node.tell(facts.LogLine("broken", "error", "asyncio"))
    signals.flush()
    assert [record.body.string_value for record in sink.logs()] == ["broken"]
    assert asked == [("handshake", "info", 1000.0), ("telemetry", "error", 1000.0)]


# -- the way of a batch ----------------------------------------------------------------------------------------------


def test_the_resource_says_whose_signals_these_are() -> None:
    environment = {
        "OTEL_SERVICE_NAME": "edge",
        "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=vpn,secret.thing=x,deployment.environment.name=a%20b,broken"
        ",service.version=9",
    }
    node = Node(environment=environment)
    node.tell(example(facts.NodeStopped))
    node.signals.collect()
    node.flush()
    for kind, payload, _ in node.sink.batches:
        if kind == "traces":
            resource = ExportTraceServiceRequest.FromString(payload).resource_spans[0].resource
        elif kind == "logs":
            resource = ExportLogsServiceRequest.FromString(payload).resource_logs[0].resource
        else:
            resource = ExportMetricsServiceRequest.FromString(payload).resource_metrics[0].resource
        found = attributes(resource)
        sdk = {name: found.pop(name) for name in list(found) if name.startswith("telemetry.sdk.")}
        assert len(sdk) == 3
        assert found == {
            names.SERVICE_NAME: "edge", names.SERVICE_NAMESPACE: "vpn", names.DEPLOYMENT: "a b",
            names.SERVICE_VERSION: "1.2.3", names.SERVICE_INSTANCE_ID: "node-1",
        }  # fmt: skip


def test_the_environment_of_this_process_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OTEL_SERVICE_NAME": "stray", "OTEL_RESOURCE_ATTRIBUTES": "a=b", "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "0", "OTEL_ATTRIBUTE_COUNT_LIMIT": "1", "OTEL_METRICS_EXEMPLAR_FILTER": "always_on",
        "OTEL_CONFIG_FILE": "/nowhere.yaml",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    node = Node()
    node.tell(example(facts.ConfigurationRefused))
    (span,) = node.spans()
    assert len(attributes(span)) > 3
    payload = next(payload for kind, payload, _ in node.sink.batches if kind == "traces")
    assert b"stray" not in payload


def test_kinds_can_be_turned_off() -> None:
    for environment, expected in (
        ({"OTEL_SDK_DISABLED": "true"}, set()),
        ({"OTEL_TRACES_EXPORTER": "none"}, {"metrics", "logs"}),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}, {"traces"}),
    ):
        node = Node(environment=environment)
        node.tell(example(facts.NodeStopped))
        node.signals.close()
        assert {kind for kind, _, _ in node.sink.batches} == expected


def test_a_sink_that_fails_costs_the_batch_and_is_counted() -> None:
    node = Node()
    node.sink.broken = True
    for _ in range(3):
        node.tell(example(facts.NodeStopped))
    node.flush()
    node.signals.collect()
    lost = node.signals.lost["sink"]
    assert lost > 6
    node.sink.broken = False
    assert node.points(names.LOST)[("sink",)] == lost
    node.tell(example(facts.NodeStopped))
    assert len(node.spans()) == 1


def test_one_batch_of_each_kind_is_handed_over_at_a_time() -> None:
    node = Node()
    for _ in range(5):
        node.tell(example(facts.NodeStopped))
    assert node.sink.batches == []
    node.flush()
    assert [(kind, items) for kind, _, items in node.sink.batches] == [("traces", 5), ("logs", 5)]
    assert node.signals.written == {"traces": 5, "logs": 5, "metrics": 0}
    node.flush()
    assert len(node.sink.batches) == 2


def test_what_waits_is_bounded() -> None:
    node = Node()
    fact = example(facts.NodeStopped)
    for _ in range(5000):
        node.tell(fact)
    node.flush()
    assert [items for _, _, items in node.sink.batches] == [4096, 4096]
    assert node.signals.lost["full"] == 2 * (5000 - 4096)


def test_everything_passes_the_redactor() -> None:
    sink = Sink()
    policy = Policy(addresses="mask", key=b"k" * 32)
    node = Node()
    node.sink, node.signals = sink, Signals(Settings("1", "n", ("beta",)), Redactor(policy), sink)
    secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U="
    node.tell(facts.HandshakeStarted("beta", ENDPOINT, TRACE, "traffic"))
    node.tell(facts.HandshakeFailed("beta", Reason.NO_REPLY, ENDPOINT, f"psk={secret}", TRACE, 1.0))
    node.tell(facts.LogLine(f"Authorization: Bearer {secret} from 192.0.2.7", "error", "x"))
    node.tell(facts.PeerObserved("beta", STATUS | {"suite": secret}))
    node.signals.collect()
    node.signals.flush()
    page, _ = node.signals.prometheus_text()
    for everything in (*(payload for _, payload, _ in sink.batches), page):
        assert secret.encode() not in everything
        assert b"192.0.2.7" not in everything


def test_nothing_comes_out_as_an_exception() -> None:
    node = Node()
    node.tell(facts.HandshakeStarted("beta", ENDPOINT, "not hexadecimal", "traffic"))
    node.tell(facts.NodeObserved({"node": None, "drops": {"x": "y"}}, 0.0))
    node.signals.observe(Readings(0.0))
    node.signals.close()
    assert node.signals.lost["facts"] >= 1


# -- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_of_peers() -> None:
    node = Node()
    node.tell(facts.PeerObserved("beta", STATUS))
    node.tell(facts.PeerObserved("gamma", {"state": "down", "session_id": None, "rtt_ms": None, "loss": None}))
    assert node.points(names.PEER_RTT) == {("beta",): 0.0125}
    assert node.points(names.PEER_LOSS) == {("beta",): 0.25}
    assert node.points(names.PEER_MTU) == {("beta",): 1432}
    assert node.points(names.PEER_AGE) == {("beta",): 7.5}
    io = node.points(names.PEER_IO)
    assert (io["beta", "receive"], io["beta", "transmit"], io["gamma", "receive"]) == (1000, 2000, 0)
    assert node.points(names.PEER_PACKETS)["beta", "transmit"] == 20
    assert node.points(names.PEER_COUNT) == {("up",): 1, ("down",): 1, ("connecting",): 0, ("stale",): 0}
    assert node.points(names.SESSIONS) == {("up", "X-Wing"): 1}
    # a control that was replaced counts from zero again
    node.tell(facts.PeerObserved("beta", STATUS | {"rx_bytes": 300}))
    assert node.points(names.PEER_IO)["beta", "receive"] == 1300
    # what control does not speak of any more is not shown
    node.tell(example(facts.ClockJumped), after=60)
    assert node.points(names.PEER_RTT) == {}
    assert node.points(names.CLOCK_JUMPS) == {(): 1}


def test_metrics_of_health() -> None:
    node = Node()
    node.tell(facts.HealthChanged("peer:beta", "failing", "ok", Reason.NO_REPLY, peer="beta"))
    node.tell(facts.HealthChanged("node.processes:lane-0", "warning", "ok", Reason.CHILD_RESTARTING))
    assert node.points(names.HEALTH_STATE) == {
        ("peer", "beta", "", ""): 0,
        ("peer", "beta", "", "network.no_reply"): 2,
        ("node.processes", "", "lane-0", ""): 0,
        ("node.processes", "", "lane-0", "node.child_restarting"): 1,
    }
    # a reason that is over stays at 0, and all of them are bounded
    node.tell(facts.HealthChanged("peer:beta", "failing", "failing", Reason.STALE, peer="beta"))
    node.tell(facts.HealthChanged("peer:beta", "ok", "failing", peer="beta"))
    of_beta = {key[3]: value for key, value in node.points(names.HEALTH_STATE).items() if key[1] == "beta"}
    assert of_beta == {"": 0, "network.no_reply": 0, "network.stale": 0}
    for reason in Reason:
        node.tell(facts.HealthChanged("peer:beta", "failing", "failing", reason, peer="beta"))
    of_beta = {key[3]: value for key, value in node.points(names.HEALTH_STATE).items() if key[1] == "beta"}
    assert len(of_beta) <= 8
    assert sorted(of_beta.values()) == [0] * (len(of_beta) - 1) + [2]


def test_metrics_of_the_node() -> None:
    node = Node()
    drops = {"replay": 7, "mac1": 2, "made_up": 1}
    node.tell(facts.NodeObserved({"node": {"uptime_seconds": 50.0}, "drops": drops}, 0.003), lost=4)
    node.tell(facts.ChildEnded("lane-0", 7, "SIGSEGV", Reason.CHILD_DIED), after=10)
    assert node.points(names.UPTIME) == {(): 60.0}
    assert node.points(names.PACKET_DROPS) == {("replay",): 7, ("mac1",): 2, ("other",): 1}
    assert node.points(names.REPLAYS) == {(): 7}
    assert node.points(names.LOST)[("link",)] == 4
    assert node.points(names.RESTART_COUNT) == {("lane-0",): 1}
    assert node.points(names.ERROR_COUNT) == {("retry", "node.child_died"): 1}
    assert node.points(names.FACTS_SEEN) == {("node",): 1, ("process",): 1}
    assert node.points(names.LAG)[()].count == 1


def test_metrics_of_handshakes() -> None:
    node = Node()
    for number, trigger in enumerate(("start", "rekey", "traffic", "rekey"), 1):
        attempt = f"{number:032x}"
        node.tell(facts.HandshakeStarted("beta", ENDPOINT, attempt, trigger))
        node.tell(facts.HandshakeSent("beta", attempt, "m1", ENDPOINT, 1))
        if number < 3:
            node.tell(facts.HandshakeCompleted("beta", SESSION, "initiator", "S", ENDPOINT, 0.03, attempt))
        elif number == 3:
            node.tell(facts.HandshakeFailed("beta", Reason.NO_REPLY, ENDPOINT, "", attempt, 90.0))
        else:
            node.tell(facts.HandshakeAbandoned("beta", attempt, "peer_was_quicker"))
    node.tell(facts.HandshakeCompleted("beta", SESSION, "responder", "S", ENDPOINT))
    duration = node.points(names.HANDSHAKE_SECONDS)  # first, for exemplars are told once
    assert node.points(names.HANDSHAKES) == {
        ("initiator", "completed", ""): 2,
        ("initiator", "failed", "network.no_reply"): 1,
        ("initiator", "abandoned", "peer_was_quicker"): 1,
        ("responder", "completed", ""): 1,
    }
    assert node.points(names.REKEYS) == {("completed",): 1, ("abandoned",): 1}
    assert node.points(names.MESSAGES) == {("m1",): 4}
    assert set(duration) == {("start", "completed"), ("rekey", "completed"), ("traffic", "failed")}
    point = duration["start", "completed"]
    assert tuple(point.explicit_bounds) == names.HANDSHAKE_BUCKETS
    assert list(point.bucket_counts).index(1) == names.HANDSHAKE_BUCKETS.index(0.05)
    (exemplar,) = point.exemplars
    assert exemplar.trace_id.hex() == f"{1:032x}"
    assert exemplar.span_id.hex() == root_span_id(f"{1:032x}")
    assert not exemplar.filtered_attributes


def test_metrics_of_readings() -> None:
    node = Node()
    first = Readings(
        10.0,
        {"lane-0": Usage(1.0, 1 << 20, 1 << 19, 12), "control": Usage(2.0, 1 << 20)},
        {"lane-0": {"bursts": 5, "faults": 0, "pid": 99}},
        {"spool": 3},
        {"spool.age": 2, "link": 99},
    )
    node.signals.observe(first)
    assert node.points(names.LANE_BUSY) == {}
    node.signals.observe(
        Readings(20.0, {"lane-0": Usage(6.0, 1 << 21, None, 13)}, {"lane-0": {"bursts": 2, "pid": 100}})
    )
    assert node.points(names.LANE_BUSY) == {("lane-0",): 0.5}
    assert node.points(names.LANE_OPERATIONS) == {("lane-0", "bursts"): 7, ("lane-0", "faults"): 0}
    assert node.points(names.CPU_TIME) == {("lane-0",): 6.0, ("control",): 2.0}
    assert node.points(names.MEMORY) == {("lane-0",): 1 << 21}
    assert node.points(names.MEMORY_PSS) == {}
    assert node.points(names.DESCRIPTORS) == {("lane-0",): 13}
    assert node.points(names.LOST)[("spool.age",)] == 2
    assert node.points(names.LOST)[("link",)] == 0
    node.signals.observe(first)
    assert node.points(names.QUEUE_DEPTH) == {("spool",): 3}


def test_usage_of_a_process() -> None:
    mine = usage(os.getpid())
    assert mine is not None
    assert mine.cpu > 0
    assert mine.resident > 1 << 20
    assert mine.descriptors
    assert mine.pss is None or 0 < mine.pss <= mine.resident * 2
    assert usage(2**22 + 1) is None


def test_cardinality_is_bounded_by_the_configuration() -> None:
    node = Node(peers=tuple(f"peer-{n}" for n in range(300)), kinds=frozenset({"metrics"}))
    for n in range(10_000):
        name = f"stranger-{n}"
        node.tell(facts.PeerObserved(name, STATUS), process="lane-0")
        node.tell(facts.PeerObserved(name, STATUS))
        node.tell(facts.HandshakeStarted(name, ENDPOINT, f"{n + 1:032x}", name))
        node.tell(facts.HandshakeCompleted(name, SESSION, name, name, ENDPOINT, 0.1, f"{n + 1:032x}"))
    node.signals.collect()
    assert node.points(names.PEER_RTT) == {}
    for metric in node.sink.metrics().values():
        data = getattr(metric, metric.WhichOneof("data"))
        assert len(data.data_points) <= 2 * 256, metric.name
        assert b"stranger" not in metric.SerializeToString(), metric.name
        assert SESSION.encode() not in metric.SerializeToString(), metric.name


def test_peers_added_by_a_reload_are_shown() -> None:
    node = Node()
    node.tell(facts.PeerObserved("delta", STATUS))
    assert node.points(names.PEER_RTT) == {("delta",): 0.0125}
    for n in range(1000):
        node.tell(facts.PeerObserved(f"new-{n}", STATUS))
    assert len(node.points(names.PEER_RTT)) == 254  # with the two that are configured 256
    node.signals.peers(("delta",))
    node.tell(example(facts.ClockJumped), after=60)
    assert set(node.points(names.PEER_IO)) == {("delta", "receive"), ("delta", "transmit")}


def test_the_metrics_page() -> None:
    node = Node()
    node.tell(facts.PeerObserved("beta", STATUS))
    text, kind = node.signals.prometheus_text("text/html, */*")
    assert kind.startswith("text/plain; version=0.0.4")
    assert b'pqvpn_peer_io_bytes_total{network_io_direction="receive",pqvpn_peer="beta"} 1000.0' in text
    assert b"otel_scope" not in text
    text, kind = node.signals.prometheus_text(
        "application/openmetrics-text; version=1.0.0; escaping=evil\r\n,text/plain"
    )
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert text.endswith(b"# EOF\n")
    assert b'service_instance_id="node-1"' in text


def test_all_instruments_exist_and_no_others() -> None:
    node = Node()
    for kind in FACTS.values():
        node.tell(example(kind))
    node.tell(facts.PeerObserved("beta", STATUS))
    node.tell(facts.NodeObserved({"node": {"uptime_seconds": 1.0, "lanes_running": 1}, "drops": {"replay": 1}}, 0.0))
    node.tell(facts.HandshakeStarted("beta", ENDPOINT, "b" * 32, "rekey"))
    node.tell(facts.HandshakeCompleted("beta", SESSION, "initiator", "S", ENDPOINT, 0.1, "b" * 32))
    for now in (1.0, 2.0):
        node.signals.observe(
            Readings(now, {"lane-0": Usage(now, 1, 1, 1)}, {"lane-0": {"bursts": 1}}, {"spool": 1}, {"x": 1})
        )
    node.signals.collect()
    made = node.sink.metrics()
    assert sorted(made) == sorted(each.name for each in names.INSTRUMENTS)
    for each in names.INSTRUMENTS:
        assert made[each.name].unit == each.unit
        assert made[each.name].description == each.description


# -- costs -----------------------------------------------------------------------------------------------------------


def _attempts(node: Node, count: int) -> Iterable[Fact]:
    for number in itertools.islice(itertools.count(1), count):
        attempt, session = f"{number:032x}", f"{number:032x}"
        yield facts.HandshakeStarted("beta", ENDPOINT, attempt, "traffic")
        yield facts.HandshakeSent("beta", attempt, "m1", ENDPOINT, 1)
        yield facts.AnswerVerified("beta", attempt, session, ENDPOINT, True)
        yield facts.HandshakeSent("beta", attempt, "m3", ENDPOINT, 1)
        yield facts.HandshakeCompleted("beta", session, "initiator", "X-Wing, AES-256-GCM", ENDPOINT, 0.03, attempt)
        yield facts.PathValidated("beta", session, ENDPOINT, 0.01)


def test_costs_stay_small(record_property: Any) -> None:
    node = Node()
    given = list(_attempts(node, 200))
    began = time.process_time()
    for fact in given:
        node.tell(fact, after=0.001)
    recorded = time.process_time()
    node.flush()
    flushed = time.process_time()
    spans, logs = len(node.sink.spans()), len(node.sink.logs())
    assert (spans, logs) == (200 * 7, 200 * 6)
    sizes = {kind: len(payload) / items for kind, payload, items in node.sink.batches}
    per_fact = (recorded - began) / len(given) * 1e6
    per_record = (flushed - recorded) / (spans + logs) * 1e6
    observed = facts.PeerObserved("beta", STATUS)
    began = time.process_time()
    for _ in range(1000):
        node.tell(observed)
    per_reading = (time.process_time() - began) / 1000 * 1e6
    began = time.process_time()
    for _ in range(20):
        node.signals.collect()
    per_collection = (time.process_time() - began) / 20 * 1e3
    told = f"{per_fact:.0f} us a fact, {per_record:.0f} us a record handed over, {per_reading:.0f} us a reading, "
    told += (
        f"{per_collection:.1f} ms a collection; bytes: {sizes['traces']:.0f} a span, {sizes['logs']:.0f} a log record"
    )
    record_property("costs", told)
    print(told)
    assert per_fact < 2000  # ten times what is usual
    assert per_record < 3000
    assert sizes["traces"] < 1000
    assert sizes["logs"] < 1000
