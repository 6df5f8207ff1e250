"""Each alert by a real fault: it fires with the right labels, and resolves when the fault is over."""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator, Mapping

import faults
import pytest
from conftest import Scene

from lab import WaitTimeoutError, wait_for
from lab.stacknodes import SHORT, Site
from lab.stackservers import Stack

pytestmark = [pytest.mark.stack, pytest.mark.netns, pytest.mark.needs("nft", "ping")]

FIRES, RESOLVES = 60.0, 90.0
Labels = Mapping[str, str]


@pytest.fixture(scope="module")
def scene(stack: Stack, hook, logs) -> Iterator[Scene]:  # type: ignore[no-untyped-def]
    """Nodes that rekey every few seconds, of which beta has a small disk and both may be degraded."""
    timers = {**SHORT["timers"], "rekey_after": "5s", "rekey_initiator_after": "6s", "rekey_jitter": "0s"}
    settings = {**SHORT, "timers": timers, "health": {"interval": "0.5s", "disk_free": "16MiB", "mend": False}}
    later = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=2)
    with Site(stack, settings) as site, contextlib.ExitStack() as files:
        for node, peer in ((site.alpha, "beta"), (site.beta, "alpha")):
            node.set({f"peer.{peer}": {"allow_degraded": ["auth-plaintext"]}})
            header = f"\n[peer.{peer}]\n"
            node.config.write_text(node.config.read_text().replace(header, f"{header}degraded_until = {later}\n"))
        files.enter_context(faults.small_disk(site.beta))
        site.start()
        yield Scene(stack, site, hook, logs)
        site.beta.down()


def missing(scene: Scene, wanted: Mapping[str, Labels]) -> list[str]:
    """Which of the alerts do not fire now; one that is suppressed as a symptom fires, too."""
    there = [alert["labels"] for alert in scene.stack.alerts()]
    return [
        name
        for name, labels in wanted.items()
        if not any(each["alertname"] == name and labels.items() <= each.items() for each in there)
    ]


def until(scene: Scene, what: str, probe: Callable[[], bool], limit: float) -> None:
    """Wait, with traffic from alpha to beta meanwhile."""

    def done() -> bool:
        with contextlib.suppress(OSError):
            scene.site.poke()
        return probe()

    try:
        wait_for(what, done, limit, 0.3)
    except WaitTimeoutError as error:
        found = [(alert["labels"], alert["status"]["state"]) for alert in scene.stack.alerts()]
        raise AssertionError(f"{error}; Alertmanager has {found}") from error


def gone(scene: Scene, wanted: Mapping[str, Labels]) -> None:
    """Wait until none of them fires."""
    until(scene, f"{sorted(wanted)} to end", lambda: len(missing(scene, wanted)) == len(wanted), RESOLVES)


@contextlib.contextmanager
def alerted(scene: Scene, wanted: Mapping[str, Labels]) -> Iterator[None]:
    """The block holds the fault. Before it none of the alerts fires, behind it all resolve."""
    gone(scene, wanted)
    began = time.monotonic()
    yield
    over = time.monotonic()
    gone(scene, wanted)
    print(f"{sorted(wanted)}: fault for {over - began:.1f} s, resolved {time.monotonic() - over:.1f} s after it")


def fire(scene: Scene, wanted: Mapping[str, Labels]) -> None:
    """Wait until all of them fire."""
    began = time.monotonic()
    until(scene, f"{sorted(wanted)} to fire", lambda: not missing(scene, wanted), FIRES)
    print(f"{sorted(wanted)}: fired after {time.monotonic() - began:.1f} s")


def test_a_peer_that_is_gone(scene: Scene) -> None:
    wanted = {"PeerDown": {"pqvpn_peer": "beta", "severity": "critical"}}
    with alerted(scene, wanted), faults.peer_gone(scene.site):
        fire(scene, wanted)
        wait_for("a message", lambda: scene.hook.told("PeerDown", "firing", pqvpn_peer="beta"), 20.0)
        (reason,) = {a["labels"]["reason"] for a in scene.stack.alerts() if a["labels"]["alertname"] == "PeerDown"}
        assert reason in ("network.no_reply", "network.unreachable", "network.no_route", "network.stale")
        wait_for(
            "the budget to burn",
            lambda: scene.stack.query('ALERTS{alertname="TunnelAvailabilityBurnsFast",alertstate="firing"}'),
            60.0,
        )
        ours = [a["labels"] for a in scene.stack.firing() if a["labels"].get("pqvpn_peer", "beta") == "beta"]
        firing = {labels["alertname"] for labels in ours}
        assert not firing & {"HandshakeFailing", "RekeyOverdue", "TunnelAvailabilityBurnsFast"}, (
            "symptoms are suppressed"
        )
    scene.site.connect()
    assert {"instance", "pqvpn_peer"} <= max(scene.hook.groups(), key=len).keys()


def test_keys_that_differ(scene: Scene) -> None:
    wanted = {"HandshakeFailing": {"pqvpn_peer": "beta", "severity": "warning"}}
    with alerted(scene, wanted):
        with faults.other_psk(scene.site):
            wait_for("an attempt to fail", lambda: "handshake.failed" in scene.site.alpha.log(), 30.0)
            scene.site.poke()
            fire(scene, wanted)
        scene.site.connect()


def test_a_peer_that_restarts(scene: Scene) -> None:
    wanted = {"PeerFlapping": {"pqvpn_peer": "beta"}}
    with alerted(scene, wanted):
        for _ in range(8):
            faults.restarted(scene.site)
            if not missing(scene, wanted):
                break
        fire(scene, wanted)


def test_what_paths_suffer(scene: Scene) -> None:
    scene.site.connect()
    wanted = {
        "PathMtuTrouble": {"pqvpn_peer": "beta", "reason": "network.path_mtu"},
        "RekeyOverdue": {"pqvpn_peer": "beta", "reason": "crypto.keys_expired"},
        "PacketsDropped": {"pqvpn_drop": "source_not_allowed"},
    }
    with (
        alerted(scene, wanted),
        faults.narrow_path(scene.site),
        faults.no_handshakes(scene.site),
        faults.foreign_source(scene.site),
    ):
        fire(scene, wanted)


def test_what_machines_suffer(scene: Scene) -> None:
    wanted = {
        "DiskLow": {"reason": "host.disk_low"},
        "DescriptorsLow": {"pqvpn_process": "control", "reason": "host.descriptors"},
        "HealthDegraded": {"pqvpn_health_item": "tun.addresses", "reason": "tun.down"},
    }
    alpha, beta = scene.site.alpha, scene.site.beta
    with alerted(scene, wanted), faults.full_disk(beta), faults.few_descriptors(alpha), faults.address_gone(beta):
        fire(scene, wanted)


def test_processes_that_die(scene: Scene) -> None:
    wanted = {"RestartLoop": {"pqvpn_process": "lane-0", "reason": "node.child_restarting"}}
    with alerted(scene, wanted), faults.processes_die(scene.site.alpha):
        fire(scene, wanted)
    crash = {"Crash": {"pqvpn_process": "control", "reason": "node.child_died"}}
    with alerted(scene, crash), faults.processes_die(scene.site.alpha, "control", 1):
        fire(scene, crash)


def test_degraded_security(scene: Scene) -> None:
    scene.site.connect()
    wanted = {"DegradedSecurity": {"reason": "crypto.degraded", "severity": "critical"}}
    with alerted(scene, wanted), faults.degraded(scene.site):
        fire(scene, wanted)


def test_the_dead_mans_switch(scene: Scene) -> None:
    """Killed with its supervisor a node is missed; stopped on purpose it is not."""
    wanted = {"NodeSilent": {"reason": "node.killed", "severity": "critical"}}
    changing = 'count(changes(pqvpn_node_uptime_seconds{job="pqvpn"}[6s]) > 0)'
    wait_for("both nodes' metrics", lambda: scene.stack.value(changing) >= 2, 60.0)
    with alerted(scene, wanted):
        scene.site.kill(scene.site.alpha)
        fire(scene, wanted)
        scene.site.alpha.up()
    scene.site.connect()
    scene.site.beta.down()
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        assert missing(scene, wanted), "a node that ended on purpose is not missed"
        time.sleep(0.5)
    scene.site.kill(scene.site.alpha)
    none = {"NoTelemetry": {"severity": "critical"}}
    with alerted(scene, none):
        fire(scene, none)
        scene.site.beta.up()
        scene.site.alpha.up()
    scene.site.connect()


def test_a_stack_that_is_not_there(scene: Scene) -> None:
    stack = scene.stack
    wanted: dict[str, Labels] = {"JaegerDown": {"severity": "warning"}}
    with alerted(scene, wanted):
        stack.jaeger.kill()
        scene.site.reconnect()
        fire(scene, wanted)
        query = 'ALERTS{alertname="BackendUnreachable",alertstate="firing",exporter="otlp_grpc/jaeger"}'
        wait_for("what waits to be noticed", lambda: stack.query(query), 60.0)
        stack.jaeger.start()
    breaker: dict[str, Labels] = {"BreakerOpen": {"pqvpn_breaker": "otlp", "reason": "resilience.breaker_open"}}
    with alerted(scene, breaker), alerted(scene, {"CollectorDown": {"reason": "telemetry.collector_unreachable"}}):
        stack.collector.kill()
        fire(scene, {"CollectorDown": {}})
        wait_for("the breaker to open", lambda: '"breaker.changed"' in scene.site.alpha.log(), 60.0)
        stack.collector.start()
        fire(scene, breaker)


def test_the_watchdog_never_rests(scene: Scene) -> None:
    # one that fires in Prometheus' first seconds may come to Alertmanager only a minute later
    wait_for("the watchdog", lambda: not missing(scene, {"Watchdog": {}}), 90.0, 0.5)
