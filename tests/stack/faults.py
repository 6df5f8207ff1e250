"""Faults as an operator meets them, each with its end: what the alerts are for.

Each is a context manager that does something real to a node, a link or a file system, and undoes it.
"""

import contextlib
import os
import resource
import signal
import subprocess
import time
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


def restarted(site: Site) -> None:
    """Beta is away for a moment: changes of a peer's state are looked for once a second."""
    site.beta.down()
    time.sleep(1.5)
    site.beta.up(90)
    site.connect()


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
def address_gone(node: Node) -> Iterator[None]:
    """The tunnel's interface loses its address."""
    interface, address = node.status()["node"]["interface"], str(node.interfaces[0])
    node.namespace.delete_address(interface, address)
    try:
        yield
    finally:
        node.namespace.add_address(interface, address)
        node.down()  # as the remedy says: its routes are gone, too
        node.up(90)


@contextlib.contextmanager
def few_descriptors(node: Node, component: str = "control") -> Iterator[None]:
    """A process has all the descriptors that it may have."""
    (pid,) = node.pids(component)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


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


def poking(site: Site, seconds: float = 0.2) -> None:
    """Something for beta, and a pause."""
    site.poke()
    time.sleep(seconds)
