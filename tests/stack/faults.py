"""Faults as an operator meets them, each with its end: what the alerts are for; and what a node then says of itself.

Each is a context manager that does something real to a node, a link or a file system, and undoes it.
"""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator

from lab import wait_for
from lab.nodes import Node
from lab.stacknodes import INNER, Site

STRANGE = "10.7.99.9"
_FIRST_BYTE = "@th,64,8"  # of the UDP payload


@contextlib.contextmanager
def peer_gone(site: Site) -> Iterator[None]:
    """Beta's end of the link is down."""
    site.beta.namespace.down(site.link.far)
    try:
        yield
    finally:
        site.beta.namespace.up(site.link.far)


@contextlib.contextmanager
def other_psk(site: Site) -> Iterator[None]:
    """Alpha expects a pre-shared key that beta does not have."""
    node = site.alpha
    before = node.config.read_text()
    (node.folder / "other.psk").touch(0o600)
    (node.folder / "other.psk").write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
    node.config.write_text(before.replace("\n[peer.beta]\n", '\n[peer.beta]\npsk_file = "other.psk"\n'))
    node.cli("reload")
    try:
        yield
    finally:
        node.config.write_text(before)
        node.cli("reload")


@contextlib.contextmanager
def degraded(site: Site) -> Iterator[None]:
    """Both operators arm the degraded mode."""
    nodes = ((site.alpha, "beta"), (site.beta, "alpha"))
    for node, peer in nodes:
        node.ask("degrade", peer=peer, armed=True)
    try:
        yield
    finally:
        for node, peer in nodes:
            node.ask("degrade", peer=peer, armed=False)


@contextlib.contextmanager
def processes_die(node: Node, component: str = "lane-0", times: int = 3) -> Iterator[None]:
    """One process is killed again and again."""
    for _ in range(times):
        before = node.kill(component, signal.SIGSEGV)
        wait_for(f"another {component}", lambda before=before: node.pids(component) not in ([], [before]))  # type: ignore[misc]
    yield


@contextlib.contextmanager
def address_twice(node: Node) -> Iterator[None]:
    """Another interface has an address of the tunnel."""
    address = f"{node.address}/32"
    node.namespace.add_address("lo", address)
    try:
        yield
    finally:
        node.namespace.delete_address("lo", address)


@contextlib.contextmanager
def lasting(node: Node, name: str, told: str = "yes") -> Iterator[None]:
    """A condition of a node that can be made to fail, see `tests/crashserver/injecting.py`."""
    file = node.folder / "triggers" / name
    file.with_suffix(".new").write_text(told)
    file.with_suffix(".new").rename(file)
    try:
        yield
    finally:
        file.unlink()


@contextlib.contextmanager
def few_descriptors(node: Node, component: str = "control") -> Iterator[None]:
    """A process has most of the descriptors that it may have; a few are left, so that it goes on."""
    (pid,) = node.pids(component)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (int(used / 0.87), before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # another one has taken its place, with all that it may have
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def metrics(node: Node) -> str:
    """A running node's own page of metrics."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(str(node.folder / "run" / "health.sock"))
        client.sendall(b"GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(65536), b"")).decode()


def instance(node: Node) -> str:
    """What a running node's telemetry calls it, as its own metrics say."""
    found = re.search(r'^target_info\{.*service_instance_id="([^"]+)"', metrics(node), re.MULTILINE)
    assert found
    return found[1]


def overflow(site: Site, limit: float) -> None:
    """Beta records until its spool has to forget what was not sent."""

    def dropped() -> bool:
        site.reconnect()
        return (
            re.search(r'^pqvpn_telemetry_lost_total\{.*"spool.size".*\} [1-9]', metrics(site.beta), re.MULTILINE)
            is not None
        )

    wait_for("beta's spool to overflow", dropped, limit, 0.0)


@contextlib.contextmanager
def small_disk(node: Node, size: str = "24m") -> Iterator[None]:
    """The state folder on a file system of its own; before the node is started."""
    state = node.folder / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(state)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(state)], check=False)


@contextlib.contextmanager
def full_disk(node: Node, mib: int = 12) -> Iterator[None]:
    """Something else takes the room of the state folder."""
    file = node.folder / "state" / "something-else"
    file.write_bytes(bytes(mib << 20))
    try:
        yield
    finally:
        file.unlink()


@contextlib.contextmanager
def narrow_path(site: Site, mtu: int = 1280) -> Iterator[None]:
    """The link carries less than what IPv6 needs inside."""
    site.link.set_mtu(mtu)
    try:
        yield
    finally:
        site.link.set_mtu(1500)


@contextlib.contextmanager
def no_handshakes(site: Site) -> Iterator[None]:
    """Handshake datagrams are lost on the way, packets are not."""
    rule = f"udp dport {site.beta.listen} {_FIRST_BYTE} {{ 1, 3 }} drop"
    site.beta.namespace.nft(f"table inet t {{\nchain f {{\ntype filter hook input priority 0;\n{rule}\n}}\n}}\n")
    try:
        yield
    finally:
        site.beta.namespace.nft("delete table inet t\n")


@contextlib.contextmanager
def foreign_source(site: Site) -> Iterator[None]:
    """Alpha's host sends from an address that beta does not allow it: 20 packets a second."""
    interface = site.alpha.status()["node"]["interface"]
    site.alpha.namespace.add_address(interface, f"{STRANGE}/32")
    command = ["ping", "-q", "-i", "0.05", "-I", STRANGE, INNER[1]]
    sender = site.alpha.namespace.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        sender.kill()
        sender.wait()
        site.alpha.namespace.delete_address(interface, f"{STRANGE}/32")
