"""The real servers of the telemetry stack on loopback: collector, Jaeger, Prometheus, Alertmanager.

Owns their processes, ports and folders; what they are configured with are the files of otel-collector/, with other
addresses by variables, and rules whose durations are divided. Each can be killed and started again alone. Knows no node.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from lab import stackrules, stackyaml
from lab.stackrules import Scale
from lab.waiting import wait_for

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = ROOT / ".cache" / "stack" / "bin"
CONFIG: Final = ROOT / "otel-collector"
PROGRAMS: Final = ("otelcol-pqvpn", "jaeger", "prometheus", "alertmanager")
_PORTS: Final = (
    "otlp_grpc", "otlp_http", "nodes", "events", "own", "health", "jaeger_otlp", "jaeger_http", "jaeger_grpc", "jaeger_own",
    "jaeger_health", "prometheus", "alertmanager",
)  # fmt: skip
_READY: Final = 60.0


def missing() -> list[str]:
    """Programs that `scripts/stack.sh` has not made."""
    return [name for name in PROGRAMS if not (BIN / name).exists()]


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()


def get(url: str, timeout: float = 10.0) -> Any:
    """The JSON at a URL of this machine. Raises OSError."""
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return json.load(answer)


def answers(url: str) -> bool:
    """Whether somebody answers with success there."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


class Server:
    """One program with its log; killed with the whole when the block is left."""

    def __init__(self, name: str, command: list[str], folder: Path, env: Mapping[str, str], ready: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.command = command
        self._folder = folder
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **env}
        self._ready = ready
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers. Raises RuntimeError with the log's end when it ends instead."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self._folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for(f"{self.name} to answer", self._answers, _READY)

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended:\n{self.log.read_text()[-3000:]}")
        return answers(self._ready)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal and wait for its end: the next one of its name would find its files locked."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    @property
    def memory(self) -> int:
        """Resident memory in bytes."""
        if self.process is None:
            return 0
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS"))


@dataclass
class Options:
    """How the stack differs from its files. `factor` divides every duration of the rules, none is longer than `most` seconds
    then; `limits`: other limits.

    `secure`: TLS and token at the OTLP ports, of files made by `setup.sh` in the folder `secrets` of the stack's folder.
    """

    factor: int = 1
    least: int = 6
    most: int | None = None
    scrape: str = "15s"
    limits: Mapping[str, float] = field(default_factory=dict)
    webhook: str = ""
    logs: str = ""
    secure: bool = False
    queue_size: int = 200_000
    node_expires: str = "90s"
    retry_most: str = "30s"
    lookback: str = "5m"
    ports: Mapping[str, int] = field(default_factory=dict)


class Stack:
    """All four servers in one folder. Every one listens on loopback only."""

    def __init__(self, folder: Path, options: Options | None = None) -> None:
        self.folder = folder
        self.options = options or Options()
        free = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
        self.ports = {**free, **self.options.ports}
        folder.mkdir(parents=True, exist_ok=True)
        if self.options.secure:
            self._make_secrets()
        self.collector = self._collector()
        self.jaeger = self._jaeger()
        self.prometheus = self._prometheus()
        self.alertmanager = self._alertmanager()
        self.servers = (self.jaeger, self.collector, self.alertmanager, self.prometheus)

    def __enter__(self) -> Self:
        try:
            for server in self.servers:
                server.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all of them."""
        for server in reversed(self.servers):
            server.kill(signal.SIGTERM)

    def url(self, port: str, path: str = "", scheme: str = "http") -> str:
        """Where something is."""
        return f"{scheme}://127.0.0.1:{self.ports[port]}{path}"

    @property
    def queues(self) -> Path:
        """The folder of the collector's queues."""
        return self.folder / "queues"

    # -- asking --------------------------------------------------------------------------------------------------------

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus finds now."""
        asked = urllib.parse.urlencode({"query": expression})
        return list(get(self.url("prometheus", f"/api/v1/query?{asked}"))["data"]["result"])

    def value(self, expression: str) -> float:
        """The first value found, 0 when there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else 0.0

    def firing(self) -> list[dict[str, Any]]:
        """The alerts that Alertmanager has and does not suppress."""
        return [each for each in self.alerts() if each["status"]["state"] == "active"]

    def alerts(self) -> list[dict[str, Any]]:
        """All alerts that Alertmanager has."""
        return list(get(self.url("alertmanager", "/api/v2/alerts")))

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of a trace as Jaeger's API v3 gives them, with `service` and flat `tags`; empty when unknown."""
        try:
            found = get(self.url("jaeger_http", f"/api/v3/traces/{trace_id}"))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise
        return list(_spans(found.get("result", found)))

    def find(self, tags: Mapping[str, str], limit: int = 100) -> list[dict[str, Any]]:
        """Traces with these tags, as the older API gives them, which filters by attributes."""
        asked = urllib.parse.urlencode(
            {"service": "pqvpn", "limit": limit, "tags": json.dumps(dict(tags)), "lookback": "1h"}
        )
        return list(get(self.url("jaeger_http", f"/api/traces?{asked}"))["data"] or [])

    # -- servers -------------------------------------------------------------------------------------------------------

    def _at(self, port: str) -> str:
        return f"127.0.0.1:{self.ports[port]}"

    def _collector(self) -> Server:
        own, parts = self.ports, ["pipelines", "redaction"]
        parts += (["tls"] if self.options.secure else []) + (["logs"] if self.options.logs else [])
        env = {
            "PQVPN_OTLP_GRPC": self._at("otlp_grpc"), "PQVPN_OTLP_HTTP": self._at("otlp_http"),
            "PQVPN_METRICS_NODES": self._at("nodes"), "PQVPN_METRICS_EVENTS": self._at("events"),
            "PQVPN_OWN_PORT": str(own["own"]), "PQVPN_HEALTH": self._at("health"),
            "PQVPN_JAEGER": self._at("jaeger_otlp"), "PQVPN_QUEUES": str(self.queues), "PQVPN_LOGS": self.options.logs,
            "PQVPN_QUEUE_SIZE": str(self.options.queue_size), "PQVPN_NODE_EXPIRES": self.options.node_expires,
            "PQVPN_RETRY_MOST": self.options.retry_most, "PQVPN_TOKENS": str(self.folder / "secrets" / "tokens"),
            "PQVPN_CERTIFICATE": str(self.folder / "secrets" / "collector.pem"),
            "PQVPN_KEY": str(self.folder / "secrets" / "collector.key"), "GOMEMLIMIT": "300MiB",
        }  # fmt: skip
        files = [f"--config={CONFIG}/collector/{part}.yaml" for part in parts]
        command = [str(BIN / "otelcol-pqvpn"), *files]
        return Server("collector", command, self.folder, env, self.url("health", "/status"))

    def _jaeger(self) -> Server:
        own = self.ports
        env = {
            "PQVPN_JAEGER_OTLP": self._at("jaeger_otlp"), "PQVPN_JAEGER_HTTP": self._at("jaeger_http"),
            "PQVPN_JAEGER_GRPC": self._at("jaeger_grpc"), "PQVPN_JAEGER_OWN_PORT": str(own["jaeger_own"]),
            "PQVPN_JAEGER_HEALTH": self._at("jaeger_health"), "PQVPN_JAEGER_FOLDER": str(self.folder / "spans"),
        }  # fmt: skip
        command = [
            str(BIN / "jaeger"), "--config", str(CONFIG / "jaeger" / "jaeger.yaml"),
            "--set", f"extensions.jaeger_query.ui.assets_path={CONFIG / 'jaeger' / 'ui'}",
        ]  # fmt: skip
        return Server("jaeger", command, self.folder, env, self.url("jaeger_health", "/status"))

    def _prometheus(self) -> Server:
        scale = Scale(self.options.factor, self.options.least, self.options.most)
        rules = {
            "limits.yml": stackrules.limits(self.options.limits),
            "alerts.yml": stackrules.alerts(scale),
            "objectives.yml": stackrules.objectives(scale),
        }
        for name, groups in rules.items():
            (self.folder / name).write_text(stackyaml.dump({"groups": groups}))
        jobs = {
            "nodes": "nodes", "events": "events", "otel-collector": "own", "jaeger": "jaeger_own", "prometheus": "prometheus",
            "alertmanager": "alertmanager",
        }  # fmt: skip
        made = stackrules.prometheus(
            rules=rules,
            alertmanager=f"127.0.0.1:{self.ports['alertmanager']}",
            jobs={job: f"127.0.0.1:{self.ports[port]}" for job, port in jobs.items()},
            interval=self.options.scrape,
        )
        (self.folder / "prometheus.yml").write_text(stackyaml.dump(made))
        command = [
            str(BIN / "prometheus"), f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/metrics", f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}",
            "--enable-feature=exemplar-storage", f"--query.lookback-delta={self.options.lookback}", "--log.level=warn",
        ]  # fmt: skip
        return Server("prometheus", command, self.folder, {}, self.url("prometheus", "/-/ready"))

    def _alertmanager(self) -> Server:
        hook = (
            {"webhook_configs": [{"url": self.options.webhook, "send_resolved": True}]} if self.options.webhook else {}
        )
        made = stackrules.alertmanager(hook, Scale(self.options.factor))
        (self.folder / "alertmanager.yml").write_text(stackyaml.dump(made))
        command = [
            str(BIN / "alertmanager"), f"--config.file={self.folder}/alertmanager.yml",
            f"--storage.path={self.folder}/alerts", f"--web.listen-address=127.0.0.1:{self.ports['alertmanager']}",
            "--cluster.listen-address=", "--log.level=warn",
        ]  # fmt: skip
        return Server("alertmanager", command, self.folder, {}, self.url("alertmanager", "/-/ready"))

    def _make_secrets(self) -> None:
        made = self.folder / "setup.sh"
        made.write_bytes((CONFIG / "setup.sh").read_bytes())
        subprocess.run(["bash", str(made), "127.0.0.1"], check=True, capture_output=True)
        (self.folder / "secrets" / "wrong.headers").write_text(f"authorization: Bearer {secrets.token_hex(24)}\n")
        (self.folder / "secrets" / "wrong.headers").chmod(0o600)


def _spans(result: Mapping[str, Any]) -> Any:
    for resource in result.get("resourceSpans", ()):
        own = _flat(resource.get("resource", {}).get("attributes", ()))
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                yield {
                    **span,
                    "service": own.get("service.name", ""),
                    "node": own.get("service.instance.id", ""),
                    "tags": _flat(span.get("attributes", ())),
                    "events": [{**e, "tags": _flat(e.get("attributes", ()))} for e in span.get("events", ())],
                }


def _flat(attributes: Any) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values()), None) for each in attributes}
