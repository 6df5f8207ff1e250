"""The closed table of faults."""

from typing import Final

from lab.chaos import dependencies, machine, network, processes
from lab.chaos.faults import Fault, Healer, fault
from lab.chaos.scene import OBSERVER_HANGS
from lab.faults import memory_obstacle

_PROCESSES: Final = "lane-0 control observer"
_AWAY: Final = (
    "network.stale network.send_refused network.no_route network.no_reply network.unreachable network.port_closed"
)
_NODE, _MANAGER, _WORLD = Healer.NODE, Healer.MANAGER, Healer.WORLD

TABLE: Final[tuple[Fault, ...]] = (
    fault("kill", "a process is killed", _NODE, "node.child_died", processes.by("kill"), f"{_PROCESSES} spare"),
    fault("segfault", "a process crashes", _NODE, "node.child_died", processes.by("segv"), f"{_PROCESSES} spare"),
    fault(
        "stop", "a process hangs", _NODE, "node.child_hung", processes.by("stop"), _PROCESSES, OBSERVER_HANGS + 15.0,
    ),
    fault(
        "memory", "a process gets no more memory", _NODE, "host.out_of_memory", processes.by("memory"),
        _PROCESSES, obstacle=memory_obstacle,
    ),
    fault("kill-supervisor", "the supervisor is killed", _MANAGER, "node.killed", processes.supervisor_killed),
    fault(
        "descriptors", "a process gets no more descriptors", _WORLD, "host.descriptors host.state_unwritable",
        machine.few_descriptors, f"{_PROCESSES} supervisor",
    ),
    fault(
        "cpu", "the node gets hardly any processor time", _WORLD, "host.starved node.child_hung", machine.starved,
    ),
    fault("disk-full", "the state folder's disk is full", _WORLD, "telemetry.disk_full", machine.disk_full),
    fault("interface-deleted", "the tunnel's interface is deleted", _NODE, "tun.gone", network.interface_deleted),
    fault("interface-down", "the tunnel's interface is switched off", _NODE, "tun.down", network.interface_down),
    fault("route-deleted", "a route into the tunnel is deleted", _NODE, "tun.down", network.route_deleted),
    fault("address-removed", "the tunnel's address is removed", _NODE, "tun.down", network.address_removed),
    fault("link-down", "the outer link is down", _WORLD, _AWAY, network.link_down),
    fault("outer-address-removed", "the outer address is removed", _WORLD, _AWAY, network.outer_address_removed),
    fault("outer-route-deleted", "the outer routes are deleted", _WORLD, _AWAY, network.outer_route_deleted),
    fault("clock-ahead", "the wall clock jumps ahead", _NODE, "host.clock_jumped", machine.clock_jumps(7200.0)),
    fault("clock-back", "the wall clock jumps back", _NODE, "host.clock_jumped", machine.clock_jumps(-7200.0)),
    fault("names-dead", "the name server is gone", _WORLD, "network.dns_failed", dependencies.names_dead),
    fault(
        "collector-dead", "the collector is gone", _WORLD, "telemetry.collector_unreachable",
        dependencies.collector("dead"),
    ),
    fault(
        "collector-hanging", "the collector does not answer", _WORLD, "telemetry.collector_unreachable",
        dependencies.collector("hanging"),
    ),
    fault(
        "collector-nonsense", "the collector answers nonsense", _WORLD, "telemetry.collector_answer",
        dependencies.collector("nonsense"),
    ),
    fault(
        "crash-server-dead", "the crash server is gone", _WORLD, "crash.server_unreachable",
        dependencies.crash_server("dead"),
    ),
    fault(
        "crash-server-hanging", "the crash server does not answer", _WORLD, "crash.server_unreachable",
        dependencies.crash_server("hanging"),
    ),
    fault(
        "crash-server-nonsense", "the crash server answers nonsense", _WORLD, "crash.server_answer",
        dependencies.crash_server("nonsense"),
    ),
)  # fmt: skip
BY_NAME: Final = {each.name: each for each in TABLE}
