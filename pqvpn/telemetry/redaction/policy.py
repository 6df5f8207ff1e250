"""What the operator wants of addresses in records, and the key that makes this installation's pseudonyms its own.

Owns `Policy` and the key's file in the state folder. Knows nothing of records. The key is no secret of the tunnel: who
has it can try addresses until a pseudonym fits, nothing else.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pqvpn.config.paths import PSEUDONYM_KEY_NAME

KEY_SIZE = 32
FORMER = 256
"""Names of hosts that are not configured any more and stay known: records about them may be under way."""

Addresses = Literal["pseudonym", "mask", "keep"]


@dataclass(slots=True)
class Policy:
    """`addresses` is the setting of `[redact]`, `key` the installation's.

    `hosts`: host names of the configuration (endpoints, collector). In a sentence a name cannot be told from a word;
    those that are known are replaced there, too. All redactors of a process share its policy and see what it learns.
    """

    addresses: Addresses = "pseudonym"
    key: bytes = field(default=b"", repr=False)
    hosts: Collection[str] = frozenset()

    def learn(self, hosts: Collection[str]) -> None:
        """The configuration has these hosts now; the newest `FORMER` of those that it had before stay known."""
        former = [each for each in self.hosts if each not in set(hosts)]
        self.hosts = (*former[-FORMER:], *sorted(hosts))


def load(folder: Path, addresses: Addresses = "pseudonym", hosts: frozenset[str] = frozenset()) -> Policy:
    """The policy with the key of the state folder `folder`; never raises."""
    return Policy(addresses, installation_key(folder), hosts)


def installation_key(folder: Path) -> bytes:
    """The key in `folder`, made when there is none.

    A disk that refuses costs the pseudonyms their stability and nothing else: the key is then one of this run.
    """
    path = folder / PSEUDONYM_KEY_NAME
    try:
        return _read(path) or _make(path)
    except OSError:
        return secrets.token_bytes(KEY_SIZE)


def _read(path: Path) -> bytes | None:
    """None when there is no key, or something that is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("the key of pseudonyms is not a file")
        key = file.read(KEY_SIZE + 1)
        if len(key) != KEY_SIZE:
            return None
        if stat.S_IMODE(status.st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)
    return key


def _make(path: Path) -> bytes:
    """Write a new key aside and give it its name: another process reads it whole or not at all, and the first one wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_bytes(KEY_SIZE)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(descriptor)
        return _name(aside, path) or key
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def _name(aside: Path, path: Path) -> bytes | None:
    """Link the new key to its name; the key of another process when that was faster, None when ours stands."""
    try:
        os.link(aside, path)
    except FileExistsError:
        if found := _read(path):
            return found
        os.replace(aside, path)  # what stands there is no key
    return None
