"""What `pqvpn diag` reads back: every field, every filter, and what damaged and hostile spools cost."""

import resource
import shutil
import threading
import time
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from pqvpn.telemetry.spool import Kind, Spool, layout
from pqvpn.telemetry.store import EventRecord, ExemplarRecord, Histogram, LinkRecord, Store

MIB = 1 << 20
S = 10**9
TRACE, SPAN, PARENT = "0a" * 16, "0b" * 8, "0c" * 8
SESSION = "5e" * 16


def pairs(**values: object) -> list[KeyValue]:
    return [KeyValue(key=key.replace("__", "."), value=any_value(value)) for key, value in values.items()]


def any_value(value: object) -> AnyValue:
    found = AnyValue()
    match value:
        case bool():
            found.bool_value = value
        case int():
            found.int_value = value
        case float():
            found.double_value = value
        case bytes():
            found.bytes_value = value
        case list():
            found.array_value.values.extend(map(any_value, value))
        case dict():
            found.kvlist_value.values.extend(pairs(**value))
        case _:
            found.string_value = str(value)
    return found


def trace_request(*spans: dict) -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(pairs(service__name="pqvpn"))
    scope = group.scope_spans.add()
    scope.scope.name = "pqvpn.signals"
    for n, given in enumerate(spans):
        span = scope.spans.add(
            trace_id=bytes.fromhex(given.pop("trace", TRACE)),
            span_id=bytes.fromhex(SPAN),
            name=given.pop("name", "pqvpn.connect"),
            start_time_unix_nano=given.pop("start", n) * S,
            end_time_unix_nano=(n + 1) * S,
        )
        span.attributes.extend(pairs(**given))
    return request.SerializeToString()


def log_request(*logs: dict) -> bytes:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    scope = group.scope_logs.add()
    for n, given in enumerate(logs):
        log = scope.log_records.add(
            time_unix_nano=given.pop("at", n) * S, severity_number=given.pop("severity", 9), event_name="peer.state"
        )
        log.body.string_value = given.pop("body", f"line {n}")
        log.trace_id = bytes.fromhex(given.pop("trace", ""))
        log.attributes.extend(pairs(**given))
    return request.SerializeToString()


@pytest.fixture
def spool(tmp_path: Path):
    with Spool(tmp_path / "spool", 16 * MIB, 86400.0) as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_span_comes_back_with_all_it_had(spool: Spool, store: Store) -> None:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(pairs(service__name="pqvpn", n=7))
    scope = group.scope_spans.add()
    scope.scope.name = "pqvpn.signals"
    span = scope.spans.add(
        trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(SPAN), parent_span_id=bytes.fromhex(PARENT), name="x", kind=2,
        start_time_unix_nano=5, end_time_unix_nano=5 + S,
    )  # fmt: skip
    span.status.code, span.status.message = 2, "network.no_reply"
    values = {"t": "text", "b": True, "i": -5, "f": 0.5, "y": b"\1\xff", "l": ["a", 1], "d": {"k": ["v"]}}
    span.attributes.extend(pairs(**values))
    event = span.events.add(name="sent", time_unix_nano=6)
    event.attributes.extend(pairs(n=1))
    span.links.add(trace_id=bytes(16), span_id=bytes(8)).attributes.extend(pairs(why="reload"))
    spool.append(Kind.TRACES, request.SerializeToString(), 1)
    (found,) = store.spans()
    assert (found.trace_id, found.span_id, found.parent_id) == (TRACE, SPAN, PARENT)
    assert (found.name, found.kind, found.start_ns, found.end_ns, found.seconds) == ("x", "server", 5, 5 + S, 1.0)
    assert (found.status, found.description) == ("error", "network.no_reply")
    assert found.attributes == {
        "t": "text", "b": True, "i": -5, "f": 0.5, "y": "01ff", "l": ("a", 1), "d": {"k": ("v",)},
    }  # fmt: skip
    assert found.events == (EventRecord("sent", 6, {"n": 1}),)
    assert found.links == (LinkRecord("00" * 16, "00" * 8, {"why": "reload"}),)
    assert (found.resource, found.scope) == ({"service.name": "pqvpn", "n": 7}, "pqvpn.signals")
    assert store.notes == ()


def test_data_points_come_back_of_each_kind(spool: Spool, store: Store) -> None:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    gauge = scope.metrics.add(name="rtt", unit="s", description="round trip")
    point = gauge.gauge.data_points.add(time_unix_nano=3, as_double=0.25)
    point.attributes.extend(pairs(pqvpn__peer="beta"))
    exemplar = point.exemplars.add(time_unix_nano=2, as_double=0.5, trace_id=bytes.fromhex(TRACE))
    exemplar.span_id = bytes.fromhex(SPAN)
    counter = scope.metrics.add(name="io", unit="By")
    counter.sum.is_monotonic = True
    counter.sum.aggregation_temporality = 2
    counter.sum.data_points.add(time_unix_nano=4, start_time_unix_nano=1, as_int=7)
    updown = scope.metrics.add(name="peers")
    updown.sum.aggregation_temporality = 1
    updown.sum.data_points.add(time_unix_nano=5, as_int=-1)
    histogram = scope.metrics.add(name="took").histogram
    histogram.data_points.add(
        time_unix_nano=6, count=3, sum=1.5, explicit_bounds=[0.1, 1], bucket_counts=[1, 1, 1], min=0.0, max=1.2
    )
    spool.append(Kind.METRICS, request.SerializeToString(), 4)
    rtt, io, peers, took = store.metrics()
    assert (rtt.name, rtt.unit, rtt.description, rtt.kind, rtt.value) == ("rtt", "s", "round trip", "gauge", 0.25)
    assert rtt.exemplars == (ExemplarRecord(2, 0.5, TRACE, SPAN),)
    assert (io.kind, io.value, io.start_ns, io.delta) == ("counter", 7, 1, False)
    assert (peers.kind, peers.value, peers.delta) == ("updown", -1, True)
    assert took.value is None
    assert took.histogram == Histogram(3, 1.5, (0.1, 1.0), (1, 1, 1), 0.0, 1.2)
    assert [m.name for m in store.metrics(peer="beta")] == ["rtt"]
    assert [m.name for m in store.metrics("io")] == ["io"]


def test_spans_are_found_by_each_filter(spool: Spool, store: Store) -> None:
    other = "ff" * 16
    for n in range(4):
        spool.append(Kind.TRACES, trace_request({"start": n, "pqvpn__peer": f"peer{n}"}), 1)
    spool.append(
        Kind.TRACES, trace_request({"start": 9, "trace": other, "session__id": SESSION, "pqvpn__component": "path"}), 1
    )
    starts = lambda **by: [s.start_ns // S for s in store.spans(**by)]  # noqa: E731
    assert starts() == [0, 1, 2, 3, 9]
    assert starts(newest_first=True) == [9, 3, 2, 1, 0]
    assert starts(limit=2) == [3, 9]
    assert starts(since_ns=2 * S, until_ns=3 * S) == [2, 3]
    assert starts(peer="peer1") == [1]
    assert starts(session_id=SESSION) == starts(component="path") == starts(trace_id=other) == [9]
    assert starts(session_id="nobody") == starts(trace_id="zz") == starts(name="pqvpn.conn") == []
    assert len(starts(name="pqvpn.connect")) == 5
    assert starts(limit=0) == []


def test_logs_are_found_by_level_and_time(spool: Spool, store: Store) -> None:
    lines = ({"severity": s, "at": n, "pqvpn__peer": "beta"} for n, s in enumerate((5, 9, 13, 17, 21)))
    spool.append(Kind.LOGS, log_request(*lines), 5)
    assert [e.severity for e in store.logs()] == ["debug", "info", "warning", "error", "critical"]
    assert [e.severity for e in store.logs(level="warning")] == ["warning", "error", "critical"]
    assert [e.body for e in store.logs(since_ns=3 * S)] == ["line 3", "line 4"]
    assert store.logs()[0].event == "peer.state"
    assert len(store.logs(peer="beta", limit=3)) == 3
    assert store.logs(peer="gamma") == []


def test_the_newest_are_kept_across_segments(tmp_path: Path, store: Store) -> None:
    with Spool(tmp_path / "spool", MIB, 86400.0) as spool:
        for n in range(40):
            spool.append(Kind.LOGS, log_request({"at": n, "body": "x" * 20_000}), 1)
    assert len(list((tmp_path / "spool").glob("*.seg"))) > 5
    assert [e.time_ns // S for e in store.logs(limit=5)] == [35, 36, 37, 38, 39]
    extent = store.extent()
    assert extent.segments > 5
    assert 0 < extent.oldest_ns <= extent.newest_ns <= time.time_ns()


def test_an_empty_place_gives_nothing(store: Store) -> None:
    assert store.spans() == store.logs() == store.metrics() == []
    assert store.extent().newest_ns == 0
    assert store.notes == ()


def test_a_live_and_a_copied_folder_read_alike(spool: Spool, store: Store, tmp_path: Path) -> None:
    spool.append(Kind.TRACES, trace_request({}), 1)
    shutil.copytree(tmp_path / "spool", tmp_path / "other" / "spool")
    assert store.spans() == Store(tmp_path / "other").spans()
    assert len(store.spans()) == 1


def test_follow_tells_what_is_written_from_now_on(spool: Spool, store: Store) -> None:
    spool.append(Kind.LOGS, log_request({"body": "before"}), 1)
    stop = threading.Event()
    seen: list[str] = []
    met = threading.Event()

    def follow() -> None:
        for entry in store.follow(poll=0.01, stop=stop, level="info"):
            seen.append(entry.body)
            met.set()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        for _ in range(100):
            spool.append(Kind.LOGS, log_request({"body": "now"}, {"body": "quiet", "severity": 5}), 2)
            if met.wait(0.05):
                break
        assert met.is_set()
    finally:
        stop.set()
        thread.join()
    assert set(seen) == {"now"}


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = field(5, field(1, content))
    return content


def wrapped(item: bytes) -> bytes:
    return field(1, field(2, field(2, item)))


HOSTILE = {
    "garbage": b"\xff" * 1000,
    "cut": trace_request({})[:-3],
    "huge length": b"\x0a" + varint(1 << 60) + b"x",
    "endless number": b"\x08" + b"\xff" * 50,
    "group": b"\x0b" * 100,
    "deep": wrapped(field(9, field(1, b"k") + field(2, nested(5000)))),
    "many false spans": field(1, field(2, field(2, bytes(24)) * 200_000)),
    "a million empty attributes": wrapped(field(9, b"") * 1_000_000),
    "a million empty events": wrapped(field(11, b"") * 100_000),
    "no text": wrapped(field(5, b"\xff\xfe" * 20)),
    "numbers in places of messages": b"\x08\x01\x10\x02\x18\x03" * 1000,
    "metrics of points": field(1, field(2, field(2, field(1, b"m") + field(5, field(1, b"") * 500_000)))),
    "metric of many": field(1, field(2, field(2, field(5, b"") * 500_000))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_payloads_cost_bounded_memory_and_raise_nothing(tmp_path: Path, store: Store, name: str) -> None:
    with Spool(tmp_path / "spool", 64 * MIB, 86400.0) as spool:
        for kind in Kind:
            spool.append(kind, HOSTILE[name], 1)
        spool.append(Kind.TRACES, trace_request({"name": "good"}), 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    assert [s.name for s in store.spans(name="good")] == ["good"]
    assert len(store.spans(limit=100)) <= 100
    store.logs(limit=100)
    store.metrics(limit=100)
    assert time.process_time() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    if name in ("garbage", "cut", "huge length", "endless number", "group", "deep", "a million empty attributes"):
        assert store.notes


def test_deep_values_are_cut(spool: Spool, store: Store) -> None:
    spool.append(Kind.TRACES, wrapped(field(9, field(1, b"k") + field(2, nested(20)))), 1)
    (found,) = store.spans()
    assert "..." in str(found.attributes["k"])


def test_a_segment_of_millions_of_tiny_records_is_bounded(tmp_path: Path, store: Store) -> None:
    (tmp_path / "spool").mkdir()
    record = layout.encode_record(layout.new_record(Kind.TRACES, b"", 0, 1))
    segment = tmp_path / "spool" / "0000000000000001.seg"
    segment.write_bytes(layout.encode_header(0) + record * 400_000)
    began = time.process_time()
    assert store.spans() == []
    assert time.process_time() - began < 20
    assert any("more than can be searched" in note for note in store.notes)


def test_a_segment_of_false_marks_is_bounded(tmp_path: Path, store: Store) -> None:
    (tmp_path / "spool").mkdir()
    head = layout.encode_record(layout.Record(layout.RecordId(bytes(16)), 1, 0, 0, b""))
    lying = head[:4] + (8 * MIB).to_bytes(4, "little") + head[8:]
    good = layout.encode_record(layout.new_record(Kind.TRACES, trace_request({}), 1, 1))
    segment = tmp_path / "spool" / "0000000000000001.seg"
    segment.write_bytes(layout.encode_header(0) + lying * 300_000 + good)
    began = time.process_time()
    store.spans()
    assert time.process_time() - began < 20
    assert store.notes
