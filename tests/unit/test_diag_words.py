"""How diagnoses, histories, traces and metrics look on 80 columns, and that nothing in a store can steer a terminal."""

import pytest
from diag_cases import NOW, SESSION, event, item, knowledge, lost, peer

from pqvpn.diag import explanations, history, net, netlines, plots, report, series, traces, words
from pqvpn.diag.nearest import by_prefix, nearest
from pqvpn.diag.rules import diagnose
from pqvpn.drops import DropReason
from pqvpn.facts import FACTS
from pqvpn.reasons import Reason
from pqvpn.telemetry import names
from pqvpn.telemetry.store import EventRecord, Histogram, MetricRecord, SpanRecord

SILENT = peer(state="connecting", reason=Reason.NO_REPLY)
CLOSED = event(4, "network.icmp", "beta", "warning", kind="port_unreachable", count=12, endpoint="192.0.2.2:51820")


def text(*events, **more) -> str:
    return report.plain(report.lines(diagnose(knowledge(*events, **more))))


def test_a_verdict() -> None:
    told = text(*lost(CLOSED), peers=(SILENT, peer("gamma"), peer("delta", "down", Reason.IDLE)))
    assert (
        told
        == """\
PROBLEM  beta: its machine answers, but nothing listens on its UDP port
  since  07:23:10 UTC, 36 m 50 s ago
  seen   the network says "port unreachable" for 192.0.2.2:51820 (12 in the last
         minute; ICMP, not authenticated)
         2 handshakes begun without success, the last 40 s ago to
         192.0.2.2:51820
         the last authenticated packet came 37 m ago
  do     start beta's node (pqvpn up there), or correct the port of its endpoint
         here
  code   network.port_closed (pqvpn explain network.port_closed); explains
         network.no_reply

Asked the running node: 3 peers, 1 up, 1 idle, 1 connecting; checked control,
processes, self-tests, interface and 6 recorded facts. 1 symptom not shown
(--all)."""
    )


def test_a_healthy_node_is_one_sentence() -> None:
    told = text(
        peers=(peer(), peer("gamma", "down", Reason.IDLE)), health=(item("tun.interface", Reason.TUN_GONE, "ok"),)
    )
    assert told == (
        "alpha is healthy: 2 peers, 1 up, 1 idle; checked control, processes, self-tests,\n"
        "interface and 1 health item (asked the running node)."
    )


def test_a_dead_node_says_how_old_its_knowledge_is() -> None:
    told = text(
        event(3600, "node.started", ""), peers=(SILENT,), running=False, answers=False, source="recorded", at=NOW - 500,
        notes=("the control socket is gone",),
    )  # fmt: skip
    assert (
        told
        == """\
PROBLEM  alpha: does not run, and it did not end on purpose: it was killed, or
         the machine went down
  since  07:51:40 UTC, 8 m 20 s ago
  seen   it never said that it stops; its last sign of life is of 07:51:40
         0 of 1 peer had a session then
  do     start it: pqvpn up; look for the killer in the kernel's log (dmesg: out
         of memory)
  code   node.killed (pqvpn explain node.killed); explains beta:
         network.no_reply

From what the node recorded, 8 m 20 s ago: 1 peer, connecting; checked
processes, self-tests, interface and 1 recorded fact. 1 symptom not shown
(--all).
unread:  the control socket is gone"""
    )


def test_notes_are_a_line_each() -> None:
    assert text(event(90, "clock.jumped", "", seconds=7200.0), peers=(peer(),)).splitlines()[2:] == [
        "note     alpha: the wall clock jumped; no key, session or handshake depends on",
        "         it, only the times of records [host.clock_jumped]: it went ahead by 2 h",
        "         1 m 30 s ago",
    ]


def test_the_document() -> None:
    told = report.document(diagnose(knowledge(*lost(CLOSED), peers=(SILENT,))))
    assert told["schema"] == "pqvpn.diag/1"
    assert told["healthy"] is False
    assert told["verdicts"][0] == {
        "subject": {"kind": "peer", "name": "beta"},
        "severity": "problem",
        "code": "network.port_closed",
        "text": "beta's machine answers, but nothing listens on its UDP port",
        "since": "2027-01-15T07:23:10.000Z",
        "evidence": [
            'the network says "port unreachable" for 192.0.2.2:51820 (12 in the last minute; ICMP, not authenticated)',
            "2 handshakes begun without success, the last 40 s ago to 192.0.2.2:51820",
            "the last authenticated packet came 37 m ago",
        ],
        "remedy": "start beta's node (pqvpn up there), or correct the port of its endpoint here",
        "who": "peer",
        "symptoms": ["network.no_reply"],
    }
    assert [each["code"] for each in told["symptoms"]] == ["network.no_reply"]
    assert told["knowledge"]["source"] == "live"


# -- a peer's history --------------------------------------------------------------------------------------------------


def _history(seconds: float = 86400.0) -> history.History:
    known = knowledge(*lost(CLOSED), peers=(SILENT,))
    rtt = [
        MetricRecord(
            "pqvpn.peer.rtt",
            "s",
            "",
            "gauge",
            int((NOW - ago) * 1e9),
            0,
            {names.PEER: "beta"},
            ago / 1e6,
            None,
            (),
            {},
            "",
        )
        for ago in range(2300, 9000, 60)
    ]
    return history.history(known, known.peers[0], rtt, seconds)


def test_a_history() -> None:
    told = report.plain(history.lines(_history(), NOW))
    assert (
        told
        == """\
beta: connecting [network.no_reply]
  endpoint 192.0.2.2:51820, path MTU 1432, rtt 12.5 ms, loss 0.0 %

  state     ██████████████████████████████████████████████████▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅
  failed                                                      x               x
  rtt       █████▇▇▇▇▇▇▇▇▇▇▆▆▆▆▆▆▆▆▆▅▅▅▅▅▅▅▅▅▅▄▄▄▄▄▄▄▄▄▄▃▃▃▃▃▃
  UTC       05:30:00                                                   08:00:00
            up █  stale ▅  connecting ▃  down ▁

Attempts to connect, newest last (pqvpn diag trace ID shows one):
  07:23:20  aaaaaaaa  initiator  silence  failed      90 s  network.no_reply
  07:59:20  bbbbbbbb  initiator  traffic  unfinished  -

Sessions, newest last:
  05:30:00  0c61abab  initiator  in use  2 h 30 m

What was recorded, newest last:
  05:30:00  handshake.completed role=initiator suite=s endpoint=192.0.2.2:51820
  07:23:10  peer.state state=stale before=up seconds=6800 reason=network.stale
  07:23:20  handshake.started endpoint=192.0.2.2:51820 trigger=silence
  07:24:50  handshake.failed reason=network.no_reply seconds=90
  07:59:20  handshake.started endpoint=192.0.2.2:51820 trigger=traffic
  07:59:56  network.icmp kind=port_unreachable count=12 endpoint=192.0.2.2:51820"""
    )


def test_history_lines_fit() -> None:
    for width in (60, 80, 120):
        assert all(len(line.text) <= max(width, 80) for line in history.lines(_history(), NOW, width))


def test_history_as_a_document() -> None:
    told = history.document(_history())
    assert [(each["outcome"], each["trigger"]) for each in told["attempts"]] == [
        ("failed", "silence"),
        ("unfinished", "traffic"),
    ]
    assert told["sessions"][0]["id"] == SESSION
    assert [each["state"] for each in told["states"]] == ["up", "stale"]


def test_a_peer_of_which_nothing_was_recorded() -> None:
    known = knowledge(peers=(peer(),))
    told = report.plain(history.lines(history.history(known, known.peers[0], (), 3600.0), NOW))
    assert told.startswith("beta: up\n")


# -- traces ------------------------------------------------------------------------------------------------------------


def span(name: str, start: float, end: float, parent: str = "", **more) -> SpanRecord:
    at = int(NOW * 1e9)
    told = {
        "trace_id": "4f2a" * 8, "span_id": name[-8:], "parent_id": parent, "name": f"pqvpn.{name}", "kind": "internal",
        "start_ns": at + int(start * 1e9), "end_ns": at + int(end * 1e9), "status": "unset", "description": "", "attributes": {},
        "events": (), "links": (), "resource": {names.SERVICE_INSTANCE_ID: "node-1"}, "scope": "pqvpn",
    }  # fmt: skip
    return SpanRecord(**(told | more))


def attempt() -> list[SpanRecord]:
    sent = EventRecord("pqvpn.sent", int((NOW + 1.0) * 1e9), {names.NUMBER: 2})
    return [
        span("connect", 0, 2, attributes={names.PEER: "beta", names.SESSION_ID: SESSION, names.OUTCOME: "completed"}),
        span("handshake.m1", 0, 1.5, "connect", attributes={names.NETWORK_PEER_ADDRESS: "192.0.2.2"}, events=(sent,)),
        span("handshake.m3", 1.5, 1.6, "connect"),
        span("accept", 1.2, 1.8, "connect", resource={names.SERVICE_INSTANCE_ID: "node-2"}),
        span("path.validate", 1.9, 2, "accept", status="error", description="network.no_reply"),
    ]


def test_a_trace() -> None:
    assert (
        report.plain(traces.lines(attempt(), NOW + 60))
        == """\
trace 4f2a4f2a4f2a4f2a4f2a4f2a4f2a4f2a  08:00:00 UTC, 1 m ago
  pqvpn.connect with beta; session 0c61abababababababababababababab; completed
  spans marked @ are of the other end (node-2)

connect                                  2 s ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━
├─ handshake.m1                        1.5 s ━━━━━━━━━━━━━━━━━━━━━━━━━━
│  endpoint=192.0.2.2
│  · +1 s sent number=2
├─ @accept                            600 ms                     ━━━━━━━━━━━
│  └─ path.validate                   100 ms                                 ━━
│     network.no_reply
└─ handshake.m3                       100 ms                          ━━"""
    )


@pytest.mark.parametrize("parents", [("a", "b", "c"), ("b", "c", "a"), ("a", "a", "a"), ("x", "a", "b")])
def test_a_trace_with_loops_is_drawn(parents: tuple[str, str, str]) -> None:
    spans = [span(name, 0, -1, parent, span_id=name) for name, parent in zip("abc", parents, strict=True)]
    assert len(traces.tree(spans)) == 3
    assert traces.lines(spans, NOW)


def test_a_trace_as_a_document() -> None:
    told = traces.document(attempt())
    assert [(each["name"], each["depth"], each["other_end"]) for each in told["spans"]] == [
        ("pqvpn.connect", 0, None), ("pqvpn.handshake.m1", 1, None), ("pqvpn.accept", 1, "node-2"),
        ("pqvpn.path.validate", 2, None), ("pqvpn.handshake.m3", 1, None),
    ]  # fmt: skip


# -- metrics -----------------------------------------------------------------------------------------------------------


def point(
    name: str, kind: str, ago: float, value: float | None, histogram: Histogram | None = None, **attributes
) -> MetricRecord:
    return MetricRecord(
        name,
        "By" if "io" in name else "1",
        "what it is",
        kind,
        int((NOW - ago) * 1e9),
        0,
        attributes,
        value,
        histogram,
        (),
        {},
        "",
    )


def test_metrics() -> None:
    growth = ((0, 0), (10, 10240), (20, 20480), (30, 1024))
    found = series.series([
        *(point("pqvpn.peer.io", "counter", 60 - n, v, **{names.PEER: "beta"}) for n, v in growth),
        point("pqvpn.peers", "updown", 1, 3), point("pqvpn.lag", "histogram", 1, None, Histogram(4, 2.0, (1.0,), (4, 0))),
    ])  # fmt: skip
    io = next(each for each in found if each.name == "pqvpn.peer.io")
    assert [value for _, value in io.points] == [1024.0, 1024.0, 102.4]  # a counter that fell began anew
    assert report.plain(series.overview(found)).splitlines() == [
        "pqvpn.lag      0.5      what it is",
        "pqvpn.peer.io  1.0 KiB  what it is",
        "pqvpn.peers    3        what it is",
    ]
    assert "peer=beta" in report.plain(series.details([io]))
    assert "total 1.0 KiB" in report.plain(series.details([io]))


def test_sparklines_and_bars() -> None:
    assert plots.sparkline([0, 1, 2, None, 7], 10) == "▁▂▃ █"
    assert plots.sparkline([None], 5) == " "
    assert len(plots.sparkline(list(range(1000)), 24)) == 24
    assert plots.bar(0.0, 0.5, 10) == "━━━━━     "
    assert plots.bar(1.0, 1.0, 10) == "         ━"
    assert plots.bar(-5.0, 9.0, 4) == "━━━━"
    assert plots.marks([0, 1, 1, 10], 0, 10, 10, "x") == "x2       x"
    assert plots.sparkline([1, 2], 4).translate(plots.ASCII).isascii()


# -- words -------------------------------------------------------------------------------------------------------------


def test_nothing_can_steer_the_terminal() -> None:
    told = text(
        event(4, "resolver.failed", detail="\x1b[2Jgone\r\n\u202eevil", reason="network.dns_failed"), peers=(SILENT,)
    )
    assert "\x1b" not in told
    assert "\r" not in told
    assert "\u202e" not in told


@pytest.mark.parametrize(
    ("value", "told"), [(0.0000005, "0 us"), (0.0123, "12.3 ms"), (1.25, "1.25 s"), (200.0, "3 m 20 s")]
)
def test_durations(value: float, told: str) -> None:
    assert words.duration(value) == told


def test_times_that_no_calendar_knows() -> None:
    assert words.rfc3339(1e30) == "1970-01-01T00:00:00.000Z"
    assert words.moment("2027-01-15T08:00:00.000Z") == NOW
    assert words.moment("soon") is None
    assert words.moment(None) is None


def test_what_was_meant() -> None:
    assert nearest("bta", ["alpha", "beta", "gamma"])[0] == "beta"
    assert nearest("zzz", ["alpha", "beta"]) == ["alpha", "beta"]
    assert nearest("x", []) == []
    assert by_prefix("0c", ["0c61", "0d", "0c61", ""]) == ["0c61"]
    assert by_prefix("0C61", ["0c6100", "0c61ff"]) == ["0c6100", "0c61ff"]
    assert by_prefix("", ["a"]) == []


# -- explain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [*(r.code for r in Reason), *(d.name for d in DropReason), *FACTS])
def test_everything_is_explained(word: str) -> None:
    found = explanations.find(word)
    assert found
    assert all(each.text and each.text != "a discarded packet" for each in found)
    assert all(len(line.text) <= 80 for line in explanations.lines(found))


def test_an_unknown_word() -> None:
    assert explanations.find("port_closed") == []
    assert explanations.near("port_closed") == ["network.port_closed"]
    assert explanations.near("network.portclosed")[0] == "network.port_closed"


def test_the_list_of_words_fits() -> None:
    assert all(len(line.text) <= 80 for line in explanations.listing(explanations.every()))


# -- net ---------------------------------------------------------------------------------------------------------------


def test_net() -> None:
    known = knowledge(
        *lost(CLOSED),
        event(30, "path.roamed", "gamma", session_id=SESSION, validated=True),
        peers=(SILENT, peer("gamma")),
    )
    told = net.document(known, [net.Name("beta", "beta.example", (), 0.1, "Name or service not known")])
    shown = report.plain(netlines.lines(told))
    assert "the network answers port unreachable (192.0.2.2:51820)" in shown
    assert "datagrams get through both ways" in shown
    assert "moved once within a day" in shown
    assert "is not in the protocol" in shown
    assert "beta.example: Name or service not known in 100 ms" in shown
    assert "look-ups of 1 configured name;" in shown


def test_names_are_looked_up_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host == "bad":
            raise OSError(-2, "Name or service not known")
        return [(0, 0, 0, "", ("192.0.2.7", 0))]

    monkeypatch.setattr(net.socket, "getaddrinfo", answer)
    good, bad = net.look_up([("a", "good"), ("b", "bad")])
    assert good.addresses == ("192.0.2.7",)
    assert (bad.addresses, bad.error) == ((), "Name or service not known")
