"""One measurement each, of one contender that runs between two namespaces.

Owns method: what is started, for how long, what is counted. Values are in the units of `figures.py`.
"""

import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.contenders import OUTER, Contender
from lab.namespaces import LabError
from lab.traffic import ping
from lab.waiting import WaitTimeoutError

IPERF_PORT = 5201
_TOOL = str(pathlib.Path(__file__).with_name("udp.py"))
_UDP_PORT = 5555
_PINGS = 200
_TICKS = os.sysconf("SC_CLK_TCK")
_HEADERS = 14 + 20 + 8  # Ethernet, IPv4 without options, UDP
_M1 = bytes((1, 1, 1))  # type, version, message (PROTOCOL section 3)


class MeasureError(Exception):
    """A measurement gave nothing to count; the text says what."""


@dataclass(frozen=True)
class Flow:
    """A TCP measurement: bits a second at the receiver, and CPU seconds of all the contender's processes for each GB."""

    gbit: float
    cpu: float


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time that the processes have used so far."""
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def memory(pids: Sequence[int]) -> float:
    """Proportional set size of the processes, MiB."""
    kib = 0
    for pid in pids:
        found = re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        kib += int(found[1]) if found else 0
    return kib / 1024


def tcp(contender: Contender, flows: int, seconds: float) -> Flow:
    """iperf3 from the near to the far end; the first half second, in which windows open, is left out."""
    pids = [pid for side in contender.pids() for pid in side]
    before = cpu_seconds(pids)
    command = ["iperf3", "-J", "-c", contender.far, "-t", f"{seconds:g}", "-O", "0.5", "-P", str(flows)]
    told = contender.ends[0].run(command, check=False, timeout=seconds + 15)
    used = cpu_seconds(pids) - before
    try:
        received = json.loads(told.stdout)["end"]["sum_received"]
        gbit, transferred = received["bits_per_second"] / 1e9, received["bytes"]
    except (ValueError, KeyError):
        raise MeasureError(f"iperf3 over {contender.name} failed: {told.stdout[-300:]}") from None
    if not transferred:
        raise MeasureError(f"no TCP byte came through {contender.name}")
    whole = transferred * (seconds + 0.5) / seconds  # CPU was counted from the start on, bytes were not
    return Flow(gbit, used / (whole / 1e9))


def udp(contender: Contender, sizes: str, counted: str, seconds: float) -> float:
    """Small packets that arrive, thousands a second; see `udp.py` for `sizes` and `counted`."""
    near, far = contender.ends
    where = [contender.far, str(_UDP_PORT)]
    command = [sys.executable, _TOOL, "sink", *where, f"{seconds:g}", counted]
    with far.popen(command, stdout=subprocess.PIPE, text=True) as sink:
        assert sink.stdout
        sink.stdout.readline()  # it listens
        near.run([sys.executable, _TOOL, "flood", *where, f"{seconds + 0.4:g}", sizes], timeout=seconds + 10)
        told = sink.communicate(timeout=15)[0]
    if sink.returncode or not (arrived := float(told)):
        raise MeasureError(f"no datagram came through {contender.name}")
    return arrived / 1000


def round_trip(contender: Contender) -> float:
    """The median of 200 pings, ms."""
    told = contender.ends[0].run(["ping", "-c", str(_PINGS), "-i", "0.005", contender.far], check=False, timeout=30)
    times = [float(found) for found in re.findall(r"time=([\d.]+)", told.stdout)]
    if len(times) < _PINGS * 0.95:
        raise MeasureError(f"only {len(times)} of {_PINGS} pings came back through {contender.name}")
    return statistics.median(times)


def start(contender: Contender) -> tuple[float, dict[str, float]]:
    """Start both ends; seconds from starting the near one to the first reply through the tunnel, and their parts."""
    contender.start_far()
    began = time.monotonic()
    contender.start_near()
    deadline = began + 20
    while time.monotonic() < deadline:
        try:
            answered = ping(contender.ends[0], contender.far, 1, timeout=0.02).times
        except OSError:  # no route yet
            time.sleep(0.002)
            continue
        if answered:
            took = time.monotonic() - began
            return took, _parts(contender.start_parts(), took)
    raise WaitTimeoutError(f"{contender.name} brought no reply within 20 s")


def _parts(told: dict[str, float], took: float) -> dict[str, float]:
    return told | {"rest": round(max(took - sum(told.values()), 0.0), 4)} if told else {}


def record_m1(frames: Sequence[bytes]) -> list[bytes]:
    """The datagrams of first handshake messages to the far end among captured frames (Ethernet, IPv4, UDP)."""
    far = bytes(map(int, OUTER[1].split(".")))
    udp_frames = [frame for frame in frames if len(frame) > _HEADERS and frame[23] == socket.IPPROTO_UDP]
    datagrams = [frame[_HEADERS:] for frame in udp_frames if frame[30:34] == far]
    return [datagram for datagram in datagrams if datagram.startswith(_M1)]


def attacked(contender: Contender, attacker: Any, recorded: Sequence[bytes], rate: int, seconds: float) -> float:
    """One TCP flow while `attacker` floods the far end's port, as a part of the same flow's rate just before and after."""
    file = contender.lab.folder / "recorded"
    file.write_text("\n".join(datagram.hex() for datagram in recorded))
    before = tcp(contender, 1, seconds).gbit
    discarded = contender.discarded()
    where = [OUTER[1], "51820", f"{seconds + 2:g}", str(rate), str(file)]
    with attacker.popen([sys.executable, _TOOL, "attack", *where], stdout=subprocess.PIPE, text=True) as flood:
        under = tcp(contender, 1, seconds).gbit
        kept = float(flood.communicate(timeout=15)[0])
    if kept < rate * 0.9:
        raise LabError(f"the attacker kept up only {kept:.0f} of {rate} datagrams a second")
    if contender.discarded() == discarded:
        raise MeasureError(f"the flood did not reach {contender.name}")
    after = tcp(contender, 1, seconds).gbit
    return under / ((before + after) / 2)
