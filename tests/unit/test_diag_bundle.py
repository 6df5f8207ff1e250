"""Bundles: the same answers on another machine, nothing secret inside, and no harm from one that means it."""

import gzip
import io
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from diag_cases import NOW, SESSION, event, item, knowledge, lost, peer
from test_diag_words import attempt, point

from pqvpn.diag import bundle, history, net, netlines, report, series, traces
from pqvpn.diag.gather import Places
from pqvpn.diag.inquiry import Inquiry
from pqvpn.diag.opened import Opened
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason
from pqvpn.telemetry import names
from pqvpn.telemetry.redaction import Policy, Redactor
from pqvpn.telemetry.store import LogRecord

SECRET = "kR7mQz1XvT9pLw3sYb8NcHfJd2GaUe5iOo6BtVx4ZnM="
EVENTS = lost(
    event(4, "network.icmp", "beta", "warning", kind="port_unreachable", count=12, endpoint="192.0.2.2:51820")
)


class Recorded:
    """A store that holds what it is given."""

    def __init__(self, logs: list[LogRecord], more: list[Any] | None = None) -> None:
        self._logs, self._metrics = logs, more or []
        self.notes: tuple[str, ...] = ()

    def logs(self, *, session_id: str = "", since_ns: int = 0, limit: int = 0, **_: Any) -> list[LogRecord]:
        return [r for r in self._logs if session_id in ("", r.attributes.get(names.SESSION_ID))]

    def spans(self, *, trace_id: str = "", session_id: str = "", **_: Any) -> list[Any]:
        return [s for s in attempt() if not session_id or s.attributes.get(names.SESSION_ID) == session_id]

    def metrics(self, name: str = "", **_: Any) -> list[Any]:
        return [each for each in self._metrics if name in ("", each.name)]


def log(each: Any) -> LogRecord:
    attributes = {names.FIELDS[k]: v for k, v in each.fields.items() if v != "" and k != "endpoint"}
    if "endpoint" in each.fields:
        host, _, port = each.fields["endpoint"].rpartition(":")
        attributes |= {names.NETWORK_PEER_ADDRESS: host, names.NETWORK_PEER_PORT: int(port)}
    return LogRecord(int(each.time * 1e9), each.severity, "", each.name, attributes, each.trace_id, "", {}, "pqvpn")


def asked(**more: Any) -> Inquiry:
    silent = peer(state="connecting", reason=Reason.NO_REPLY)
    metrics = [point("pqvpn.peer.rtt", "gauge", ago, 0.01 * ago, **{names.PEER: "beta"}) for ago in (3000, 2900, 2800)]
    found = Recorded([log(each) for each in EVENTS], metrics)
    told = {
        "peers": (silent, peer("gamma")),
        "rising": {"no_session": 3.0},
        "health": (item("peer", Reason.NO_REPLY, key="beta"),),
    }
    return Inquiry(found, lambda: knowledge(*EVENTS, **(told | more)))


def made(tmp_path: Path, policy: str = "keep", config: str = "", **more: Any) -> Path:
    file = tmp_path / "pqvpn.toml"
    file.write_text(config)
    (tmp_path / "state" / "log").mkdir(parents=True, exist_ok=True)
    redactor = Redactor(Policy(policy, b"k" * 32))  # type: ignore[arg-type]
    entries = bundle.Collector(asked(**more), Places(None, tmp_path / "state", file), redactor).collect()
    place = tmp_path / "b.tar.gz"
    assert bundle.write(entries, place) == place.stat().st_size
    return place


def answers(inquiry: Inquiry) -> dict[str, Any]:
    """Everything that the subcommands would say."""
    known = inquiry.known
    found = inquiry.peer("beta")
    document = report.document(inquiry.diagnosis)
    document["knowledge"].pop("bundle")
    _, events, spans = inquiry.session(SESSION[:6])
    return {
        "diag": document,
        "text": report.plain(report.lines(inquiry.diagnosis)[:8]),
        "peer": history.document(history.history(known, found, inquiry.metrics(since=86400), 86400)),
        "trace": traces.document(inquiry.trace("4f2a")),
        "session": [[report.event(each) for each in events], len(spans)],
        "logs": [report.event(each) for each in inquiry.logs()],
        "metrics": series.document(series.series(inquiry.metrics())),
        "net": net.document(known, []),
    }


def test_a_bundle_gives_the_same_answers(tmp_path: Path) -> None:
    opened = Opened(made(tmp_path))
    assert opened.notes == []
    there, here = answers(opened.inquiry()), answers(asked())
    for what, told in here.items():
        assert json.loads(json.dumps(there[what])) == json.loads(json.dumps(told)), what


def test_with_pseudonyms_the_verdicts_are_the_same(tmp_path: Path) -> None:
    there = Opened(made(tmp_path, "pseudonym")).inquiry().diagnosis
    here = asked().diagnosis
    assert [(v.subject, v.reason, v.since, v.symptoms) for v in there.verdicts] == [
        (v.subject, v.reason, v.since, v.symptoms) for v in here.verdicts
    ]


def test_the_summary_comes_first_and_can_be_read(tmp_path: Path) -> None:
    with tarfile.open(made(tmp_path)) as archive:
        first = archive.getmembers()[0]
        assert first.name == "SUMMARY.txt"
        text = archive.extractfile(first).read().decode()  # type: ignore[union-attr]
    assert "PROBLEM  beta: its machine answers, but nothing listens on its UDP port" in text
    assert "spool/logs.jsonl" in text


def test_nobody_else_can_read_it_and_nothing_is_overwritten(tmp_path: Path) -> None:
    place = made(tmp_path)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        bundle.write([], place)


@pytest.mark.parametrize("policy", ["pseudonym", "mask"])
def test_nothing_secret_is_inside(tmp_path: Path, policy: str) -> None:
    folder = tmp_path / "state" / "log"
    folder.mkdir(parents=True)
    (folder / "pqvpn.log").write_text(
        f'{{"message": "psk {SECRET}", "endpoint": "192.0.2.2:51820"}}\nbroken {SECRET} 192.0.2.2\n'
    )
    with gzip.open(folder / "pqvpn.log-20270101T000000.000000Z.gz", "wb") as packed:
        packed.write(f"{SECRET} 192.0.2.2\n".encode())
    config = (
        f'[node]\nname = "alpha"\npassword = "{SECRET}"\n[peer.beta]\nendpoint = "192.0.2.2:51820"\ncard = "{SECRET}"\n'
    )
    notes = (f"token {SECRET} of 192.0.2.2",)
    place = made(tmp_path, policy, config, notes=notes, configuration_errors=notes)
    with tarfile.open(place) as archive:
        for member in archive:
            content = archive.extractfile(member).read()  # type: ignore[union-attr]
            assert SECRET.encode() not in content, member.name
            assert b"192.0.2.2" not in content, member.name
    with tarfile.open(place) as archive:
        names_inside = set(archive.getnames())
    assert {"log/pqvpn.log", "log/pqvpn.log-20270101T000000.000000Z", "config.json", "kernel.json"} <= names_inside


def test_addresses_of_this_machine_are_not_inside(tmp_path: Path) -> None:
    """Neither as text nor as the hex digits of /proc/net."""
    with tarfile.open(made(tmp_path, "mask")) as archive:
        content = archive.extractfile("kernel.json").read()  # type: ignore[union-attr]
    routes = Path("/proc/net/route").read_text().split()
    own = {
        word for word in routes if len(word) == 8 and int(word, 16) not in (0, 0xFFFFFFFF) and not word.startswith("00")
    }
    assert not [word for word in own if word.encode() in content]


# -- hostile ones --------------------------------------------------------------------------------------------------------


def archive(tmp_path: Path, *members: tuple[tarfile.TarInfo | str, bytes], mode: str = "w:gz") -> Path:
    place = tmp_path / "hostile.tar.gz"
    with tarfile.open(place, mode) as made_:  # type: ignore[call-overload]
        for about, content in members:
            member = tarfile.TarInfo(about) if isinstance(about, str) else about
            if isinstance(about, str):
                member.size = len(content)
            made_.addfile(member, io.BytesIO(content))
    return place


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


MANIFEST = json.dumps({"format": "pqvpn.bundle", "version": 1, "created_unix": NOW}).encode()


def test_what_is_no_plain_file_is_left_out(tmp_path: Path) -> None:
    place = archive(
        tmp_path, ("manifest.json", MANIFEST), ("../../evil", b"x"), ("/etc/evil", b"x"),
        special("knowledge.json", tarfile.SYMTYPE, "/etc/passwd"), special("spool/logs.jsonl", tarfile.LNKTYPE, "/etc/passwd"),
        special("spool/spans.jsonl", tarfile.CHRTYPE), special("SUMMARY.txt", tarfile.FIFOTYPE),
        special("spool", tarfile.DIRTYPE),
    )  # fmt: skip
    before = sorted(path.name for path in tmp_path.rglob("*"))
    opened = Opened(place)
    assert set(opened.files) == {"manifest.json"}
    assert len(opened.notes) == 7
    assert report.document(opened.inquiry().diagnosis)["verdicts"] == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    place = tmp_path / "bomb.tar.gz"
    member = tarfile.TarInfo("spool/logs.jsonl")
    member.size = 8 << 30
    with gzip.open(place, "wb", compresslevel=1) as packed:
        packed.write(_manifest_member())
        packed.write(member.tobuf())
        for _ in range(210):
            packed.write(bytes(1 << 20))
    opened = Opened(place)
    assert any("torn or too large" in note for note in opened.notes)


def test_a_header_as_large_as_the_archive(tmp_path: Path) -> None:
    """A pax header says that it is gigabytes long: nothing of it is read into memory."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 4 << 30
    place = tmp_path / "pax.tar.gz"
    with gzip.open(place, "wb") as packed:
        packed.write(_manifest_member() + member.tobuf() + bytes(1024))
    assert any("torn or too large" in note for note in Opened(place).notes)


def _manifest_member() -> bytes:
    member = tarfile.TarInfo("manifest.json")
    member.size = len(MANIFEST)
    return member.tobuf() + MANIFEST + bytes(-len(MANIFEST) % 512)


def test_too_many_members(tmp_path: Path) -> None:
    place = archive(tmp_path, ("manifest.json", MANIFEST), *((f"f{n}", b"") for n in range(300)))
    assert any("more than 200 members" in note for note in Opened(place).notes)


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", gzip.compress(b""), gzip.compress(b"no tar" * 200), os.urandom(4096)],
    ids=["nothing", "no archive", "empty", "no tar", "random"],  # the contents differ from run to run
)
def test_what_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "x"
    place.write_bytes(content)
    with pytest.raises(PqvpnError) as raised:
        Opened(place)
    assert raised.value.reason is Reason.BUNDLE_UNREADABLE


def test_a_foreign_archive_and_none(tmp_path: Path) -> None:
    for place in (archive(tmp_path, ("README", b"hello")), tmp_path / "missing", tmp_path):
        with pytest.raises(PqvpnError):
            Opened(place)


def test_a_torn_bundle_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = made(tmp_path).read_bytes()
    read = 0
    for size in (*range(0, len(whole), max(1, len(whole) // 60)), *range(len(whole) - 40, len(whole))):
        place = tmp_path / "torn.tar.gz"
        place.write_bytes(whole[:size])
        try:
            opened = Opened(place)
        except PqvpnError:
            continue
        report.document(opened.inquiry().diagnosis)
        assert opened.notes
        read += 1
    assert read > 5


@pytest.mark.parametrize("version", [2, 0, "1", None, [1]])
def test_another_version(tmp_path: Path, version: Any) -> None:
    manifest = json.dumps({"format": "pqvpn.bundle", "version": version, "new": 1}).encode()
    opened = Opened(archive(tmp_path, ("manifest.json", manifest), ("knowledge.json", b'{"now": 5, "later": []}')))
    assert any("this version reads 1" in note for note in opened.notes)
    assert opened.inquiry().known.now == 5


NONSENSE = (
    b"",
    b"null",
    b"3",
    b"[]",
    b'"x"',
    b"{",
    b'{"a": {"b": NaN}}',
    b"[" * 100_000,
    b"\xff\xfe",
    b'{"now": 1e999}',
    b'{"time_ns": -1}',
)
FIELDS = """
now at source running answers status health interface export rising stopped configuration_errors notes time_ns start_ns
end_ns trace_id span_id name events attributes resource histogram value severity body event created_unix
"""


@pytest.mark.parametrize(
    "file", ["manifest.json", "knowledge.json", "spool/logs.jsonl", "spool/spans.jsonl", "spool/metrics.jsonl"]
)
def test_nonsense_in_every_file(tmp_path: Path, file: str) -> None:
    values = ("x", -1, 1 << 80, 1e308, None, True, [], {}, [[1]], {"a": {"b": [1]}})
    contents = [*NONSENSE, *(json.dumps(dict.fromkeys(FIELDS.split(), value)).encode() for value in values)]
    for content in contents:
        whole = {"manifest.json": MANIFEST, "knowledge.json": b'{"now": 1800000000}'} | {file: content}
        inquiry = Opened(archive(tmp_path, *whole.items())).inquiry()
        json.dumps(report.document(inquiry.diagnosis))
        traces.lines(inquiry.records.spans(), NOW)
        series.overview(series.series(inquiry.records.metrics()))
        inquiry.logs()
        netlines.lines(net.document(inquiry.known, []))
        for each in inquiry.known.peers:
            history.lines(history.history(inquiry.known, each, (), 60.0), NOW)
