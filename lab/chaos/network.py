"""Faults of interfaces, addresses and routes, inside and outside; and of the wall clock and the disk."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from lab.chaos.faults import Blow
from lab.chaos.scene import INNER, LINK, OUTER, TUNNEL, default_route

_PART: Final = bytes(1 << 16)
_OUTSIDE: Final = ("10.0.0.0/24", "dev", LINK)


def interface_deleted(blow: Blow) -> Iterator[str]:
    """With addresses and routes on it."""
    blow.house.node.namespace.delete_link(TUNNEL)
    yield f"ip link delete {TUNNEL}"


def interface_down(blow: Blow) -> Iterator[str]:
    """The kernel takes its routes away with it."""
    blow.house.node.namespace.down(TUNNEL)
    yield f"ip link set {TUNNEL} down"


def route_deleted(blow: Blow) -> Iterator[str]:
    """The one to the peer."""
    route = f"{INNER[blow.scene.other(blow.house.node.name).name]}/32"
    blow.house.node.namespace.delete_route(route, interface=TUNNEL)
    yield f"ip route delete {route} dev {TUNNEL}"


def address_removed(blow: Blow) -> Iterator[str]:
    """The node's own one inside."""
    address = f"{INNER[blow.house.node.name]}/24"
    blow.house.node.namespace.delete_address(TUNNEL, address)
    yield f"ip address delete {address} dev {TUNNEL}"


def link_down(blow: Blow) -> Iterator[str]:
    """The cable outside."""
    name, inside = blow.house.node.name, blow.house.node.namespace
    inside.down(LINK)
    try:
        yield f"ip link set {LINK} down"
    finally:
        inside.up(LINK)
        inside.wait_operational(LINK)
        default_route(inside, name)


def outer_address_removed(blow: Blow) -> Iterator[str]:
    """The node's own one outside."""
    name, inside = blow.house.node.name, blow.house.node.namespace
    inside.delete_address(LINK, f"{OUTER[name]}/24")
    try:
        yield f"ip address delete {OUTER[name]}/24 dev {LINK}"
    finally:
        inside.add_address(LINK, f"{OUTER[name]}/24")
        default_route(inside, name)


def outer_route_deleted(blow: Blow) -> Iterator[str]:
    """All of them: the peer's machine is out of reach."""
    name, inside = blow.house.node.name, blow.house.node.namespace
    inside.delete_route("default", via=OUTER[blow.scene.other(name).name])
    inside.run(["ip", "route", "delete", *_OUTSIDE])
    try:
        yield f"ip route delete {' '.join(_OUTSIDE)}, and the default route"
    finally:
        inside.run(["ip", "route", "add", *_OUTSIDE])
        default_route(inside, name)


def clock_jumps(seconds: float) -> Callable[[Blow], Iterator[str]]:
    """The wall clock, as all processes of the node see it. It jumps back later, which is one more jump."""

    def do(blow: Blow) -> Iterator[str]:
        blow.house.shift_clock(seconds)
        yield f"the wall clock by {seconds:+.0f} s"

    return do


def disk_full(blow: Blow) -> Iterator[str]:
    """To the last byte, as long as it lasts."""
    place = blow.house.state / "fill"
    with contextlib.suppress(OSError), open(place, "wb", buffering=0) as fill:
        while True:
            fill.write(_PART)
    try:
        yield "the state folder's tmpfs filled"
    finally:
        place.unlink()
