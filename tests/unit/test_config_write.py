"""Changing the configuration on disk: modes, never overwriting, comments kept, nothing half-applied."""

import os
import stat
import threading
from pathlib import Path

import pytest

from pqvpn.config import load, write
from pqvpn.config.write import NewPeer
from pqvpn.crypto.secret import Secret
from pqvpn.errors import ConfigError, ConfigErrors
from pqvpn.identity.card import Card
from pqvpn.identity.private_key import IdentityKey
from pqvpn.reasons import Reason


def card(number: int) -> Card:
    return IdentityKey(Secret(bytes([number]) * 64)).card()


def make(path: Path, **changes: object) -> None:
    given = {"name": "alpha", "listen": 51820, "interface": "pqvpn0", "addresses": ("10.7.0.1/24",)} | changes
    write.create(path, **given)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "node" / "pqvpn.toml"
    make(path)
    return path


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


BETA = NewPeer("beta", card(2), ("10.7.0.2/32", "fd00::2/128"), "beta.example.net:51820", "25s")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_modes_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "node" / "pqvpn.toml"
    if umask == 0o777:
        path.parent.mkdir(mode=0o700)  # the kernel would make it 0000 for an ordinary user
    before = os.umask(umask)
    try:
        make(path)
    finally:
        os.umask(before)
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in (path.parent, path, path.parent / "identity.key")}
    assert list(modes.values()) == [0o700, 0o600, 0o600]


@pytest.mark.parametrize("present", ["pqvpn.toml", "identity.key"])
def test_never_overwrites(path: Path, present: str) -> None:
    for other in {"pqvpn.toml", "identity.key"} - {present}:
        (path.parent / other).unlink()
    before = tree(path.parent)
    with pytest.raises(ConfigError) as caught:
        make(path)
    assert caught.value.reason is Reason.CONFIG_EXISTS
    assert tree(path.parent) == before


@pytest.mark.parametrize("present", ["pqvpn.toml", "identity.key"])
def test_never_overwrites_what_appears_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: str) -> None:
    (tmp_path / present).write_text("mine")
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "pqvpn.toml")
    assert caught.value.reason is Reason.CONFIG_EXISTS
    assert tree(tmp_path) == {present: b"mine"}


def test_never_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "identity.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "pqvpn.toml")
    assert caught.value.reason is Reason.CONFIG_EXISTS
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("bad", [{"addresses": ("nonsense",)}, {"name": 'a"b'}, {"listen": 0}, {"interface": "x" * 16}])
def test_create_with_bad_values_leaves_nothing(tmp_path: Path, bad: dict[str, object]) -> None:
    with pytest.raises(ConfigErrors):
        make(tmp_path / "node" / "pqvpn.toml", **bad)
    assert tree(tmp_path / "node") == {}


def test_create_refuses_a_loose_folder(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir(mode=0o755)
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "node" / "pqvpn.toml")
    assert (caught.value.reason, caught.value.remedy) == (Reason.CONFIG_KEY_MODE, f"chmod 700 {tmp_path}/node")


def test_create_where_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "file" / "pqvpn.toml")
    assert caught.value.reason in (Reason.CONFIG_NOT_WRITTEN, Reason.CONFIG_EXISTS)


def test_add_then_remove_restores_every_byte(path: Path) -> None:
    before = tree(path.parent)
    config = write.add_peer(path, BETA)
    assert load.load(path).peers == config.peers
    (beta,) = config.peers
    assert (beta.name, beta.card, str(beta.endpoint), beta.keepalive) == (
        "beta",
        card(2),
        "beta.example.net:51820",
        25.0,
    )
    added = path.read_text()
    assert added.startswith(before["pqvpn.toml"].decode())  # type: ignore[union-attr]
    assert write.remove_peer(path, "beta").peers == ()
    assert tree(path.parent) == before | {"peers": None}


def test_remove_keeps_comments_and_neighbours(path: Path) -> None:
    for number, name in enumerate(("beta", "gamma", "delta"), 2):
        write.add_peer(path, NewPeer(name, card(number), (f"10.7.0.{number}/32",)))
    text = (
        path.read_text()
        .replace("[peer.gamma]", "# about gamma\n[ peer . 'gamma' ] # yes")
        .replace("[peer.delta]", "# about delta\n[peer.delta]")
    )
    path.write_text(text)
    path.chmod(0o640)
    assert [peer.name for peer in write.remove_peer(path, "gamma").peers] == ["beta", "delta"]
    left = path.read_text()
    assert "# about gamma\n\n# about delta\n[peer.delta]" in left
    assert "gamma.pqcard" not in left
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_layouts_that_are_not_edited_are_left_alone(path: Path) -> None:
    write.add_peer(path, BETA)
    head, _, section = path.read_text().partition("\n[peer.beta]\n")
    path.write_text("".join(f"peer.beta.{line}\n" for line in section.splitlines()) + head)
    before = tree(path.parent)
    assert [peer.name for peer in load.load(path).peers] == ["beta"]
    with pytest.raises(ConfigError, match="edited safely"):
        write.remove_peer(path, "beta")
    assert tree(path.parent) == before


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (NewPeer("beta", card(3), ("10.7.0.9/32",)), Reason.CONFIG_PEER_EXISTS),
        (NewPeer("gamma", card(3), ("10.7.0.2/32",)), Reason.CONFIG_ALLOWED_OVERLAP),
        (NewPeer("gamma", card(2), ("10.7.0.9/32",)), Reason.CONFIG_PEER_DUPLICATE),
        (NewPeer("gamma", card(3), ("10.7.0.9/32",), endpoint='x"\n[node]'), Reason.CONFIG_VALUE),
        (NewPeer("gamma", card(3), ("10.7.0.9/32",), keepalive="1ms"), Reason.CONFIG_KEEPALIVE),
        (NewPeer("gamma", card(3), ("10.7.0.9/32",), psk_file="none"), Reason.CONFIG_FILE),
        (NewPeer("taken", card(3), ("10.7.0.9/32",)), Reason.CONFIG_EXISTS),
    ],
)
def test_a_refused_addition_changes_nothing(path: Path, peer: NewPeer, reason: Reason) -> None:
    write.add_peer(path, BETA)
    (path.parent / "peers" / "taken.pqcard").write_text("mine")
    before = tree(path.parent)
    with pytest.raises(ConfigError) as caught:
        write.add_peer(path, peer)
    assert caught.value.reason is reason
    assert tree(path.parent) == before


def test_no_such_peer(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write.remove_peer(path, "beta")
    assert caught.value.reason is Reason.CONFIG_NO_SUCH_PEER


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_failing_disk_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    before = tree(path.parent)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(ConfigError) as caught:
        write.add_peer(path, BETA)
    assert (caught.value.reason, caught.value.detail) == (Reason.CONFIG_NOT_WRITTEN, "No space left on device")
    assert tree(path.parent) == before


def test_edits_at_the_same_time_do_not_lose_each_other(path: Path) -> None:
    peers = [NewPeer(f"p{number}", card(number), (f"10.7.0.{number}/32",)) for number in range(2, 10)]
    threads = [threading.Thread(target=write.add_peer, args=(path, peer)) for peer in peers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {peer.name for peer in load.load(path).peers} == {peer.name for peer in peers}


def test_a_linked_configuration_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    write.add_peer(link, BETA)
    assert link.is_symlink()
    assert [peer.name for peer in load.load(link).peers] == ["beta"]
