"""A crash of each kind is one issue in a real crash server, linked to the trace that Jaeger has; and no canary is anywhere.

The nodes' redaction is the first line here, the collector's the second; what both let through would be found in the crash
server's database, in Jaeger, Prometheus, Alertmanager, the collector's queues, or its logs.
"""

import contextlib
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import guarded
import pytest
from guarded import Guarded

from lab import wait_for
from lab.nodes import Node
from lab.stacknodes import Site
from lab.stackservers import free_ports
from tests.crashserver.bugsink import Bugsink
from tests.crashserver.conftest import need_crash_server

pytestmark = [pytest.mark.stack, pytest.mark.netns]

LIMIT = 120.0
INTERFACE = "pqvpn0"


@pytest.fixture(scope="module")
def scene(stack, hook, logs, tmp_path_factory) -> Iterator[Guarded]:  # type: ignore[no-untyped-def]
    need_crash_server()
    with (
        Bugsink(tmp_path_factory.mktemp("crashes"), free_ports(1)[0]) as crashes,
        Site(stack, guarded.SETTINGS, guarded.OUTER, guarded.INNER, crashes.dsn) as site,
    ):
        made = Guarded(stack, site, hook, logs, crashes)
        made.prepare()
        site.start()
        yield made


def told(scene: Guarded, count: int = 1) -> list[dict[str, str]]:
    """The tags of the new events; Jaeger has the trace of each, in which the crash is a span."""
    return [_linked(scene, event) for event in scene.new_events(count)]


def _linked(scene: Guarded, event: dict[str, Any]) -> dict[str, str]:
    trace_id = event["contexts"]["trace"]["trace_id"]

    def names() -> set[str]:
        return {span["name"] for span in scene.stack.trace(trace_id)}

    wait_for(f"the crash in the trace {trace_id}", lambda: "pqvpn.crash" in names(), LIMIT, 0.3)
    return _tags(event)


def _tags(event: dict[str, Any]) -> dict[str, str]:
    return {name.removeprefix("pqvpn."): value for name, value in event["tags"].items()}


@pytest.fixture
def running(scene: Guarded) -> Guarded:
    """Both connected, all processes of alpha there."""
    scene.site.connect()
    wanted = {"supervisor", "control", "lane-0", "observer"}

    def complete() -> bool:
        return wanted <= {each["component"] for each in scene.site.alpha.status()["processes"] if each["pid"]}

    wait_for("all processes", complete, LIMIT)
    return scene


@pytest.mark.parametrize(
    ("component", "number", "kinds"),
    [
        ("lane-0", signal.SIGSEGV, ("signal",)),
        ("lane-0", signal.SIGKILL, ("killed", "out_of_memory")),
        ("control", signal.SIGABRT, ("signal",)),
        ("lane-0", signal.SIGSTOP, ("hang",)),
        ("control", signal.SIGSTOP, ("hang",)),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else None,
)
def test_a_process_that_ends_or_hangs(running: Guarded, component: str, number: int, kinds: tuple[str, ...]) -> None:
    running.site.alpha.kill(component, number)
    (tags,) = told(running)
    assert tags["kind"] in kinds
    assert tags["component"].startswith(component.partition("-")[0])


@pytest.mark.parametrize(
    ("fault", "component"),
    [("control", "control"), ("control-dies", "control"), ("lane", "lane-0"), ("lane-dies", "lane-0")],
)
def test_an_exception(running: Guarded, fault: str, component: str) -> None:
    """Caught at a boundary, or the end of the process: its text is a canary."""
    running.inject(fault)
    (tags,) = told(running)
    assert (tags["kind"], tags["component"]) == ("exception", component)


def test_a_process_whose_start_fails(running: Guarded) -> None:
    """Control is killed, and the one that follows fails before it serves."""
    running.arm("control-start")
    running.site.alpha.kill("control", signal.SIGBUS)  # SIGABRT has its issue already
    kinds = {(tags["kind"], tags["component"]) for tags in told(running, 2)}
    assert kinds == {("signal", "control"), ("startup", "control")}


@contextlib.contextmanager
def port_taken(alpha: Node) -> Iterator[str]:
    """Another program has the node's port."""
    with alpha.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", alpha.listen))
        yield "network.address_in_use"


@contextlib.contextmanager
def interface_refused(alpha: Node) -> Iterator[str]:
    """Something that is no TUN interface has its name."""
    alpha.namespace.bridge(INTERFACE, [])
    try:
        yield "tun.interface_exists"
    finally:
        alpha.namespace.delete_link(INTERFACE)


@pytest.mark.parametrize("fault", [port_taken, interface_refused])
def test_a_node_whose_start_fails(running: Guarded, fault: Callable[[Node], AbstractContextManager[str]]) -> None:
    """There is no observer yet: the supervisor itself has the span delivered, or it waits for the next start."""
    alpha = running.site.alpha
    alpha.down()
    try:
        with fault(alpha) as reason:
            assert alpha.cli("up", check=False).returncode > 0
        (tags,) = told(running)
        assert (tags["kind"], tags["component"], tags["reason"]) == ("startup", "supervisor", reason)
    finally:
        alpha.up(LIMIT)


def test_no_canary_is_behind_the_nodes(running: Guarded) -> None:
    site, stack = running.site, running.stack
    alpha = site.alpha
    sessions = [site.reconnect()["session_id"] for _ in range(3)]
    stack.jaeger.kill()  # what waits is in the queue's files
    try:
        guarded.write(alpha, "the.psk", guarded.key(secrets.token_bytes(32)))
        fails(running, alpha.config.read_text().replace(guarded.OUTER[1], guarded.HOST), "resolver.failed")
        fails(running, alpha.config.read_text().replace(guarded.HOST, guarded.OUTER[1]), "handshake.failed")
        wait_for("spans in the queue", lambda: b"pqvpn" in b"".join(running.queued().values()), LIMIT)
        assert not running.leaks(running.queued())
    finally:
        stack.jaeger.start()
    wait_for("the traces", lambda: all(stack.find({"session.id": session}) for session in sessions), LIMIT, 0.3)
    wait_for("an alert", lambda: running.hook.messages("Crash"), LIMIT, 0.3)
    running.crashes.stop()  # so that all of it is in its files
    found: dict[str, Any] = running.sinks()
    assert b"pqvpn.connect" in found["traces"]
    assert any(b"ZeroDivisionError" in content for name, content in found.items() if name.startswith("crash server"))
    leaks = running.leaks(found)
    assert not leaks, f"\n{leaks}"


def fails(scene: Guarded, config: str, event: str) -> None:
    """Wait until alpha tells of an event that it had not told of since it has this configuration."""
    alpha = scene.site.alpha
    before = alpha.log().count(f'"{event}"')
    alpha.config.write_text(config)
    alpha.cli("reload")

    def told() -> bool:
        scene.site.poke()
        return alpha.log().count(f'"{event}"') > before

    wait_for(event, told, LIMIT, 0.2)
