"""The `status` answer has the fields that docs/architecture.md promises, with values that JSON carries."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pqvpn.control import status
from pqvpn.control.supervision import ControlStart, Processes, ProcessInfo
from pqvpn.control.traffic import Traffic
from pqvpn.dataplane.counters import Counters
from pqvpn.dataplane.events import Offloads
from pqvpn.drops import DROP_COUNT, DropReason
from pqvpn.protocol.effects import Role, Session
from pqvpn.protocol.settings import POLICY_AUTH_PLAINTEXT, Timers
from pqvpn.protocol.views import PeerState, PeerView
from pqvpn.reasons import Reason
from pqvpn.wire.address import Address

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text().partition("`status` result:")[2]
HERE = Address.parse("192.0.2.1:7")
START = ControlStart(
    "alpha", b"P" * 32, b"s" * 32, None, b"b" * 8, (), Timers(), 2, 1432, "pqvpn0", ("10.7.0.1/24",), 51820, "info", False,
    False, True, 4, True, 5, 6, (7, 8), Offloads(), 77, 100.0, False,
)  # fmt: skip
SESSION = Session(3, b"B" * 32, b"\xab" * 16, Role.RESPONDER, 2, 0, 2, 1432, 16, 32, HERE, None, 150.0, 330.0)
STARTED = Processes((ProcessInfo("control", 78, 1, 120.0),), {"spawn": 0.1, "interface": 0.2})


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    fd = Counters.create()
    counters = Counters(fd)
    yield Traffic(counters)
    counters.close()
    os.close(fd)


def view(session: Session | None = SESSION, **changes: Any) -> PeerView:
    values: dict[str, Any] = {
        "peer_id": b"B" * 32, "name": "beta", "state": PeerState.UP, "reason": None, "last_received": 199.5,
        "endpoint": HERE, "rtt": 0.0125, "path_mtu": 1432, "session": session, "sessions": 1,
    }  # fmt: skip
    return PeerView(**(values | changes))


def node(processes: Processes = STARTED, failed: tuple[str, ...] = (), *views: PeerView) -> dict[str, Any]:
    return status.node(START, processes, Offloads(tun_uso=False), failed, views, 200.0)


def test_every_promised_field_of_a_peer_is_there(traffic: Traffic) -> None:
    shown = status.peer(view(), ("10.7.0.2/32",), traffic, [], 200.0)
    (page,) = re.findall(r'"peers": \[\{(.*?)\}\],', PAGE, re.DOTALL)
    outer = re.sub(r"\{[^{}]*\}", "", page)
    names = set(re.findall(r'"([a-z_]+)"', outer)) - {"direct", "up", "connecting", "stale", "down", "full"}
    assert names <= set(shown)
    assert set(shown) <= names
    json.dumps(shown)


def test_a_peer_that_is_up(traffic: Traffic) -> None:
    shown = status.peer(view(), ("10.7.0.2/32",), traffic, [], 200.0)
    assert (shown["state"], shown["reason"], shown["path"], shown["endpoint"]) == ("up", None, "direct", "192.0.2.1:7")
    assert (shown["last_received_seconds"], shown["rtt_ms"], shown["handshake_age_seconds"]) == (0.5, 12.5, 50.0)
    assert (shown["session_id"], shown["role"], shown["lanes"]) == ("ab" * 16, "responder", 2)
    assert (shown["post_quantum"], shown["security"]) == (True, "full")
    assert "X-Wing" in shown["suite"]
    assert "ChaCha20-Poly1305" in shown["suite"]


def test_a_peer_that_is_down_has_a_reason_and_no_session(traffic: Traffic) -> None:
    down = view(None, state=PeerState.DOWN, reason=Reason.NO_ENDPOINT, last_received=None, endpoint=None, rtt=None)
    shown = status.peer(down, (), traffic, [], 200.0)
    assert shown["reason"] == {
        "code": "network.no_endpoint", "text": Reason.NO_ENDPOINT.text, "remedy": Reason.NO_ENDPOINT.remedy,
    }  # fmt: skip
    empty = ("path", "endpoint", "rtt_ms", "session_id", "role", "suite", "lanes", "last_received_seconds", "loss")
    assert [shown[name] for name in empty] == [None] * len(empty)
    assert shown["post_quantum"] is False


def test_every_promised_field_of_the_node_is_there() -> None:
    shown = node()
    (page,) = re.findall(r'"node": \{(.*?)\},\n "processes"', PAGE, re.DOTALL)
    assert set(re.findall(r'"([a-z_]+)"[:,}]', re.sub(r"\{[^{}]*\}|: \"[^\"]*\"", "", page))) <= set(shown)
    assert set(shown["offloads"]) == {"tun_tso", "tun_uso", "udp_gso", "udp_gro", "steering"}
    assert shown["offloads"]["tun_uso"] is False
    assert (shown["pid"], shown["uptime_seconds"], shown["state"]) == (77, 100.0, "running")
    assert shown["id"].startswith("pqvpn1")
    assert "seed" not in json.dumps(shown)


def test_a_node_whose_interface_is_not_up_is_starting() -> None:
    assert node(Processes((), {"spawn": 0.1}))["state"] == "starting"


def test_lanes_that_run_are_counted() -> None:
    lanes = [ProcessInfo(f"lane-{n}", 80 + n, 0, 100.0) for n in range(START.lanes)]
    assert node(Processes((), {}))["lanes_running"] == START.lanes, "not known yet"
    assert node(Processes((*STARTED.processes, *lanes), {}))["lanes_running"] == START.lanes
    assert node(Processes((*STARTED.processes, *lanes[1:]), {}))["lanes_running"] == START.lanes - 1


def test_security_is_told_loudly() -> None:
    weak = Session(**{f: getattr(SESSION, f) for f in SESSION.__dataclass_fields__} | {"policy": POLICY_AUTH_PLAINTEXT})
    assert node()["security"] == "full"
    assert node(STARTED, (), view(), view(weak))["security"] == "degraded"


def test_processes_and_drops() -> None:
    assert status.process_list(STARTED, 200.0) == [
        {"component": "control", "pid": 78, "restarts": 1, "uptime_seconds": 80.0}
    ]
    one, other = [0] * DROP_COUNT, [0] * DROP_COUNT
    one[DropReason.REPLAY], other[DropReason.REPLAY], other[DropReason.MAC1] = 1, 2, 5
    assert status.drops(one, other) == {"replay": 3, "mac1": 5}
