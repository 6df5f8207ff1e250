"""A bundle: what somebody else needs to see why a node does not work, in one archive, without secrets.

Owns what goes in, in which order and how much at most, and the format (docs/diag.md). Everything passes the redactor
once more, whatever passed it before. Nothing is sent anywhere. Reading a bundle is `opened.py`.
"""

import gzip
import io
import json
import os
import tarfile
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pqvpn import __version__
from pqvpn.config import paths
from pqvpn.diag import kernel, report, words
from pqvpn.diag.gather import Places
from pqvpn.diag.inquiry import Inquiry
from pqvpn.diag.knowledge import Knowledge, mapping
from pqvpn.telemetry.redaction import REDACTED, Redactor
from pqvpn.telemetry.redaction.allowed import ALLOWED

FORMAT = "pqvpn.bundle"
VERSION = 1
MANIFEST, SUMMARY, KNOWLEDGE = "manifest.json", "SUMMARY.txt", "knowledge.json"
SPANS, LOGS, METRICS = "spool/spans.jsonl", "spool/logs.jsonl", "spool/metrics.jsonl"
RECORDS_MOST = 100_000
_FILE_MOST = 24 << 20
_LOG_FILES_MOST = 8
_LOG_MOST = 4 << 20
_ABOUT = {
    SUMMARY: "this summary",
    "config.json": "the configuration, without the files it names",
    "health.json": "health items",
    "status.json": "what pqvpn status says, or said last",
    KNOWLEDGE: "what verdicts are made of, for pqvpn diag open",
    SPANS: "the spool's traces, decoded",
    LOGS: "the spool's log records, decoded",
    METRICS: "the spool's metrics, decoded",
    "kernel.json": "interfaces, addresses, routes, rules, sysctls",
    MANIFEST: "what is in here",
}
_OWN = """
attributes resource events links histogram exemplars bounds buckets sum count min max delta scope body time_ns
start_ns end_ns trace_id span_id parent_id description name kind unit value status severity event exists up missing
conflict rising running answers configuration_errors clock_synchronised
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a bundle."""

    name: str
    content: bytes

    @property
    def about(self) -> str:
        """What it is, in words."""
        return _ABOUT.get(self.name, "the log, its newest end" if self.name.startswith("log/") else "")


class Collector:
    """Puts a bundle's files together. `redactor` has the policy and the pseudonyms of the installation."""

    def __init__(self, inquiry: Inquiry, places: Places, redactor: Redactor) -> None:
        self._inquiry = inquiry
        self._places = places
        self._redactor = Redactor(redactor.policy, ALLOWED | set(_OWN.split()) | _own_fields() | _config_fields())

    def collect(self) -> list[Entry]:
        """All files, the summary first."""
        known = self._inquiry.known
        files = [
            self._json("config.json", self._configuration()),
            self._json("health.json", [self._redactor.fields(item) for item in known.health]),
            self._json("status.json", self._redactor.fields(known.status)),
            self._json(KNOWLEDGE, self._knowledge(known)),
            self._lines(LOGS, self._inquiry.records.logs(limit=RECORDS_MOST)),
            self._lines(SPANS, self._inquiry.records.spans(limit=RECORDS_MOST)),
            self._lines(METRICS, self._inquiry.records.metrics(limit=RECORDS_MOST)),
            *self._log_files(),
            self._json("kernel.json", self._kernel()),
        ]
        manifest = {
            "format": FORMAT, "version": VERSION, "pqvpn": __version__, "node": self._redactor.text(known.name),
            "created": words.rfc3339(known.now), "created_unix": known.now,
            "addresses": self._redactor.policy.addresses,
            "files": {entry.name: len(entry.content) for entry in files},
        }  # fmt: skip
        summary = Entry(SUMMARY, self._summary(files).encode())
        return [summary, self._json(MANIFEST, manifest), *files]

    def _summary(self, files: Sequence[Entry]) -> str:
        known = self._inquiry.known
        found = self._inquiry.diagnosis
        told = [
            f"pqvpn diag bundle of node {known.name}, made {words.rfc3339(known.now)} by pqvpn {__version__}",
            f"Addresses in it: {self._redactor.policy.addresses}. Read it with: pqvpn diag open FILE",
            "",
            report.plain(report.lines(found, everything=True)),
            "",
            "In this bundle:",
            *(f"  {row}" for row in words.columns([(e.name, words.size(len(e.content)), e.about) for e in files])),
        ]
        return "\n".join(self._redactor.text(line) for text in told for line in text.split("\n")) + "\n"

    def _knowledge(self, known: Knowledge) -> dict[str, Any]:
        told = {each.name: getattr(known, each.name) for each in fields(known) if each.name != "events"}
        return self._redactor.fields(told)

    def _configuration(self) -> dict[str, Any]:
        """The file's settings as they stand there; names that are no setting lose their values."""
        if self._places.configuration is None:
            return {}
        try:
            document = tomllib.loads(self._places.configuration.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            return {"unreadable": self._redactor.text(f"{type(error).__name__}")}
        return {self._redactor.text(str(k)): self._section(k, v) for k, v in list(document.items())[:64]}

    def _section(self, name: str, value: Any) -> Any:
        if name == "peer" and isinstance(value, Mapping):
            return {
                self._redactor.text(str(k)): self._redactor.fields(mapping(v)) for k, v in list(value.items())[:1024]
            }
        return self._redactor.fields(value) if isinstance(value, Mapping) else REDACTED

    def _log_files(self) -> list[Entry]:
        folder = self._places.state / paths.LOG_FOLDER
        found: list[Entry] = []
        with suppress(OSError):
            newest = sorted(folder.iterdir(), key=lambda path: path.name)
            growing = [path for path in newest if path.name == "pqvpn.log"]
            aside = [path for path in newest if path.name != "pqvpn.log"][-(_LOG_FILES_MOST - 1) :]
            for path in (*aside, *growing):
                name = f"log/{path.name.removesuffix('.gz')}"
                found.append(Entry(name, self._log_lines(_tail(path))))
        return [entry for entry in found if entry.content]

    def _log_lines(self, data: bytes) -> bytes:
        lines = []
        for line in data.decode("utf-8", "replace").splitlines():
            try:
                record = json.loads(line)
                lines.append(
                    json.dumps(self._redactor.fields(record)) if isinstance(record, dict) else self._redactor.text(line)
                )
            except (ValueError, RecursionError):
                lines.append(self._redactor.text(line))
        return "".join(f"{line}\n" for line in lines).encode()

    def _kernel(self) -> dict[str, Any]:
        said = {
            "machine": kernel.machine(),
            "sysctls": kernel.sysctls(),
            "netlink": kernel.netlink(),
            "tables": kernel.tables(),
        }
        said |= {"clock_synchronised": self._inquiry.known.clock_synchronised}
        return {name: self._texts(value) for name, value in said.items()}

    def _texts(self, value: Any) -> Any:
        """Every text in it through the redactor, line by line; the keys are ours."""
        if isinstance(value, str):
            return "\n".join(self._redactor.text(line) for line in value.split("\n"))
        if isinstance(value, Mapping):
            return {key: self._texts(each) for key, each in value.items()}
        return [self._texts(each) for each in value] if isinstance(value, list) else value

    def _lines(self, name: str, records: Iterable[Any]) -> Entry:
        """Records as JSON, one a line, the newest that fit."""
        lines: list[bytes] = []
        room = _FILE_MOST
        for record in reversed(list(records)):
            line = json.dumps(self._redactor.body(record), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            room -= len(line)
            if room < 0:
                break
            lines.append(line)
        return Entry(name, b"".join(reversed(lines)))

    def _json(self, name: str, value: Any) -> Entry:
        return Entry(name, (json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n").encode())


def _own_fields() -> frozenset[str]:
    return frozenset(each.name for each in fields(Knowledge))


def _config_fields() -> frozenset[str]:
    from pqvpn.config.schema import SECTIONS, PeerSection, Section

    sections: tuple[type[Section], ...] = (*SECTIONS.values(), PeerSection)
    return frozenset(name for section in sections for name in section.model_fields)


def _tail(path: Path) -> bytes:
    """The end of a log file, whole lines, unpacked when it is packed."""
    try:
        if path.is_symlink() or not path.is_file():
            return b""
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                return packed.read(_LOG_MOST)
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOG_MOST))
            data = file.read(_LOG_MOST)
        return data if size <= _LOG_MOST else data.partition(b"\n")[2]
    except (OSError, EOFError):
        return b""


def default_name(known: Knowledge) -> str:
    """`pqvpn-alpha-20261125T031200Z.tar.gz`."""
    name = "".join(c for c in known.name if c.isalnum() or c in "-_") or "node"
    return f"pqvpn-{name}-{words.utc(known.now).strftime('%Y%m%dT%H%M%SZ')}.tar.gz"


def write(entries: Sequence[Entry], place: Path) -> int:
    """Write the archive, 0600, never over another file; answers its size. Raises OSError."""
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.USTAR_FORMAT) as archive:
                for entry in entries:
                    about = tarfile.TarInfo(entry.name)
                    about.size, about.mode, about.mtime = len(entry.content), 0o600, int(time.time())
                    archive.addfile(about, io.BytesIO(entry.content))
            file.flush()
            os.fsync(file.fileno())
            return file.tell()
    except BaseException:
        with suppress(OSError):
            place.unlink()
        raise
