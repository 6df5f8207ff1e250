"""A lane that takes another's place leaves packets in the kernel until control has said what they need."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dataplane_rig as rig
import pytest

from lab import wait_for
from pqvpn.dataplane import commands, events
from pqvpn.dataplane.counters import Counters, Total
from pqvpn.dataplane.events import Offloads
from pqvpn.dataplane.start import Start
from pqvpn.dataplane.worker import Worker
from pqvpn.host.udp import open_group

_PACKET = rig.VNET0 + bytes.fromhex("4500001c00000000401100000a0900010a090002") + bytes(8)


@contextmanager
def _lane() -> Iterator[tuple[socket.socket, socket.socket, Counters]]:
    """A lane that runs in a thread: its TUN's far end, control's end, the counters."""
    group, memory = open_group(0, 1), Counters.create()
    tun, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link, their_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    start = Start(
        lane=0, lanes=1, tun=theirs.fileno(), udp=os.dup(group.sockets[1].fileno()), control=their_control.detach(),
        counters=memory, crossover=(-1,), offloads=Offloads(), mtu=1432, ipv6=group.ipv6, waits=True,
    )  # fmt: skip
    counters, worker = Counters(memory), Worker(start, their_link)
    thread = threading.Thread(target=worker.run)
    control.settimeout(10)
    try:
        tun.send(_PACKET)
        thread.start()
        assert isinstance(events.decode(control.recv(1 << 16)), events.LaneReady)
        yield tun, control, counters
    finally:
        link.close()
        thread.join(10)
        for each in (tun, theirs, control):
            each.close()
        worker.close()
        counters.close()
        group.close()
        os.close(memory)


def test_packets_wait_for_begin() -> None:
    with _lane() as (_, control, counters):
        control.send(commands.encode(rig.routes()))
        time.sleep(0.2)  # what does not happen has no event
        assert counters.totals(0)["tun_reads"] == 0
        assert not any(counters.drops())
        control.send(commands.encode(commands.Begin()))
        wait_for("the packet to be read", lambda: counters.totals(0)["tun_reads"] > 0)
        # it was known where it belongs: a session is wanted for it, instead of "no route"
        assert isinstance(events.decode(control.recv(1 << 16)), events.WantSession)


def test_a_silent_control_is_not_waited_for_for_ever() -> None:
    with _lane() as (_, _control, counters):
        wait_for("the packet to be read", lambda: counters.totals(0)["tun_reads"] > 0, 20.0)
        assert any(counters.drops()), "without routes it goes nowhere"


@pytest.mark.parametrize("told", [commands.Stop(), None])
def test_it_ends_when_told_to_before(told: commands.Command | None) -> None:
    with _lane() as (_, control, counters):
        if told is not None:
            control.send(commands.encode(told))
        assert counters.words is not None
    assert Total.TUN_READS == 0
