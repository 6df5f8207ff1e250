"""Why a peer is not connected: every fault produced for real, and `pqvpn diag` names its cause in the first verdict.

alpha 10.0.0.1 --veth0-- 10.0.0.2 beta     inside 10.7.0.0/24
"""

import contextlib
import ipaddress
import json
import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from diagnosed import INNER, OUTER, TIMERS, drop, evidence, first, healthy, key_file, two_nodes, undrop
from netparty import bring_up, connected, start

from lab import wait_for
from lab.nodes import PQVPN, Node

pytestmark = [pytest.mark.netns, pytest.mark.needs("nft")]

_BETA = ipaddress.ip_address(INNER[1])


@contextlib.contextmanager
def _wanting(node: Node, address: str = INNER[1]) -> Iterator[None]:
    """Something is sent to the other node again and again, so that a session is wanted."""
    stop = threading.Event()

    def send() -> None:
        with node.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not stop.wait(0.1):
                with contextlib.suppress(OSError):
                    out.sendto(b"knock", (address, 9))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# -- the network -------------------------------------------------------------------------------------------------------


def test_nobody_answers_then_the_port_is_closed_then_all_is_well() -> None:
    with two_nodes() as (alpha, beta):
        drop(beta, "udp dport 51820")
        start(alpha)
        with _wanting(alpha):
            silent = first(alpha, "network.no_reply", "beta")
            assert "no authenticated packet ever came" in evidence(silent)
            undrop(beta)
            closed = first(alpha, "network.port_closed", "beta")
            assert '"port unreachable" for 10.0.0.2:51820' in evidence(closed)
            assert closed["since"] is not None
            start(beta)
            healthy(alpha)
        text = alpha.cli("diag").stdout
        assert text.startswith("alpha is healthy: 1 peer, up; checked control,")


def test_the_peers_machine_is_gone() -> None:
    with two_nodes() as (alpha, beta):
        beta.namespace.delete_address("veth0", f"{OUTER[1]}/24")
        start(alpha)
        with _wanting(alpha):
            assert "host unreachable" in evidence(first(alpha, "network.unreachable", "beta", timeout=40))


@pytest.mark.slow
def test_a_peer_that_was_connected_is_killed() -> None:
    with two_nodes() as (alpha, beta):
        bring_up(alpha, beta)
        beta.kill("supervisor")
        assert beta.process is not None
        beta.process.wait(5.0)
        drop(beta, "udp dport 51820")
        with _wanting(alpha):
            stale = first(alpha, "network.stale", "beta", timeout=40)
        assert stale["since"] is not None
        history = json.loads(alpha.cli("diag", "peer", "beta", "--json").stdout)
        assert history["attempts"][0]["outcome"] == "completed"
        assert [each["state"] for each in history["states"]][-2:] == ["up", "stale"]


@pytest.mark.parametrize("message", ["m1", "m2"])
def test_fragments_of_the_handshake_are_lost(message: str) -> None:
    """The first fragment never arrives, of calls or of answers; who misses it says so."""
    with two_nodes(None if message == "m1" else OUTER[0], OUTER[1]) as (alpha, beta):
        far = beta if message == "m1" else alpha
        beta.set({"peer.alpha": {"endpoint": f"{OUTER[0]}:51820"}})
        # the handshake's header: type 1, and in the fourth byte the fragment's index in the upper half
        drop(far, "udp dport 51820 @th,64,8 1 @th,88,4 0")
        start(alpha, beta)
        lost = first(far, "network.fragments_lost", "alpha" if message == "m1" else "beta", timeout=40)
        assert "datagrams arrived" in evidence(lost)


def test_large_packets_vanish_on_the_path() -> None:
    timers = TIMERS | {"mtu_probe_timeout": "0.3s", "mtu_confirm_interval": "0.5s"}
    with two_nodes(timers=timers) as (alpha, beta):
        bring_up(alpha, beta)
        healthy(alpha)
        drop(beta, "udp dport 51820 udp length > 1400")
        with _wanting(alpha):
            narrow = first(alpha, "network.path_mtu", "beta")
        assert narrow["severity"] == "warning"
        assert "packets of 1432 bytes do not come back" in evidence(narrow)


def test_a_name_that_does_not_resolve() -> None:
    with two_nodes(None, None) as (alpha, _):
        alpha.set({"peer.beta": {"endpoint": "beta.invalid:51820"}})
        start(alpha)
        alpha.poke(_BETA)
        failed = first(alpha, "network.dns_failed", "beta")
        assert "beta.invalid" in evidence(failed) or "host-" in evidence(failed)
        net = json.loads(alpha.cli("diag", "net", "--json").stdout)
        assert net["dns"][0]["host"] == "beta.invalid"
        assert net["dns"][0]["error"]


# -- the two configurations --------------------------------------------------------------------------------------------


def test_another_network_key() -> None:
    with two_nodes() as (alpha, beta):
        alpha.set({"node": {"network_key_file": key_file(alpha, "network.key", 1)}})
        beta.set({"node": {"network_key_file": key_file(beta, "network.key", 2)}})
        start(alpha, beta)
        for node, peer in ((alpha, "beta"), (beta, "alpha")):
            assert f"{peer}'s address fail MAC1" in evidence(first(node, "handshake.network_key", peer))


def test_another_psk() -> None:
    with two_nodes() as (alpha, beta):
        alpha.set({"peer.beta": {"psk_file": key_file(alpha, "beta.psk", 1)}})
        beta.set({"peer.alpha": {"psk_file": key_file(beta, "alpha.psk", 2)}})
        start(alpha, beta)
        for node, peer in ((alpha, "beta"), (beta, "alpha")):
            assert f"name {peer} as their sender" in evidence(first(node, "handshake.psk", peer))


def test_an_old_card() -> None:
    """Beta made a new identity, and alpha still has the card of the old one."""
    with two_nodes() as (alpha, beta):
        (beta.folder / "identity.key").unlink()
        text = beta.config.read_text()
        beta.config.unlink()
        beta.cli("init", "--name", "beta", "--address", "10.7.0.2/24")
        beta.config.write_text(text)
        start(alpha, beta)
        assert "an identity that is not configured" in evidence(first(alpha, "handshake.unknown_peer", "beta"))
        assert "old card" in first(beta, "handshake.network_key", "alpha")["text"]


def test_another_version_of_the_protocol() -> None:
    """From beta's address and port come handshake datagrams of version 9, as a later beta would send them."""
    with two_nodes() as (alpha, beta):
        start(alpha)
        with beta.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as later:
            later.bind((OUTER[1], 51820))

            def call() -> bool:
                later.sendto(bytes((1, 9, 1, 3)) + os.urandom(1068), (OUTER[0], 51820))
                return False

            with contextlib.suppress(Exception):
                wait_for("a while", call, 2.0)
            assert "another version" in evidence(first(alpha, "handshake.version", "beta"))


def test_allowed_ips_that_do_not_hold_the_peers_address() -> None:
    with two_nodes() as (alpha, beta):
        alpha.set({"peer.beta": {"allowed_ips": ["10.7.0.99/32"]}})
        start(alpha, beta)
        with _wanting(beta, INNER[0]):
            wrong = first(alpha, "session.allowed_ips", "beta")
        assert "source outside its allowed_ips" in evidence(wrong)
        assert "10.7.0.99/32" in evidence(wrong)


def test_packets_for_addresses_that_nobody_has() -> None:
    with two_nodes() as (alpha, beta):
        bring_up(alpha, beta)
        with _wanting(alpha, "10.7.0.77"):
            assert "no_route" in evidence(first(alpha, "session.allowed_ips"))


def test_neither_side_knows_an_address() -> None:
    with two_nodes(None, None) as (alpha, _):
        start(alpha)
        waiting = first(alpha, "network.no_endpoint", "beta")
        assert waiting["severity"] == "note"
        with _wanting(alpha):
            wait_for("a fault", lambda: first(alpha, "network.no_endpoint", "beta")["severity"] == "problem", 20)


def test_keys_expire() -> None:
    """The path is cut for longer than keys live, while the attempt to renew them goes on."""
    quick = {"rekey_after": "1.2s", "rekey_initiator_after": "1.6s", "rekey_jitter": "0.1s", "reject_after": "3s",
             "replaced_receives": "1s", "keepalive": "0.5s", "dead": "1s", "attempt_gives_up": "60s"}  # fmt: skip
    with two_nodes(timers=TIMERS | quick) as (alpha, beta):
        bring_up(alpha, beta)
        with _wanting(alpha):
            drop(beta, "udp dport 51820")
            wait_for(
                "evidence", lambda: "the keys of session" in evidence(first(alpha, "crypto.keys_expired", "beta")), 20
            )


def test_an_idle_peer_is_no_fault() -> None:
    quick = {"rekey_after": "1s", "rekey_initiator_after": "1.2s", "rekey_jitter": "0.1s", "reject_after": "2s",
             "keepalive": "0.3s", "dead": "0.6s"}  # fmt: skip
    with two_nodes(timers=TIMERS | quick) as (alpha, beta):
        bring_up(alpha, beta)
        assert first(alpha, "network.idle", "beta")["severity"] == "note"
        assert "1 peer, idle" in alpha.cli("diag").stdout


def test_degraded_security() -> None:
    later = datetime.now(UTC).date() + timedelta(days=2)
    with two_nodes() as (alpha, beta):
        for node, peer in ((alpha, "beta"), (beta, "alpha")):
            node.set({f"peer.{peer}": {"allow_degraded": ["auth-plaintext"]}})
            header = f"\n[peer.{peer}]\n"
            node.config.write_text(node.config.read_text().replace(header, f"{header}degraded_until = {later}\n"))
        bring_up(alpha, beta)
        alpha.cli("peer", "degrade", "beta")
        beta.cli("peer", "degrade", "alpha")
        with _wanting(alpha):
            found = wait_for("the verdict", lambda: [v for v in _verdicts(alpha) if v["code"] == "crypto.degraded"], 30)
        assert found[0]["severity"] == "warning"


def _verdicts(node: Node) -> list[dict[str, str]]:
    return list(json.loads(node.cli("diag", "--json", check=False).stdout)["verdicts"])


# -- what else is asked ------------------------------------------------------------------------------------------------


def test_the_trace_of_an_attempt_and_the_same_out_of_a_bundle() -> None:
    with two_nodes(None) as (alpha, beta):
        alpha.set({"peer.beta": {"trace": True}})
        beta.set({"peer.alpha": {"trace": True}})
        bring_up(alpha, beta)
        connected(alpha, beta)
        last = wait_for(
            "the trace",
            lambda: (d := alpha.cli("diag", "trace", "last", "--json", check=False)).returncode == 0 and d.stdout,
            20,
        )
        spans = json.loads(last)["spans"]
        assert spans[0]["name"] == "pqvpn.connect"
        assert {"pqvpn.handshake.m1", "pqvpn.handshake.m3"} <= {each["name"] for each in spans}
        drawn = alpha.cli("diag", "trace", json.loads(last)["trace_id"][:6]).stdout
        assert "━" in drawn
        session = alpha.peer("beta")["session_id"]
        assert session in alpha.cli("diag", "session", session[:6]).stdout
        assert "session with beta agreed" in alpha.cli("diag", "logs", "--peer", "beta").stdout
        wait_for("metrics", lambda: "pqvpn.node.uptime" in alpha.cli("diag", "metrics").stdout, 10)
        bundle = alpha.folder / "b.tar.gz"
        alpha.down()
        there = json.loads(alpha.cli("diag", "--json", check=False).stdout)
        alpha.cli("diag", "bundle", "-o", str(bundle), "--yes")
        answer = _open(beta, bundle, "--json")
        assert [(v["code"], v["since"]) for v in answer["verdicts"]] == [
            (v["code"], v["since"]) for v in there["verdicts"]
        ]
        assert (
            _open(beta, bundle, "trace", "last", "--json")["spans"]
            == json.loads(alpha.cli("diag", "trace", "last", "--json").stdout)["spans"]
        )


def _open(node: Node, bundle: object, *words: str) -> dict[str, list[dict[str, str]]]:
    """Asked on another machine than the one that the bundle is of."""
    done = node.namespace.run([*PQVPN, "diag", "open", str(bundle), *words], check=False)
    assert done.stderr == "", done.stderr
    return dict(json.loads(done.stdout))
