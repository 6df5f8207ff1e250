"""What a next supervisor takes over: the interface's queues, the sockets of the port, the counters.

Owns their names, the description that goes with them, and the check that they are what the configuration wants: descriptors
from elsewhere are used only when everything about them fits, else they are closed and made anew. Where they were
kept meanwhile, by the service manager or across an exec, is not known here.
"""

import os
import socket
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pqvpn.config.schema import NodeConfig
from pqvpn.dataplane.counters import SIZE
from pqvpn.host import icmp, tun, udp
from pqvpn.node import translate
from pqvpn.node.descriptors import Descriptors, LaneLink, crossovers
from pqvpn.node.state import State

FORMAT: Final = 1
"""Of the description; another one is not taken over."""
DESCRIPTION: Final = "description"
_COUNTERS: Final = "counters"


class Kept(msgspec.Struct, frozen=True):
    """What the descriptors are. The first fields are wanted by the configuration, the others were found at opening."""

    format: int
    interface: str
    lanes: int
    mtu: int
    addresses: tuple[str, ...]
    listen: int
    offload: str
    vnet: bool
    tso: bool
    uso: bool
    port: int
    ipv6: bool
    gso: bool
    gro: bool
    steering: bool


_decoder = msgspec.json.Decoder(Kept)


def describe(config: NodeConfig, held: Descriptors) -> Kept:
    """The description of open descriptors."""
    return Kept(
        *_wanted(config),
        vnet=held.tun.vnet,
        tso=held.tun.tso,
        uso=held.tun.uso,
        port=held.udp.port,
        ipv6=held.udp.ipv6,
        gso=held.udp.gso,
        gro=held.udp.gro,
        steering=held.udp.steering,
    )


def named(config: NodeConfig, held: Descriptors) -> dict[str, int]:
    """Everything that is kept, by name, with the description in a memfd of its own, which is the caller's to close."""
    memory = os.memfd_create("pqvpn-description", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(memory, msgspec.json.encode(describe(config, held)))
    found = {DESCRIPTION: memory, _COUNTERS: held.counters}
    found |= {f"tun-{number}": queue for number, queue in enumerate(held.tun.queues)}
    sockets = held.udp.sockets if held.udp.steering else held.udp.sockets[:1]
    return found | {f"udp-{number}": sock.fileno() for number, sock in enumerate(sockets)}


def names(lanes: int) -> list[str]:
    """Every name that may be in use."""
    numbered = [f"{kind}-{number}" for kind in ("tun", "udp") for number in range(lanes + 1)]
    return [DESCRIPTION, _COUNTERS, *numbered]


def take(config: NodeConfig, given: Mapping[str, int]) -> Descriptors | None:
    """Make a node's descriptors of those that were kept; None: they do not fit. They are closed then."""
    try:
        taken = _take(config, given)
    except (OSError, ValueError, KeyError):
        taken = None
    used = set(_used(taken)) if taken else set()
    for descriptor in given.values():
        if descriptor not in used:
            _close(descriptor)
    return taken


def leave(config: NodeConfig, held: Descriptors) -> dict[str, Any]:
    """Everything, links as well, for a supervisor that goes on in this process: the fields of `state.State`."""
    return {
        "kept": named(config, held),
        "lane_links": [(link.control.fileno(), link.lane.fileno()) for link in held.links],
        "crossover": [{str(lane): end.fileno() for lane, end in ends.items()} for ends in held.crossover],
        "icmp": [heard.fileno() for heard in held.icmp],
    }


def resume(config: NodeConfig, left: State) -> Descriptors:
    """What `leave` left. Raises ValueError when it does not fit; then nothing was closed."""
    taken = _take(config, left.kept)
    if taken is None:
        raise ValueError("the descriptors that were left do not fit the configuration")
    for link in taken.links:
        link.close()
    for made in (*taken.icmp, *(end for ends in taken.crossover for end in ends.values())):
        made.close()
    taken.links = [LaneLink(*(socket.socket(fileno=place) for place in pair)) for pair in left.lane_links]
    taken.crossover = [
        {int(lane): socket.socket(fileno=place) for lane, place in ends.items()} for ends in left.crossover
    ]
    taken.icmp = tuple(socket.socket(fileno=place) for place in left.icmp)
    return taken


def _take(config: NodeConfig, given: Mapping[str, int]) -> Descriptors | None:
    kept = _decoder.decode(os.pread(given[DESCRIPTION], 1 << 16, 0))
    if (kept.format, *_fields(kept)) != _wanted(config) or os.fstat(given[_COUNTERS]).st_size != SIZE:
        return None
    queues = tuple(given[f"tun-{number}"] for number in range(kept.lanes))
    if any(tun.name_of(queue) != kept.interface for queue in queues):
        return None  # deleted meanwhile, or renamed
    places = [given[f"udp-{number}"] for number in range(kept.lanes + 1 if kept.steering else 1)]
    family = socket.AF_INET6 if kept.ipv6 else socket.AF_INET
    sockets = tuple(socket.socket(fileno=place) for place in places)
    if any(s.family != family or s.getsockname()[1] != kept.port for s in sockets):
        for each in sockets:
            each.detach()
        return None
    group = udp.UdpGroup(
        sockets if kept.steering else sockets * (kept.lanes + 1),
        kept.port,
        kept.ipv6,
        kept.gso,
        kept.gro,
        kept.steering,
    )
    links = [LaneLink.make() for _ in range(kept.lanes)]
    interface = tun.Tun(kept.interface, queues, kept.vnet, kept.tso, kept.uso)
    heard = icmp.open_sockets(group.port, group.ipv6)
    return Descriptors(interface, group, given[_COUNTERS], links, crossovers(kept.lanes), heard)


def _used(taken: Descriptors) -> list[int]:
    return [taken.counters, *taken.tun.queues, *(sock.fileno() for sock in taken.udp.sockets)]


def _wanted(config: NodeConfig) -> tuple[int, str, int, int, tuple[str, ...], int, str]:
    node = config.node
    addresses = tuple(translate.addresses(config))
    return (
        FORMAT, node.interface, translate.lanes(config), translate.mtu(config), addresses, node.listen, repr(config.offload)
    )  # fmt: skip


def _fields(kept: Kept) -> tuple[str, int, int, tuple[str, ...], int, str]:
    return kept.interface, kept.lanes, kept.mtu, kept.addresses, kept.listen, kept.offload


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        return
