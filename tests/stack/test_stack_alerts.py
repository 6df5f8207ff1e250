"""Each alert by a real fault: it fires with the right labels, and resolves when the fault is over."""

import contextlib
import datetime
import time
from collections.abc import Iterator, Mapping

import faults
import pytest
from conftest import Scene

from lab import wait_for
from lab.stacknodes import SHORT, Site
from lab.stackservers import Stack

pytestmark = [pytest.mark.stack, pytest.mark.netns, pytest.mark.needs("nft", "ping")]

FIRES, RESOLVES = 60.0, 90.0
Labels = Mapping[str, str]


@pytest.fixture(scope="module")
def scene(stack: Stack, hook, logs) -> Iterator[Scene]:  # type: ignore[no-untyped-def]
    """Nodes that rekey every few seconds, of which beta has a small disk and both may be degraded."""
    timers = {**SHORT["timers"], "rekey_after": "5s", "rekey_initiator_after": "6s", "rekey_jitter": "0s"}
    settings = {**SHORT, "timers": timers, "health": {"interval": "0.5s", "disk_free": "16MiB"}}
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


def seen(scene: Scene, began: float, status: str, wanted: Mapping[str, Labels]) -> dict[str, Labels]:
    """Which of the alerts were not told with this status since `began`."""
    left = dict(wanted)
    for name, labels in wanted.items():
        for alert in scene.hook.messages(name):
            at = alert["startsAt" if status == "firing" else "endsAt"]
            told = datetime.datetime.fromisoformat(at[:19] + "+00:00").timestamp()
            if alert["status"] == status and told >= began - 2 and labels.items() <= alert["labels"].items():
                left.pop(name, None)
    return left


def until_told(scene: Scene, began: float, status: str, wanted: Mapping[str, Labels], limit: float) -> None:
    """Wait until all were told, with traffic from alpha to beta meanwhile."""

    def all_told() -> bool:
        with contextlib.suppress(OSError):
            scene.site.poke()
        return not seen(scene, began, status, wanted)

    try:
        wait_for(f"alerts to be {status}", all_told, limit, 0.3)
    except Exception as error:
        left = seen(scene, began, status, wanted)
        found = [(a["labels"]["alertname"], a["status"], dict(a["labels"])) for a in scene.stack.alerts()]
        raise AssertionError(f"not {status}: {left}; Alertmanager has {found}") from error


@contextlib.contextmanager
def alerted(scene: Scene, wanted: Mapping[str, Labels]) -> Iterator[None]:
    """The block holds the fault: at its end all have fired; behind it all resolve."""
    began = time.time()
    yield
    over = time.time()
    until_told(scene, over, "resolved", wanted, RESOLVES)
    print(f"{sorted(wanted)}: fault for {over - began:.1f} s, resolved {time.time() - over:.1f} s after it")


def fire(scene: Scene, began: float, wanted: Mapping[str, Labels]) -> None:
    until_told(scene, began, "firing", wanted, FIRES)
    print(f"{sorted(wanted)}: fired {time.time() - began:.1f} s after the fault")


def test_a_peer_that_is_gone(scene: Scene) -> None:
    wanted = {"PeerDown": {"pqvpn_peer": "beta", "severity": "critical"}}
    began = time.time()
    with alerted(scene, wanted), faults.peer_gone(scene.site):
        fire(scene, began, wanted)
        (reason,) = {a["labels"]["reason"] for a in scene.hook.messages("PeerDown") if a["status"] == "firing"}
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
    began = time.time()
    with alerted(scene, wanted):
        with faults.other_psk(scene.site):
            wait_for("an attempt to fail", lambda: "handshake.failed" in scene.site.alpha.log(), 30.0)
            scene.site.poke()
            fire(scene, began, wanted)
        scene.site.connect()


def test_a_peer_that_restarts(scene: Scene) -> None:
    wanted = {"PeerFlapping": {"pqvpn_peer": "beta"}}
    began = time.time()
    with alerted(scene, wanted), faults.flapping(scene.site):
        fire(scene, began, wanted)
    assert seen(scene, began, "firing", {"NodeSilent": {}}) != {}, "it ended on purpose"


def test_what_paths_suffer(scene: Scene) -> None:
    scene.site.connect()
    wanted = {
        "PathMtuTrouble": {"pqvpn_peer": "beta", "reason": "network.path_mtu"},
        "RekeyOverdue": {"pqvpn_peer": "beta", "reason": "crypto.keys_expired"},
        "PacketsDropped": {"pqvpn_drop": "source_not_allowed"},
    }
    began = time.time()
    with (
        alerted(scene, wanted),
        faults.narrow_path(scene.site),
        faults.no_handshakes(scene.site),
        faults.foreign_source(scene.site),
    ):
        fire(scene, began, wanted)


def test_what_machines_suffer(scene: Scene) -> None:
    wanted = {
        "DiskLow": {"reason": "host.disk_low"},
        "DescriptorsLow": {"pqvpn_process": "control", "reason": "host.descriptors"},
        "HealthDegraded": {"pqvpn_health_item": "tun.addresses", "reason": "tun.down"},
    }
    began = time.time()
    alpha, beta = scene.site.alpha, scene.site.beta
    with alerted(scene, wanted), faults.full_disk(beta), faults.few_descriptors(alpha), faults.address_gone(beta):
        fire(scene, began, wanted)


def test_processes_that_die(scene: Scene) -> None:
    wanted = {"RestartLoop": {"pqvpn_process": "lane-0", "reason": "node.child_restarting"}}
    began = time.time()
    with alerted(scene, wanted), faults.processes_die(scene.site.alpha):
        fire(scene, began, wanted)
    began = time.time()
    crash = {"Crash": {"pqvpn_process": "control", "reason": "node.child_died"}}
    with alerted(scene, crash), faults.processes_die(scene.site.alpha, "control", 1):
        fire(scene, began, crash)


def test_degraded_security(scene: Scene) -> None:
    scene.site.connect()
    wanted = {"DegradedSecurity": {"reason": "crypto.degraded", "severity": "critical"}}
    began = time.time()
    with alerted(scene, wanted), faults.degraded(scene.site):
        fire(scene, began, wanted)


def test_the_dead_mans_switch(scene: Scene) -> None:
    """Killed with its supervisor a node is missed; stopped on purpose it is not."""
    wanted = {"NodeSilent": {"reason": "node.killed", "severity": "critical"}}
    began = time.time()
    with alerted(scene, wanted):
        scene.site.kill(scene.site.alpha)
        fire(scene, began, wanted)
        scene.site.alpha.up()
    scene.site.connect()
    began = time.time()
    scene.site.beta.down()
    time.sleep(20)
    assert seen(scene, began, "firing", wanted), "a node that ended on purpose is not missed"
    scene.site.kill(scene.site.alpha)
    none = {"NoTelemetry": {"severity": "critical"}}
    with alerted(scene, none):
        fire(scene, began, none)
        scene.site.beta.up()
        scene.site.alpha.up()
    scene.site.connect()


def test_a_stack_that_is_not_there(scene: Scene) -> None:
    stack = scene.stack
    wanted: dict[str, Labels] = {"JaegerDown": {"severity": "warning"}}
    began = time.time()
    with alerted(scene, wanted):
        stack.jaeger.kill()
        scene.site.reconnect()
        fire(scene, began, wanted)
        query = 'ALERTS{alertname="BackendUnreachable",alertstate="firing",exporter="otlp_grpc/jaeger"}'
        wait_for("what waits to be noticed", lambda: stack.query(query), 60.0)
        stack.jaeger.start()
    began = time.time()
    with alerted(scene, {"CollectorDown": {"reason": "telemetry.collector_unreachable"}}):
        stack.collector.kill()
        fire(scene, began, {"CollectorDown": {}})
        stack.collector.start()
    breaker = {"BreakerOpen": {"pqvpn_breaker": "export", "reason": "resilience.breaker_open"}}
    until_told(scene, began, "firing", breaker, FIRES)
    until_told(scene, began, "resolved", breaker, RESOLVES)


def test_the_watchdog_never_rests(scene: Scene) -> None:
    assert any(alert["labels"]["alertname"] == "Watchdog" for alert in scene.stack.alerts())
