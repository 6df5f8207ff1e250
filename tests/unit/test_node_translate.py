"""From a configuration to what processes are told, and what a reload changes, in words."""

import datetime
from dataclasses import replace
from pathlib import Path

import pytest

from pqvpn.config import load
from pqvpn.config.sample import render
from pqvpn.config.schema import NodeConfig
from pqvpn.crypto import xwing
from pqvpn.crypto.secret import Secret
from pqvpn.errors import ConfigError, ConfigErrors, PqvpnError
from pqvpn.host.clock import now
from pqvpn.identity.card import Card
from pqvpn.identity.private_key import IdentityKey
from pqvpn.identity.text import card_to_file
from pqvpn.node import translate
from pqvpn.reasons import Reason

BASE = render(name="alpha", listen=51820, interface="pqvpn0", addresses=("10.7.0.1/24", "fd07::1/64")).split("[log]")[0]
TODAY = datetime.datetime.now(datetime.UTC).date()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("node")
    made.chmod(0o700)
    for name, seed in (("identity.key", 0), ("other.key", 1)):
        (made / name).touch(mode=0o600)
        (made / name).write_bytes(IdentityKey(Secret(bytes([seed]) + bytes(63))).encode().expose())
    for number, name in enumerate(("beta", "gamma", "delta"), 7):
        card = Card(xwing.PublicKey(xwing.PrivateKey(Secret(bytes([number]) * 32)).public))
        (made / f"{name}.pqcard").write_text(card_to_file(card))
    (made / "psk").touch(mode=0o600)
    (made / "psk").write_text("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
    return made


def peer(name: str, net: int, *more: str) -> str:
    return "\n".join((f'[peer.{name}]\ncard = "{name}.pqcard"\nallowed_ips = ["10.7.{net}.0/24"]', *more, ""))


def config(folder: Path, *parts: str, base: str = BASE) -> NodeConfig:
    return load.parse(base + "".join(parts), folder / "pqvpn.toml")


def test_peers_carry_everything(folder: Path) -> None:
    full = ('endpoint = "[2001:db8::1]:7"', 'psk_file = "psk"', 'keepalive = "25s"', "trace = true")
    beta, gamma = translate.peers(config(folder, peer("beta", 2, *full), peer("gamma", 3)))
    assert (beta.name, beta.endpoints, beta.allowed_ips) == ("beta", ("[2001:db8::1]:7",), ("10.7.2.0/24",))
    assert (beta.psk, beta.keepalive, beta.trace) == (b"01234567890123456789012345678901", 25.0, True)
    assert len(beta.public_key) == 1216
    assert len(beta.peer_id) == 32
    assert (gamma.endpoints, gamma.psk, gamma.keepalive, gamma.trace) == ((), None, None, False)
    assert (gamma.allow_degraded, gamma.degraded_until) == (False, None)


def test_a_date_becomes_the_end_of_that_day_on_the_nodes_clock(folder: Path) -> None:
    tomorrow = TODAY + datetime.timedelta(days=1)
    armed = ('allow_degraded = ["auth-plaintext"]', f"degraded_until = {tomorrow}")
    (spec,) = translate.peers(config(folder, peer("beta", 2, *armed)))
    assert spec.allow_degraded
    assert spec.degraded_until is not None
    assert 86400 - 60 <= spec.degraded_until - now() <= 2 * 86400 + 1
    assert translate.peers(config(folder, peer("beta", 2, *armed)))[0].degraded_until == pytest.approx(
        spec.degraded_until, abs=1
    )


def test_a_reload_tells_what_changes_among_the_peers(folder: Path) -> None:
    old = config(folder, peer("beta", 2), peer("gamma", 3))
    new = config(folder, peer("beta", 2, 'keepalive = "9s"'), peer("delta", 4))
    assert set(translate.changes(old, new)) == {"peer delta added", "peer gamma removed", "peer beta changed"}
    assert translate.changes(old, old) == ()
    assert translate.changes(old, config(folder, peer("gamma", 3), peer("beta", 2))) == ()  # order says nothing
    assert translate.restart_needed(old, new) == ()


def test_settings_read_at_start_only_are_named(folder: Path) -> None:
    old = config(folder, peer("beta", 2))
    node = BASE.replace("51820", "51821").replace('# mtu = "auto"', "mtu = 1300")
    node = node.replace("[node]", '[node]\nprivate_key = "other.key"')
    others = '[log]\nlevel = "debug"\n[timers]\nkeepalive = "9s"\n[offload]\ntun_uso = "off"\n'
    new = config(folder, others, base=node)
    assert set(translate.restart_needed(old, new)) == {
        "node.listen", "node.mtu", "node.private_key", "timers.keepalive", "log.level", "offload.tun_uso",
    }  # fmt: skip
    assert translate.changes(old, new) == ("peer beta removed",)
    running = translate.in_force(old, new)
    assert running.peers == ()
    assert running.node.listen == 51820
    with_key = config(folder, base=BASE.replace("[node]", '[node]\nnetwork_key_file = "psk"'))
    assert set(translate.restart_needed(old, with_key)) == {"node.network_key_file"}


def test_a_reload_takes_every_policy_of_what_goes_wrong(folder: Path) -> None:
    for name, content in (("token", "a-token-of-32-characters-or-more-"), ("dsn", "http://key@127.0.0.1:9/1")):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(content)
    old = config(folder)
    parts = {
        "health": 'interval = "9s"\nmend = false\nlisten = "127.0.0.1:9464"\ntoken_file = "token"',
        "restart": 'observer = "never"\nhang_after = "7s"\nspares = false',
        "breakers": "consecutive = 9",
        "crash_reports": 'dsn_file = "dsn"\ninsecure = true\nhost_name = true\nkeep_age = "1h"',
    }
    for section, body in parts.items():
        new = config(folder, f"[{section}]\n{body}\n")
        assert translate.changes(old, new) == (f"{section} changed",)
        assert translate.restart_needed(old, new) == ()
        running = translate.in_force(old, new)
        assert replace(running, identity=new.identity) == new
        assert translate.for_observer(old, running) is (section in ("health", "crash_reports"))
    interval = config(folder, '[health]\ninterval = "9s"\n')
    assert not translate.for_observer(old, interval), "an observer at work takes that"


def test_a_secret_that_changed_in_its_file_is_a_change(folder: Path) -> None:
    text = '[health]\nlisten = "127.0.0.1:9464"\ntoken_file = "token"\n'
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text("a-token-of-32-characters-or-more-")
    old = config(folder, text)
    (folder / "token").write_text("b-token-of-32-characters-or-more-")
    new = config(folder, text)
    assert translate.changes(old, new) == ("health changed",)
    assert translate.for_observer(old, new)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [('endpoint = "192.0.2.1:7"', 1432), ('endpoint = "[2001:db8::1]:7"', 1412), ('endpoint = "b.example:7"', 1432)],
)
def test_the_mtu_fits_the_path(folder: Path, endpoint: str, expected: int) -> None:
    assert translate.mtu(config(folder, peer("beta", 2, endpoint))) == expected
    fixed = BASE.replace('# mtu = "auto"', "mtu = 1300")
    assert translate.mtu(config(folder, peer("beta", 2, endpoint), base=fixed)) == 1300


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (64, 4)])
def test_lanes_follow_the_cores(folder: Path, monkeypatch: pytest.MonkeyPatch, cores: int, expected: int) -> None:
    monkeypatch.setattr(translate.os, "sched_getaffinity", lambda _: set(range(cores)))
    assert translate.lanes(config(folder)) == expected
    assert translate.lanes(config(folder, base=BASE.replace('# lanes = "auto"', "lanes = 7"))) == 7


def test_timers_prefixes_and_addresses(folder: Path) -> None:
    made = config(folder, peer("beta", 2), peer("gamma", 3), '[timers]\nrekey_after = "3s"\n')
    assert translate.timers(made).rekey_after == 3.0
    assert translate.timers(made).reject_after == 180.0
    assert translate.prefixes(made) == {"10.7.2.0/24", "10.7.3.0/24"}
    assert translate.addresses(made) == ("10.7.0.1/24", "fd07::1/64")


def test_errors_in_transit_keep_all_fields(folder: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        config(folder, "mtu = 5\n[nonsense]\n")
    sent = translate.errors(caught.value)
    assert len(sent) == len(caught.value.errors) > 1
    assert all(e.code and e.text and e.place and e.remedy for e in sent)
    (one,) = translate.errors(PqvpnError(Reason.NO_ROUTE_OUT, "d", place="p", remedy="r"))
    assert (one.code, one.detail, one.place, one.remedy) == ("network.no_route", "d", "p", "r")


def test_an_error_that_repeats_a_key_travels_without_it() -> None:
    key = "4XuxKJZyTUorR5i+g7e+h6wpiya5HD6ORyIHIO0uDIw="
    error = ConfigError(
        Reason.CONFIG_VALUE, f"{key!r} is not a range", place=f"/etc/pqvpn/{key}", remedy=f"write {key}"
    )
    (info,) = translate.errors(error)
    assert key not in f"{info.detail} {info.place} {info.remedy}"
    assert info.detail.endswith("is not a range")
    (info,) = translate.errors(ConfigError(Reason.CONFIG_VALUE, "10.7.0.2/32 overlaps 10.7.0.0/24 of peer.gamma"))
    assert info.detail == "10.7.0.2/32 overlaps 10.7.0.0/24 of peer.gamma"
