"""Every error of the configuration, provoked: reason, place and remedy; and all of them at once."""

import base64
import datetime
import os
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from pqvpn.config import load, sample, schema
from pqvpn.crypto.secret import Secret
from pqvpn.errors import ConfigErrors
from pqvpn.identity import peer_id, text
from pqvpn.identity.private_key import IdentityKey
from pqvpn.protocol.settings import Timers
from pqvpn.reasons import Reason

TODAY = datetime.date(2026, 6, 1)
DSN = '[crash_reports]\ndsn_file = "dsn"'
NODE = '[node]\nname = "alpha"\naddresses = ["10.7.0.1/24"]\n'


def key(number: int) -> IdentityKey:
    return IdentityKey(Secret(bytes([number]) * 64))


OWN, BETA, GAMMA = key(1), key(2), key(3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    own = tmp_path / "identity.key"
    own.write_bytes(OWN.encode().expose())
    own.chmod(0o600)
    for name, identity in (("self", OWN), ("beta", BETA), ("gamma", GAMMA)):
        (tmp_path / f"{name}.pqcard").write_text(text.card_to_file(identity.card()))
    return tmp_path


def peer(name: str = "beta", allowed: str = "10.7.0.2/32", more: str = "", card: str = "") -> str:
    return f'[peer.{name}]\ncard = "{card or name}.pqcard"\nallowed_ips = ["{allowed}"]\n{more}\n'


def errors(folder: Path, source: str) -> list[tuple[Reason, str, str, str]]:
    path = folder / "pqvpn.toml"
    path.write_text(source)
    with pytest.raises(ConfigErrors) as caught:
        load.load(path, today=TODAY)
    return [(error.reason, error.place, error.detail, error.remedy) for error in caught.value.errors]


def write_key(name: str, content: bytes, mode: int = 0o600) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)
        (folder / name).chmod(mode)

    return change


def nothing(folder: Path) -> None:
    pass


ZERO = base64.b64encode(bytes(32))
GOOD = base64.b64encode(bytes(range(32)))
PSK = 'psk_file = "psk"'

# source, preparation, reason, place, a piece of detail or remedy
TABLE: list[tuple[str, Callable[[Path], None], Reason, str, str]] = [
    ("[node]\nx == 1", nothing, Reason.CONFIG_SYNTAX, "pqvpn.toml", "line 2"),
    ("a = " + "[" * 5000 + "]" * 5000, nothing, Reason.CONFIG_SYNTAX, "pqvpn.toml", ""),
    ("a = " + "1" * 5000, nothing, Reason.CONFIG_SYNTAX, "pqvpn.toml", ""),
    (NODE + "lissen = 5", nothing, Reason.CONFIG_UNKNOWN_KEY, "node.lissen (line 4)", "did you mean 'listen'"),
    ("[peers.beta]\n" + NODE, nothing, Reason.CONFIG_UNKNOWN_KEY, "peers (line 1)", "did you mean 'peer'"),
    ("listen = 5\n" + NODE, nothing, Reason.CONFIG_UNKNOWN_KEY, "listen (line 1)", "[node]"),
    (NODE + peer(more="end_point = 1"), nothing, Reason.CONFIG_UNKNOWN_KEY, "peer.beta.end_point (line 7)", "endpoint"),
    ('[node]\naddresses = ["10.7.0.1/24"]', nothing, Reason.CONFIG_MISSING, "node.name (line 1)", ""),
    (NODE + '[peer.beta]\ncard = "beta.pqcard"', nothing, Reason.CONFIG_MISSING, "peer.beta.allowed_ips (line 4)", ""),
    (NODE + "listen = true", nothing, Reason.CONFIG_VALUE, "node.listen (line 4)", "true or false"),
    (NODE + "listen = 0", nothing, Reason.CONFIG_VALUE, "node.listen (line 4)", "1 to 65535"),
    (NODE + 'interface = "a/b"', nothing, Reason.CONFIG_VALUE, "node.interface (line 4)", "1 to 15"),
    (NODE + f'runtime_dir = "{"r" * 120}"', nothing, Reason.CONFIG_VALUE, "node.runtime_dir (line 4)", "shorter"),
    (NODE + '[log]\nlevel = "loud"', nothing, Reason.CONFIG_VALUE, "log.level (line 5)", "'info'"),
    ("node = 3", nothing, Reason.CONFIG_VALUE, "node (line 1)", "table"),
    ("peer = 3\n" + NODE, nothing, Reason.CONFIG_VALUE, "peer (line 1)", "[peer.NAME]"),
    (NODE + '[peer]\ncard = "x"', nothing, Reason.CONFIG_VALUE, "peer.card (line 5)", "[peer.NAME]"),
    (NODE + peer('"b c"', card="beta"), nothing, Reason.CONFIG_VALUE, "peer.'b c' (line 4)", "letters"),
    (NODE + peer(allowed="10.7.0.2/24"), nothing, Reason.CONFIG_VALUE, "peer.beta.allowed_ips[0] (line 6)", "10.7.0.0/24"),
    (NODE + peer(more='endpoint = "::1:5"'), nothing, Reason.CONFIG_VALUE, "peer.beta.endpoint (line 7)", "[2001:db8"),
    (NODE + peer(more="degraded_until = 2027-01-31"), nothing, Reason.CONFIG_VALUE, "peer.beta.degraded_until (line 7)", ""),
    (NODE + "mtu = 1279", nothing, Reason.CONFIG_MTU, "node.mtu (line 4)", "1280 to 2040"),
    (NODE + "mtu = 2041", nothing, Reason.CONFIG_MTU, "node.mtu (line 4)", "1280 to 2040"),
    (
        NODE + '[telemetry]\nendpoint = "x"',
        nothing, Reason.CONFIG_VALUE, "telemetry.endpoint (line 5)",
        "not a URL",
    ),
    (
        NODE + '[telemetry]\nendpoint = "https://u:p@c.example:4318"',
        nothing, Reason.CONFIG_VALUE, "telemetry.endpoint (line 5)",
        "a user",
    ),
    (
        NODE + '[telemetry]\nendpoint = "http://c.example:4318"',
        nothing, Reason.CONFIG_TELEMETRY_PLAIN, "telemetry.endpoint (line 5)",
        "unencrypted",
    ),
    (
        NODE + '[telemetry]\nca_file = "x.pem"',
        nothing, Reason.CONFIG_VALUE, "telemetry.ca_file (line 5)",
        "without endpoint",
    ),
    (
        NODE + '[telemetry]\nspool_size = "1KiB"',
        nothing, Reason.CONFIG_VALUE, "telemetry.spool_size (line 5)",
        "outside",
    ),
    (
        NODE + '[telemetry]\nsample = 2',
        nothing, Reason.CONFIG_VALUE, "telemetry.sample (line 5)",
        "share",
    ),
    (
        NODE + '[health]\nlisten = "192.0.2.1:9464"',
        nothing, Reason.CONFIG_HEALTH_OPEN, "health.listen (line 5)",
        "loopback",
    ),
    (
        NODE + '[health]\nmemory_warns = "2GiB"\nmemory_fails = "1GiB"',
        nothing, Reason.CONFIG_VALUE, "health.memory_fails (line 6)",
        "memory_warns is more",
    ),
    (
        NODE + '[health]\nfail_scale = 0.01',
        nothing, Reason.CONFIG_VALUE, "health.fail_scale (line 5)",
        "factor",
    ),
    (
        NODE + '[redact]\naddresses = "show"',
        nothing, Reason.CONFIG_VALUE, "redact.addresses (line 5)",
        "",
    ),
    (NODE + "[breakers]\nwindow = \"0s\"", nothing, Reason.CONFIG_TIMER, "breakers.window (line 5)", "1s"),
    (NODE + "[restart]\nburst = 0", nothing, Reason.CONFIG_VALUE, "restart.burst (line 5)", "1 to 100"),
    (NODE + '[restart]\nlanes = "sometimes"', nothing, Reason.CONFIG_VALUE, "restart.lanes (line 5)", ""),
    (NODE + '[restart]\nhang_after = "1ms"', nothing, Reason.CONFIG_TIMER, "restart.hang_after (line 5)", "outside"),
    (NODE + "[crash_reports]\non = 1", nothing, Reason.CONFIG_UNKNOWN_KEY, "crash_reports.on (line 5)", ""),
    (
        NODE + "[crash_reports]\nhost_name = true",
        nothing, Reason.CONFIG_VALUE, "crash_reports.host_name (line 5)", "without dsn_file",
    ),
    (
        NODE + DSN, write_key("dsn", b"https://abcdef0123@host.example/"),
        Reason.CONFIG_DSN, "crash_reports.dsn_file (line 5)", "http(s)://KEY@HOST",
    ),
    (
        NODE + DSN, write_key("dsn", b"http://abcdef0123@host.example:8000/1"),
        Reason.CONFIG_TELEMETRY_PLAIN, "crash_reports.dsn_file (line 5)", "unencrypted",
    ),
    (
        NODE + DSN, write_key("dsn", b"https://abcdef0123@host.example/1", 0o644),
        Reason.CONFIG_KEY_MODE, "crash_reports.dsn_file (line 5)", "chmod 600",
    ),
    (NODE + peer(more='keepalive = "0s"'), nothing, Reason.CONFIG_KEEPALIVE, "peer.beta.keepalive (line 7)", "1s to 1h"),
    (NODE + peer(more='keepalive = "2h"'), nothing, Reason.CONFIG_KEEPALIVE, "peer.beta.keepalive (line 7)", "1s to 1h"),
    (NODE + peer(more='keepalive = "25"'), nothing, Reason.CONFIG_KEEPALIVE, "peer.beta.keepalive (line 7)", "unit"),
    (NODE + '[timers]\nrekey_after = "1h"', nothing, Reason.CONFIG_TIMER, "timers.rekey_after (line 5)", "10m"),
    (NODE + '[timers]\nreject_after = "60s"', nothing, Reason.CONFIG_TIMER, "timers.reject_after (line 5)", "rekey_after"),
    (NODE + '[timers]\nm3_schedule = ["1s"]', nothing, Reason.CONFIG_TIMER, "timers.m3_schedule (line 5)", "0s"),
    (
        NODE.replace('/24"', '/24", "fd00::1/64", "10.7.0.1/32"'), nothing,
        Reason.CONFIG_DUPLICATE_ADDRESS, "node.addresses[2] (line 3)", "[0]",
    ),
    (
        NODE + peer() + peer("gamma", "10.7.0.0/30"), nothing,
        Reason.CONFIG_ALLOWED_OVERLAP, "peer.beta.allowed_ips[0] (line 6)", "peer.gamma.allowed_ips[0]",
    ),
    (NODE + peer(allowed="10.7.0.1"), nothing, Reason.CONFIG_ALLOWED_OWN, "peer.beta.allowed_ips[0] (line 6)", "10.7.0.1"),
    (NODE + peer(more='endpoint = "10.7.0.1:9"'), nothing, Reason.CONFIG_ENDPOINT_OWN, "peer.beta.endpoint (line 7)", "inside"),
    (
        NODE + peer(more='endpoint = "[::1]:51820"'), nothing,
        Reason.CONFIG_ENDPOINT_OWN, "peer.beta.endpoint (line 7)", "listens",
    ),
    (
        NODE + peer(allowed="10.8.0.0/16", more='endpoint = "10.8.0.2:9"'), nothing,
        Reason.CONFIG_ENDPOINT_INSIDE, "peer.beta.endpoint (line 7)", "peer.beta.allowed_ips has 10.8.0.0/16",
    ),
    (
        NODE + peer(allowed="fd08::/16", more='endpoint = "[fd08::2]:9"'), nothing,
        Reason.CONFIG_ENDPOINT_INSIDE, "peer.beta.endpoint (line 7)", "fd08::/16",
    ),
    (
        NODE + peer(more='endpoint = "10.7.0.9:9"'), nothing,
        Reason.CONFIG_ENDPOINT_INSIDE, "peer.beta.endpoint (line 7)", "node.addresses has 10.7.0.0/24",
    ),
    (NODE + peer("self"), nothing, Reason.CONFIG_PEER_SELF, "peer.self.card (line 5)", ""),
    (
        NODE + peer() + peer("again", "10.7.0.3", card="beta"), nothing,
        Reason.CONFIG_PEER_DUPLICATE, "peer.again.card (line 9)", "peer.beta",
    ),
    (
        NODE + peer(more=f'id = "{peer_id.to_text(GAMMA.card().peer_id)}"'), nothing,
        Reason.CONFIG_CARD_ID, "peer.beta.id (line 7)", peer_id.to_text(BETA.card().peer_id),
    ),
    (NODE + peer(more='id = "pqvpn1x"'), nothing, Reason.ID_MALFORMED, "peer.beta.id (line 7)", "not a peer ID"),
    (NODE + peer(), write_key("beta.pqcard", b"x"), Reason.CARD_MALFORMED, "peer.beta.card (line 5)", "not a card"),
    (NODE + peer(), write_key("beta.pqcard", b"\xff"), Reason.CARD_MALFORMED, "peer.beta.card (line 5)", "not text"),
    (NODE + peer(card="none"), nothing, Reason.CONFIG_FILE, "peer.beta.card (line 5)", "none.pqcard"),
    (NODE + peer(more=PSK), write_key("psk", ZERO), Reason.CONFIG_KEY_ZERO, "peer.beta.psk_file (line 7)", "openssl"),
    (NODE + peer(more=PSK), write_key("psk", GOOD, 0o640), Reason.CONFIG_KEY_MODE, "peer.beta.psk_file (line 7)", "chmod 600"),
    (NODE + peer(more=PSK), write_key("psk", GOOD[:-4]), Reason.CONFIG_FILE, "peer.beta.psk_file (line 7)", "32 bytes"),
    (
        NODE + 'network_key_file = "net"', write_key("net", ZERO + b"\n"),
        Reason.CONFIG_KEY_ZERO, "node.network_key_file (line 4)", "",
    ),
    (NODE + 'private_key = "/dev/zero"', nothing, Reason.CONFIG_FILE, "node.private_key (line 4)", "regular"),
    (NODE, lambda folder: (folder / "identity.key").unlink(), Reason.CONFIG_FILE, "node.private_key (line 1)", ""),
    (NODE, lambda folder: (folder / "identity.key").chmod(0o644), Reason.CONFIG_KEY_MODE, "node.private_key (line 1)", "0644"),
    (NODE, lambda folder: folder.chmod(0o750), Reason.CONFIG_KEY_MODE, "node.private_key (line 1)", "chmod 700"),
    (NODE, write_key("identity.key", b"x"), Reason.KEY_MALFORMED, "node.private_key (line 1)", ""),
    (
        NODE + peer(more='allow_degraded = ["auth-plaintext"]'), nothing,
        Reason.CONFIG_DEGRADED_UNTIL, "peer.beta.allow_degraded (line 7)", "without degraded_until",
    ),
    (
        NODE + peer(more='allow_degraded = ["auth-plaintext"]\ndegraded_until = 2026-05-31'), nothing,
        Reason.CONFIG_DEGRADED_UNTIL, "peer.beta.degraded_until (line 8)", "past",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "prepare", "reason", "place", "words"), TABLE, ids=[f"{r[2].code}-{i}" for i, r in enumerate(TABLE)]
)
def test_error(
    folder: Path, source: str, prepare: Callable[[Path], None], reason: Reason, place: str, words: str
) -> None:
    prepare(folder)
    met = errors(folder, source)
    assert [(error[0], error[1].removeprefix(f"{folder}/")) for error in met if error[0] is reason] == [(reason, place)]
    told = next(error for error in met if error[0] is reason)
    assert words in f"{told[2]} {told[3]}"
    assert told[3]


def test_table_is_complete() -> None:
    written_elsewhere = {
        Reason.CONFIG_UNREADABLE,  # below
        Reason.CONFIG_EXISTS,  # these four: test_config_write
        Reason.CONFIG_NOT_WRITTEN,
        Reason.CONFIG_NO_SUCH_PEER,
        Reason.CONFIG_PEER_EXISTS,
    }
    codes = {reason for reason in Reason if reason.code.startswith("config.")}
    assert codes - written_elsewhere == {row[2] for row in TABLE if row[2].code.startswith("config.")}


@pytest.mark.parametrize(
    "dsn",
    [
        "https://abcdef0123@host.example/1",
        "https://abcdef0123@host.example:8443/below/there/42\n",
        "http://abcdef0123@127.0.0.1:8000/1",
        "http://abcdef0123@[::1]:8000/1",
    ],
)
def test_a_dsn_is_read_and_never_shown(folder: Path, dsn: str) -> None:
    write_key("dsn", dsn.encode())(folder)
    path = folder / "pqvpn.toml"
    path.write_text(NODE + DSN)
    config = load.load(path)
    assert config.crash_dsn == Secret(dsn.strip().encode())
    assert "abcdef0123" not in repr(config)


@pytest.mark.parametrize(
    "dsn",
    [
        "nonsense-abcdef0123", "abcdef0123@host.example/1", "https://host.example/abcdef01", "ftp://abcdef0123@host.example/1",
        "https://abcdef0123@host.example:x/1", "https://abcdef0123@[::1/1", "https://abcdef0123@/1", "https://abcdef0123@h/1?x=1",
        "https://abcdef0123@host.example/1\nhttps://abcdef0123@host.example/2", "https://abcdef0123@host.example:0/1",
    ],
)  # fmt: skip
def test_what_is_no_dsn_is_refused_without_showing_it(folder: Path, dsn: str) -> None:
    write_key("dsn", dsn.encode())(folder)
    met = errors(folder, NODE + DSN)
    assert [reason for reason, *_ in met] == [Reason.CONFIG_DSN]
    assert "abcdef01" not in repr(met)


def test_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(ConfigErrors) as caught:
            load.load(path)
        assert caught.value.reason is Reason.CONFIG_UNREADABLE


def test_all_at_once(folder: Path) -> None:
    (folder / "psk").write_bytes(ZERO)
    (folder / "psk").chmod(0o600)
    met = errors(
        folder,
        "lissen = 1\n"  # unknown, top level
        '[node]\naddresses = ["nonsense", "10.7.0.1/24", "10.7.0.1/16"]\nmtu = 1000\n'  # missing name, value, duplicate, MTU
        '[peer.beta]\ncard = "beta.pqcard"\nallowed_ips = ["x", "10.7.0.2/32"]\nkeepalive = "1ms"\npsk_file = "psk"\n'
        '[peer.gamma]\ncard = "beta.pqcard"\nallowed_ips = ["10.7.0.2/31"]\nendpoint = "127.0.0.1:51820"\n'
        "[health]\nx = 1\n",
    )
    assert [(reason, place) for reason, place, _, _ in met] == [
        (Reason.CONFIG_UNKNOWN_KEY, "lissen (line 1)"),
        (Reason.CONFIG_MISSING, "node.name (line 2)"),
        (Reason.CONFIG_VALUE, "node.addresses[0] (line 3)"),
        (Reason.CONFIG_DUPLICATE_ADDRESS, "node.addresses[2] (line 3)"),
        (Reason.CONFIG_MTU, "node.mtu (line 4)"),
        (Reason.CONFIG_VALUE, "peer.beta.allowed_ips[0] (line 7)"),
        (Reason.CONFIG_ALLOWED_OVERLAP, "peer.beta.allowed_ips[1] (line 7)"),
        (Reason.CONFIG_KEEPALIVE, "peer.beta.keepalive (line 8)"),
        (Reason.CONFIG_KEY_ZERO, "peer.beta.psk_file (line 9)"),
        (Reason.CONFIG_PEER_DUPLICATE, "peer.gamma.card (line 11)"),
        (Reason.CONFIG_ENDPOINT_OWN, "peer.gamma.endpoint (line 13)"),
        (Reason.CONFIG_UNKNOWN_KEY, "health.x (line 15)"),
    ]


def test_peers_that_are_reached_through_each_other(folder: Path) -> None:
    met = errors(
        folder,
        NODE
        + peer(allowed="10.8.0.0/16", more='endpoint = "10.9.0.1:9"')
        + peer("gamma", allowed="10.9.0.0/16", more='endpoint = "10.8.0.1:9"'),
    )
    assert [(reason, place) for reason, place, _, _ in met] == [
        (Reason.CONFIG_ENDPOINT_INSIDE, "peer.beta.endpoint (line 7)"),
        (Reason.CONFIG_ENDPOINT_INSIDE, "peer.gamma.endpoint (line 11)"),
    ]
    assert met[0][2] == "10.9.0.1: peer.gamma.allowed_ips has 10.9.0.0/16, peer.beta.allowed_ips has 10.8.0.0/16"


def test_endpoints_that_the_mark_or_another_peer_leads_to(folder: Path) -> None:
    """A default route is no loop, and a tunnel in a tunnel is a choice."""
    path = folder / "pqvpn.toml"
    for beta, gamma in (
        (peer(allowed="0.0.0.0/0", more='endpoint = "192.0.2.1:9"'), ""),
        (peer(allowed="10.8.0.0/16", more='endpoint = "10.9.0.1:9"'), peer("gamma", "10.9.0.0/16")),
        (
            peer(allowed="10.8.0.0/16", more='endpoint = "10.9.0.1:9"'),
            peer("gamma", "10.9.0.0/16", 'endpoint = "192.0.2.1:9"'),
        ),
    ):
        path.write_text(NODE + beta + gamma)
        assert load.load(path, today=TODAY).peers


def test_sample_loads_with_defaults(folder: Path) -> None:
    path = folder / "pqvpn.toml"
    path.write_text(
        sample.render(name="alpha", listen=51820, interface="pqvpn0", addresses=("10.7.0.1/24", "fd00::1/64"))
    )
    config = load.load(path)
    assert (config.node.name, config.node.listen, config.node.interface) == ("alpha", 51820, "pqvpn0")
    assert [str(address) for address in config.node.addresses] == ["10.7.0.1/24", "fd00::1/64"]
    assert config.card == OWN.card()
    assert config.peers == ()


def test_what_the_sample_comments_out_loads_too(folder: Path) -> None:
    (folder / "peers").mkdir()
    (folder / "peers" / "beta.pqcard").write_text(text.card_to_file(BETA.card()))
    for name in ("network.key", "beta.psk", "otlp.headers", "health.token"):
        (folder / name).write_bytes(GOOD)
        (folder / name).chmod(0o600)
    write_key("crashes.dsn", b"https://abcdef0123@host.example/1")(folder)
    lines = sample.render(name="alpha", listen=1, interface="tun9", addresses=("10.7.0.1/24",)).splitlines()
    settings = [line.removeprefix("# ") if "=" in line or line.startswith("# [") else line for line in lines]
    source = "\n".join(settings).replace('"pqvpn1..."', f'"{peer_id.to_text(BETA.card().peer_id)}"')
    path = folder / "pqvpn.toml"
    path.write_text(source)
    config = load.load(path, today=TODAY)
    assert config.network_key is not None
    (beta,) = config.peers
    assert beta.psk == config.network_key
    assert (beta.id, beta.keepalive, beta.allow_degraded) == (BETA.card().peer_id, 25.0, True)
    known = set(schema.NodeSection.model_fields) | set(schema.PeerSection.model_fields)
    named = set(tomllib.loads(source)["node"]) | set(tomllib.loads(source)["peer"]["beta"])
    assert known == named  # the sample tells of every setting


def test_timers_are_the_cores_own() -> None:
    defaults = schema.TimersSection()
    assert defaults.model_dump() == {field.name: getattr(Timers(), field.name) for field in fields(Timers)}


def test_shortened_timers(folder: Path) -> None:
    path = folder / "pqvpn.toml"
    path.write_text(NODE + '[timers]\nrekey_after = "3s"\nm1_schedule = ["0s", "250ms"]\n')
    timers = load.load(path).timers
    assert (timers.rekey_after, timers.m1_schedule) == (3.0, (0.0, 0.25))


def test_frozen(folder: Path) -> None:
    path = folder / "pqvpn.toml"
    path.write_text(NODE)
    config = load.load(path)
    with pytest.raises(AttributeError):
        config.peers = ()  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.node.listen = 5  # type: ignore[misc]


def test_card_as_a_line_and_endpoint_forms(folder: Path) -> None:
    path = folder / "pqvpn.toml"
    line = text.card_to_line(BETA.card())
    for endpoint, shown, literal in (
        ("beta.example.net:51820", "beta.example.net:51820", None),
        ("[2001:db8::1]:1", "[2001:db8::1]:1", "2001:db8::1"),
        ("[::ffff:192.0.2.1]:1", "192.0.2.1:1", "192.0.2.1"),
    ):
        path.write_text(f'{NODE}[peer.beta]\ncard = "{line}"\nallowed_ips = ["10.7.0.2"]\nendpoint = "{endpoint}"')
        (beta,) = load.load(path).peers
        assert str(beta.endpoint) == shown
        assert beta.endpoint is not None
        assert (str(beta.endpoint.ip) if beta.endpoint.ip else None) == literal


def test_nested_ranges_of_one_peer_are_fine(folder: Path) -> None:
    path = folder / "pqvpn.toml"
    path.write_text(NODE + peer(allowed='10.8.0.0/16", "10.8.1.0/24'))
    assert len(load.load(path).peers[0].allowed_ips) == 2


def test_a_fifo_does_not_hold_us_up(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (reason, place, _, _) = next(iter(errors(folder, NODE + peer(more='psk_file = "pipe"'))))
    assert (reason, place) == (Reason.CONFIG_FILE, "peer.beta.psk_file (line 7)")
