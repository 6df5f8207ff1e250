"""Where the faults happen: two nodes with all that they depend on, a TCP connection through them, and captures outside.

        alpha (10.7.0.1) --veth0-- beta (10.7.0.2)        each: state folder on a small tmpfs, name server, collector and
                                                          crash server on its own loopback

Each default route leads to the other one outside, so that what is not in the tunnel would leave in the clear. The nodes call
each other by name. Owns how the scene is made, how it is mended by a service manager's hand, and how it is awaited; what a
fault is and what is measured stand elsewhere.
"""

import contextlib
import http.client
import json
import pathlib
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from lab.chaos import servers, wallclock
from lab.chaos.knocking import Knocking
from lab.namespaces import Lab, LabError, Namespace
from lab.nodes import Node, introduce, make_node
from lab.stream import MARKER
from lab.streams import Streams
from lab.traffic import ping
from lab.waiting import wait_for
from lab.wire import Wire

OUTER: Final = {"alpha": "10.0.0.1", "beta": "10.0.0.2"}
INNER: Final = {"alpha": "10.7.0.1", "beta": "10.7.0.2"}
COMPONENTS: Final = ("supervisor", "control", "lane-0", "observer", "spare")
TUNNEL, LINK = "pqvpn0", "veth0"
STATE_MIB: Final = 16
RATE: Final = 1 << 20
"""Bytes a second of the connection: it is to live, not to fill the machine."""

DEAD, FRESH, HANGS, BREAKER = 3.0, 1.0, 1.0, 2.0
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    # each end is meant: the rare tries of a loop of deaths are another matter
    "restart": {"burst": 100, "lived": "0.5s", "hang_after": f"{HANGS}s"},
    "timers": {
        "m1_schedule": ["0s", "0.3s", "0.6s"], "m1_fresh_after": f"{FRESH}s", "keepalive": "1s", "dead": f"{DEAD}s",
    },
    "breakers": {"open_for": "1s", "open_longest": f"{BREAKER}s"},
    "health": {"interval": "500ms", "disk_free": "1MiB"},
    "telemetry": {
        "endpoint": f"http://127.0.0.1:{servers.COLLECTOR}", "timeout": "1s", "flush_interval": "500ms",
        "metrics_interval": "2s", "spool_size": "4MiB",
    },
    "log": {"rotate_size": "256KiB", "keep_size": "1MiB"},
    "crash_reports": {"dsn_file": "crashes.dsn", "timeout": "1s", "keep_size": "1MiB"},
}  # fmt: skip
OBSERVER_HANGS: Final = 10 * HANGS
RECOVERY: Final = 3 * (DEAD + FRESH + BREAKER)
"""Seconds within which two nodes have to be whole and reach each other again, once what hurt them is gone: silence is noticed
after `dead`, an attempt's next M1 comes after `m1_fresh_after`, a breaker waits for `open_longest` at most; three times that,
since this machine is busy. A hang is found before that: by then its code was told."""
NO_NAMES: Final = "options timeout:1 attempts:1\nnameserver 127.0.0.1\n"
_HOUSE: Final = """
mount --make-rprivate /
mount -t tmpfs -o size={size}M,mode=700 tmpfs {state}
mount --bind {names} /etc/resolv.conf
echo ready
exec sleep infinity
"""


@dataclass
class House:
    """A node and what stands around it on its machine."""

    node: Node
    holder: "subprocess.Popen[str]"
    clock: pathlib.Path
    names: servers.NameServer
    collector: servers.WebServer
    crashes: servers.WebServer

    @property
    def state(self) -> pathlib.Path:
        """The state folder as the node sees it: it lies in a mount namespace of the house."""
        return pathlib.Path(f"/proc/{self.holder.pid}/root{self.node.folder / 'state'}")

    def shift_clock(self, seconds: float) -> None:
        """Have the wall clock of the node jump by so much more."""
        with open(self.clock, "r+b") as file:
            (before,) = wallclock.SHIFT.unpack(file.read(wallclock.SHIFT.size))
            file.seek(0)
            file.write(wallclock.SHIFT.pack(before + seconds))

    def health(self) -> list[Mapping[str, Any]]:
        """The items that `pqvpn health` shows. Raises OSError while the observer does not answer."""
        connection = http.client.HTTPConnection("node", timeout=5.0)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection.sock:
            connection.sock.settimeout(5.0)
            connection.sock.connect(str(self.node.folder / "run" / "health.sock"))
            try:
                connection.request("GET", "/health")
                return list(json.loads(connection.getresponse().read())["items"])
            except (http.client.HTTPException, ValueError) as error:
                raise ConnectionError(str(error)) from None

    def close(self) -> None:
        """End the servers; the lab ends the rest."""
        self.names.stop()
        self.collector.stop()
        self.crashes.stop()


@dataclass
class Scene:
    """Use it in a `with` block: it begins with both nodes whole and a connection that flows.

    `kills`: how often a crash was ordered by faults that need a report; each is another one, since reports of the same
    are limited.
    """

    lab: Lab
    houses: dict[str, House] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    kills: int = 0
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _knocking: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _streams: Streams | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._make(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams.__exit__(kind, error, trace)
            self.lost += streams.lost
        self._stack.close()

    def node(self, name: str) -> Node:
        """One of the two."""
        return self.houses[name].node

    def other(self, name: str) -> Node:
        """The other one."""
        return self.node("beta" if name == "alpha" else "alpha")

    # -- making it ---------------------------------------------------------------------------------------------------

    def _make(self, stack: contextlib.ExitStack) -> None:
        a, b = (self.lab.namespace(name) for name in OUTER)
        self.lab.link(a, b, [f"{OUTER['alpha']}/24"], [f"{OUTER['beta']}/24"])
        for name, namespace in zip(OUTER, (a, b), strict=True):
            namespace.sysctl(
                f"net/ipv6/conf/{LINK}/disable_ipv6", 1
            )  # the kernel's own words are not what is looked for
            default_route(namespace, name)
            self.houses[name] = self._house(namespace, name)
            stack.callback(self.houses[name].close)
        introduce(self.node("alpha"), self.node("beta"), "alpha.chaos.test", "beta.chaos.test")
        watch = (MARKER,)
        for namespace, foreign in ((a, False), (a, True), (b, True)):
            self.wires.append(stack.enter_context(Wire(namespace, LINK, watch, only_foreign=foreign)))
        for house in self.houses.values():
            house.node.start()
        for house in self.houses.values():
            house.node.wait_running(60.0)
        stack.enter_context(self._knocking)
        for name, other in (("alpha", "beta"), ("beta", "alpha")):
            self._knocking.enter_context(Knocking(self.node(name).namespace, INNER[other]))
        self.wait_whole(60.0)
        self._warm_up()
        self.begin_streams()

    def _warm_up(self) -> None:
        """Replace every process once and have it reported: what the first time loads and opens is no growth later."""
        for component in ("observer", "control", "lane-0"):
            for house in self.houses.values():
                house.node.kill(component)
            self.wait_whole(RECOVERY)
        for name, house in self.houses.items():
            wait_for(f"{name}'s crash reports", lambda: house.crashes.taken >= 3, RECOVERY)  # noqa: B023

    def _house(self, namespace: Namespace, name: str) -> House:
        node = make_node(self.lab, namespace, name, [f"{INNER[name]}/24"], settings=SETTINGS)
        dsn, clock, names = (node.folder / file for file in ("crashes.dsn", "clock", "resolv.conf"))
        dsn.touch(0o600)
        dsn.write_text(servers.DSN)
        clock.write_bytes(wallclock.SHIFT.pack(0.0))
        names.write_text(NO_NAMES)
        holder = self._hold(namespace, node, names)
        node.runs_by = (
            "nsenter", f"--target={holder.pid}", "--mount", "--", sys.executable, wallclock.__file__, str(clock),
        )  # fmt: skip
        known = {f"{each}.chaos.test": address for each, address in OUTER.items()}
        house = House(
            node, holder, clock, servers.NameServer(namespace, known),
            servers.WebServer(namespace, servers.COLLECTOR), servers.WebServer(namespace, servers.CRASHES),
        )  # fmt: skip
        house.names.start()
        house.collector.become("well")
        house.crashes.become("well")
        return house

    def _hold(self, namespace: Namespace, node: Node, names: pathlib.Path) -> "subprocess.Popen[str]":
        """A process that holds the node's mount namespace, which outlives the node."""
        state = node.folder / "state"
        state.mkdir(mode=0o700)
        script = _HOUSE.format(size=STATE_MIB, state=shlex.quote(str(state)), names=shlex.quote(str(names)))
        holder = namespace.popen(
            ["unshare", "--mount", "sh", "-ec", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said = holder.stdout.readline() if holder.stdout else ""
        if said != "ready\n":
            raise LabError(f"no mounts of its own for {node.name}: {said.strip()}")
        return holder

    # -- the connection ----------------------------------------------------------------------------------------------

    def begin_streams(self) -> None:
        """A new connection through the tunnel; what became of the one before is in `lost`."""
        self.end_streams()
        self._streams = Streams(self.node("alpha"), self.node("beta"), 1, rate=RATE).__enter__()
        self._streams.wait_flowing(RECOVERY)

    def end_streams(self) -> None:
        """End it orderly, and compare what was sent with what arrived."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams.__exit__(None, None, None)
            self.lost += streams.lost

    def end_traffic(self) -> None:
        """The connection, and what knocks beside it: captures come to their end only when nothing passes any more."""
        self.end_streams()
        self._knocking.close()

    def wait_flowing(self, timeout: float) -> None:
        """Wait until something arrived since now."""
        if self._streams is not None:
            self._streams.wait_flowing(timeout)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_whole(self, timeout: float) -> None:
        """Wait until each node has all its processes and both have the same session, over which both ways answer."""
        deadline = time.monotonic() + timeout
        for name, house in self.houses.items():
            wait_for(f"{name} to be whole", lambda: _is_whole(house.node), deadline - time.monotonic(), 0.05)  # noqa: B023
        alpha, beta = self.node("alpha"), self.node("beta")
        for one, other in ((alpha, beta), (beta, alpha)):
            one.wait_for_peer(other.name, timeout=max(1.0, deadline - time.monotonic()))

        def agree() -> bool:
            here, there = alpha.peer("beta")["session_id"], beta.peer("alpha")["session_id"]
            return here is not None and here == there

        wait_for("one session on both sides", agree, max(1.0, deadline - time.monotonic()), 0.05)
        for one, other in ((alpha, beta), (beta, alpha)):
            wait_for(
                f"{other.name} to answer {one.name}",
                lambda: not ping(one.namespace, other.address, 1, timeout=0.5).lost,  # noqa: B023 - called at once
                max(1.0, deadline - time.monotonic()),
            )


def _is_whole(node: Node) -> bool:
    """Whether every process runs, and the spare has imported everything."""
    running = {each["component"]: each["pid"] for each in node.status()["processes"]}
    if not set(COMPONENTS) <= running.keys():
        return False
    return pathlib.Path(f"/proc/{running['spare']}/comm").read_text().strip() == "pqvpn-waiting"


def default_route(namespace: Namespace, name: str) -> None:
    """What is not in the tunnel would leave to the other node, where captures see it."""
    namespace.add_route("default", via=OUTER["beta" if name == "alpha" else "alpha"])


def lines_since(file: pathlib.Path, offset: int) -> Iterator[Mapping[str, Any]]:
    """The records that a node wrote after that place of its log."""
    with open(file, "rb") as log:
        log.seek(offset)
        for line in log.read().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    yield record
