"""The laboratory itself: what the other kernel tests lean on."""

import os
import pathlib
import signal
import subprocess
import sys
from socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM

import pytest

from lab import Capture, Lab, LabError, Namespace, WaitTimeoutError, agent, wait_for

pytestmark = pytest.mark.netns

MARKER = b"in plain sight"


def exchange(sender: Namespace, receiver: Namespace, address: str, payload: bytes = MARKER) -> tuple[str, int]:
    """Send one datagram; returns where from it came."""
    family = AF_INET6 if ":" in address else AF_INET
    with receiver.socket(family, SOCK_DGRAM) as sink, sender.socket(family, SOCK_DGRAM) as source:
        sink.bind((address, 0))
        sink.settimeout(5)
        source.sendto(payload, sink.getsockname()[:2])
        received, origin = sink.recvfrom(65536)
        assert received == payload
        return origin[0], origin[1]


@pytest.mark.parametrize("address", ["10.0.0.2", "fd00::2"])
def test_linked_namespaces_reach_each_other_at_once(address: str) -> None:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.link(a, b, ["10.0.0.1/24", "fd00::1/64"], ["10.0.0.2/24", "fd00::2/64"])
        exchange(a, b, address)


def test_namespaces_are_apart_from_each_other_and_from_the_host() -> None:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        assert len({a.net, b.net, os.stat("/proc/self/ns/net").st_ino}) == 3
        with a.socket(AF_INET, SOCK_STREAM) as lonely, pytest.raises(OSError, match="unreachable"):
            lonely.connect(("10.0.0.2", 9))


def test_capture_sees_plain_text_and_counts_what_it_watches() -> None:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        link = lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
        with b.capture(link.far, watch=[MARKER, b"never sent"]) as seen:
            exchange(a, b, "10.0.0.2")
        assert seen.dropped == 0
        assert seen.hits == {MARKER: 1, b"never sent": 0}
        assert seen.contains(MARKER)
        assert not seen.contains(b"never sent")


def test_capture_keeps_no_more_than_its_limit_but_searches_everything() -> None:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        link = lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
        with b.capture(link.far, watch=[MARKER], limit=0) as seen:
            exchange(a, b, "10.0.0.2")
        assert seen.frames == []
        assert seen.hits[MARKER] == 1


def test_capture_survives_the_interface_going_down() -> None:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        link = lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
        with a.capture(link.near, watch=[MARKER]) as seen:
            for _ in range(2):
                exchange(a, b, "10.0.0.2")
                a.down(link.near)
                a.up(link.near)
                a.wait_operational(link.near)
        assert seen.hits[MARKER] == 2


def test_mtu_is_that_of_the_link() -> None:
    with Lab() as lab:
        a, b = lab.namespace("a"), lab.namespace("b")
        link = lab.link(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"], mtu=1280)
        with a.capture(link.near) as seen:
            exchange(a, b, "10.0.0.2", bytes(3000))
        assert max(map(len, seen.frames)) == 14 + 20 + 1256  # fragments carry multiples of 8 bytes


def test_router_forwards() -> None:
    with Lab() as lab:
        a, r, b = lab.namespace("a"), lab.router("r"), lab.namespace("b")
        lab.link(a, r, ["10.0.1.2/24", "fd01::2/64"], ["10.0.1.1/24", "fd01::1/64"])
        lab.link(r, b, ["10.0.2.1/24", "fd02::1/64"], ["10.0.2.2/24", "fd02::2/64"])
        for family in ("10.0.{}.1", "fd0{}::1"):
            a.add_route("default", via=family.format(1))
            b.add_route("default", via=family.format(2))
        assert exchange(a, b, "10.0.2.2")[0] == "10.0.1.2"
        assert exchange(a, b, "fd02::2")[0] == "fd01::2"


@pytest.mark.needs("nft")
def test_nat_translates_and_rebinds() -> None:
    with Lab() as lab:
        a, nat, b = lab.namespace("a"), lab.router("nat"), lab.namespace("b")
        lab.link(a, nat, ["192.168.1.2/24"], ["192.168.1.1/24"])
        outer = lab.link(nat, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
        a.add_route("default", via="192.168.1.1")
        with b.socket(AF_INET, SOCK_DGRAM) as sink, a.socket(AF_INET, SOCK_DGRAM) as source:
            sink.bind(("10.0.0.2", 0))
            sink.settimeout(5)
            origins = []
            for ports in ((41000, 41099), (42000, 42099)):
                nat.masquerade(outer.near, ports)
                source.sendto(MARKER, sink.getsockname())
                origins.append(sink.recvfrom(100)[1])
        assert [origin[0] for origin in origins] == ["10.0.0.1"] * 2
        assert [origin[1] // 1000 for origin in origins] == [41, 42]


def test_bridge_joins_its_ports() -> None:
    with Lab() as lab:
        a, switch, b = lab.namespace("a"), lab.namespace("switch"), lab.namespace("b")
        ports = [
            lab.link(a, switch, ["10.0.0.1/24"]).far,
            lab.link(b, switch, ["10.0.0.2/24"]).far,
        ]
        switch.bridge("br0", ports)
        for port in ports:
            switch.wait_operational(port)
        exchange(a, b, "10.0.0.2")


def test_run_tells_what_failed() -> None:
    with Lab() as lab:
        a = lab.namespace("a")
        assert a.run(["cat"], stdin="echo").stdout == "echo"
        with pytest.raises(LabError, match="exit code 3: oh no"):
            a.run(["sh", "-c", "echo oh no >&2; exit 3"])
        with pytest.raises(LabError, match="no interface nic9"):
            a.up("nic9")


def test_leaving_kills_what_runs_inside_even_daemons() -> None:
    with Lab() as lab:
        a = lab.namespace("a")
        a.run(["sh", "-c", "setsid sh -c 'trap \"\" TERM; while :; do sleep 60; done' >/dev/null 2>&1 &"])
        wait_for("the daemon", lambda: len(a.processes()) == 2)
        net, folder = a.net, lab.folder
        assert folder.is_dir()
    assert agent.inhabitants(net) == []
    assert not folder.exists()


def test_an_exception_passes_and_leaves_nothing() -> None:
    nets = []

    def fail() -> None:
        with Lab() as lab:
            a = lab.namespace("a")
            a.popen(["sleep", "600"])
            nets.append(a.net)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert agent.inhabitants(nets[0]) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_lab_leaves_nothing(number: signal.Signals) -> None:
    program = (
        "from lab import Lab\n"
        "with Lab() as lab:\n"
        "    a = lab.namespace('a')\n"
        "    a.popen(['sleep', '600'])\n"
        "    print(a.net, a.pid, lab.folder, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdout
        net, pid, folder = victim.stdout.readline().split()
        wait_for("the inhabitants", lambda: len(agent.inhabitants(int(net))) == 2)  # the agent and the sleeper
        victim.send_signal(number)
        victim.wait(10)
    wait_for("the agent to go", lambda: not pathlib.Path("/proc", pid).exists())
    wait_for("the namespace to be empty", lambda: not agent.inhabitants(int(net)))
    wait_for("the folder to go", lambda: not pathlib.Path(folder).exists())


def test_wait_for_tells_what_it_saw() -> None:
    with pytest.raises(WaitTimeoutError, match="for the moon; last seen: 0"):
        wait_for("the moon", lambda: 0, timeout=0.02)
    with pytest.raises(WaitTimeoutError, match="No such file"):
        wait_for("a file", lambda: pathlib.Path("/nowhere").stat(), timeout=0.02)


def test_capture_stops_twice_without_harm() -> None:
    with Lab() as lab:
        a = lab.namespace("a")
        with a.capture("lo") as seen:
            seen.stop()
        assert isinstance(seen, Capture)
