"""Every way out of a node, made of its real objects with a redactor of the test's choice, and driven with facts.

Owns what a sink is here: facts go in, all bytes that would leave the process come out. With `Unredacted` instead of the
redactor the canaries must come out, or the search would prove nothing.
"""

import asyncio
import dataclasses
import io
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from canaries import contents

from pqvpn.control import operations
from pqvpn.diag import bundle as bundles
from pqvpn.diag import gather
from pqvpn.diag.gather import Places
from pqvpn.diag.inquiry import Inquiry
from pqvpn.errors import PqvpnError
from pqvpn.facts import FACTS, Crashed, Fact
from pqvpn.observer.http import Application
from pqvpn.observer.knowledge import Knowledge
from pqvpn.observer.start import Node
from pqvpn.reasons import Reason
from pqvpn.resilience.health import Finding, Item, State
from pqvpn.telemetry import envelope, jsonlog, last
from pqvpn.telemetry.crashes.recorder import CrashRecorder, Naming
from pqvpn.telemetry.envelope import Envelope
from pqvpn.telemetry.logfiles.files import LogFiles
from pqvpn.telemetry.logfiles.journal import Journal
from pqvpn.telemetry.logfiles.levels import Levels
from pqvpn.telemetry.redaction import Policy, Redactor
from pqvpn.telemetry.signals import Settings, Signals
from pqvpn.telemetry.spool import Kind, Spool
from pqvpn.telemetry.store import Store

Told = list[tuple[Envelope, Fact]]
Sink = Callable[[Redactor, list[str], Path], dict[str, bytes]]
"""(redactor, texts with a canary each, a folder of its own) to bytes by name."""

_MIB = 1 << 20
_PROCESS = "control"


class Unredacted:
    """A redactor that was forgotten: everything passes."""

    policy = Policy("mask", bytes(32))

    def text(self, text: str) -> str:
        return text

    def fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return dict(fields)

    def learn(self, _: Any) -> None:
        pass

    def value(self, _: str, value: Any) -> Any:
        return value

    def body(self, value: Any) -> Any:
        return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def unredacted() -> Redactor:
    """As what takes a `Redactor` will take it."""
    return cast(Redactor, Unredacted())


def filled(kind: type[Fact], text: str, number: int) -> Fact:
    """A fact with `text` in every field that can hold one."""
    return kind(**{each.name: _value(each, text, number) for each in dataclasses.fields(kind)})


def _value(field: "dataclasses.Field[Any]", text: str, number: int) -> Any:
    of = {"session_id": f"{number:032x}", "attempt": f"{number + 1:032x}", "severity": "error", "kind": text}
    if field.name in of:
        return of[field.name]
    by_type: dict[Any, Any] = {str: text, int: 1, float: 1.0, bool: True, Reason: Reason.INTERNAL}
    if field.type in by_type:
        return by_type[field.type]
    shown = str(field.type)
    if shown.startswith("tuple"):
        return (text, text)
    if shown.startswith("dict"):
        return _status(text) if "Any" in shown else {"load": 1.0}
    return Reason.INTERNAL if "Reason" in shown else 1.0


def _status(text: str) -> dict[str, Any]:
    reason = {"code": text, "text": text, "remedy": text}
    inner = {
        "name": text,
        "id": text,
        "state": text,
        "endpoint": text,
        "reason": reason,
        "allowed_ips": [text],
        "addresses": [text],
    }
    inner |= {text: text, "unheard_of": text, "suite": text, "interface": text, "session_id": text}
    return {**inner, "version": text, "node": inner, "processes": [{"component": text, "pid": 1}], "drops": {text: 3}}


def told(text: str, number: int) -> Iterator[tuple[Envelope, Fact]]:
    """One fact of every kind, as they come to the observer."""
    for kind in FACTS.values():
        fact = filled(kind, text, number)
        stamped = envelope.stamped(fact, _PROCESS)
        yield stamped, stamped.fact()


def each_told(texts: Iterable[str]) -> Iterator[tuple[Envelope, Fact]]:
    for number, text in enumerate(texts):
        yield from told(text, 2 * number + 2)


# -- the sinks -------------------------------------------------------------------------------------------------------


def standard_error(redactor: Redactor, texts: list[str], _: Path) -> dict[str, bytes]:
    """Lines for machines and for people, of facts and of other libraries' records."""
    found = {}
    for shown in (False, True):
        out = io.StringIO()
        with _standard_error(out):
            jsonlog.set_up(_PROCESS, "debug", redactor=redactor, text=shown, debug=True)
            for stamped, fact in each_told(texts):
                del stamped
                jsonlog.publish(fact)
            for text in texts:
                _log_an_error(text)
        found[f"standard error, {'text' if shown else 'json'}"] = out.getvalue().encode("utf-8", "surrogatepass")
    return found


def _log_an_error(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("somebody.else").exception("it failed: %s", text)


class _standard_error:  # noqa: N801 - a context manager
    def __init__(self, out: io.StringIO) -> None:
        self._out = out

    def __enter__(self) -> None:
        root, own = logging.getLogger(), logging.getLogger(jsonlog.LOGGER)
        self._before = sys.stderr, root.handlers[:], root.level, own.level
        sys.stderr = self._out

    def __exit__(self, *_: object) -> None:
        root, own = logging.getLogger(), logging.getLogger(jsonlog.LOGGER)
        sys.stderr, root.handlers[:], level, own_level = self._before
        root.setLevel(level)
        own.setLevel(own_level)


def log_files(redactor: Redactor, texts: list[str], folder: Path) -> dict[str, bytes]:
    """The log folder, with a rotated file in it."""
    files = LogFiles(folder / "log", 64 * _MIB, 3600.0, 256 * _MIB)
    journal = Journal(files, Levels("debug"), redactor)
    for stamped, fact in each_told(texts):
        journal.take(stamped, fact, stamped.now)
    half = len(texts) // 2
    for part in (texts[:half], texts[half:]):
        for stamped, fact in each_told(part):
            journal.take(stamped, fact, stamped.now)
        journal.flush()
        files.rotate()
    journal.close(time.clock_gettime(time.CLOCK_BOOTTIME))
    assert journal.flush()
    return contents(folder)


def _signals(redactor: Redactor, texts: list[str], sink: Any) -> Signals:
    environment = {"OTEL_RESOURCE_ATTRIBUTES": f"service.namespace={texts[0]}"}
    signals = Signals(Settings("0.1.0", texts[-1], tuple(texts), environment=environment), redactor, sink)
    signals.peers(texts)
    for number, text in enumerate(texts):
        for stamped, fact in told(text, 2 * number + 2):
            signals.record(stamped, fact)
        signals.flush()
    return signals


def spool(redactor: Redactor, texts: list[str], folder: Path) -> dict[str, bytes]:
    """The store on disk: what the drainer sends is what stands there."""
    store = Spool(folder / "spool", 64 * _MIB, 3600.0)
    signals = _signals(redactor, texts, lambda kind, payload, items: store.append(Kind[kind.upper()], payload, items))
    signals.close()
    assert all(signals.written.values()), signals.written
    store.close()
    return contents(folder)


def metrics_page(redactor: Redactor, texts: list[str], _: Path) -> dict[str, bytes]:
    """What /metrics answers, in both formats."""
    signals = _signals(redactor, texts, lambda *_: None)
    found = {
        f"/metrics {accept}": signals.prometheus_text(accept)[0] for accept in ("", "application/openmetrics-text")
    }
    signals.close()
    return found


def _known(redactor: Redactor, text: str) -> tuple[Knowledge, list[Finding]]:
    knowledge = Knowledge(Node(text, text, text, text, 1, (text,), 0.0), redactor)
    for stamped, fact in told(text, 2):
        knowledge.take(stamped, fact, stamped.now)
    findings = [Finding(item, text, State.FAILING, 0.0, Reason.INTERNAL, text, text) for item in Item]
    return knowledge, findings


def last_state(redactor: Redactor, texts: list[str], folder: Path) -> dict[str, bytes]:
    """last.json, once for each text."""
    found = {}
    for number, text in enumerate(texts):
        knowledge, findings = _known(redactor, text)
        last.write(folder, knowledge.last(findings, 1.0, time.time_ns()))
        found[f"last.json {number}"] = (folder / "last.json").read_bytes()
    return found


def health(redactor: Redactor, texts: list[str], _: Path) -> dict[str, bytes]:
    """What the HTTP endpoint answers."""
    found = {}
    for number, text in enumerate(texts):
        knowledge, findings = _known(redactor, text)
        application = Application(lambda k=knowledge, f=findings: k.health(f, 1.0, 1), lambda _: (b"", "text/plain"))  # type: ignore[misc]
        for path in ("/livez", "/readyz", "/health", f"/{number}"):
            found[f"{path} {number}"] = asyncio.run(_get(application, path))
    return found


async def _get(application: Application, path: str) -> bytes:
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(repr(message.get("headers", "")).encode() + message.get("body", b""))

    await application({"type": "http", "path": path, "method": "GET", "headers": []}, None, send)
    return b"".join(sent)


def crash_reports(redactor: Redactor, texts: list[str], _: Path) -> dict[str, bytes]:
    """Crash reports as the spool keeps them, with the last log lines and the health."""
    kept: list[bytes] = []
    for number, text in enumerate(texts):
        recorder = CrashRecorder(Policy("mask", bytes(32)), Naming(text, text, text), kept.append)
        if isinstance(redactor, Unredacted):
            recorder._redactor = redactor
        recorder.health = ((text, text),)
        recorder.note({"time": 1.0, "level": "error", "component": text, "message": text, "detail": text})
        fact = cast(Crashed, filled(Crashed, text, number))
        recorder.record(envelope.stamped(fact, _PROCESS), fact)
        assert recorder.recorded, "no report was made"
    return {f"crash report {number}": envelope_ for number, envelope_ in enumerate(kept)}


def bundle(redactor: Redactor, texts: list[str], folder: Path) -> dict[str, bytes]:
    """`pqvpn diag bundle` of a node whose store was written by one that forgot to redact."""
    careless = unredacted()
    spool(careless, texts, folder)
    log_files(careless, texts, folder)
    found = {}
    store = Store(folder)
    for number, text in enumerate(texts):
        knowledge, findings = _known(careless, text)
        last.write(folder, knowledge.last(findings, 1.0, time.time_ns()))
        places = Places(None, folder)
        if number % 20 == 0:
            inquiry = Inquiry(store, lambda at=places: gather.gather(at, store, _nobody, lambda _: None))  # type: ignore[misc]
            collector = bundles.Collector(inquiry, places, redactor)
            if isinstance(redactor, Unredacted):
                collector._redactor = redactor
            found |= {f"bundle {number} {entry.name}": entry.content for entry in collector.collect()}
    return found


def control_socket(redactor: Redactor, texts: list[str], _: Path) -> dict[str, bytes]:
    """What `pqvpn status` is answered under `mask`; the name of a look-up's breaker, which is a host's, has a test of its own."""
    peers = [{"name": "beta", "endpoint": text, "detail": f"last seen {text}"} for text in texts]
    shown = operations._masked({"peers": peers, "breakers": [{"name": f"path/{text}"} for text in texts]}, redactor)
    return {"status": json.dumps(shown).encode()}


def _nobody(*_: Any, **__: Any) -> dict[str, Any]:
    raise PqvpnError(Reason.NOT_RUNNING)


SINKS: dict[str, Sink] = {
    "standard error": standard_error,
    "log files": log_files,
    "spool": spool,
    "metrics page": metrics_page,
    "last state": last_state,
    "health": health,
    "crash reports": crash_reports,
    "bundle": bundle,
    "control socket": control_socket,
}
