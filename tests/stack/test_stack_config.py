"""The files of otel-collector/: derived ones are fresh, the collector takes them, names in queries exist, images are pinned."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import stackalerts, stackdash, stackgen, stackredaction, stackrules, stackservers, stackyaml
from pqvpn.reasons import Reason
from pqvpn.telemetry import names

STACK = stackservers.CONFIG
PYTHON = stackservers.ROOT / ".cache" / "bugsink" / "bin" / "python"  # brings a YAML parser
_READ = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)"
_UNITS = {"s": "_seconds", "By": "_bytes", "1": ""}


def yaml(path: Path) -> Any:
    done = subprocess.run([str(PYTHON), "-c", _READ, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{path}: {done.stderr[-1000:]}"
    (document,) = json.loads(done.stdout)
    return document


def test_derived_files_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    code = stackgen.main(["--check"])
    assert code == 0, capsys.readouterr().err


def test_the_allow_list_is_the_registry() -> None:
    made = stackredaction.processors()
    assert set(made["redaction"]["allowed_keys"]) == names.ATTRIBUTES
    text = json.dumps(made)
    for known in (*names.SPANS, *names.EVENTS, *names.INSTRUMENTS):
        assert known.name.replace(".", "[.]") in text


@pytest.mark.stack("otelcol-pqvpn")
@pytest.mark.parametrize(
    "parts", [(), ("tls",), ("logs",), ("tls", "logs")], ids=lambda parts: "+".join(parts) or "plain"
)
def test_the_collector_takes_its_configuration(tmp_path: Path, parts: tuple[str, ...]) -> None:
    options = stackservers.Options(secure="tls" in parts, logs="http://127.0.0.1:1" if "logs" in parts else "")
    made = stackservers.Stack(tmp_path, options)
    command = [made.collector.command[0], "validate", *made.collector.command[1:]]
    done = subprocess.run(command, env=made.collector.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.stack("otelcol-pqvpn")
@pytest.mark.parametrize("path", sorted((STACK / "scale-out").glob("*.yaml")), ids=lambda path: path.name)
def test_scale_out_files_are_yaml(path: Path) -> None:
    assert yaml(path)


def prometheus_names() -> set[str]:
    """What Prometheus calls the node's instruments and what the collector derives."""
    found = set()
    for each in names.INSTRUMENTS:
        name = each.name.replace(".", "_")
        unit = _UNITS.get(each.unit, "")
        name += unit if unit and not name.endswith(unit) else ""
        name += "_ratio" if each.kind == "gauge" and each.unit == "1" else ""
        name += "_total" if each.kind == "counter" else ""
        ends = ("_bucket", "_count", "_sum") if each.kind == "histogram" else ("",)
        found |= {name + end for end in ends}
    text = (STACK / "collector" / "pipelines.yaml").read_text()
    derived = re.findall(r"(?:name: |^      )(pqvpn\.seen\.[a-z_.]+)", text, re.MULTILINE)
    gauges = {"pqvpn.seen.started_at", "pqvpn.seen.stopped_at"}
    return found | {name.replace(".", "_") + ("_seconds" if name in gauges else "_total") for name in derived}


def expressions() -> Iterator[tuple[str, str]]:
    for group in (*stackrules.alerts(), *stackrules.objectives()):
        for rule in group["rules"]:
            yield rule.get("alert", rule.get("record")), rule["expr"]
    for name in stackdash.NAMES:
        for panel in stackdash.dashboard(name)["panels"]:
            for target in panel.get("targets", ()):
                if target.get("datasource", {}).get("type") == "prometheus":
                    yield f"{name}: {panel['title']}", target["expr"]


def test_every_metric_in_a_query_exists() -> None:
    known = prometheus_names()
    labels = {key.replace(".", "_") for key in names.ATTRIBUTES}
    for where, text in expressions():
        used = set(re.findall(r"(?<![:a-z_])(?:pqvpn|process)_[a-z_]+", text)) - labels
        assert used - known - {"process_resident_memory_bytes"} == set(), where


def test_every_label_of_alerts_is_an_attribute() -> None:
    allowed = {key.replace(".", "_") for key in names.ATTRIBUTES}
    for alert in stackrules.all_alerts():
        used = set(re.findall(r"pqvpn_[a-z_]+(?==|!=)|labels\.(pqvpn_[a-z_]+)", alert.expr + alert.summary)) - {""}
        assert used <= allowed, alert.name


@pytest.mark.stack("promtool")
def test_queries_of_dashboards_are_valid(tmp_path: Path) -> None:
    plain = [(where, text.replace("$instance", ".*").replace("$peer", ".*")) for where, text in expressions()]
    rules = [{"record": f"x:{number}", "expr": text} for number, (_, text) in enumerate(plain)]
    (tmp_path / "rules.yml").write_text(stackyaml.dump({"groups": [{"name": "x", "rules": rules}]}))
    done = subprocess.run(
        [str(stackservers.BIN / "promtool"), "check", "rules", str(tmp_path / "rules.yml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", stackdash.NAMES)
def test_dashboards(name: str) -> None:
    made = json.loads((STACK / "grafana" / "dashboards" / f"{name}.json").read_text())
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in made["panels"]]
    assert len(set(places)) == len(places)
    assert len({p["id"] for p in made["panels"]}) == len(places)
    assert {v["name"] for v in made["templating"]["list"]} == {
        word for word in ("instance", "peer") if f"${word}" in json.dumps(made["panels"])
    }


def test_from_graph_to_trace_to_logs() -> None:
    sources = {each["uid"]: each for each in yaml(STACK / "grafana/provisioning/datasources/pqvpn.yaml")["datasources"]}
    exemplars = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert exemplars == [{"name": "trace_id", "datasourceUid": "jaeger"}]
    assert sources["jaeger"]["jsonData"]["tracesToLogsV2"]["datasourceUid"] == "loki"
    panels = [p for name in stackdash.NAMES for p in stackdash.dashboard(name)["panels"]]
    assert any(target.get("exemplar") for p in panels for target in p.get("targets", ()))
    used = {p["datasource"]["uid"] for p in panels if "datasource" in p}
    assert used <= sources.keys()


def test_compose() -> None:
    made = yaml(STACK / "compose.yaml")
    services = made["services"]
    for name, service in services.items():
        assert re.fullmatch(r"[a-z./-]+:v?\d+\.\d+(\.\d+)?(-alpine)?", service["image"]), name
        for mount in service.get("volumes", ()):
            source, _, rest = mount.partition(":")
            assert rest.startswith("/")
            if source.startswith("./") and source != "./secrets":
                assert (STACK / source).is_dir(), mount
            elif not source.startswith("./"):
                assert source in made["volumes"], mount
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:") or name == "collector", (name, port)
        assert set(service.get("depends_on", {})) <= services.keys()
    given = set(services["collector"]["environment"]) - {"GOMEMLIMIT"}
    read = set()
    for part in ("pipelines", "tls", "logs"):
        read |= set(re.findall(r"\$\{env:([A-Z_]+)", (STACK / "collector" / f"{part}.yaml").read_text()))
    assert given <= read
    jaeger = (STACK / "jaeger" / "jaeger.yaml").read_text()
    assert set(services["jaeger"]["environment"]) <= set(re.findall(r"\$\{env:([A-Z_]+)", jaeger))
    jobs = yaml(STACK / "prometheus/prometheus.yml")["scrape_configs"]
    hosts = {
        target.partition(":")[0] for job in jobs for config in job["static_configs"] for target in config["targets"]
    }
    assert hosts - {"localhost"} <= services.keys()


def judged(folder: Path, **env: str) -> str:
    """What the Compose specification's own library has against the file in a folder."""
    done = subprocess.run(
        [str(stackservers.BIN / "compose-check"), str(folder / "compose.yaml")],
        env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert bool(done.returncode) == bool(done.stderr), done
    return done.stderr


@pytest.mark.stack("compose-check")
def test_compose_by_its_specification(tmp_path: Path) -> None:
    env = dict.fromkeys(("GRAFANA_PASSWORD", "POSTGRES_PASSWORD", "GLITCHTIP_KEY"), "x")
    assert judged(STACK, **env) == ""
    assert "run ./setup.sh first" in judged(STACK)
    text = (STACK / "compose.yaml").read_text()
    for right, wrong, told in (
        ("read_only: true", "reed_only: true", "reed_only"),
        ("valkey: {condition: service_started}", "redis: {condition: service_started}", "redis"),
        ("queues:/var/lib", "queue:/var/lib", "queue"),
        ("mem_limit: 1g", "mem_limit: much", "mem"),
    ):
        assert right in text
        (tmp_path / "compose.yaml").write_text(text.replace(right, wrong))
        assert told in judged(tmp_path, **env), wrong


def test_setup_makes_secrets_that_nobody_else_reads(tmp_path: Path) -> None:
    shutil.copy(STACK / "setup.sh", tmp_path / "setup.sh")
    done = subprocess.run(
        ["bash", "setup.sh", "collector.example.net", "192.0.2.7"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'endpoint = "https://collector.example.net:4318"' in done.stdout
    before = {path: path.read_bytes() for path in [*tmp_path.glob("secrets/*"), tmp_path / ".env"]}
    assert {path.name for path in before} >= {
        "ca.pem",
        "collector.pem",
        "collector.key",
        "tokens",
        "otlp.headers",
        ".env",
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in before)
    token = (tmp_path / "secrets/tokens").read_text().strip()
    assert (tmp_path / "secrets/otlp.headers").read_text() == f"authorization: Bearer {token}\n"
    assert token not in done.stdout
    subprocess.run(["bash", "setup.sh", "other.example.net"], cwd=tmp_path, capture_output=True, check=True)
    assert before == {path: path.read_bytes() for path in before}, "a second run changes nothing"


def test_reasons_of_alerts_and_their_remedies() -> None:
    for alert in stackrules.all_alerts():
        if alert.told:
            assert alert.reason == stackalerts.DYNAMIC
            assert all(reason.remedy in alert.remedy for reason in alert.reasons)
        elif alert.reasons:
            assert alert.reason in {reason.code for reason in Reason}
