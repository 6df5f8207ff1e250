"""Messages between supervisor and control: every kind crosses the link whole, large ones too, with descriptors."""

import os
import socket
from collections.abc import Iterator

import pytest

from pqvpn.control import supervision
from pqvpn.control.supervision import (
    Configure,
    ControlReady,
    ErrorInfo,
    LaneReplaced,
    PeerSpec,
    Processes,
    ProcessInfo,
    ReloadRefused,
    ReloadRequested,
    Shutdown,
    StopRequested,
)

KEY = b"very secret key!" * 2
PEER = PeerSpec(b"P" * 32, "beta", b"K" * 1216, KEY, ("b:1",), ("10.7.0.2/32",), 25.0, True, False, None)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    supervisor, control = supervision.link()
    with supervisor, control:
        supervisor.settimeout(5)
        control.settimeout(5)
        yield supervisor, control


Ends = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize(
    "message",
    [
        Configure(3, (PEER,), ("peer beta added",), ("node.mtu",), redact_hosts=("beta.example",)),
        ReloadRefused(4, (ErrorInfo("config.value", "text", "detail", "node.mtu", "remedy"),)),
        Processes((ProcessInfo("lane-0", 7, 1, 2.5),), {"spawn": 0.25}),
        Shutdown(),
    ],
    ids=lambda m: type(m).__name__,
)
def test_to_control(ends: Ends, message: supervision.ToControl) -> None:
    supervision.send(ends[0], message)
    assert supervision.receive_as_control(ends[1]) == (message, None)


@pytest.mark.parametrize(
    "message", [ControlReady(), ReloadRequested(9), StopRequested()], ids=lambda m: type(m).__name__
)
def test_to_supervisor(ends: Ends, message: supervision.ToSupervisor) -> None:
    supervision.send(ends[1], message)
    assert supervision.receive_as_supervisor(ends[0]) == message


def test_a_descriptor_comes_with_its_message(ends: Ends) -> None:
    reading, writing = os.pipe()
    supervision.send(ends[0], LaneReplaced(2), writing)
    os.close(writing)
    message, descriptor = supervision.receive_as_control(ends[1])
    assert message == LaneReplaced(2)
    assert descriptor is not None
    os.write(descriptor, b"through")
    os.close(descriptor)
    assert os.read(reading, 100) == b"through"
    os.close(reading)


@pytest.mark.parametrize("peers", [1, 70, 1000])
def test_any_number_of_peers_fits(ends: Ends, peers: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    message = Configure(1, (PEER,) * peers, (), ())
    supervision.send(ends[0], message)
    supervision.send(ends[0], Shutdown())
    assert supervision.receive_as_control(ends[1]) == (message, None)
    assert supervision.receive_as_control(ends[1]) == (Shutdown(), None)
    assert len(os.listdir("/proc/self/fd")) == before  # no memfd stays open


def test_the_other_end_gone_is_the_end_of_the_file(ends: Ends) -> None:
    ends[0].close()
    with pytest.raises(EOFError):
        supervision.receive_as_control(ends[1])
    with pytest.raises(OSError):  # noqa: PT011 - EPIPE or ECONNRESET
        supervision.send(ends[1], ControlReady())


def test_one_side_does_not_take_the_others_words(ends: Ends) -> None:
    supervision.send(ends[1], Shutdown())
    with pytest.raises(ValueError, match="Shutdown"):
        supervision.receive_as_supervisor(ends[0])
    ends[1].send(b"\x81\xa4type\xa2\xff\xfe")
    with pytest.raises(ValueError, match="utf-8"):
        supervision.receive_as_supervisor(ends[0])


def test_no_message_prints_what_it_carries() -> None:
    shown = repr(PEER) + repr(Configure(1, (PEER,), (), ())) + str((PEER,))
    assert "PeerSpec" in shown
    assert "secret" not in shown
