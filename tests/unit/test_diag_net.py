"""`pqvpn diag net`: what a probe found, and what is said of a node that cannot be asked."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from diag_cases import event, knowledge, peer

from pqvpn.cli import client, main, output
from pqvpn.cli import diag as command
from pqvpn.diag import net, netlines
from pqvpn.diag.inquiry import Inquiry
from pqvpn.diag.kernel import Clock, clock
from pqvpn.errors import PqvpnError
from pqvpn.reasons import Reason

SYNCED = Clock(True, 0.0, 0.001)


def look(name: str = "beta", **more: Any) -> dict[str, Any]:
    """What the node tells of a peer that is well."""
    return {
        "name": name, "state": "up", "endpoint": "192.0.2.2:51820", "route": True, "error": None, "interface": "eth0",
        "source": "192.0.2.1", "translated": "no", "seen": "configured", "probed": True, "finished": True, "sent": 3,
        "answered": 3, "rtt_ms": 1.5, "rtt_most_ms": 2.5, "path_mtu": 1432, "outside": 1500, "arrived": 1432,
        "largest": 1432, "in_use": 1432, "icmp": [],
    } | more  # fmt: skip


def probe(*peers: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    families = [
        {"family": "ipv4", "able": True, "route": True, "error": None},
        {"family": "ipv6", "able": True, "route": False, "error": "Network is unreachable"},
    ]
    return {
        "families": families,
        "refused": 0,
        "peers": list(peers),
        "dns": [],
        "seconds": 0.5,
        "age_seconds": 0.1,
    } | more


def text(told: dict[str, Any]) -> str:
    assert all(len(line.text) <= 80 for line in netlines.lines(told))
    json.dumps(told)
    return " ".join(" ".join(line.text for line in netlines.lines(told)).split())


def of(found: Mapping[str, Any] | None, *peers: dict[str, Any], clock: Clock = SYNCED, **more: Any) -> dict[str, Any]:
    return net.document(knowledge(peers=peers or (peer(),), **more), (), found, "", clock)


def test_all_is_well() -> None:
    told = of(probe(look()))
    said = text(told)
    assert (
        "beta datagrams get through both ways: 3 of 3 challenges answered in 1.5 ms to 2.5 ms (192.0.2.2:51820)" in said
    )
    assert "1432 bytes, confirmed now (1500 on the way)" in said
    assert "IPv4 there is a way out IPv6 no way out of here: Network is unreachable" in said
    assert "no NAT is needed between 192.0.2.1 and 192.0.2.2:51820" in said
    assert "synchronised, wrong by 1 ms at most; keys" in said
    assert "Sent for this: challenges and size probes to 1 peer on their sessions" in said
    assert (told["probed"], told["path_mtu"][0]["confirmed"], told["udp"][0]["answered"]) == (True, True, 3)
    assert not any(line.style == "warn" for line in netlines.lines(told))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (look(answered=0, rtt_ms=None, rtt_most_ms=None, path_mtu=None, arrived=0), "nothing comes back: 0 of 3 chall"),
        (look(answered=0, path_mtu=None, icmp=[{"kind": "port_unreachable", "count": 3}]), "answers port unreachable"),
        (look(answered=1), "2 of 3 challenges were lost"),
        (
            look(path_mtu=1208, outside=1276),
            "1208 bytes of 1432, confirmed now (1276 on the way); in use are 1432 until",
        ),
        (look(path_mtu=None, arrived=0), "small packets pass, and not one of 1192 bytes"),
        (look(path_mtu=None, arrived=1192, finished=False), "1432 bytes; not confirmed now"),
        (look(route=False, error="Network is unreachable"), "this machine has no way there: Network is unreachable"),
        (look(translated="yes", source="192.168.1.2"), "a NAT translates 192.168.1.2, which is private, on the way to"),
        (look(translated="unknown", source="10.0.0.1"), "a NAT may be there"),
        (look(translated="no", seen="port"), "comes from another port than configured".replace("comes", "come")),
    ],
)
def test_what_is_wrong_is_said(found: dict[str, Any], said: str) -> None:
    assert said in text(of(probe(found)))


def test_datagrams_that_this_machine_refused() -> None:
    assert "refused 3 datagrams: a firewall here" in text(of(probe(look(answered=0), refused=3)))


def test_a_peer_without_session_is_not_probed() -> None:
    down = look(
        "gamma", state="down", probed=False, sent=0, answered=0, path_mtu=None, in_use=None, translated=None, seen=None
    )
    told = of(probe(look(), down), peer(), peer("gamma", "down", Reason.IDLE, path_mtu=None))
    assert "gamma not tried lately (192.0.2.2:51820); no session, so nothing was sent to it" in text(told)
    assert [each["peer"] for each in told["path_mtu"]] == ["beta"]


def test_names() -> None:
    rows = [
        {"peer": "beta", "host": "b.example", "addresses": ["192.0.2.2", "2001:db8::2"], "seconds": 0.01, "error": ""},
        {"peer": "gamma", "host": "c.example", "addresses": [], "seconds": 5.0, "error": "no answer within 5 s"},
    ]
    told = of(probe(look(), dns=rows))
    assert "b.example: 192.0.2.2, 2001:db8::2 (2 addresses) in 10 ms" in text(told)
    assert "c.example: no answer within 5 s in 5 s" in text(told)
    assert {each["by"] for each in told["dns"]} == {"node"}


def test_the_clock() -> None:
    jumped = event(60, "clock.jumped", "", seconds=-3.5)
    later = event(-120, "handshake.completed", role="initiator")
    known = knowledge(jumped, later, peers=(peer(),))
    told = net.document(known, (), probe(look()), "", Clock(False))
    said = text(told)
    assert "not synchronised; it jumped once within a day, the last time by -3.5 s; it is 2 m behind" in said
    assert clock().synchronised in (True, False, None)


def test_without_a_node_the_records_are_told_with_their_age() -> None:
    dead = {"running": False, "answers": False, "source": "recorded", "at": knowledge().now - 200}
    known = knowledge(peers=(peer(),), **dead)
    assert net.probe(known, Path("/nowhere"), lambda *_, **__: {}) == (None, "the node does not run")
    told = net.document(known, (), None, "the node does not run", SYNCED)
    assert text(told).startswith("Nothing was probed. The node does not run: this was recorded 3 m 20 s ago")
    assert (told["probed"], told["age_seconds"], told["path_mtu"][0]["confirmed"]) == (False, 200.0, False)
    assert "1432 bytes; not confirmed now" in text(told)
    assert "datagrams got through both ways" in text(told)


def test_a_node_that_cannot_probe() -> None:
    def refuse(*_: Any, **__: Any) -> dict[str, Any]:
        raise PqvpnError(Reason.REQUEST_REFUSED, "no operation 'probe'")

    assert net.probe(knowledge(), Path("/x"), refuse) == (None, "the node did not probe: no operation 'probe'")
    assert net.probe(knowledge(answers=False), Path("/x"), refuse)[1] == "the node does not answer"


@pytest.mark.parametrize("found", [{}, {"peers": [{"name": "beta"}]}, {"peers": ["x"], "dns": 3, "families": None}])
def test_whatever_a_node_of_another_version_leaves_out_does_not_matter(found: dict[str, Any]) -> None:
    assert "beta" in text(of(found))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main.run(words)
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def test_the_command_asks_the_node_unless_it_must_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def ask(_: Path, operation: str, **__: Any) -> dict[str, Any]:
        asked.append(operation)
        return probe(look())

    class Nothing:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    monkeypatch.setattr(client, "request", ask)
    records: Any = Nothing()
    monkeypatch.setattr(command, "inquiry", lambda *_: Inquiry(records, lambda: knowledge(peers=(peer(),))))
    config = tmp_path / "pqvpn.toml"
    config.write_text('[peer.beta]\nendpoint = "beta.invalid:1"\n')
    code, out, err = run(capsys, "diag", "net", "--json", "--config", str(config))
    assert (code, err, json.loads(out)["probed"], asked) == (0, "", True, ["probe"])
    code, out, _ = run(capsys, "diag", "net", "--no-probe", "--json", "--config", str(config))
    told = json.loads(out)
    assert (code, told["probed"], told["sent"], told["dns"], asked) == (0, False, "nothing", [], ["probe"])


def test_names_are_hidden_where_addresses_are_masked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [net.Name("beta", "vpn.example.net", ("192.0.2.77",), 0.1)]
    monkeypatch.setattr(net, "look_up", lambda _: found)
    config = tmp_path / "pqvpn.toml"
    config.write_text('[node]\nstate_dir = "state"\nruntime_dir = "run"\n[redact]\naddresses = "mask"\n')
    _, out, _ = run(capsys, "diag", "net", "--config", str(config))
    assert "192.0.2.77" not in out
    assert "vpn.example.net" not in out
    assert not os.path.exists(tmp_path / "state"), "it changes nothing"
    config.write_text('[node]\nstate_dir = "state"\nruntime_dir = "run"\n')
    assert "vpn.example.net: 192.0.2.77" in run(capsys, "diag", "net", "--config", str(config))[1]
    assert net.masked(None) is False
    config.write_bytes(b"\xff")
    assert net.masked(config) is True


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with output.progress("waiting"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with output.progress("waiting"):
        pass
    assert capsys.readouterr().err.endswith("\r\033[K")
