"""Each alert by a real fault: it fires with the right labels, and resolves when the fault is over.

Faults that do not disturb each other are there at the same time, and the next ones begin while alerts of the last ones end:
`ledger.py` notes what fires and what ends; the last test waits for all ends.
"""

import contextlib
import datetime
import sys
import time
from collections.abc import Iterator

import faults
import pytest
from conftest import Scene
from ledger import Ledger

from lab import wait_for
from lab.stacknodes import SHORT, Site

pytestmark = [pytest.mark.stack, pytest.mark.netns, pytest.mark.needs("nft", "ping")]

LIMIT = 240.0
"""Seconds that a fault may take to show: several times what it takes, since the machine may have other things to do."""


@pytest.fixture(scope="module")
def scene(stack, hook, logs) -> Iterator[Scene]:  # type: ignore[no-untyped-def]
    """Nodes that rekey every few seconds and may be degraded; alpha can be made to fail, beta has a small disk and spool."""
    timers = {**SHORT["timers"], "rekey_after": "5s", "rekey_initiator_after": "6s", "rekey_jitter": "0s"}
    settings = {
        **SHORT,
        "timers": timers,
        "health": {"interval": "0.5s", "disk_free": "16MiB", "mend": False},
        "breakers": {"open_for": "1s", "open_longest": "2s"},
    }
    later = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=2)
    with Site(stack, settings) as site, contextlib.ExitStack() as files:
        for node, peer in ((site.alpha, "beta"), (site.beta, "alpha")):
            node.set({f"peer.{peer}": {"allow_degraded": ["auth-plaintext"]}})
            header = f"\n[peer.{peer}]\n"
            node.config.write_text(node.config.read_text().replace(header, f"{header}degraded_until = {later}\n"))
        site.beta.set({"telemetry": {"spool_size": "1MiB", "metrics_interval": "0.25s"}, "log": {"level": "debug"}})
        (site.alpha.folder / "triggers").mkdir()
        command = (sys.executable, "-m", "tests.crashserver.injecting", str(site.alpha.folder / "triggers"))
        site.alpha.runs_by = command
        files.enter_context(faults.small_disk(site.beta))
        site.start()
        yield Scene(stack, site, hook, logs)
        site.beta.down()


@pytest.fixture(scope="module")
def ledger(scene: Scene) -> Iterator[Ledger]:
    with Ledger(scene.stack, scene.site.poke) as made:
        yield made
        for each in made.all:
            print(each)


def test_what_shows_while_the_tunnel_stands(scene: Scene, ledger: Ledger) -> None:
    """A bad path, wrong packets, a small disk, few descriptors, a leak, a wrong clock, wrong primitives, dying processes."""
    site = scene.site
    alpha, beta = site.alpha, site.beta
    alpha_is = {"instance": faults.instance(alpha)}
    with (
        ledger.expect(
            LIMIT,
            PathMtuTrouble={"pqvpn_peer": "beta", "reason": "network.path_mtu"},
            RekeyOverdue={"pqvpn_peer": "beta", "reason": "crypto.keys_expired"},
            PacketsDropped={"pqvpn_drop": "source_not_allowed"},
            DiskLow={"reason": "host.disk_low"},
            DescriptorsLow={"pqvpn_process": "control", "reason": "host.descriptors"},
            HealthDegraded={"pqvpn_health_item": "tun.conflict", "reason": "tun.address_conflict"},
            DegradedSecurity={"reason": "crypto.degraded", "severity": "critical"},
            RestartLoop={"pqvpn_process": "lane-0", "reason": "node.child_restarting", **alpha_is},
            Crash={"pqvpn_process": "lane-0", "pqvpn_kind": "signal", "reason": "node.child_died", **alpha_is},
            ClockJumped={"reason": "host.clock_jumped", "severity": "info", **alpha_is},
            PostQuantumNotInForce={"reason": "crypto.self_test_failed", "severity": "critical", **alpha_is},
            MemoryHigh={"pqvpn_process": "observer", "reason": "host.memory", **alpha_is},
            ResourceGrowth={"pqvpn_process": "observer", "severity": "info", **alpha_is},
        ) as phase,
        faults.degraded(site),
    ):
        wait_for("degraded mode", lambda: beta.status()["node"]["security"] == "degraded", 60.0, 0.1)
        with (
            faults.narrow_path(site),
            faults.no_handshakes(site),
            faults.foreign_source(site),
            faults.full_disk(beta),
            faults.few_descriptors(beta),
            faults.address_twice(beta),
            faults.lasting(alpha, "leak", "12 448"),
            faults.lasting(alpha, "clock"),
            faults.lasting(alpha, "crypto"),
            faults.processes_die(alpha),
        ):
            phase.fire()
    site.connect()


def test_a_peer_that_comes_and_goes(scene: Scene, ledger: Ledger) -> None:
    with ledger.expect(LIMIT, PeerFlapping={"pqvpn_peer": "beta", "reason": "network.stale"}) as phase:
        ends = time.monotonic() + LIMIT
        while not phase.fired("PeerFlapping") and time.monotonic() < ends:
            with faults.peer_gone(scene.site):
                ledger.until("the peer to be missed", lambda: scene.site.alpha.peer("beta")["state"] != "up", LIMIT)
            scene.site.connect()
        phase.fire()


def test_a_stack_that_is_not_there(scene: Scene, ledger: Ledger) -> None:
    """Jaeger killed; then the collector, for so long that beta's spool overflows."""
    stack, site = scene.stack, scene.site
    backend = {"exporter": "otlp_grpc/jaeger"}
    with ledger.expect(LIMIT, JaegerDown={"severity": "warning"}, BackendUnreachable=backend) as phase:
        stack.jaeger.kill()
        site.reconnect()
        phase.fire()
        stack.jaeger.start()
    with ledger.expect(
        LIMIT,
        CollectorDown={"reason": "telemetry.collector_unreachable"},
        BreakerOpen={"pqvpn_breaker": "otlp", "reason": "resilience.breaker_open"},
        TelemetryLost={"pqvpn_loss": "spool.size", "reason": "telemetry.records_dropped"},
    ) as phase:
        stack.collector.kill()
        ledger.until("CollectorDown", lambda: phase.fired("CollectorDown"), LIMIT)
        ledger.until("the breaker to open", lambda: '"breaker.changed"' in site.alpha.log(), LIMIT)
        faults.overflow(site, LIMIT)
        stack.collector.start()
        phase.fire()


def test_the_dead_mans_switch(scene: Scene, ledger: Ledger) -> None:
    """Killed with its supervisor a node is missed; stopped on purpose it is not, however long."""
    alpha, beta = scene.site.alpha, scene.site.beta
    names = {"alpha": faults.instance(alpha), "beta": faults.instance(beta)}
    with ledger.expect(
        LIMIT,
        NodeSilent={"reason": "node.killed", "severity": "critical", "instance": names["alpha"]},
        NoTelemetry={"severity": "critical"},
    ) as phase:
        beta.down()
        scene.site.kill(alpha)
        phase.fire()
        silent = {each["labels"]["instance"] for each in scene.stack.alerts() if "NodeSilent" in str(each["labels"])}
        assert names["beta"] not in silent, "a node that ended on purpose is not missed"
        beta.start()
        alpha.start()
        for node in (beta, alpha):
            node.wait_running(LIMIT)
    scene.site.connect()


def test_a_peer_that_is_gone(scene: Scene, ledger: Ledger) -> None:
    """Keys that differ, then a link that is down: the peer, the attempts, the breaker and both objectives."""
    site, stack = scene.site, scene.stack
    with ledger.expect(
        LIMIT,
        PeerDown={"pqvpn_peer": "beta", "severity": "critical"},
        HandshakeFailing={"pqvpn_peer": "beta", "severity": "warning"},
        BreakerOpen={"pqvpn_breaker": "peer", "pqvpn_peer": "beta", "reason": "resilience.breaker_open"},
        TunnelAvailabilityBurnsFast={"severity": "critical"},
        TunnelAvailabilityBurnsSlow={"severity": "warning"},
        ConnectionTimeBurnsFast={"severity": "critical"},
        ConnectionTimeBurnsSlow={"severity": "warning"},
    ) as phase:
        with faults.other_psk(site):
            ledger.until("attempts to fail", lambda: phase.fired("HandshakeFailing"), LIMIT)
        with faults.peer_gone(site):
            phase.fire()
            wait_for("a message", lambda: scene.hook.told("PeerDown", "firing", pqvpn_peer="beta"), 60.0)
            down = [alert["labels"] for alert in stack.alerts() if alert["labels"]["alertname"] == "PeerDown"]
            reasons = {labels["reason"] for labels in down}
            assert reasons <= {
                "network.no_reply", "network.unreachable", "network.no_route", "network.stale", "resilience.breaker_open",
            }, reasons  # fmt: skip
            ours = [a["labels"] for a in stack.firing() if a["labels"].get("pqvpn_peer", "beta") == "beta"]
            mine = faults.instance(site.alpha)
            firing = {labels["alertname"] for labels in ours if labels.get("instance", mine) == mine}
            symptoms = {"HandshakeFailing", "RekeyOverdue", "BreakerOpen", "TunnelAvailabilityBurnsFast"}
            assert not firing & symptoms, "symptoms are suppressed"
    assert {"instance", "pqvpn_peer"} <= max(scene.hook.groups(), key=len).keys()
    site.connect()


def test_the_watchdog_never_rests(ledger: Ledger) -> None:
    # one that fires in Prometheus' first seconds may come to Alertmanager only a minute later
    wait_for("the watchdog", lambda: any(a["labels"]["alertname"] == "Watchdog" for a in ledger.stack.alerts()), LIMIT)


def test_all_of_them_end(scene: Scene, ledger: Ledger) -> None:
    scene.site.connect()
    ledger.settled(LIMIT)
