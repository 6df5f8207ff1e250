"""Networks of namespaces, for root and for ordinary users alike: what the demo, the tests and the benchmark run in.

A `Lab` holds namespaces (each by a process, see `agent.py`; nothing appears in /run/netns) joined by `Link`s
(veth pairs). Leaving the lab kills whatever still runs in them. Knows nothing of the VPN.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from lab import agent
from lab.capture import Capture
from lab.waiting import wait_for

_ANSWER_SECONDS = 20.0
_SETTLE_SECONDS = 5.0


class LabError(Exception):
    """The lab could not do what was asked; the text says what and why."""


class _Channel:
    """Requests to a keeper or an agent, one at a time."""

    def __init__(self, channel: socket.socket) -> None:
        channel.settimeout(_ANSWER_SECONDS)
        self._socket = channel

    def ask(self, operation: str, **arguments: Any) -> Any:
        return self.ask_with_descriptor(operation, **arguments)[0]

    def ask_with_descriptor(self, operation: str, **arguments: Any) -> tuple[Any, int]:
        """The answer, and the descriptor that came with it or -1. Raises LabError."""
        try:
            self._socket.send(json.dumps({"op": operation, **arguments}).encode())
            message, descriptors, _, _ = socket.recv_fds(self._socket, agent.MESSAGE_LIMIT, 1)
        except OSError as error:
            raise LabError(f"{operation}: the lab's process does not answer: {error}") from error
        if not message:
            raise LabError(f"{operation}: the lab's process has gone")
        answer = json.loads(message)
        if "error" in answer:
            raise LabError(f"{operation} {arguments}: {answer['error']}")
        return answer["ok"], descriptors[0] if descriptors else -1

    def close(self) -> None:
        self._socket.close()


class Namespace:
    """One network namespace. Make it by `Lab.namespace`."""

    def __init__(self, name: str, pid: int, net: int, channel: _Channel, nested: bool) -> None:
        self.name = name
        self.pid = pid
        self.net = net
        self._channel = channel
        self._nested = nested
        self._children: list[subprocess.Popen[Any]] = []

    def __repr__(self) -> str:
        return f"Namespace({self.name!r}, pid={self.pid})"

    # Processes

    def command(self, arguments: Sequence[str]) -> list[str]:
        """`arguments` as a command line that runs inside, to be started by whatever means (the pid stays)."""
        user = ["--user", "--preserve-credentials"] if self._nested else []
        return ["nsenter", f"--target={self.pid}", *user, "--net", "--", *arguments]

    def popen(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside; `options` as of subprocess.Popen. It is killed when the lab is left."""
        options.setdefault("stdin", subprocess.DEVNULL)
        child: subprocess.Popen[Any] = subprocess.Popen(self.command(arguments), **options)
        self._children.append(child)
        return child

    def run(
        self, arguments: Sequence[str], *, check: bool = True, timeout: float = 30.0, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end, `timeout` seconds at most; output is captured as text.

        Raises LabError with its standard error when `check` and the exit code is not 0, and
        subprocess.TimeoutExpired.
        """
        done = subprocess.run(
            self.command(arguments), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode != 0:
            told = (done.stderr or done.stdout).strip()
            raise LabError(f"{' '.join(arguments)} in {self.name}: exit code {done.returncode}: {told}")
        return done

    def processes(self) -> list[int]:
        """The pids of what runs inside, without the lab's own agent."""
        return [pid for pid in agent.inhabitants(self.net) if pid != self.pid]

    # Sockets

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in the namespace, for use from here."""
        _, descriptor = self._channel.ask_with_descriptor("socket", family=family, kind=kind, protocol=protocol)
        return socket.socket(fileno=descriptor)

    def capture(self, interface: str, *, watch: Sequence[bytes] = (), limit: int = 64 << 20) -> Capture:
        """Capture `interface` while in the `with` block; see `Capture` for `watch` and `limit` (bytes kept)."""
        # Protocol 0 until it is bound: otherwise it would take in other interfaces' frames before.
        return Capture(self.socket(socket.AF_PACKET, socket.SOCK_RAW), interface, tuple(watch), limit)

    # Interfaces, addresses, routes

    def up(self, interface: str) -> None:
        self._channel.ask("link_set", interface=interface, state="up")

    def wait_operational(self, interface: str) -> None:
        """Wait until the kernel sends and receives on a link that was brought up, with its peer, just before."""
        wait_for(f"{interface} in {self.name}", lambda: self._channel.ask("operational", interface=interface))

    def down(self, interface: str) -> None:
        self._channel.ask("link_set", interface=interface, state="down")

    def set_mtu(self, interface: str, mtu: int) -> None:
        self._channel.ask("link_set", interface=interface, mtu=mtu)

    def add_address(self, interface: str, address: str) -> None:
        """`address` with its prefix length, such as `10.0.0.1/24` or `fd00::1/64`."""
        self._channel.ask("address", action="add", interface=interface, address=address)

    def delete_address(self, interface: str, address: str) -> None:
        self._channel.ask("address", action="del", interface=interface, address=address)

    def add_route(self, destination: str, *, via: str | None = None, interface: str | None = None) -> None:
        """`destination`: a prefix or `default`."""
        self._channel.ask("route", action="add", destination=destination, via=via, interface=interface)

    def delete_route(self, destination: str, *, via: str | None = None, interface: str | None = None) -> None:
        self._channel.ask("route", action="del", destination=destination, via=via, interface=interface)

    def delete_link(self, interface: str) -> None:
        self._channel.ask("link_delete", interface=interface)

    def bridge(self, name: str, ports: Sequence[str]) -> None:
        """Make a bridge of the interfaces `ports`, and bring it up."""
        self._channel.ask("bridge", name=name, ports=list(ports))

    def sysctl(self, name: str, value: str | int) -> None:
        """Set `name`, written with slashes below /proc/sys: `net/ipv4/ip_forward`."""
        self._channel.ask("sysctl", name=name, value=str(value))

    # Routing and filtering

    def forward(self) -> None:
        """Make this namespace a router for IPv4 and IPv6."""
        self.sysctl("net/ipv4/ip_forward", 1)
        self.sysctl("net/ipv6/conf/all/forwarding", 1)

    def nft(self, rules: str) -> None:
        """Apply rules in nft's language (needs the nft program)."""
        self.run(["nft", "-f", "-"], stdin=rules)

    def masquerade(self, interface: str, ports: tuple[int, int] = (40000, 40999)) -> None:
        """Translate what leaves by `interface` to its address and a port of `ports`; forgets older translations.

        Called again with other ports it is a NAT that rebinds: flows go on from a new port.
        """
        low, high = ports
        rule = f'oifname "{interface}" meta l4proto {{ tcp, udp }} masquerade to :{low}-{high}'
        self.nft(
            "table ip lab_nat\ndelete table ip lab_nat\ntable ip lab_nat { chain out { "
            f"type nat hook postrouting priority srcnat\n{rule}\n}}\n}}\n"
        )
        self._channel.ask("forget_connections")

    def _close(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.kill()
        for child in self._children:
            child.wait(_SETTLE_SECONDS)
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe:
                    pipe.close()
        left = self._channel.ask("evict")
        self._channel.close()
        if left:
            raise LabError(f"processes in {self.name} that do not die: {left}")


@dataclass(frozen=True)
class Link:
    """A veth pair: interface `near` in namespace `a`, `far` in namespace `b`."""

    a: Namespace
    near: str
    b: Namespace
    far: str

    def set_mtu(self, mtu: int) -> None:
        """Set the MTU of both ends, bytes."""
        self.a.set_mtu(self.near, mtu)
        self.b.set_mtu(self.far, mtu)


class Lab:
    """A network of namespaces; a context manager. See the package's docstring for an example."""

    def __init__(self) -> None:
        self._namespaces: dict[str, Namespace] = {}
        self._links = 0
        self.folder = pathlib.Path()

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._keeper = subprocess.Popen(
                [sys.executable, "-P", agent.__file__, "keep", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us; we end it by closing its socket
            )
        self._channel = _Channel(ours)
        try:
            self.folder = pathlib.Path(self._channel.ask("about")["folder"])
        except BaseException:
            self._stop_keeper()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failures = []
        for namespace in self._namespaces.values():
            try:
                namespace._close()
            except (LabError, subprocess.TimeoutExpired) as failure:
                failures.append(str(failure))
        self._stop_keeper()
        if failures and error is None:
            raise LabError("; ".join(failures))

    def _stop_keeper(self) -> None:
        self._channel.close()
        try:
            self._keeper.wait(_SETTLE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._keeper.pid, signal.SIGKILL)
            self._keeper.wait()

    def namespace(self, name: str) -> Namespace:
        """A new network namespace with its loopback up. `name` is for people."""
        if name in self._namespaces:
            raise LabError(f"there is a namespace {name} already")
        about, descriptor = self._channel.ask_with_descriptor("namespace")
        channel = _Channel(socket.socket(fileno=descriptor))
        made = Namespace(name, about["pid"], about["net"], channel, nested=not agent.privileged())
        self._namespaces[name] = made
        return made

    def router(self, name: str) -> Namespace:
        """A new namespace that forwards IPv4 and IPv6."""
        made = self.namespace(name)
        made.forward()
        return made

    def link(
        self,
        a: Namespace,
        b: Namespace,
        addresses_a: Sequence[str] = (),
        addresses_b: Sequence[str] = (),
        *,
        mtu: int = 1500,
        names: tuple[str, str] | None = None,
    ) -> Link:
        """Join two namespaces by a veth pair, with addresses (`10.0.0.1/24`, `fd00::1/64`), and bring it up.

        The interfaces are called `veth0`, `veth1`... in the order of the links, the same at both ends, unless
        `names` says otherwise.
        """
        near, far = names or (f"veth{self._links}", f"veth{self._links}")
        self._links += 1
        a._channel.ask("veth", name=near, peer=far, peer_pid=b.pid)
        link = Link(a, near, b, far)
        link.set_mtu(mtu)
        for namespace, interface, addresses in ((a, near, addresses_a), (b, far, addresses_b)):
            for address in addresses:
                namespace.add_address(interface, address)
            namespace.up(interface)
        for namespace, interface in ((a, near), (b, far)):
            namespace.wait_operational(interface)
        return link
