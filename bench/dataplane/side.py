"""One side of the micro-benchmark: a TUN, a UDP port and a lane process with fixed keys, no control process.

`python side.py INTERFACE OWN_INNER PEER_OUTER SIDE [aead] [off,off]` in a network namespace of its own; ends with SIGTERM.
Prints the lane's counters when it ends.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict

from pqvpn.dataplane import commands, start
from pqvpn.dataplane.counters import Counters
from pqvpn.dataplane.events import Offloads
from pqvpn.drops import DropReason
from pqvpn.host.tun import open_tun
from pqvpn.host.udp import open_group
from pqvpn.wire.address import Address

PORT = 7000
MTU = 1432


def install(side: int, lane: int, lanes: int, aead: int, peer: Address, mtu: int = MTU) -> commands.InstallSession:
    """The session between the two sides; keys are constants of this benchmark."""
    keys = [bytes([65 + s]) * 31 + bytes([lane]) for s in (0, 1)]
    ivs = [bytes([97 + s]) * 12 for s in (0, 1)]
    indices = (0x11110 | lane, 0x22220 | lane)
    return commands.InstallSession(
        slot=0, peer=1, index_in=indices[side], index_out=indices[1 - side], lanes=lanes, aead=aead, policy=0,
        mtu=mtu, recv_key=keys[1 - side], recv_iv=ivs[1 - side], send_key=keys[side], send_iv=ivs[side],
        send_counter=0, receive_from=0, endpoint=peer, source=None, expires_at=time.clock_gettime(7) + 3600,
        session_id=b"bench" * 3 + b"!", peer_id=bytes(32), initiator=side == 0,
    )  # fmt: skip


def run(interface: str, own: str, peer: str, side: int, aead: int, off: set[str], lanes: int) -> None:
    """Open everything, start the lanes, wait for SIGTERM."""
    tun = open_tun(interface, lanes, vnet="vnet" not in off, tso="tso" not in off, uso="uso" not in off)
    udp = open_group(PORT, lanes, gro="gro" not in off, steering="steering" not in off)
    offloads = Offloads(
        vnet=tun.vnet, tun_tso=tun.tso, tun_uso=tun.uso, udp_gso=udp.gso and "gso" not in off, udp_gro=udp.gro,
        steering=udp.steering,
    )  # fmt: skip
    subprocess.run(["ip", "addr", "add", own, "dev", interface], check=True)
    subprocess.run(["ip", "-6", "addr", "add", f"fd00::{side + 1}/64", "dev", interface, "nodad"], check=True)
    gso = f" gso_max_size {44 * (MTU - 52) + 321}" if tun.tso else ""
    subprocess.run(f"ip link set {interface} mtu {MTU} up{gso}".split(), check=True)
    memory = Counters.create()
    crossed = {}
    for a in range(lanes):
        for b in range(a + 1, lanes):
            crossed[a, b], crossed[b, a] = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    children, links = [], []
    for lane in range(lanes):
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link, their_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = tuple(crossed[lane, b].fileno() if b != lane else -1 for b in range(lanes))
        numbers = [tun.queues[lane], udp.sockets[lane + 1].fileno(), theirs.fileno(), memory, their_link.fileno()]
        start.send(
            link,
            start.Start(
                lane=lane, lanes=lanes, tun=numbers[0], udp=numbers[1], control=numbers[2], counters=memory,
                crossover=fds, offloads=offloads, mtu=MTU, ipv6=udp.ipv6, reads_udp=udp.steering or lane == 0,
            ),
        )  # fmt: skip
        children.append(
            subprocess.Popen(
                [sys.executable, "-O", "-m", "pqvpn.dataplane", str(numbers[4])],
                pass_fds=[n for n in (*numbers, *fds) if n >= 0],
            )
        )
        links += [control, link]
        prefixes = (commands.Prefix(socket.inet_aton("10.9.0.0"), 24), commands.Prefix(b"\xfd" + bytes(15), 64))
        address = Address(socket.inet_aton(peer), PORT)
        for command in (
            commands.SetRoutes((commands.PeerRoutes(1, prefixes),)),
            install(side, lane, lanes, aead, address),
            commands.SelectSession(1, 0),
        ):
            control.send(commands.encode(command))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    counters = Counters(memory)
    drops = {DropReason(i).name: n for i, n in enumerate(counters.drops()) if n}
    report = {
        "drops": drops,
        "lanes": [counters.totals(i) for i in range(lanes)],
        "session": asdict(counters.activity(0)),
    }
    print(json.dumps(report), file=sys.stderr)
    for child in children:
        child.terminate()
    os._exit(0)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    arguments = sys.argv[1:]
    run(
        arguments[0], arguments[1], arguments[2], int(arguments[3]), int(arguments[4]) if len(arguments) > 4 else 1,
        set(arguments[5].split(",")) if len(arguments) > 5 else set(), int(arguments[6]) if len(arguments) > 6 else 1,
    )  # fmt: skip
