"""Two lanes back to back against wireguard-go, in two namespaces over a veth, interleaved: medians of paired ratios.

`python compare.py [--rounds N] [--seconds T] [--wireguard PATH] [--only abump] [--off gso,gro,...]`, as root.
Figures of one round stand side by side; a veth carries super-packets unsegmented, which flatters both.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SPACES = ("pqbenchA", "pqbenchB")
TICK = os.sysconf("SC_CLK_TCK")
SINK = """
import socket, time, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(1, 33, 16 << 20); s.bind(("10.9.0.2", 5555))
if GRO: s.setsockopt(17, 104, 1)
b = bytearray(65536); s.settimeout(8); s.recv_into(b); n = 0; t = time.monotonic(); s.settimeout(1)
try:
    while time.monotonic() - t < 2:
        n += s.recv_into(b) / 64 if GRO else (s.recv_into(b) > 0)
except TimeoutError: pass
print(n / (time.monotonic() - t) / 1e3)
"""
FLOOD = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(("10.9.0.2", 5555)); t = time.monotonic(); f = s.send
D = [bytes(64)] * 200 if GRO else [bytes(40 + (i * 37) % 49) for i in range(200)]
while time.monotonic() - t < 2.3:
    for d in D:
        try: f(d)
        except OSError: pass
"""


def run(command: str, check: bool = True) -> str:
    """Output of a shell command."""
    return subprocess.run(command, shell=True, check=check, capture_output=True, text=True).stdout


def inside(side: int, command: str, check: bool = True) -> str:
    """Output of a command in a side's namespace."""
    return run(f"ip netns exec {SPACES[side]} {command}", check)


def spawn(side: int, args: list[str], **env: str) -> subprocess.Popen[str]:
    """Start a program in a side's namespace."""
    return subprocess.Popen(
        ["ip", "netns", "exec", SPACES[side], *args], env={**os.environ, **env}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if "QUIET" in os.environ else None,
    )  # fmt: skip


def setup() -> None:
    """Two namespaces and a veth."""
    teardown()
    for space in SPACES:
        run(f"ip netns add {space}")
    run(f"ip link add pqb0 netns {SPACES[0]} type veth peer name pqb1 netns {SPACES[1]}")
    for side in (0, 1):
        inside(side, f"ip addr add 10.8.0.{side + 1}/24 dev pqb{side}")
        inside(side, f"ip link set pqb{side} up")
        inside(side, "ip link set lo up")


def teardown() -> None:
    """Remove them."""
    for space in SPACES:
        run(f"ip netns del {space}", check=False)


def start_wireguard(program: str) -> list[subprocess.Popen[str]]:
    """Two wireguard-go with fresh keys."""
    keys = [run("wg genkey").strip() for _ in SPACES]
    public = [run(f"echo {key} | wg pubkey").strip() for key in keys]
    running = [spawn(side, [program, "-f", f"wg{side}"], LOG_LEVEL="error") for side in (0, 1)]
    for side in (0, 1):
        wait_for(lambda side=side: os.path.exists(f"/var/run/wireguard/wg{side}.sock"))
        inside(
            side,
            f"sh -c 'echo {keys[side]} | wg set wg{side} listen-port 7000 private-key /dev/stdin "
            f"peer {public[1 - side]} allowed-ips 10.9.0.0/24 endpoint 10.8.0.{2 - side}:7000'",
        )
        inside(side, f"ip addr add 10.9.0.{side + 1}/24 dev wg{side}")
        inside(side, f"ip link set wg{side} mtu 1420 up")
    return running


def start_lanes(off: str, lanes: int, aead: int) -> list[subprocess.Popen[str]]:
    """Two sides of ours."""
    return [
        spawn(
            side,
            [sys.executable, str(HERE / "side.py"), f"dtun{side}", f"10.9.0.{side + 1}/24", f"10.8.0.{2 - side}",
             str(side), str(aead), off, str(lanes)],
        )
        for side in (0, 1)
    ]  # fmt: skip


def wait_for(ready: object, seconds: float = 8.0) -> None:
    """Poll until `ready()`; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not ready():  # type: ignore[operator] # a plain callable
        if time.monotonic() > end:
            raise TimeoutError("not ready")
        time.sleep(0.05)


def tree(pid: int) -> list[int]:
    """A process and its children, theirs included."""
    found = [pid]
    for child in run(f"pgrep -P {pid}", check=False).split():
        found += tree(int(child))
    return found


def cpu(pids: list[int]) -> float:
    """CPU seconds used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def memory(pids: list[int]) -> float:
    """PSS a side, MiB."""
    total = 0
    for pid in pids:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
        total += int(found[1]) if found else 0
    return total / 1024 / 2


def iperf(arguments: str, seconds: float) -> dict[str, float]:
    """One run of iperf3 from side 0 to side 1: Gbit/s and bytes."""
    server = spawn(1, ["iperf3", "-s", "-1"])
    time.sleep(0.3)
    text = inside(0, f"timeout {seconds + 8} iperf3 -J -c 10.9.0.2 -t {seconds} {arguments}", check=False)
    server.terminate()
    server.wait()
    total = json.loads(text)["end"]["sum_received"]
    return {"gbit": total["bits_per_second"] / 1e9, "bytes": total["bytes"]}


def flood(gro: bool) -> float:
    """Small packets a second at the sink, thousands: 64 bytes each to a sink that takes joined ones, or 40 to 88."""
    sink = spawn(1, [sys.executable, "-c", f"GRO={gro}" + SINK])
    time.sleep(0.3)
    source = spawn(0, [sys.executable, "-c", f"GRO={gro}" + FLOOD])
    source.wait()
    return float(sink.communicate(timeout=15)[0])


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """All figures of one contender in one round."""
    ours = name == "pqvpn"
    running = start_lanes(options.off, options.lanes, options.aead) if ours else start_wireguard(options.wireguard)
    found: dict[str, float] = {}
    try:
        wait_for(lambda: "1 received" in inside(0, "ping -c1 -W1 10.9.0.2", check=False), 15)
        pids = [pid for process in running for pid in tree(process.pid)]
        if "a" in options.only:
            before = cpu(pids)
            result = iperf("", options.seconds)
            found["tcp1"] = result["gbit"]
            found["cpu_gb"] = (cpu(pids) - before) / (result["bytes"] / 1e9)
        if "b" in options.only:
            found["tcp8"] = iperf("-P 8", options.seconds)["gbit"]
        if "u" in options.only:
            before = cpu(pids)
            found["udp64"] = flood(gro=True)
            found["udp64_us"] = (cpu(pids) - before) / max(found["udp64"] * 2e3, 1) * 1e6
        if "m" in options.only:
            found["mixed"] = flood(gro=False)
        if "p" in options.only:
            times = re.findall(r"time=([\d.]+)", inside(0, "ping -c 200 -i 0.005 10.9.0.2", check=False))
            found["rtt_ms"] = statistics.median(map(float, times))
        found["pss"] = memory(pids)
    finally:
        for process in running:
            for pid in tree(process.pid)[::-1]:
                run(f"kill {pid}", check=False)
            process.wait()
        time.sleep(0.3)
    return found


def main() -> None:
    """Rounds, then the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--wireguard", default="wireguard")
    parser.add_argument("--only", default="abump")
    parser.add_argument("--off", default="none")
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--aead", type=int, default=1)
    options = parser.parse_args()
    setup()
    rounds: list[dict[str, dict[str, float]]] = []
    names = ["wireguard", "pqvpn"]
    try:
        for number in range(options.rounds):
            order = names if number % 2 == 0 else names[::-1]
            rounds.append({name: measure(name, options) for name in order})
            for name in names:
                print(number, name, {k: round(v, 3) for k, v in rounds[-1][name].items()}, flush=True)
    finally:
        teardown()
    for figure in rounds[0]["pqvpn"]:
        ours = statistics.median(r["pqvpn"][figure] for r in rounds)
        ratio = statistics.median(r["pqvpn"][figure] / r["wireguard"][figure] for r in rounds)
        print(f"{figure:10s} {ours:10.3f}   {ratio:6.2f}x of wireguard-go")


if __name__ == "__main__":
    main()
