"""The processes that hold a lab's network namespaces; run by path, not imported by what is under test.

One **keeper** for each lab enters a user namespace when it is not privileged, and forks one **agent** for each
network namespace. Both answer requests on a SOCK_SEQPACKET socket. They own the namespaces, the lab's folder and
every process inside: when the lab's process goes away, in whatever manner, their sockets close, and they kill what
lives in the namespaces, remove the folder and leave. So nothing is left behind even by SIGKILL. Knows nothing of
the VPN.

Requests and answers are one JSON object each, at most 64 KiB: `{"op": name, ...}`, answered by `{"ok": value}` or
`{"error": text}`; descriptors travel as SCM_RIGHTS.
"""

import contextlib
import ctypes
import errno
import fcntl
import ipaddress
import json
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from pyroute2 import IPRoute, NFCTSocket

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MESSAGE_LIMIT = 65536

_CAP_NET_ADMIN = 12
_CAP_SYS_ADMIN = 21
_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x1001
_IFA_F_NODAD = 2  # usable at once; otherwise a work queue of the kernel says when

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones. Raises OSError (os.unshare came with Python 3.12)."""
    if _libc.unshare(flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def privileged() -> bool:
    """Whether this process may make network namespaces without a user namespace around them."""
    with open("/proc/self/status") as status:
        caps = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return bool(caps >> _CAP_SYS_ADMIN & 1 and caps >> _CAP_NET_ADMIN & 1)


def enter_user_namespace() -> None:
    """Become root of a new user namespace in which only our own user exists. Raises OSError."""
    uid, gid = os.getuid(), os.getgid()
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def inhabitants(net: int) -> list[int]:
    """The pids of all processes whose network namespace has the inode `net`, without our own."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/net").st_ino == net:
                    found.append(int(name))
    return found


def evict(net: int, limit: float = 3.0) -> list[int]:
    """SIGKILL every other process in the network namespace `net` until none is left, for `limit` seconds at most.

    Returns the pids that would not go.
    """
    deadline = time.monotonic() + limit
    while (pids := inhabitants(net)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)  # the kernel tells nobody when a process that is not our child has gone
    return pids


class Agent:
    """What can be asked of one network namespace: its links, addresses, routes, settings and sockets."""

    def __init__(self) -> None:
        self._ip = IPRoute()
        self.net = os.stat("/proc/self/ns/net").st_ino

    def prepare(self) -> None:
        """Bring up the loopback, and let IPv6 addresses be usable at once (no duplicate address detection)."""
        self.link_set("lo", state="up")
        for scope in ("all", "default"):
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                self.sysctl(f"net/ipv6/conf/{scope}/accept_dad", "0")

    def sysctl(self, name: str, value: str) -> None:
        with open(f"/proc/sys/{name}", "w") as file:
            file.write(value)

    def index(self, interface: str) -> int:
        found = self._ip.link_lookup(ifname=interface)
        if not found:
            raise OSError(errno.ENODEV, f"no interface {interface}")
        return int(found[0])

    def veth(self, name: str, peer: str, peer_pid: int) -> None:
        self._ip.link("add", ifname=name, kind="veth", peer={"ifname": peer, "net_ns_pid": peer_pid})

    def bridge(self, name: str, ports: list[str]) -> None:
        self._ip.link("add", ifname=name, kind="bridge")
        for port in ports:
            self._ip.link("set", index=self.index(port), master=self.index(name))
        self.link_set(name, state="up")

    def link_set(self, interface: str, **change: Any) -> None:
        self._ip.link("set", index=self.index(interface), **change)

    def operational(self, interface: str) -> bool:
        """Whether the kernel has taken note that the link is up; until then it drops multicast, and so IPv6."""
        (link,) = self._ip.get_links(self.index(interface))
        return link.get_attr("IFLA_OPERSTATE") in ("UP", "UNKNOWN")

    def link_delete(self, interface: str) -> None:
        self._ip.link("del", index=self.index(interface))

    def address(self, action: str, interface: str, address: str) -> None:
        parsed = ipaddress.ip_interface(address)
        self._ip.addr(
            action,
            index=self.index(interface),
            address=str(parsed.ip),
            prefixlen=parsed.network.prefixlen,
            family=socket.AF_INET if parsed.version == 4 else socket.AF_INET6,
            flags=_IFA_F_NODAD if action == "add" and parsed.version == 6 else 0,
        )

    def route(self, action: str, destination: str, via: str | None, interface: str | None) -> None:
        where: dict[str, Any] = {"dst": destination}
        if destination == "default":
            where["dst"] = "::/0" if via and ":" in via else "0.0.0.0/0"
        if via:
            where["gateway"] = via
        if interface:
            where["oif"] = self.index(interface)
        self._ip.route(action, **where)

    def forget_connections(self) -> None:
        """Flush connection tracking, and with it every address translation in force."""
        with NFCTSocket() as tracking:
            tracking.flush()

    def evict(self) -> list[int]:
        return evict(self.net)


class Keeper:
    """Makes agents. Its own network namespace is of no matter."""

    def __init__(self, lifeline: socket.socket) -> None:
        self._lifeline = lifeline
        self.folder = tempfile.mkdtemp(prefix="pqvpn-lab-")
        self.agents: list[int] = []

    def about(self) -> dict[str, Any]:
        return {"folder": self.folder, "pid": os.getpid()}

    def namespace(self) -> tuple[dict[str, Any], socket.socket]:
        """Fork an agent in a new network namespace; returns what it is and the socket to it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._lifeline.close()
            os._exit(_run_agent(theirs))
        theirs.close()
        self.agents.append(pid)
        ready = json.loads(ours.recv(MESSAGE_LIMIT))
        if "error" in ready:
            raise OSError(ready["error"])
        return {"pid": pid, "net": ready["ok"]}, ours

    def close(self) -> None:
        for pid in self.agents:  # their sockets are closed already, or will be now that our copies are
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        shutil.rmtree(self.folder, ignore_errors=True)


def _run_agent(channel: socket.socket) -> int:
    try:
        unshare(CLONE_NEWNET)
        agent = Agent()
        agent.prepare()
    except Exception as error:  # noqa: BLE001 - the other end raises it
        channel.send(json.dumps({"error": str(error)}).encode())
        return 1
    channel.send(json.dumps({"ok": agent.net}).encode())
    try:
        serve(channel, agent)
    finally:
        agent.evict()
    return 0


def serve(channel: socket.socket, target: object) -> None:
    """Answer requests by calling the methods of `target`, until the other end closes."""
    while True:
        try:
            message = channel.recv(MESSAGE_LIMIT)
        except ConnectionError:
            return
        if not message:
            return
        request = json.loads(message)
        try:
            value, descriptors = _answer(target, request.pop("op"), request)
        except Exception as error:  # noqa: BLE001 - every failure is the answer; the lab raises it
            value, descriptors = {"error": f"{type(error).__name__}: {error}"}, []
        try:
            socket.send_fds(channel, [json.dumps(value).encode()], [d.fileno() for d in descriptors])
        except ConnectionError:
            return
        finally:
            for descriptor in descriptors:
                descriptor.close()


def _answer(target: object, operation: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[socket.socket]]:
    if operation == "socket":
        return {"ok": None}, [socket.socket(arguments["family"], arguments["kind"], arguments["protocol"])]
    method: Callable[..., Any] = getattr(target, operation)
    result = method(**arguments)
    if operation == "namespace":
        about, channel = result
        return {"ok": about}, [channel]
    return {"ok": result}, []


def probe() -> None:
    """Do once what a lab and a node need, step by step. Raises OSError whose `filename` names the step."""
    try:
        if not privileged():
            enter_user_namespace()
        unshare(CLONE_NEWNET)
    except OSError as error:
        error.filename = "namespace"
        raise
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as error:
        error.filename = "tun"
        raise
    try:
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"probe0", _IFF_TUN_NO_PI))
    except OSError as error:
        error.filename = "interface"
        raise


def main() -> int:
    """`agent.py probe` tries the machine; `agent.py keep FD` serves the socket FD until it closes."""
    if sys.argv[1] == "probe":
        try:
            probe()
        except OSError as error:
            print(json.dumps({"step": error.filename, "errno": error.errno, "text": error.strerror}))
        return 0
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # only the end of the lab ends us
    lifeline = socket.socket(fileno=int(sys.argv[2]))
    if not privileged():
        enter_user_namespace()
    keeper = Keeper(lifeline)
    try:
        serve(lifeline, keeper)
    finally:
        lifeline.close()
        keeper.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
