"""Canaries of two real nodes are nowhere behind the collector: not in Jaeger, Prometheus, Alertmanager, its queues, its logs.

The nodes' redaction is the first line here, the collector's the second; what both let through would be found.
"""

import base64
import secrets
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Scene
from receivers import written

from lab import wait_for
from lab.nodes import Node
from lab.stacknodes import SHORT, Site
from lab.stackservers import Stack

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "canary"))
from canaries import Canary, report, search

pytestmark = [pytest.mark.stack, pytest.mark.netns]


@pytest.fixture(scope="module")
def scene(stack: Stack, hook, logs) -> Iterator[Scene]:  # type: ignore[no-untyped-def]
    settings = {**SHORT, "redact": {"addresses": "mask"}, "log": {"level": "debug"}}
    with Site(
        stack, settings, outer=("198.18.77.203", "198.18.77.117"), inner=("10.213.97.41", "10.213.97.152")
    ) as site:
        yield Scene(stack, site, hook, logs)


def key(node: Node, name: str, raw: bytes) -> None:
    (node.folder / name).touch(0o600)
    (node.folder / name).write_text(base64.b64encode(raw).decode() + "\n")


def canaries(site: Site) -> list[Canary]:
    """Every secret of both nodes, and their addresses."""
    network, psk = secrets.token_bytes(32), secrets.token_bytes(32)
    found = [Canary("network key", network), Canary("psk", psk)]
    for node, peer in ((site.alpha, "beta"), (site.beta, "alpha")):
        key(node, "network.key", network)
        key(node, "the.psk", psk)
        node.set({"node": {"network_key_file": "network.key"}, f"peer.{peer}": {"psk_file": "the.psk"}})
        raw = base64.b64decode("".join((node.folder / "identity.key").read_text().splitlines()[1:-1]))
        found += [Canary(f"seed of {node.name}", raw[:32]), Canary(f"master of {node.name}", raw[32:])]
    addresses = (*site.outer, *(str(node.interfaces[0].ip) for node in (site.alpha, site.beta)))
    return found + [Canary.of_address(f"address {address}", address) for address in addresses]


def sinks(scene: Scene) -> dict[str, bytes]:
    """Every byte that a backend holds or answers."""
    stack = scene.stack
    pages = {
        "traces": stack.url("jaeger_http", "/api/traces?service=pqvpn&limit=1000&lookback=1h"),
        "operations": stack.url("jaeger_http", "/api/v3/operations?service=pqvpn"),
        "series": stack.url("prometheus", '/api/v1/series?match[]={__name__=~".%2B"}'),
        "rules": stack.url("prometheus", "/api/v1/rules"),
        "alerts": stack.url("alertmanager", "/api/v2/alerts"),
        "metrics of nodes": stack.url("nodes", "/metrics"),
        "metrics of events": stack.url("events", "/metrics"),
        "own metrics": stack.url("own", "/metrics"),
    }
    found = {f"message {number}": body for number, body in enumerate(scene.hook.bodies)}
    found |= {f"log records {number}": body for number, body in enumerate(scene.logs.bodies)}
    for name, url in pages.items():
        with urllib.request.urlopen(url, timeout=20) as answer:
            found[name] = answer.read()
    folders = [stack.queues, *(stack.folder / name for name in ("spans", "metrics", "alerts"))]
    return found | {str(path): written(path) for folder in folders for path in folder.rglob("*") if path.is_file()}


def _fails(site: Site) -> bool:
    site.poke()
    return "handshake.failed" in site.alpha.log()


def test_no_canary_is_behind_the_collector(scene: Scene) -> None:
    site, stack = scene.site, scene.stack
    wanted = canaries(site)
    site.start()
    sessions = [site.reconnect()["session_id"] for _ in range(3)]
    stack.jaeger.kill()  # what waits is in the queue's files
    try:
        key(site.alpha, "the.psk", secrets.token_bytes(32))
        site.alpha.cli("reload")
        wait_for("an attempt to fail", lambda: _fails(site), 30.0)
        wait_for(
            "spans in the queue", lambda: any(b"pqvpn" in path.read_bytes() for path in stack.queues.iterdir()), 20.0
        )
        assert not report(search(wanted, {path.name: written(path) for path in stack.queues.iterdir()}))
    finally:
        stack.jaeger.start()
    wait_for("the traces", lambda: all(stack.find({"session.id": session}) for session in sessions), 30.0)
    wait_for("an alert", lambda: scene.hook.messages("HandshakeFailing"), 60.0)
    found = sinks(scene)
    assert b"pqvpn.connect" in found["traces"]
    leaks = report(search(wanted, found))
    assert not leaks, f"\n{leaks}"
