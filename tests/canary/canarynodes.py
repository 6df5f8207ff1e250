"""Two real nodes all of whose secrets are canaries, and everything that they write, send and answer.

Owns the set-up (addresses that do not occur by chance, tokens, keys, a collector beside each node) and the list of sinks. The
nodes run a version of the test's choice (`keptkeys.py`, `careless.py`). What a command says of a configuration that an
operator just wrote (its errors) may repeat an address of it: there, keys and tokens are searched for and addresses are not.
"""

import base64
import contextlib
import ipaddress
import json
import secrets
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from canaries import Canary, contents, report, search

from lab import Lab, Namespace, versions, wait_for
from lab.nodes import ROOT, Node, make_node
from tests.otlp.recorder import REQUESTS

OUTER = ("198.18.77.203", "198.18.77.117")
OUTER6 = ("2001:db8:5a5a::c0de", "2001:db8:5a5a::beef")
INNER = ("10.213.97.41", "10.213.97.152")
INNER6 = ("fd5a:7c3e:91d2::4141", "fd5a:7c3e:91d2::5252")
HOST = "vault-q7zk.example.net"
HEALTH_PORT = 9464
OTLP_PORT = 4318
PROTOCOLS = ("http/protobuf", "grpc")
"""How alpha sends, and how beta does."""
PATHS = ("/livez", "/readyz", "/health", "/metrics", "/nothing")
SETTINGS = {
    "redact": {"addresses": "mask"},
    "log": {"level": "debug"},
    "timers": {
        "m1_schedule": ["0s", "0.3s", "0.6s"],
        "m1_fresh_after": "1s",
        "m1_fresh_jitter": "0.1s",
        "attempt_gives_up": "3s",
        "keepalive": "1s",
        "dead": "2s",
        "rekey_after": "6s",
        "rekey_initiator_after": "8s",
        "rekey_jitter": "1s",
    },
    "crash_reports": {"dsn_file": "crashes.dsn"},
    "health": {"listen": f"127.0.0.1:{HEALTH_PORT}", "token_file": "health.token", "interval": "0.2s"},
    "telemetry": {
        "endpoint": f"http://127.0.0.1:{OTLP_PORT}",
        "headers_file": "headers",
        "flush_interval": "0.1s",
        "metrics_interval": "0.3s",
    },
}  # fmt: skip


class Scene:
    """`alpha` calls `beta`; `python` is the interpreter of the version that they run.

    `check` searches everything so far, for the secrets that were configured and for those that they `made` since. A log file
    is rotated at `log_size`.
    """

    def __init__(
        self, lab: Lab, python: Path, made: Callable[[], list[Canary]] = list, *, log_size: str = "16KiB"
    ) -> None:
        ends = lab.namespace("alpha"), lab.namespace("beta")
        outers = [[f"{OUTER[i]}/24", f"{OUTER6[i]}/64"] for i in (0, 1)]
        lab.link(*ends, *outers)
        self._lab = lab
        self._program = versions.command(python)
        self._made = made
        self._log_size = log_size
        self.network_key, self.psk = (secrets.token_bytes(32) for _ in range(2))
        self.header_token, self.health_token = f"q7Zk-{secrets.token_hex(3)}", secrets.token_urlsafe(24)
        self.dsn_key = secrets.token_hex(16)
        self.canaries = self._common()
        self.alpha = self._node(ends[0], "alpha", 0)
        self.beta = self._node(ends[1], "beta", 1)
        self.alpha.add_peer(self.beta, f"{OUTER[1]}:51820", psk_file="the.psk", keepalive="1s")
        self.beta.add_peer(self.alpha, None, psk_file="the.psk")
        self.answers: dict[str, bytes] = {}
        for node, protocol in zip((self.alpha, self.beta), PROTOCOLS, strict=True):
            self._collector(node, protocol)

    # -- set-up ------------------------------------------------------------------------------------------------------

    def _common(self) -> list[Canary]:
        found = [Canary("network key", self.network_key), Canary("psk", self.psk)]
        found += [Canary.of_text("DSN", self.dsn_key)]
        found += [Canary.of_text("header token", self.header_token), Canary.of_text("health token", self.health_token)]
        found += [Canary.of_text("host name", HOST)]
        for kind, addresses in (("outer", (*OUTER, *OUTER6)), ("inner", (*INNER, *INNER6))):
            found += [Canary.of_address(f"{kind} address {address}", address) for address in addresses]
        return found

    def _node(self, end: Namespace, name: str, number: int) -> Node:
        node = make_node(self._lab, end, name, [f"{INNER[number]}/24", f"{INNER6[number]}/64"], settings=SETTINGS)
        write_key(node.folder / "the.psk", self.psk)
        write_key(node.folder / "network.key", self.network_key)
        write(node.folder / "health.token", self.health_token)
        write(node.folder / "crashes.dsn", f"http://{self.dsn_key}@127.0.0.1:9/42")
        write(node.folder / "headers", f"authorization: Bearer {self.header_token}\nx-lab: {self.header_token}\n")
        node.set({"node": {"network_key_file": "network.key"}, "log": {"rotate_size": self._log_size}})
        raw = base64.b64decode("".join((node.folder / "identity.key").read_text().splitlines()[1:-1]))
        self.canaries += [Canary(f"seed of {name}", raw[:32]), Canary(f"signature master of {name}", raw[32:])]
        return node

    def _collector(self, node: Node, protocol: str) -> None:
        node.set({"telemetry": {"protocol": protocol}})
        command = [sys.executable, "-m", "tests.otlp", "--port", str(OTLP_PORT), "--protocol", protocol]
        command += ["--dump", str(self._dump(node))]
        collector = node.namespace.popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert collector.stdout is not None
        assert collector.stdout.readline().startswith("ready")

    def _dump(self, node: Node) -> Path:
        return self._lab.folder / f"collected of {node.name}"

    def start(self, *nodes: Node) -> None:
        """`pqvpn --debug up`, and wait until it runs."""
        for node in nodes:
            command = [*self._program, "--debug", "up", "--config", str(node.config)]
            with open(node.log_file, "ab") as log:
                node.process = node.namespace.popen(command, cwd=ROOT, stdout=log, stderr=log)
        for node in nodes:
            node.wait_running()

    def told(self, node: Node, *events: str) -> None:
        """Wait until a node's log on disk tells of one of these, while alpha has something to send."""

        def probe() -> bool:
            self.alpha.poke(ipaddress.ip_address(INNER[1]))
            text = everything(node)
            return any(event in text for event in events)

        wait_for(f"{node.name} to tell {events}", probe, 30.0, 0.2)

    def connected(self) -> None:
        """Wait until the two are."""
        self.alpha.wait_for_peer("beta")
        self.beta.wait_for_peer("alpha")

    @contextlib.contextmanager
    def changed(self, node: Node, name: str, content: str) -> Iterator[None]:
        """Another content of a file of the node's folder, in force until the end of the block."""
        path = node.folder / name
        before = path.read_text()
        write(path, content)
        try:
            self.run(node, "reload")
            yield
        finally:
            write(path, before)
            self.run(node, "reload")

    # -- sinks -------------------------------------------------------------------------------------------------------

    def run(self, node: Node, *arguments: str) -> str:
        """A command whose output is kept as an answer; it may fail."""
        done = node.cli(*arguments, check=False)
        self.answers[f"{node.name}: pqvpn {' '.join(arguments)} ({len(self.answers)})"] = (
            done.stdout + done.stderr
        ).encode()
        return done.stdout

    def ask(self, node: Node) -> dict[str, bytes]:
        """What a running node answers: control socket, and health on both sockets, with and without the token."""
        found = {}
        for path in PATHS:
            found[f"{node.name}: unix {path}"] = unix(node, path)
            for kind, token in (("no", ""), ("the right", self.health_token), ("another", self.header_token)):
                found[f"{node.name}: tcp {path} with {kind} token"] = tcp(node, path, token)
        found[f"{node.name}: control socket"] = json.dumps(node.status()).encode()
        found[f"{node.name}: openmetrics"] = unix(node, "/metrics", "accept: application/openmetrics-text\r\n")
        return found

    def collected(self, node: Node) -> dict[str, bytes]:
        """What the node's OTLP receiver got: decoded, since it is base64 in the receiver's own file; and the exemplars in it."""
        dump = self._dump(node)
        lines = dump.read_text().splitlines() if dump.exists() else []
        found = {}
        for number, line in enumerate(lines):
            message = json.loads(line)
            found[f"{node.name}: OTLP {message['signal']} {number}"] = base64.b64decode(message["payload"])
        return found | {f"{node.name}: exemplars": b"\n".join(e.SerializeToString() for e in exemplars(found))}

    def sinks(self) -> dict[str, bytes]:
        """Every byte that was recorded, exported or answered to machines."""
        found: dict[str, bytes] = {}
        for node in (self.alpha, self.beta):
            found |= self.collected(node)
            found |= contents(node.folder / "state", node.folder / "run", prefix=f"{node.name}: ")
            found[f"{node.name}: standard error"] = node.log_file.read_bytes()
            if is_running(node):
                found |= self.ask(node)
        return found

    def bundle(self, node: Node, name: str) -> dict[str, bytes]:
        """The files of `pqvpn diag bundle`."""
        place = self._lab.folder / f"{node.name}-{name}.tar.gz"
        arguments = ["diag", "bundle", "--yes", "--output", str(place), "--config", str(node.config)]
        node.namespace.run([*self._program, *arguments])
        with tarfile.open(place) as archive:
            files = [(each.name, archive.extractfile(each)) for each in archive.getmembers()]
            return {f"bundle {name} of {node.name}: {file}": content.read() for file, content in files if content}

    def check(self, more: dict[str, bytes] | None = None) -> dict[str, bytes]:
        """Assert that no canary is anywhere; returns the sinks, for a look at what must be there."""
        found = self.sinks() | (more or {})
        canaries = self.canaries + self._made()
        leaks = report(search(canaries, found))
        assert not leaks, f"\n{leaks}"
        keys = [canary for canary in canaries if not canary.address and canary.name != "host name"]
        leaks = report(search(keys, self.answers))
        assert not leaks, f"\n{leaks}"
        return found


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def write_key(path: Path, key: bytes) -> None:
    write(path, key_text(key))


def key_text(key: bytes) -> str:
    return base64.b64encode(key).decode() + "\n"


def is_running(node: Node) -> bool:
    return node.process is not None and node.process.poll() is None


def everything(node: Node) -> str:
    """The log folder's text, rotated files included."""
    files = contents(node.folder / "state" / "log")
    texts = []
    for name, content in files.items():
        packed = name.endswith(".gz") and not name.startswith("name of ")
        texts.append(subprocess.run(["gzip", "-dc"], input=content, capture_output=True).stdout if packed else content)
    return b"\n".join(texts).decode("utf-8", "replace")


def exemplars(collected: Mapping[str, bytes]) -> list[Any]:
    """Every exemplar in OTLP messages."""
    requests = [REQUESTS["metrics"].FromString(data) for name, data in collected.items() if " OTLP metrics " in name]
    metrics = [m for request in requests for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics]
    points = [point for metric in metrics for point in getattr(metric, metric.WhichOneof("data")).data_points]
    return [exemplar for point in points for exemplar in point.exemplars]


def unix(node: Node, path: str, headers: str = "") -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(node.folder / "run" / "health.sock"))
        return _exchange(client, path, headers)


def tcp(node: Node, path: str, token: str) -> bytes:
    with node.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", HEALTH_PORT))
        return _exchange(client, path, f"authorization: Bearer {token}\r\n" if token else "")


def _exchange(client: socket.socket, path: str, headers: str) -> bytes:
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: node\r\n{headers}connection: close\r\n\r\n".encode())
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)
