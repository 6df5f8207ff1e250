"""Faults of interfaces, addresses and routes, inside and outside."""

from collections.abc import Iterator
from typing import Final

from lab.chaos.faults import Blow
from lab.chaos.scene import INNER, LINK, OUTER, TUNNEL, default_route

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
