"""Real nodes in a lab's namespaces, set up and asked by the real command line and control socket.

    alpha = make_node(lab, a, "alpha", ["10.7.0.1/24"])
    beta = make_node(lab, b, "beta", ["10.7.0.2/24"], settings={"timers": {"rekey_after": "3s"}})
    introduce(alpha, beta, "10.0.0.1", "10.0.0.2")
    alpha.up(), beta.up()                    # each waits until the node runs; nodes are stopped with the lab
    alpha.wait_for_peer("beta")              # until its state is "up"
    alpha.status()["peers"], alpha.peer("beta"), alpha.drops(), alpha.pids("lane-0"), alpha.log()
    alpha.cli("reload"), alpha.kill("control"), alpha.down()

Knows the command line, the control socket and the configuration's syntax; imports nothing of `pqvpn`, as a user would not.
"""

import contextlib
import ipaddress
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lab.namespaces import Lab, LabError, Namespace
from lab.waiting import WaitTimeoutError, wait_for

PQVPN = (sys.executable, "-m", "pqvpn.cli")
ROOT = pathlib.Path(__file__).resolve().parent.parent
Settings = Mapping[str, Mapping[str, Any]]

_ANSWER_LIMIT = 8 << 20


class Node:
    """A node with its configuration in `folder`. Make it by `make_node`."""

    def __init__(
        self, namespace: Namespace, name: str, folder: pathlib.Path, addresses: Sequence[str], listen: int
    ) -> None:
        self.namespace = namespace
        self.name = name
        self.folder = folder
        self.config = folder / "pqvpn.toml"
        self.log_file = folder / "log"
        self.card = ""
        self.listen = listen
        self.interfaces = [ipaddress.ip_interface(address) for address in addresses]
        self.process: subprocess.Popen[Any] | None = None
        self.runs_by: Sequence[str] = PQVPN
        """What `up` is run by: the command line, or something of a test around it."""

    @property
    def address(self) -> str:
        """The first inner address, without its prefix length."""
        return str(self.interfaces[0].ip)

    def cli(self, *arguments: str, check: bool = True, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run `pqvpn ARGUMENTS --config FILE` in the node's namespace. Raises LabError when `check` and it fails."""
        command = self.namespace.command([*PQVPN, *arguments, "--config", str(self.config)])
        done = subprocess.run(
            command, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode != 0:
            told = (done.stderr or done.stdout).strip()
            raise LabError(f"pqvpn {' '.join(arguments)} of {self.name}: exit code {done.returncode}: {told}")
        return done

    # Configuration

    def set(self, settings: Settings) -> None:
        """Write settings into the configuration, such as `{"node": {"lanes": 2}}`; takes effect by `up` or `reload`."""
        text = self.config.read_text()
        for section, values in settings.items():
            for key, value in values.items():
                text = _with_setting(text, section, key, value)
        self.config.write_text(text)

    def add_peer(
        self, other: "Node", endpoint: str | None = None, *, allow: Sequence[str] = (), **options: str
    ) -> None:
        """`pqvpn peer add`; `allow` is by default the other's own addresses, `options` are further ones (psk_file=...)."""
        wanted = allow or [str(ipaddress.ip_network(interface.ip)) for interface in other.interfaces]
        arguments = [part for prefix in wanted for part in ("--allow", prefix)]
        if endpoint:
            arguments += ["--endpoint", endpoint]
        for option, value in options.items():
            arguments += [f"--{option.replace('_', '-')}", value]
        self.cli("peer", "add", other.name, other.card, *arguments)

    # Life

    def start(self) -> None:
        """`pqvpn up`, without waiting for anything."""
        if self.process and self.process.poll() is None:
            raise LabError(f"{self.name} runs already")
        with open(self.log_file, "ab") as log:
            self.process = self.namespace.popen(
                [*self.runs_by, "up", "--config", str(self.config)],
                cwd=ROOT,
                env=_environment(),
                stdout=log,
                stderr=log,
            )

    def up(self, timeout: float = 30.0) -> None:
        """`pqvpn up`, and wait until the node says that it runs. Raises LabError with the log's end if it exits instead."""
        self.start()
        self.wait_running(timeout)

    def wait_running(self, timeout: float = 30.0) -> None:
        wait_for(f"{self.name} to run", self._running, timeout)

    def _running(self) -> bool:
        if self.process and (code := self.process.poll()) is not None:
            raise LabError(f"{self.name} ended with exit code {code}:\n{self.log()[-3000:]}")
        return bool(self.status()["node"]["state"] == "running")

    def down(self, timeout: float = 10.0) -> float:
        """SIGTERM, and wait for the end; returns the seconds it took. Raises LabError if the exit code is not 0."""
        if self.process is None:
            return 0.0
        began = time.monotonic()
        self.process.terminate()
        code = self.process.wait(timeout)
        if code != 0:
            raise LabError(f"{self.name} ended with exit code {code}:\n{self.log()[-3000:]}")
        self.process = None
        return time.monotonic() - began

    def kill(self, component: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to the process of `component` ("supervisor", "control", "lane-0"); returns its pid."""
        (pid,) = self.pids(component)
        os.kill(pid, number)
        return pid

    # What it says

    def ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """One request on the control socket. Raises OSError when nobody answers, LabError when it is refused."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(5.0)
            control.connect(str(self.folder / "run" / "control.sock"))
            control.sendall(json.dumps({"op": operation, **arguments}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n") and len(answer) < _ANSWER_LIMIT:
                if not (part := control.recv(65536)):
                    raise ConnectionError(f"{self.name} closed the control socket")
                answer += part
        message = json.loads(answer)
        if not message["ok"]:
            raise LabError(f"{operation} of {self.name}: {message['error']}")
        return dict(message["result"])

    def status(self) -> dict[str, Any]:
        """What docs/architecture.md describes. Raises OSError when nobody answers."""
        return self.ask("status")

    def peer(self, name: str) -> dict[str, Any]:
        """The status of one peer."""
        return next(dict(peer) for peer in self.status()["peers"] if peer["name"] == name)

    def drops(self) -> dict[str, int]:
        """Discarded packets by reason, those above 0."""
        return dict(self.status()["drops"])

    def pids(self, component: str = "") -> list[int]:
        """The pids of the processes whose component begins so; all of the node's by default."""
        return [each["pid"] for each in self.status()["processes"] if each["component"].startswith(component)]

    def wait_for_peer(self, name: str, state: str = "up", timeout: float = 30.0) -> dict[str, Any]:
        """Wait until the peer's state is `state`; returns its status. For "up" something is sent, since peers are called
        when there is something to send."""

        def probe() -> dict[str, Any] | None:
            seen.update(self.peer(name))
            if state == "up" and seen["state"] == "down":
                self.poke(ipaddress.ip_network(seen["allowed_ips"][0])[0])
            return seen if seen["state"] == state else None

        seen: dict[str, Any] = {}
        try:
            return wait_for(f"{self.name}'s peer {name} to be {state}", probe, timeout)
        except WaitTimeoutError as error:
            raise WaitTimeoutError(f"{error}; it is {seen.get('state')}: {seen.get('reason')}") from None

    def poke(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        """Send one small datagram to the inner `address`, which nobody needs to receive."""
        with self.namespace.socket(_family(address), socket.SOCK_DGRAM) as anything, contextlib.suppress(OSError):
            anything.sendto(b"", (str(address), 9))

    def log(self) -> str:
        """Everything the node wrote on stdout and stderr so far."""
        return self.log_file.read_text() if self.log_file.exists() else ""


def make_node(
    lab: Lab,
    namespace: Namespace,
    name: str,
    addresses: Sequence[str],
    *,
    listen: int = 51820,
    settings: Settings | None = None,
) -> Node:
    """`pqvpn init` in a folder of the lab; `addresses` inside the VPN with prefix lengths, `settings` by section."""
    folder = lab.folder / name
    node = Node(namespace, name, folder, addresses, listen)
    inner = [part for address in addresses for part in ("--address", address)]
    node.card = json.loads(node.cli("init", "--json", "--name", name, "--listen", str(listen), *inner).stdout)["line"]
    node.set({"node": {"runtime_dir": str(folder / "run"), "state_dir": str(folder / "state")}})
    if settings:
        node.set(settings)
    return node


def introduce(a: Node, b: Node, a_host: str | None, b_host: str | None, **options: str) -> None:
    """Make two nodes peers of each other; each is reached at its host's outer address, or calls first if it is None."""
    a.add_peer(b, _endpoint(b_host, b.listen), **options)
    b.add_peer(a, _endpoint(a_host, a.listen), **options)


def _endpoint(host: str | None, port: int) -> str | None:
    if host is None:
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _family(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _environment() -> dict[str, str]:
    # The checkout is what is tried, installed or not.
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _with_setting(text: str, section: str, key: str, value: Any) -> str:
    line = f"{key} = {json.dumps(value)}\n"  # TOML's strings, numbers, booleans and arrays are those of JSON
    header = re.search(rf"^\[{re.escape(section)}\].*\n", text, re.MULTILINE)
    if not header:
        return f"{text}\n[{section}]\n{line}"
    next_header = re.compile(r"^\[", re.MULTILINE).search(text, header.end())
    end = next_header.start() if next_header else len(text)
    body, replaced = re.subn(
        rf"^{re.escape(key)}\s*=.*\n", lambda _: line, text[header.end() : end], flags=re.MULTILINE
    )
    return text[: header.end()] + (body if replaced else line + body) + text[end:]
