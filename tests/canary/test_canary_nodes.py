"""Real nodes through success, rekeys, each kind of failure and crashes, at debug level: no secret is in what they wrote.

The scenes follow one another on the same two nodes; each ends with a search of everything since the beginning.
"""

import base64
import re
import secrets
import signal
import time
from collections.abc import Iterator

import pytest
from canaries import Canary
from canarynodes import HOST, INNER, OUTER, Scene, everything, exemplars, is_running, key_text, unix
from keptkeys import KeptKeys

from lab import Lab, wait_for
from lab.nodes import Node
from lab.traffic import ping

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeptKeys:
    return KeptKeys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def scene(keys: KeptKeys) -> Iterator[Scene]:
    with Lab() as lab:
        made = Scene(lab, keys.python, keys.canaries)
        made.start(made.alpha, made.beta)
        made.connected()
        yield made


def settle() -> None:
    time.sleep(1.0)  # flushes come every 0.1 s, metrics every 0.3 s


def test_success_with_traffic(scene: Scene) -> None:
    ping(scene.alpha.namespace, INNER[1], count=5)
    scene.run(scene.alpha, "status", "--json")
    scene.run(scene.beta, "--debug", "status", "--drops")
    scene.told(scene.alpha, "handshake.completed")
    last = scene.alpha.folder / "state" / "last.json"
    wait_for("the last state to be written", lambda: b'"state":"up"' in last.read_bytes(), 20.0)
    settle()
    found = scene.check()
    assert b"<ip4>" in found["alpha: standard error"], "addresses are told, masked"
    assert b'"items"' in found["alpha: unix /health"]
    assert b"pqvpn" in found["alpha: unix /metrics"]
    assert any(len(content) > 1000 for name, content in found.items() if "/spool/" in name)


def test_a_rekey(scene: Scene) -> None:
    completed = re.compile(rb'^pqvpn_rekeys_total{.*outcome="completed".*} [1-9]', re.MULTILINE)
    wait_for("a rekey", lambda: completed.search(unix(scene.alpha, "/metrics")), 20.0, 0.2)
    settle()
    scene.check()


def test_a_wrong_psk(scene: Scene) -> None:
    other = secrets.token_bytes(32)
    scene.canaries.append(Canary("other psk", other))
    with scene.changed(scene.beta, "the.psk", key_text(other)):
        scene.told(scene.alpha, "handshake.failed")
        wait_for("beta to refuse", lambda: scene.beta.drops().get("bad_handshake"), 20.0)
        settle()
        scene.check()
    scene.connected()


def test_a_wrong_network_key(scene: Scene) -> None:
    other = secrets.token_bytes(32)
    scene.canaries.append(Canary("other network key", other))
    with scene.changed(scene.beta, "network.key", key_text(other)):  # read at start only
        scene.beta.down()
        scene.start(scene.beta)
        scene.told(scene.alpha, "handshake.failed")
        wait_for("beta to refuse", lambda: scene.beta.drops().get("mac1"), 20.0)
        settle()
        scene.check()
    scene.beta.down()
    scene.start(scene.beta)
    scene.connected()


def test_a_wrong_card(scene: Scene) -> None:
    """Another node's card is refused for its ID, what is no card for its form."""
    own = scene.alpha.cli("card").stdout
    psk = base64.b64encode(scene.psk).decode()
    for card in (
        own,
        f"-----BEGIN PQVPN CARD-----\n{psk}\n-----END PQVPN CARD-----\n",
        f"pqvpncard1:{psk}\n",
        f"{psk}\n",
    ):
        with scene.changed(scene.alpha, "peers/beta.pqcard", card):
            scene.run(scene.alpha, "check")
    scene.told(scene.alpha, "config.refused")
    settle()
    scene.check()
    scene.connected()


def test_dns_fails(scene: Scene) -> None:
    text = scene.alpha.config.read_text().replace(f"{OUTER[1]}:51820", f"{HOST}:51820")
    with scene.changed(scene.alpha, "pqvpn.toml", text):
        scene.told(scene.alpha, "resolver.failed")
        settle()
        scene.check()
    scene.connected()


def test_secrets_in_the_wrong_place_of_the_configuration(scene: Scene) -> None:
    """An operator writes keys where they do not belong: refused, and not repeated."""
    text = scene.alpha.config.read_text()
    psk = base64.b64encode(scene.psk).decode()
    for wrong in (
        f'[peer.gamma]\npsk = "{psk}"\n',
        f'[peer.gamma]\ncard = "{psk}"\nallowed_ips = ["10.9.0.1/32"]\n',
        f'[peer.gamma]\nid = "{psk}"\ncard = "peers/beta.pqcard"\nallowed_ips = ["{psk}"]\nendpoint = "{psk}"\n',
        f'[peer.gamma]\npsk_file = "{psk}"\ncard = "peers/beta.pqcard"\nallowed_ips = ["10.9.0.1/32"]\n',
        f'[security]\non_crypto_failure = "{psk}"\n',
        f"{psk}\n",
    ):
        with scene.changed(scene.alpha, "pqvpn.toml", f"{text}\n{wrong}"):
            scene.run(scene.alpha, "check")
    for name, wrong in (
        ("the.psk", f"{psk}x\n"),
        ("headers", f"{scene.header_token}\n"),
        ("health.token", f"{psk}\n\n{psk}"),
    ):
        with scene.changed(scene.alpha, name, wrong):
            scene.run(scene.alpha, "check")
    settle()
    scene.check()


@pytest.mark.parametrize("component", ["lane-0", "control", "observer"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_dies(scene: Scene, component: str, number: int) -> None:
    before = scene.alpha.kill(component, number)
    wait_for(f"another {component}", lambda: scene.alpha.pids(component) not in ([], [before]), 20.0)
    scene.connected()
    scene.told(scene.alpha, "process.ended")
    settle()
    found = scene.check()
    assert any(b'"pqvpn.kind"' in content for name, content in found.items() if "/crashes/" in name)


def test_what_the_collectors_got(scene: Scene) -> None:
    """Over HTTP from alpha, over gRPC from beta; each message, and the exemplars in them as a sink of their own."""

    def kinds(node: Node) -> set[str]:
        return {name.split()[2] for name in scene.collected(node) if " OTLP " in name}

    for node in (scene.alpha, scene.beta):
        wait_for("records to arrive", lambda node=node: {"traces", "logs", "metrics"} <= kinds(node), 30.0, 0.5)
    found = exemplars(scene.check())
    assert found, "no handshake is pointed to"
    for exemplar in found:
        assert len(exemplar.trace_id) == 16
        assert not exemplar.filtered_attributes


def test_what_diag_says_and_bundles(scene: Scene) -> None:
    for arguments in (
        ["diag"],
        ["diag", "--json"],
        ["diag", "logs"],
        ["diag", "peer", "beta"],
        ["diag", "metrics"],
        ["diag", "crashes"],
        ["diag", "crash", "last"],
        ["diag", "crash", "last", "--preview"],
    ):
        scene.run(scene.alpha, *arguments)
    scene.check(scene.bundle(scene.alpha, "live"))


def test_the_end(scene: Scene) -> None:
    """A supervisor killed, an orderly end, and what is left on disk after them."""
    scene.alpha.kill("supervisor")
    assert scene.alpha.process is not None
    scene.alpha.process.wait(10)
    scene.run(scene.alpha, "status", "--json")
    scene.run(scene.alpha, "down")
    scene.beta.down()
    assert not is_running(scene.alpha)
    scene.check(scene.bundle(scene.alpha, "dead"))
    assert "node.started" in everything(scene.alpha)


def test_the_keys_of_sessions_were_among_what_was_searched_for(scene: Scene, keys: KeptKeys) -> None:
    """The nodes kept what they made, and it is what they use: the keys that the test gave them are there, too."""
    kept = {canary.raw for canary in keys.canaries()}
    given = {canary.raw for canary in scene.canaries if canary.name.startswith(("psk", "network key", "seed of"))}
    assert len(given) == 4
    assert given <= kept
    least = {"session": 4, "lane": 8, "derived": 50, "extracted": 20, "shared": 20, "private": 20}
    assert all(keys.kinds[kind] >= count for kind, count in least.items()), keys.kinds
