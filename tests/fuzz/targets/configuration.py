"""Invariant: a configuration's text gives a NodeConfig within all ranges, or ConfigErrors, each with code, text and remedy."""

import atexit
import datetime
import shutil
import tempfile
from functools import cache
from pathlib import Path

from pqvpn.config import load
from pqvpn.config.schema import NodeConfig
from pqvpn.crypto.secret import Secret
from pqvpn.errors import ConfigErrors
from pqvpn.identity.private_key import IdentityKey
from pqvpn.identity.text import card_to_file
from tests.fuzz import parties

SHORT_RUN = 1000
TOKENS = (
    b"[node]\n", b"[peer.gamma]\n", b"[timers]\n", b"[log]\n", b"[offload]\n", b"[[peer]]\n", b'"', b"'''", b"=", b"\n",
    b'name = "x"\n', b"mtu = 1280\n", b"mtu = 99999999999999999999\n", b'lanes = "auto"\n', b"lanes = 17\n", b"true", b"-1",
    b"inf", b"nan", b"1e999", b"[]", b"{}", b'["10.0.0.0/8", "10.1.0.0/16"]', b'"::/0"', b'"90s"', b'"0s"', b"2027-01-31",
    b'allow_degraded = ["auth-plaintext"]\n', b'endpoint = "[::1]:1"\n', b'"[" ', b"\\u0000", b"\xf0\x9f\x98\x80", b"nmae = 1\n",
)  # fmt: skip
_TODAY = datetime.date(2026, 7, 1)


def check(data: bytes) -> None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return  # refused before the parser
    try:
        config = load.parse(text, _folder() / "pqvpn.toml", today=_TODAY)
    except ConfigErrors as errors:
        assert errors.errors
        for error in errors.errors:
            assert error.reason.code.startswith(("config.", "identity."))
            assert error.detail
            assert error.place
            assert error.remedy
    else:
        _within_ranges(config)


def _within_ranges(config: NodeConfig) -> None:
    assert config.node.mtu is None or 1280 <= config.node.mtu <= 2040
    assert config.node.lanes is None or 1 <= config.node.lanes <= 16
    assert 1 <= config.node.listen <= 65535
    assert config.node.addresses
    assert len({p.id for p in config.peers}) == len(config.peers)
    networks = [(n, p.name) for p in config.peers for n in p.allowed_ips]
    for network, name in networks:
        assert not any(o.version == network.version and o.overlaps(network) for o, other in networks if other != name)
    assert all(p.degraded_until is None or p.degraded_until >= _TODAY for p in config.peers)
    assert config.timers.rekey_after + config.timers.rekey_jitter <= config.timers.reject_after


@cache
def _folder() -> Path:
    """A node's folder with its keys, gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="pqvpn-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    identity = IdentityKey(Secret(bytes(range(64))))
    key = folder / "identity.key"
    key.touch(mode=0o600)
    key.write_bytes(identity.encode().expose())
    (folder / "peers").mkdir()
    (folder / "peers" / "beta.pqcard").write_text(card_to_file(parties.CARDS["I"]))
    (folder / "peers" / "gamma.pqcard").write_text(card_to_file(parties.CARDS["R"]))
    psk = folder / "beta.psk"
    psk.touch(mode=0o600)
    psk.write_text("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
    return folder
