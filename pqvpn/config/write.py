"""Changing the configuration on disk: making a node's folder, adding and removing peers.

Owns the edits and that none is half-applied: the whole result is validated before it takes the file's place, by rename,
after fsync. Edits are textual, so every comment stays; what the edited text means is compared with what was meant, and a
layout that this cannot edit is left alone and said so.
"""

import contextlib
import fcntl
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pqvpn.config import files, load, paths, sample
from pqvpn.config.schema import NodeConfig
from pqvpn.crypto.secret import Secret
from pqvpn.errors import ConfigError
from pqvpn.identity import peer_id
from pqvpn.identity import text as identity_text
from pqvpn.identity.card import Card
from pqvpn.identity.private_key import RAW_SIZE, IdentityKey
from pqvpn.reasons import Reason

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ANY_HEADER = re.compile(r"\s*\[")


@dataclass(frozen=True, slots=True)
class NewPeer:
    """What `pqvpn peer add` was told, as text; the configuration's own parsers judge it."""

    name: str
    card: Card
    allowed_ips: tuple[str, ...]
    endpoint: str | None = None
    keepalive: str | None = None
    psk_file: str | None = None


# -- a new node ---------------------------------------------------------------------------------------------------


def create(path: Path, *, name: str, listen: int, interface: str, addresses: tuple[str, ...]) -> NodeConfig:
    """Make the folder (0700), a fresh identity (0600) and the sample configuration. Never overwrites.

    Raises ConfigError (config.exists, config.not_written, config.key_mode) or ConfigErrors (values that the
    configuration refuses); then nothing is left behind but the folder.
    """
    folder = path.parent
    key_path = folder / paths.IDENTITY_NAME
    for present in (path, key_path):
        if os.path.lexists(present):
            raise ConfigError(Reason.CONFIG_EXISTS, "it exists and is not touched", place=str(present))
    with _told(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.check_folder(folder)
    text = sample.render(name=name, listen=listen, interface=interface, addresses=addresses)
    key = IdentityKey(Secret(os.urandom(RAW_SIZE)))
    with _told(key_path):
        _write_new(key_path, key.encode().expose())
    try:
        config = load.parse(text, path)
        with _told(path):
            _write_new(path, text.encode())
            _sync_folder(folder)
    except BaseException:
        key_path.unlink()
        raise
    return config


# -- peers --------------------------------------------------------------------------------------------------------


def add_peer(path: Path, peer: NewPeer) -> NodeConfig:
    """Add a section for the peer and its card file; answers the new configuration.

    Raises ConfigError (config.peer_exists, config.exists, config.not_written) or ConfigErrors when the result would not
    validate; then nothing is changed.
    """
    real = Path(os.path.realpath(path))
    with _edited(real) as source:
        before = _document(source, real)
        if peer.name in before.get("peer", {}):
            raise ConfigError(Reason.CONFIG_PEER_EXISTS, f"[peer.{peer.name}] exists", place=str(real))
        setting = f"{paths.PEERS_FOLDER}/{peer.name}{paths.CARD_SUFFIX}"
        changed = f"{source.rstrip()}\n\n{_section(peer, setting)}"
        with _card_file(real.parent / setting, peer):
            config = load.parse(changed, real)
            _replace(real, changed)
    return config


def remove_peer(path: Path, name: str) -> NodeConfig:
    """Take out the peer's section and the card file that `add_peer` made; answers the new configuration.

    Raises ConfigError (config.no_such_peer, config.syntax when the section's layout is not one that this edits,
    config.not_written) or ConfigErrors when the result would not validate; then nothing is changed.
    """
    real = Path(os.path.realpath(path))
    with _edited(real) as source:
        before = _document(source, real)
        peers = before.get("peer", {})
        if name not in peers:
            raise ConfigError(Reason.CONFIG_NO_SUCH_PEER, f"there is no [peer.{name}]", place=str(real))
        changed = _without_section(source, name)
        removed = peers.pop(name)
        after = _document(changed, real)
        if after.get("peer", {}) != peers or {**before, "peer": 0} != {**after, "peer": 0}:
            detail = f"[peer.{name}] is laid out in a way that cannot be edited safely"
            raise ConfigError(Reason.CONFIG_SYNTAX, detail, place=str(real), remedy="remove it with an editor")
        config = load.parse(changed, real)
        _replace(real, changed)
    setting = f"{paths.PEERS_FOLDER}/{name}{paths.CARD_SUFFIX}"
    if removed.get("card") == setting and all(peer.get("card") != setting for peer in peers.values()):
        (real.parent / setting).unlink(missing_ok=True)
    return config


def _document(source: str, path: Path) -> dict[str, Any]:
    """The text as TOML, `peer` a table of tables. Raises ConfigError (config.syntax)."""
    try:
        document = tomllib.loads(source)
    except (ValueError, RecursionError) as error:
        raise ConfigError(Reason.CONFIG_SYNTAX, str(error), place=str(path)) from None
    peers = document.get("peer", {})
    if not isinstance(peers, dict) or not all(isinstance(peer, dict) for peer in peers.values()):
        raise ConfigError(Reason.CONFIG_SYNTAX, "[peer] does not hold tables", place=str(path))
    return document


def _section(peer: NewPeer, card: str) -> str:
    settings = {
        "card": card,
        "id": peer_id.to_text(peer.card.peer_id),
        "endpoint": peer.endpoint,
        "allowed_ips": list(peer.allowed_ips),
        "keepalive": peer.keepalive,
        "psk_file": peer.psk_file,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if value is not None]
    return "\n".join((f"[peer.{json.dumps(peer.name) if not _BARE.fullmatch(peer.name) else peer.name}]", *lines, ""))


def _without_section(source: str, name: str) -> str:
    """The text without the lines from the peer's header to its last setting; comments behind that stay."""
    lines = source.splitlines(keepends=True)
    header = re.compile(rf"""\s*\[\s*peer\s*\.\s*["']?{re.escape(name)}["']?\s*\]""")
    start = next((number for number, line in enumerate(lines) if header.match(line)), None)
    if start is None:
        return source
    end = next((number for number in range(start + 1, len(lines)) if _ANY_HEADER.match(lines[number])), len(lines))
    while end > start + 1 and _is_idle(lines[end - 1]):
        end -= 1
    while start and not lines[start - 1].strip():
        start -= 1  # the blank lines behind the section are enough
    return "".join(lines[:start] + lines[end:])


def _is_idle(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


# -- files --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _edited(path: Path) -> Iterator[str]:
    """The file's text, while no other edit of it runs."""
    with _told(path):
        lock = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield files.read(path, files.CONFIG_LIMIT).decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigError(Reason.CONFIG_SYNTAX, "it is not UTF-8", place=str(path)) from None
    finally:
        os.close(lock)


@contextlib.contextmanager
def _card_file(path: Path, peer: NewPeer) -> Iterator[None]:
    """The peer's card at `path`; taken away again when the block raises. An equal file is left as it is."""
    text = identity_text.card_to_file(peer.card).encode()
    if os.path.lexists(path):
        if files.read(path) != text:
            remedy = f"move it away: {path}"
            raise ConfigError(Reason.CONFIG_EXISTS, "another card lies there", place=str(path), remedy=remedy)
        yield
        return
    with contextlib.ExitStack() as undo:
        with _told(path):
            if not path.parent.exists():
                path.parent.mkdir(mode=0o700)
                undo.callback(path.parent.rmdir)
            _write_new(path, text)
            undo.callback(path.unlink)
        yield
        undo.pop_all()


def _write_new(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 that must not exist yet; nothing is left of it on failure."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink()
        raise


def _replace(path: Path, text: str) -> None:
    """Put `text` in the place of the file at once, with the owner and mode of the old one."""
    with _told(path):
        old = path.stat()
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, old.st_mode & 0o777)
                os.fchown(descriptor, old.st_uid, old.st_gid)
                file.write(text.encode())
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn the kernel's refusal into config.not_written."""
    try:
        yield
    except FileExistsError:
        raise ConfigError(Reason.CONFIG_EXISTS, "it exists and is not touched", place=str(path)) from None
    except (OSError, ValueError) as error:
        detail = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise ConfigError(Reason.CONFIG_NOT_WRITTEN, detail, place=str(path)) from None
