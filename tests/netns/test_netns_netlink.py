"""Addresses, routes and guards in a namespace of their own, read back with `ip`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Lab, Namespace

pytestmark = [pytest.mark.netns, pytest.mark.needs("ip")]
ROOT = str(Path(__file__).parents[2])
BEGIN = """
import sys
sys.path.insert(0, sys.argv[1])
from pqvpn.errors import PqvpnError
from pqvpn.host.netlink import Interface, remove_guards
def refused(act):
    try:
        act()
    except PqvpnError as error:
        print(error.reason.code)
"""
UP = 'i = Interface("pq0", "/etc/a"); i.configure(("10.7.0.1/24", "fd07::1/64"), 1432)\n'


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture
def here(lab: Lab, request: pytest.FixtureRequest) -> Namespace:
    space = lab.namespace(f"n{abs(hash(request.node.name)) % 10**6}")
    space.run(["ip", "tuntap", "add", "pq0", "mode", "tun"])
    return space


def act(space: Namespace, script: str) -> list[str]:
    done = space.run([sys.executable, "-c", BEGIN + script, ROOT])
    return str(done.stdout).splitlines()


def routes(space: Namespace, *more: str) -> set[tuple[str, str, str]]:
    """(prefix, device or "unreachable", table) of the routes that carry our protocol number."""
    found: list[dict[str, Any]] = []
    for family in ("-4", "-6"):
        shown = space.run(["ip", "-j", family, "route", "show", "table", "all", "proto", "157", *more]).stdout
        found += json.loads(shown or "[]")
    return {
        (r["dst"], r["type"] if r.get("type") == "unreachable" else r.get("dev", ""), str(r.get("table", "main")))
        for r in found
    }


def rules(space: Namespace, family: str) -> list[dict[str, Any]]:
    shown = json.loads(space.run(["ip", "-j", family, "rule"]).stdout)
    return [r for r in shown if 5200 <= r["priority"] < 32766]


def test_the_interface_gets_addresses_and_mtu(here: Namespace) -> None:
    act(here, UP)
    (link,) = json.loads(here.run(["ip", "-j", "addr", "show", "pq0"]).stdout)
    assert (link["mtu"], "UP" in link["flags"], "MULTICAST" in link["flags"]) == (1432, True, False)
    assert {(a["local"], a["prefixlen"]) for a in link["addr_info"]} == {("10.7.0.1", 24), ("fd07::1", 64)}
    assert not any(a.get("tentative") for a in link["addr_info"])
    act(here, UP)  # a second time, as after the take-over of leftovers


def test_routes_have_guards_that_outlive_the_interface(here: Namespace) -> None:
    act(here, UP + 'i.set_routes(("10.8.0.0/16", "fd08::/32"))')
    guards = {("10.8.0.0/16", "unreachable", "main"), ("fd08::/32", "unreachable", "main")}
    guards |= {("10.7.0.0/24", "unreachable", "main"), ("fd07::/64", "unreachable", "main")}
    assert routes(here) == guards | {("10.8.0.0/16", "pq0", "main"), ("fd08::/32", "pq0", "main")}
    assert "dev pq0" in here.run(["ip", "route", "get", "10.8.1.1"]).stdout
    here.run(["ip", "link", "del", "pq0"])
    assert routes(here) == guards
    assert here.run(["ip", "route", "get", "10.8.1.1"], check=False).returncode != 0
    assert act(here, 'print(*remove_guards("/etc/other")); print(*remove_guards("/etc/a"))') == [
        "", "10.7.0.0/24 10.8.0.0/16 fd07::/64 fd08::/32",
    ]  # fmt: skip
    assert routes(here) == set()


def test_a_new_set_changes_only_the_difference(here: Namespace) -> None:
    script = UP + 'i.set_routes(("10.8.0.0/16", "10.9.0.0/16")); print(*sorted(i.guards()))\n'
    script += 'i.set_routes(("10.9.0.0/16", "10.10.0.0/16")); print(*sorted(i.guards()))'
    assert act(here, script) == [
        "10.7.0.0/24 10.8.0.0/16 10.9.0.0/16 fd07::/64",
        "10.10.0.0/16 10.7.0.0/24 10.9.0.0/16 fd07::/64",
    ]
    assert {r[0] for r in routes(here) if r[1] == "pq0"} == {"10.9.0.0/16", "10.10.0.0/16"}


def test_a_default_route_has_a_table_and_rules_of_its_own(here: Namespace) -> None:
    act(here, UP + 'i.set_routes(("0.0.0.0/0", "::/0"))')
    for family in ("-4", "-6"):
        main, marked = rules(here, family)
        assert (main["table"], main["suppress_prefixlen"]) == ("main", 0)
        assert "not" in marked
    defaults = {r for r in routes(here) if r[0] == "default"}
    assert {r[1] for r in defaults} == {"pq0", "unreachable"}
    assert all(r[2] != "main" for r in defaults)
    mark = rules(here, "-4")[1]["fwmark"]
    assert "dev pq0" in here.run(["ip", "route", "get", "198.51.100.1"]).stdout
    assert here.run(["ip", "route", "get", "198.51.100.1", "mark", mark], check=False).returncode != 0
    here.run(["ip", "link", "del", "pq0"])
    act(here, 'remove_guards("/etc/a")')
    assert (rules(here, "-4"), rules(here, "-6"), routes(here)) == ([], [], set())


def test_release_takes_guards_and_rules_away(here: Namespace) -> None:
    act(here, UP + 'i.set_routes(("0.0.0.0/0", "10.8.0.0/16")); i.release(); i.close()')
    assert {r for r in routes(here) if r[1] == "unreachable"} == set()
    assert rules(here, "-4") == []


def test_refusals_have_reasons(here: Namespace) -> None:
    script = 'refused(lambda: Interface("none0", "/etc/a"))\n' + UP
    script += "refused(lambda: i.set_mtu(1))\nfrom pqvpn.host import privileges\nprivileges.keep_only(frozenset())\n"
    script += 'refused(lambda: i.set_routes(("10.8.0.0/16",)))'
    assert act(here, script) == ["tun.unavailable", "host.kernel_refused", "host.no_permission"]
