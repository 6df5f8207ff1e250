"""Span and log record of an end that no observer hears of: kept, and delivered where that goes at once."""

from pathlib import Path

import pytest

from pqvpn.errors import TelemetryError
from pqvpn.facts import Crashed
from pqvpn.reasons import Reason
from pqvpn.telemetry.export import Endpoint, Target
from pqvpn.telemetry.redaction import Policy, Redactor
from pqvpn.telemetry.signals import Settings, direct
from pqvpn.telemetry.spool import Spool
from pqvpn.telemetry.store import Store
from tests.otlp.server import Collector, free_port

TRACE = "5e" * 16
CRASH = Crashed("startup", "supervisor", Reason.ADDRESS_IN_USE, "pqvpn.errors.NetworkError", trace_id=TRACE)


def record(state: Path, port: int = 0, **more: float) -> None:
    paths = ("traces", "metrics", "logs")
    endpoint = (
        Endpoint(*(Target(f"http://127.0.0.1:{port}/v1/{path}", timeout=5.0) for path in paths)) if port else None
    )
    settings = Settings("0", "id", kinds=frozenset(direct.KINDS), **more)  # type: ignore[arg-type]
    direct.record(CRASH, settings, Redactor(Policy("mask")), direct.Place(state / "spool", 4 << 20, 86400.0, endpoint))


def waiting(state: Path) -> int:
    with Spool(state / "spool", 4 << 20, 86400.0) as spool:
        return spool.backlog().records


def test_a_span_and_a_log_record_of_the_trace_that_the_report_names(tmp_path: Path) -> None:
    record(tmp_path, sample=0.0)  # failures are traced in any case
    store = Store(tmp_path)
    (span,), (log,) = store.spans(), store.logs()
    assert (span.name, span.trace_id, span.parent_id, span.status) == ("pqvpn.crash", TRACE, "", "error")
    assert span.attributes["pqvpn.reason"] == Reason.ADDRESS_IN_USE.code
    assert (log.event, log.trace_id) == ("crash", TRACE)
    assert list(store.metrics()) == []


def test_it_is_delivered_before_the_process_ends(tmp_path: Path) -> None:
    with Collector() as collector:
        record(tmp_path, collector.port)
        assert sorted(got.signal for got in collector.received) == ["logs", "traces"]
    assert waiting(tmp_path) == 0


def test_without_a_collector_it_waits_for_the_next_start(tmp_path: Path) -> None:
    record(tmp_path, free_port())
    assert waiting(tmp_path) == 2


def test_another_process_that_has_the_spool_is_not_disturbed(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", 4 << 20, 86400.0) as spool:
        with pytest.raises(TelemetryError):
            record(tmp_path)
        assert spool.backlog().records == 0
